"""A simulated high-speed camera: frames and temporal levels of one exposure from a sharp photograph.

The camera moves along a smooth random path (translation, rotation and zoom) in front of a scene of varying
depth; in some samples a second layer with a soft edge moves independently. All code is batched and runs on
the device of the photographs. Frames are in linear light; `mtdeblur.exposure.sensor` simulates what follows
the camera response function.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mtdeblur.exposure.crf import CRF
from mtdeblur.exposure.draws import Draws, SampleDraws
from mtdeblur.exposure.levels import centred_means
from mtdeblur.exposure.sensor import check_shares, check_sizes

FRAMES = 13
"""Frames of an exposure: TL13 is the paper's highest temporal level."""

HIGHLIGHT = 0.9
"""Stored value above which a photograph may have clipped a brighter scene."""


@dataclass(frozen=True)
class Motion:
    """Motion of the simulated camera and scene during the 13 frames of an exposure.

    Attributes:
        length: longest path of the camera over TL13, in pixels.
        still: share of the samples with a nearly still camera: a path of at most 1 pixel, with rotation and
            zoom reduced in proportion.
        rotation: standard deviation of the rotation over TL13, in degrees.
        zoom: standard deviation of the zoom over TL13, as the logarithm of a factor.
        depth: standard deviation of the translation over the picture, relative to its mean (parallax).
        layers: share of the samples with an independently moving layer.
        interpolation: of the frames. Bilinear frames are softer than the mid-frame, unlike a camera's;
            bicubic frames are nearly as sharp, but take three to four times as long.
        substeps: moments of the exposure per frame. With 1, a long path shows 13 separate copies, whereas a
            camera's shutter stays open between frames.

    Raises:
        ValueError: if a share is outside [0, 1], or a size is negative or not finite.
    """

    length: float = 48.0
    still: float = 0.1
    rotation: float = 0.6
    zoom: float = 0.01
    depth: float = 0.3
    layers: float = 0.4
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    substeps: int = 1

    def __post_init__(self) -> None:
        if self.substeps < 1:
            raise ValueError(f"substeps is 1 or more, not {self.substeps}")
        check_sizes(length=self.length, rotation=self.rotation, zoom=self.zoom, depth=self.depth)
        check_shares(still=self.still, layers=self.layers)


class CameraPath(NamedTuple):
    """Pose of each sample's camera at each of T moments, relative to the middle moment.

    Attributes:
        shift: (T, B, 2), pixels to the right and down.
        angle: (T, B), radians, clockwise.
        zoom: (T, B), logarithm of the factor; above 0 the field of view is larger.
    """

    shift: Tensor
    angle: Tensor
    zoom: Tensor


def margin(motion: Motion) -> int:
    """Pixels of a photograph around the frames, so that its mirrored border is rarely in view."""
    return math.ceil(motion.length * (0.5 + motion.depth)) + 4


class Scene:
    """One exposure a sample, as the view of its camera at each moment.

    Args:
        photographs: (B, 3, H, W), linear light in [0, 1], float, H and W at least `size`; continued outside
            by their mirror images.
        size: height and width of the frames, in pixels; the mid-frame shows the photograph's middle, and the
            moving layer if there is one.
        motion: of camera and layers.
        draws: random numbers, or B seeds.
        objects: images of the moving layers, shaped like the photographs; by default the photographs turned
            by 180 degrees.
        enlarge: (B,), factor by which each photograph is enlarged; 1 by default.
        brightest: (B,), upper bound of the light of each sample; 1 by default.

    Attributes:
        moments: number of moments: 13 frames, and the substeps between them.

    Raises:
        ValueError: if the photographs are smaller than the frames, or the number of seeds is not B.
    """

    def __init__(
        self,
        photographs: Tensor,
        size: int,
        motion: Motion,
        draws: Draws | Sequence[int],
        objects: Tensor | None = None,
        enlarge: Tensor | None = None,
        brightest: Tensor | None = None,
    ) -> None:
        batch, _, height, width = photographs.shape
        if min(height, width) < size:
            raise ValueError(
                f"photographs of {height}x{width} pixels are too small for frames of {size}x{size}"
            )
        draw = draws if isinstance(draws, Draws) else SampleDraws(draws, photographs.device)
        if len(draw) != batch:
            raise ValueError(f"{batch} photographs need {batch} seeds, not {len(draw)}")
        self.moments = (FRAMES - 1) * motion.substeps + 1
        self.size, self.interpolation = size, motion.interpolation
        self.photographs, self.path = photographs, _finer(camera_path(draw, motion), motion.substeps)
        self.depth = 1 + motion.depth * _smooth_field(draw, size)
        self.enlarge = enlarge
        self.brightest = 1.0 if brightest is None else brightest[:, None, None, None].to(photographs)
        self.layered = draw.chosen(motion.layers)
        path, shape = _finer(camera_path(draw, motion), motion.substeps), draw.normal(1, 5, 5)
        if self.layered:
            chosen = draw.index(self.layered)
            self.layered_index = chosen
            self.layer_path = CameraPath(*(part.index_select(1, chosen) for part in path))
            self.opacity = _soft_shape(shape.index_select(0, chosen), height, width).to(photographs)
            shown = photographs.flip(-1, -2) if objects is None else objects
            self.objects = shown.index_select(0, chosen)
            self.layer_enlarge = None if enlarge is None else enlarge.index_select(0, chosen)

    def frame(self, moment: int) -> Tensor:
        """(B, 3, size, size), linear light, at a moment from 0; the middle one is sharp."""
        size, mode = self.size, self.interpolation
        frame = _view(self.photographs, size, self.path, moment, self.depth, mode, self.enlarge)
        if self.layered:
            path = self.layer_path
            layer = _view(self.objects, size, path, moment, None, mode, self.layer_enlarge)
            opacity = _view(self.opacity, size, path, moment, None, mode)
            background = frame.index_select(0, self.layered_index)
            frame = frame.index_copy(0, self.layered_index, background.lerp(layer, opacity))
        if mode == "bilinear":
            return frame
        return frame.clamp_min_(0).clamp_max_(self.brightest)  # bicubic overshoots at edges


def simulate_frames(
    photographs: Tensor,
    size: int,
    motion: Motion,
    draws: Draws | Sequence[int],
    objects: Tensor | None = None,
) -> Tensor:
    """All frames of a `Scene` with these arguments.

    Returns:
        (T, B, 3, size, size), linear light in [0, 1]: T = 13 frames, and the substeps between them.

    Raises:
        ValueError: as `Scene` does.
    """
    scene = Scene(photographs, size, motion, draws, objects)
    return torch.stack([scene.frame(moment) for moment in range(scene.moments)])


def simulate_ladder(
    photographs: Tensor,
    size: int,
    levels: Collection[int],
    motion: Motion,
    crf: CRF,
    draws: Draws | Sequence[int],
    objects: Tensor | None = None,
    enlarge: Tensor | None = None,
    brightest: Tensor | None = None,
) -> dict[int, Tensor]:
    """Temporal levels of one simulated exposure of each photograph.

    Args:
        photographs: (B, 3, H, W), stored values in [0, 1], float, H and W at least `size`.
        size: height and width of the levels' images, in pixels.
        levels: odd, from 1 to 13.
        motion: of camera and layers.
        crf: the camera response function; the frames are rendered and averaged in its linear light.
        draws: random numbers, or B seeds.
        objects: images of the moving layers, see `Scene`.
        enlarge: (B,), factor by which each photograph is enlarged.
        brightest: (B,), light of what is white in each photograph, see `brighten`; 1 by default.

    Returns:
        Level to image (B, 3, size, size), stored values in [0, 1].

    Raises:
        ValueError: as `Scene` does, or if a level is out of range.
    """
    for n in levels:
        if n not in range(1, FRAMES + 1, 2):
            raise ValueError(f"a level of {FRAMES} frames is an odd number up to {FRAMES}, not {n}")
    light, shown = crf.decode(photographs), None if objects is None else crf.decode(objects)
    if brightest is not None:
        light = brighten(photographs, light, brightest)
        shown = None if objects is None or shown is None else brighten(objects, shown, brightest)
    scene = Scene(light, size, motion, draws, shown, enlarge, brightest)
    counts = [(n - 1) * motion.substeps + 1 for n in sorted(levels)]
    means = centred_means(scene.frame, scene.moments, counts)
    return {n: crf.encode(light).clamp(0, 1) for n, light in zip(sorted(levels), means, strict=True)}


def brighten(stored: Tensor, light: Tensor, brightest: Tensor) -> Tensor:
    """The light of a scene whose highlights a photograph has clipped at white.

    Averaged over an exposure and clipped after it, such highlights smear into bright trails, as lamps do at
    night; those of a clipped photograph would fade.

    Args:
        stored: (B, 3, H, W), stored values of a photograph in [0, 1].
        light: the same in linear light.
        brightest: (B,), factor of the light of pixels with two or more channels stored as 1. It falls to 1
            in a quadratic curve where the second largest channel is stored as `HIGHLIGHT`: a single large
            channel is more often a strong colour than a lamp.

    Returns:
        (B, 3, H, W), linear light from 0 to `brightest`.
    """
    second = stored.median(dim=1, keepdim=True).values
    white = ((second - HIGHLIGHT) / (1 - HIGHLIGHT)).clamp(min=0)
    return light * (1 + (brightest.to(light)[:, None, None, None] - 1) * white.square())


def frames_along(
    images: Tensor,
    size: int,
    path: CameraPath,
    depth: Tensor | None = None,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> Tensor:
    """The view of a camera on a given path over the middle of plane images.

    Args:
        images: (B, C, H, W), float; continued outside by their mirror images.
        size: height and width of the frames, in pixels.
        path: of each sample's camera, over T moments.
        depth: (B, 1, size, size), factor of the shift at each pixel; 1 by default.
        interpolation: between the pixels of the images.

    Returns:
        (T, B, C, size, size), dtype and device of the images.
    """
    moments = range(len(path.zoom))
    return torch.stack([_view(images, size, path, moment, depth, interpolation) for moment in moments])


def _view(
    images: Tensor,
    size: int,
    path: CameraPath,
    moment: int,
    depth: Tensor | None,
    interpolation: str,
    enlarge: Tensor | None = None,
) -> Tensor:
    """(B, C, size, size): the frame of `frames_along` at one moment."""
    height, width = images.shape[-2:]
    # Coordinates from the middle of the image, x to the right and y down, in half image sizes.
    x, y = (
        torch.arange(size, device=images.device, dtype=images.dtype) + (length - size) // 2 - (length - 1) / 2
        for length in (width, height)
    )
    half_width, half_height = width / 2, height / 2
    angle, zoom, shift = path.angle[moment], path.zoom[moment].exp(), path.shift[moment]
    if enlarge is not None:
        zoom, shift = zoom / enlarge, shift / enlarge[:, None]
    cos, sin = (zoom * angle.cos())[:, None, None], (zoom * angle.sin())[:, None, None]
    right, down = (shift.to(images)[:, axis, None, None] for axis in (0, 1))
    if depth is not None:
        right, down = depth[:, 0] * right, depth[:, 0] * down
    # no matrix product, which GPUs may round to TF32
    across = (x * cos - y[:, None] * sin + right) / half_width  # (B, size, size)
    along = (x * sin + y[:, None] * cos + down) / half_height
    grid = torch.stack([across, along], dim=-1).to(images)
    return functional.grid_sample(images, grid, interpolation, "reflection", align_corners=False)


def _finer(path: CameraPath, substeps: int) -> CameraPath:
    """The path at `substeps` moments a frame, by linear interpolation."""
    if substeps == 1:
        return path
    moments = (len(path.zoom) - 1) * substeps + 1

    def fill(part: Tensor) -> Tensor:
        rows = part.flatten(1).T[None]  # (1, B or 2B, T)
        fine = functional.interpolate(rows, size=moments, mode="linear", align_corners=True)
        return fine[0].T.reshape(moments, *part.shape[1:])

    return CameraPath(*map(fill, path))


def _soft_shape(coarse: Tensor, height: int, width: int) -> Tensor:
    """(B, 1, height, width) opacities in [0, 1]: the positive region of a coarse field, with a soft edge."""
    fine = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    return (fine * min(height, width) / 24 - 0.5).clamp(0, 1)


def camera_path(draw: Draws, motion: Motion) -> CameraPath:
    """Smooth random paths over the 13 frames, some of them still."""
    u = draw.uniform()
    short = min(1.0, motion.length)
    moving = ((u - motion.still) / max(1 - motion.still, 1e-6)).clamp(min=0)
    longer = short + (motion.length - short) * moving
    length = torch.where(u < motion.still, short * u / max(motion.still, 1e-6), longer)
    heading = draw.normal(2, 1)
    bend = functional.avg_pool1d(draw.normal(2, FRAMES + 6), 7, stride=1)  # (B, 2, 13), smooth over time
    velocity = heading + 0.9 * math.sqrt(7) * draw.uniform()[:, None, None] * bend
    place = velocity.cumsum(-1).permute(2, 0, 1)  # (13, B, 2)
    travelled = place.diff(dim=0).square().sum(-1).sqrt().sum(0)
    shift = (place - place[FRAMES // 2]) * (length / travelled)[:, None]
    time = (torch.arange(FRAMES, device=u.device)[:, None] - FRAMES // 2) / (FRAMES - 1)
    share = time * length.clamp(max=1)  # a still camera hardly turns
    angle = share * math.radians(motion.rotation) * draw.normal()
    return CameraPath(shift, angle, share * motion.zoom * draw.normal())


def _smooth_field(draw: Draws, size: int) -> Tensor:
    """(B, 1, size, size) smooth random fields of about unit spread, within [-2, 2]: the scene's depth."""
    coarse = draw.normal(1, 4, 4)
    fine = functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)
    return fine.clamp(-2, 2)
