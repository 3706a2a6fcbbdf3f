import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtdeblur.exposure.crf import GAMMA, IDENTITY
from mtdeblur.exposure.draws import SampleDraws
from mtdeblur.exposure.levels import temporal_level
from mtdeblur.exposure.simulate import (
    FRAMES,
    CameraPath,
    Motion,
    brighten,
    camera_path,
    frames_along,
    margin,
    simulate_frames,
    simulate_ladder,
)

MIDDLE = FRAMES // 2
CALM = Motion(length=0, still=0, rotation=0, zoom=0, depth=0, layers=0)


def photographs(batch, side, seed=0):
    """Smooth coloured noise, so that bilinear interpolation is close to any other."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((batch, 3, side // 4 + 2, side // 4 + 2)))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


def paths(count, motion=None):
    return camera_path(SampleDraws(range(count)), motion or Motion())


def straight(step, batch=1):
    """A path of constant velocity: `step` pixels a frame to the right and down."""
    time = torch.arange(FRAMES, dtype=torch.float64) - MIDDLE
    zero = torch.zeros(FRAMES, batch, dtype=torch.float64)
    return CameraPath(
        (time[:, None] * torch.tensor(step))[:, None].expand(-1, batch, -1).double(), zero, zero
    )


@pytest.mark.parametrize(
    "values",
    [
        {"length": -1},
        {"length": math.nan},
        {"length": math.inf},
        {"rotation": -0.1},
        {"zoom": -0.1},
        {"depth": -0.1},
        {"still": 1.1},
        {"still": -0.1},
        {"layers": 2},
        {"layers": math.nan},
    ],
)
def test_impossible_motion_is_refused_by_name(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Motion(**values)


# -- the camera's path


def test_paths_have_the_lengths_that_motion_names():
    shift = paths(4000).shift.double().numpy()
    assert np.all(shift[MIDDLE] == 0)
    lengths = np.linalg.norm(np.diff(shift, axis=0), axis=-1).sum(axis=0)
    assert lengths.max() <= 48 + 1e-3
    still, severe = (lengths <= 1).mean(), (lengths >= 40).mean()
    assert 0.08 < still < 0.12
    assert 0.13 < severe < 0.18  # 8 of the 47 pixels over the moving nine tenths: 0.153
    moving = np.sort(lengths[lengths > 1])  # spread evenly
    expected = 1 + 47 * (np.arange(len(moving)) + 0.5) / len(moving)
    assert np.abs(moving - expected).max() < 2


@given(st.floats(0, 100), st.floats(0, 1))
@settings(max_examples=30)
def test_no_path_is_longer_than_the_longest(length, still):
    shift = paths(20, Motion(length=length, still=still)).shift
    assert shift.isfinite().all()
    assert (shift.diff(dim=0).norm(dim=-1).sum(0) <= length * (1 + 1e-4) + 1e-6).all()


def test_paths_are_smooth_in_time():
    steps = paths(2000).shift.diff(dim=0)  # (12, 2000, 2)
    speed = steps.norm(dim=-1)
    mean = speed.mean(0)
    assert (speed.amax(0) / mean).max() < 3.5
    # the velocity turns little from frame to frame: a random walk would turn by 1.4 times the mean step
    turn = steps.diff(dim=0).norm(dim=-1).mean(0) / mean
    assert turn.median() < 0.35


def test_rotation_and_zoom_have_the_sizes_that_motion_names():
    motion = Motion(still=0, rotation=2.0, zoom=0.03)
    path = paths(4000, motion)
    angle = np.degrees((path.angle[-1] - path.angle[0]).double().numpy())
    zoom = (path.zoom[-1] - path.zoom[0]).double().numpy()
    for measured, expected in ((angle, 2.0), (zoom, 0.03)):
        assert measured.std() == pytest.approx(expected, rel=0.05)
        assert abs(measured.mean()) < 0.1 * expected
    assert (path.angle[MIDDLE] == 0).all()
    assert (path.zoom[MIDDLE] == 0).all()
    assert abs(np.corrcoef(angle, zoom)[0, 1]) < 0.06


def test_a_still_camera_hardly_turns():
    path = paths(500, Motion(still=1, rotation=2.0))
    length = path.shift.diff(dim=0).norm(dim=-1).sum(0)
    angle = (path.angle[-1] - path.angle[0]).abs().rad2deg()
    assert (angle <= 2.0 * 4.5 * length + 1e-5).all()


# -- what the camera sees


@pytest.mark.parametrize("step", [(1.0, 0.0), (0.0, 2.0), (-3.0, 1.0)])
def test_a_constant_velocity_gives_a_box_filter_along_the_path(step):
    size, side = 24, 80
    photo = photographs(1, side)
    frames = frames_along(photo, size, straight(step))
    blurred = frames.mean(dim=0)[0].numpy()
    first, picture = (side - size) // 2, photo[0].numpy()
    expected = np.zeros((3, size, size))
    for time in range(-MIDDLE, MIDDLE + 1):
        top, left = int(first + time * step[1]), int(first + time * step[0])
        expected += picture[:, top : top + size, left : left + size] / FRAMES
    np.testing.assert_allclose(blurred, expected, rtol=0, atol=1e-9)


def test_bicubic_frames_weigh_four_pixels_in_a_row():
    """Half a pixel between: Keys' kernel (1981) with a = -0.75 has -0.09375 and 0.59375 there."""
    photo = torch.from_numpy(np.random.default_rng(0).random((1, 3, 40, 40)))
    frames = frames_along(photo, 12, straight((0.5, 0.0)), None, "bicubic")[:, 0].numpy()
    picture = photo[0, :, 14:26].numpy()  # the rows that are seen
    for frame, first in ((MIDDLE, 14), (MIDDLE + 2, 15), (MIDDLE - 4, 12)):
        np.testing.assert_allclose(frames[frame], picture[..., first : first + 12], rtol=0, atol=1e-9)
    weights = (-0.09375, 0.59375, 0.59375, -0.09375)
    expected = sum(weight * picture[..., 13 + k : 25 + k] for k, weight in enumerate(weights))
    np.testing.assert_allclose(frames[MIDDLE + 1], expected, rtol=0, atol=1e-9)


def test_bicubic_frames_are_as_sharp_as_the_mid_frame_and_stay_in_range():
    photo = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (1, 1, 60, 60)).astype(np.float64))
    photo = torch.nn.functional.interpolate(photo, scale_factor=2, mode="bilinear").expand(-1, 3, -1, -1)
    sharpness = {}
    for how in ("bilinear", "bicubic"):
        motion = Motion(length=20, still=0, rotation=0, zoom=0, depth=0, layers=0, interpolation=how)
        frames = simulate_frames(photo, 40, motion, [1])
        assert 0 <= frames.min() <= frames.max() <= 1
        energy = frames.diff(dim=-1).square().mean(dim=(1, 2, 3, 4))
        sharpness[how] = float(energy.mean() / energy[MIDDLE])
    assert sharpness["bilinear"] < 0.88 < 0.95 < sharpness["bicubic"] < 1.05


@given(st.floats(-2.5, 2.5), st.floats(-0.05, 0.05), st.floats(-0.04, 0.04))
@settings(max_examples=15)
def test_frames_are_bilinear_samples_of_the_turned_and_zoomed_grid(step, angle, zoom):
    """Against float64 numpy, one frame pixel after another."""
    size, height, width = 9, 50, 61
    photo = torch.from_numpy(np.random.default_rng(1).random((1, 3, height, width)))
    time = torch.arange(FRAMES, dtype=torch.float64)[:, None] - MIDDLE
    path = CameraPath(torch.stack([time * step, time * -step / 2], -1), time * angle, time * zoom)
    frames = frames_along(photo, size, path)[:, 0].numpy()
    picture = photo[0].numpy()
    top, left = (height - size) // 2, (width - size) // 2
    for frame in (0, 4, MIDDLE, 12):
        moment = frame - MIDDLE
        cos, sin = (math.exp(moment * zoom) * f(moment * angle) for f in (math.cos, math.sin))
        for row, column in ((0, 0), (3, 7), (8, 8)):
            x, y = left + column - (width - 1) / 2, top + row - (height - 1) / 2
            at_x = cos * x - sin * y + moment * step + (width - 1) / 2
            at_y = sin * x + cos * y - moment * step / 2 + (height - 1) / 2
            x0, y0 = math.floor(at_x), math.floor(at_y)
            u, v = at_x - x0, at_y - y0
            expected = (
                (1 - u) * (1 - v) * picture[:, y0, x0]
                + u * (1 - v) * picture[:, y0, x0 + 1]
                + (1 - u) * v * picture[:, y0 + 1, x0]
                + u * v * picture[:, y0 + 1, x0 + 1]
            )
            np.testing.assert_allclose(frames[frame, :, row, column], expected, rtol=0, atol=1e-9)


def test_depth_multiplies_the_shift():
    photo = photographs(1, 90)
    depth = torch.full((1, 1, 20, 20), 2.0, dtype=torch.float64)
    near = frames_along(photo, 20, straight((1.0, -1.0)), depth)
    np.testing.assert_allclose(near, frames_along(photo, 20, straight((2.0, -2.0))), rtol=0, atol=1e-9)


@pytest.mark.parametrize("side", [40, 41, 57])
@pytest.mark.parametrize("size", [24, 25])
def test_the_mid_frame_is_the_photographs_middle(side, size):
    photo = photographs(2, side).float()
    frames = simulate_frames(photo, size, Motion(layers=0), [3, 4])
    first = (side - size) // 2
    middle = photo[..., first : first + size, first : first + size]
    np.testing.assert_allclose(frames[MIDDLE], middle, rtol=0, atol=1e-5)


def test_nothing_moves_without_motion():
    frames = simulate_frames(photographs(2, 60), 32, CALM, [1, 2])
    for frame in frames:
        np.testing.assert_allclose(frame, frames[MIDDLE], rtol=0, atol=1e-9)


@given(st.floats(0, 1), st.integers(0, 2**62))
@settings(max_examples=15)
def test_a_uniform_photograph_stays_uniform(light, seed):
    photo = torch.full((1, 3, 40, 44), light)
    frames = simulate_frames(photo, 32, Motion(length=80, rotation=3, zoom=0.1, layers=1), [seed])
    np.testing.assert_allclose(frames, light, rtol=0, atol=1e-6)


def test_blur_keeps_the_light():
    """Away from borders: a bright spot's light is spread, none is lost, though not of the stored values."""
    photo = torch.full((1, 3, 129, 129), 0.1)
    photo[..., 60:69, 60:69] = 0.9
    motion = Motion(length=40, still=0, depth=0, rotation=0, zoom=0, layers=0)
    ladder = simulate_ladder(photo, 101, range(1, 14, 2), motion, GAMMA, [8])
    light = [float((image.double() ** 2.2).mean()) for image in ladder.values()]
    np.testing.assert_allclose(light, light[0], rtol=2e-3)
    assert ladder[13].amax() < ladder[1].amax()  # it did blur
    assert abs(float(ladder[13].mean() / ladder[1].mean()) - 1) > 5e-3


def test_the_layer_moves_on_its_own_behind_a_soft_edge():
    """Left dark, right bright: turned around, the layer shows bright on the left, so that is its opacity."""
    side, size = 200, 120
    photo = torch.zeros(1, 3, side, side, dtype=torch.float64)
    photo[..., side // 2 :] = 1
    opacities = []
    for seed in range(8):
        frames = simulate_frames(photo, size, Motion(**{**vars(CALM), "layers": 1.0}), [seed])
        left = frames[MIDDLE, 0, 0, :, : size // 2 - 2].numpy()
        assert frames.min() >= 0
        assert frames.max() <= 1
        opacities.append(left)
    opacity = np.stack(opacities)
    assert 0.2 < opacity.mean() < 0.8
    soft = ((opacity > 0.01) & (opacity < 0.99)).sum()
    edges = (np.diff(opacity > 0.5, axis=-1)).sum()
    assert 2 < soft / edges < 12  # pixels an edge is wide, along a row
    # it moves on a path of its own: the camera's motion alone gives other frames where the layer is
    moving = Motion(length=30, still=0, rotation=0, zoom=0, depth=0, layers=1)
    seen = simulate_frames(photographs(4, side), size, moving, range(4))
    plain = simulate_frames(photographs(4, side), size, Motion(**{**vars(moving), "layers": 0}), range(4))
    change = (seen - plain).abs().amax(dim=(0, 2)) > 0.02  # (4, size, size)
    assert 0.05 < change.double().mean() < 0.95


def test_layers_show_the_objects_that_are_given():
    """A layered frame is photograph and object mixed by an opacity: so it is linear in the two."""
    side, size, seeds = 90, 40, [3, 4]
    motion = Motion(length=20, still=0, layers=1)
    photo, objects = photographs(2, side), photographs(2, side, seed=9)
    nothing = torch.zeros_like(photo)
    seen = simulate_frames(photo, size, motion, seeds, objects)
    parts = (
        simulate_frames(photo, size, motion, seeds, nothing),
        simulate_frames(nothing, size, motion, seeds, objects),
    )
    np.testing.assert_allclose(seen, parts[0] + parts[1], rtol=0, atol=1e-9)
    assert parts[1].amax() > 0.5
    default = simulate_frames(photo, size, motion, seeds)
    turned = simulate_frames(photo, size, motion, seeds, photo.flip(-1, -2))
    assert default.equal(turned)
    alone = Motion(**{**vars(motion), "layers": 0.0})
    assert simulate_frames(photo, size, alone, seeds, objects).equal(
        simulate_frames(photo, size, alone, seeds)
    )
    ladder = simulate_ladder(photo, size, (1, 5), motion, GAMMA, seeds, objects)
    light = simulate_frames(GAMMA.decode(photo), size, motion, seeds, GAMMA.decode(objects))
    np.testing.assert_allclose(ladder[1], GAMMA.encode(light[MIDDLE]), rtol=0, atol=1e-9)


def test_the_share_of_layers_is_what_motion_names():
    photo = photographs(1, 44).expand(400, -1, -1, -1).float()
    motion = Motion(**{**vars(CALM), "layers": 0.4})
    frames = simulate_frames(photo, 40, motion, range(400))
    layered = (frames[MIDDLE] - photo[..., 2:42, 2:42]).abs().amax(dim=(1, 2, 3)) > 1e-4
    assert 0.33 < layered.double().mean() < 0.47


@given(st.lists(st.integers(0, 2**62), min_size=2, max_size=4))
@settings(max_examples=10)
def test_a_sample_depends_on_its_seed_alone(seeds):
    photo = photographs(len(seeds), 60).float()
    together = simulate_frames(photo, 32, Motion(), seeds)
    for sample, seed in enumerate(seeds):
        alone = simulate_frames(photo[sample : sample + 1], 32, Motion(), [seed])[:, 0]
        np.testing.assert_allclose(together[:, sample], alone, rtol=0, atol=1e-5)


def test_the_ladder_averages_the_frames_in_linear_light():
    photo, seeds = photographs(2, 80), [5, 6]
    for crf, decode, encode in (
        (IDENTITY, lambda x: x, lambda x: x),
        (GAMMA, lambda x: x**2.2, lambda x: x ** (1 / 2.2)),
    ):
        frames = simulate_frames(decode(photo), 40, Motion(), seeds).numpy()
        ladder = simulate_ladder(photo, 40, (1, 7, 13), Motion(), crf, seeds)
        for n, image in ladder.items():
            around = frames[MIDDLE - n // 2 : MIDDLE + n // 2 + 1]
            np.testing.assert_allclose(image, encode(around.mean(axis=0)), rtol=0, atol=1e-9)
    assert temporal_level(torch.from_numpy(frames), 1).equal(torch.from_numpy(frames[MIDDLE]))


def test_highlights_are_brightened_by_a_quadratic_curve_from_nine_tenths_to_white():
    values = torch.linspace(0, 1, 101, dtype=torch.float64).expand(2, 3, 1, -1).clone()
    values[:, 1] *= 0.5  # two channels count
    brightest = torch.tensor([1.0, 6.0])
    bright = brighten(values, values**2.2, brightest).numpy()
    stored = np.linspace(0, 1, 101)
    factor = 1 + 5 * (np.clip(stored - 0.9, 0, None) / 0.1) ** 2
    np.testing.assert_allclose(bright[0], values[0] ** 2.2, rtol=0, atol=0)
    np.testing.assert_allclose(bright[1], (values[1] ** 2.2).numpy() * factor, rtol=1e-12)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_lamp_smears_into_a_bright_trail_that_the_sensor_clips(interpolation):
    """A photograph of a lamp that is eight times white: where it stood for two of 13 moments, it is white."""
    photo = torch.zeros(2, 3, 96, 96, dtype=torch.float64)
    photo[..., 46:50, 46:50] = 1.0
    motion = Motion(length=30, still=0, rotation=0, zoom=0, depth=0, layers=0, interpolation=interpolation)
    levels, seeds = (1, 13), [3, 4]
    brightest = torch.tensor([8.0, 8.0])
    plain = simulate_ladder(photo, 48, levels, motion, IDENTITY, seeds)
    lit = simulate_ladder(photo, 48, levels, motion, IDENTITY, seeds, brightest=brightest)
    assert torch.equal(lit[1], plain[1])  # the sharp picture stays as the camera stored it
    if interpolation == "bilinear":
        torch.testing.assert_close(lit[13], (8 * plain[13]).clamp(max=1))
    assert lit[13].max() == 1
    assert (lit[13] > 0.99).sum() > 3 * (plain[13] > 0.99).sum()
    assert lit[13].min() >= 0


def test_the_margin_holds_nearly_all_of_the_camera():
    """Few pixels of few samples look past the photograph's border, where it is mirrored."""
    motion, size = Motion(layers=0), 64
    side = size + 2 * margin(motion)
    inside = torch.zeros(60, 3, side + 40, side + 40)
    inside[..., 20:-20, 20:-20] = 1
    frames = simulate_frames(inside, size, motion, range(60))
    assert (frames < 0.5).double().mean() < 1e-3


@pytest.mark.parametrize(
    ("size", "seeds", "message"), [(33, [1, 2], "too small"), (16, [1], "2 photographs need 2 seeds")]
)
def test_photographs_that_do_not_fit_are_refused(size, seeds, message):
    with pytest.raises(ValueError, match=message):
        simulate_frames(photographs(2, 32), size, Motion(), seeds)
