import numpy as np
import pytest
import torch

from mtdeblur.metrics import arrays, quality
from mtdeblur.metrics.arrays import as_tensor


def pair(dtype):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 14, 23, 3))
    return (pixels / 255 if np.issubdtype(dtype, np.floating) else pixels).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_a_picture_is_a_batch_of_one(dtype):
    picture, _ = pair(dtype)
    batch = as_tensor(picture)
    assert batch.shape == (1, 3, 14, 23)
    assert np.array_equal(batch[0].numpy().transpose(1, 2, 0), picture)
    assert batch.numpy().dtype == dtype


def test_pictures_that_are_read_only_or_turned_are_taken():
    picture, _ = pair(np.uint8)
    picture.setflags(write=False)
    assert np.array_equal(as_tensor(picture[::-1, ::-1]), torch.flip(as_tensor(picture), (-1, -2)))


def test_arrays_are_measured_as_tensors_are():
    estimate, sharp = pair(np.uint8)
    tensors = as_tensor(estimate), as_tensor(sharp)
    assert arrays.psnr(estimate, sharp) == float(quality.psnr(*tensors))
    together = arrays.ssims(estimate, sharp)
    assert together == {name: float(value) for name, value in quality.ssims(*tensors).items()}
    for name in quality.SSIM_CONVENTIONS:
        assert arrays.ssim(estimate, sharp, name) == together[name]


@pytest.mark.parametrize("shape", [(14, 23), (3, 14, 23), (1, 14, 23, 3)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match=r"picture \(H, W, 3\)"):
        arrays.psnr(np.zeros(shape), np.zeros(shape))
