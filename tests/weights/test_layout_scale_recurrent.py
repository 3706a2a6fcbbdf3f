"""The released scale-recurrent network, against a restatement of its program by its own names."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from mtdeblur.data.disk.pairs import find_pairs
from mtdeblur.errors import UserError
from mtdeblur.inference.deblurrer import load
from mtdeblur.media.pictures import read_picture
from mtdeblur.metrics.arrays import psnr
from mtdeblur.networks.scale_recurrent import ScaleRecurrentConfig
from mtdeblur.networks.unroll import default_steps, unroll
from mtdeblur.weights.store import load_network

WIDTH = 2


def released_state(colours: int = 3) -> dict[str, Tensor]:
    """A random checkpoint in their layout: kernels have height and width first, then in and out."""
    kernels: dict[str, tuple[int, ...]] = {}
    for level in (1, 2, 3):
        c = WIDTH << (level - 1)
        kernels[f"enc{level}_1"] = (5, 5, 2 * colours if level == 1 else c // 2, c)
        blocks = [f"enc{level}_{number}" for number in (2, 3, 4)] + [f"dec{level}_{n}" for n in (1, 2, 3)]
        kernels |= {f"{block}/conv{number}": (5, 5, c, c) for block in blocks for number in (1, 2)}
        if level < 3:
            kernels[f"dec{level}_4"] = (4, 4, c, 2 * c)  # transposed: out and in
    kernels["dec1_0"] = (5, 5, WIDTH, colours)
    generator = torch.Generator().manual_seed(4)
    state: dict[str, Tensor] = {}
    for name, shape in kernels.items():
        out = shape[2] if name in ("dec1_4", "dec2_4") else shape[3]
        state[f"g_net/{name}/weights"] = torch.randn(shape, generator=generator) / (25 * shape[2]) ** 0.5
        state[f"g_net/{name}/biases"] = torch.randn(out, generator=generator) / 10
    return state


def optimiser_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What Adam keeps beside the parameters."""
    moments = {
        f"{name}/{moment}": value + 1 for name, value in state.items() for moment in ("Adam", "Adam_1")
    }
    return moments | {name: torch.tensor(0.5) for name in ("beta1_power", "beta2_power")}


def restated(p: dict[str, Tensor], image: Tensor) -> list[Tensor]:
    """Their program, scale by scale; (1, 3, H, W) with sides that are multiples of 16."""

    def same(x, kernel, stride):
        """TensorFlow's "SAME": as many zeros as it takes, the odd one at the end."""
        ends = []
        for side, k in zip(x.shape[2:], kernel.shape[:2], strict=True):
            more = max((-(-side // stride) - 1) * stride + k - side, 0)
            ends.append((more // 2, more - more // 2))
        padded = pad(x, (*ends[1], *ends[0]))
        return conv2d(padded, kernel.permute(3, 2, 0, 1), stride=stride)

    def conv(x, name, stride=1):
        return same(x, p[f"g_net/{name}/weights"], stride) + p[f"g_net/{name}/biases"].view(1, -1, 1, 1)

    def transposed(x, name):
        """What a convolution with stride 2 gives back to its input as a gradient."""
        kernel = p[f"g_net/{name}/weights"]
        large = x.new_zeros(1, kernel.shape[2], 2 * x.shape[2], 2 * x.shape[3], requires_grad=True)
        (given,) = torch.autograd.grad(same(large, kernel, 2), large, x)
        return (given + p[f"g_net/{name}/biases"].view(1, -1, 1, 1)).relu()

    def blocks(x, *names):
        for name in names:
            x = x + conv(conv(x, f"{name}/conv1").relu(), f"{name}/conv2")
        return x

    def resized(x, axis, side):
        before = x.shape[axis]
        places = torch.arange(side) * (before / side)
        first = places.long()
        share = (places - first).to(x).view([-1 if i == axis else 1 for i in range(4)])
        second = (first + 1).clamp(max=before - 1)
        return x.index_select(axis, first) * (1 - share) + x.index_select(axis, second) * share

    results, estimate = [], image
    for scale in (4, 2, 1):
        height, width = (side // scale for side in image.shape[2:])
        inputs = [resized(resized(x, 2, height), 3, width) for x in (image, estimate)]
        e1 = blocks(conv(torch.cat(inputs, dim=1), "enc1_1").relu(), "enc1_2", "enc1_3", "enc1_4")
        e2 = blocks(conv(e1, "enc2_1", 2).relu(), "enc2_2", "enc2_3", "enc2_4")
        e3 = blocks(conv(e2, "enc3_1", 2).relu(), "enc3_2", "enc3_3", "enc3_4")
        x = transposed(blocks(e3, "dec3_3", "dec3_2", "dec3_1"), "dec2_4") + e2
        x = transposed(blocks(x, "dec2_3", "dec2_2", "dec2_1"), "dec1_4") + e1
        estimate = conv(blocks(x, "dec1_3", "dec1_2", "dec1_1"), "dec1_0").detach()
        results.append(estimate)
    return results


def test_a_released_checkpoint_gives_what_its_program_gives(write_checkpoint, tmp_path):
    theirs = released_state()
    step = {"global_step": torch.tensor(523000, dtype=torch.int64)}
    write_checkpoint(tmp_path / "deblur.model", theirs | optimiser_state(theirs) | step)
    network = load_network(tmp_path)
    assert network.config == ScaleRecurrentConfig(width=WIDTH, corners=True)
    assert not network.training
    image = torch.rand(1, 3, 32, 48, dtype=torch.float64)
    expected = restated({name: value.double() for name, value in theirs.items()}, image)
    with torch.no_grad():
        outputs = list(unroll(network.double(), image, default_steps(network)))
    for output, result in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output, result, rtol=1e-9, atol=1e-9)
    assert expected[-1].std() > 0.1  # the comparison is of something


def test_a_model_for_grey_images_is_recognised_as_one(write_checkpoint, tmp_path):
    write_checkpoint(tmp_path / "deblur.model", released_state(colours=1))
    assert load_network(tmp_path).config == ScaleRecurrentConfig(width=WIDTH, grey=True, corners=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state | {"g_net/enc1_5/conv1/weights": torch.zeros(1)}, r"enc1_5/conv1/weights is no"),
        (lambda state: state | {"g_net/convLSTM/weights": torch.zeros(1)}, r"convLSTM/weights is no"),
        (lambda state: {n: v for n, v in state.items() if n != "g_net/dec1_0/biases"}, r"tail\.bias"),
        (lambda state: state | {"g_net/dec1_0/biases": torch.zeros(4)}, r"tail\.bias"),
        (lambda state: state | {"g_net/dec1_0/weights": torch.zeros(4)}, r"tail\.weight"),
    ],
    ids=["unknown name", "LSTM", "missing", "another shape", "fewer axes"],
)
def test_a_checkpoint_that_does_not_fit_gets_one_line(write_checkpoint, tmp_path, change, message):
    write_checkpoint(tmp_path / "deblur.model", change(released_state()))
    with pytest.raises(UserError, match=message) as caught:
        load_network(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


DATA, WEIGHTS = os.environ.get("MTDEBLUR_DATA"), os.environ.get("MTDEBLUR_SRN")


@pytest.mark.slow
@pytest.mark.skipif(None in (DATA, WEIGHTS), reason="MTDEBLUR_DATA or MTDEBLUR_SRN (the weights) is not set")
def test_the_authors_weights_lift_official_pairs_as_they_do_in_tensorflow():
    deblurrer = load(str(WEIGHTS), precision="float32")
    found = []
    for pair in find_pairs(Path(str(DATA)) / "eval" / "gopro_test_official"):
        blurred, sharp = (read_picture(path).pixels for path in (pair.blur, pair.sharp))
        found.append(psnr(deblurrer(blurred), sharp))
    assert sum(found) / len(found) == pytest.approx(28.32, abs=0.02)
