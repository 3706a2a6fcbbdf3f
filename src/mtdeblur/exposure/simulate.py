"""A simulated high-speed camera: from a sharp photograph, the frames of one exposure and its temporal levels.

The photograph is seen by a camera that moves along a smooth random path (translation, rotation and zoom) before a
scene of varying depth; in part of the samples a second layer with a soft edge moves on its own. Everything is
batched tensor code that runs where the photographs are. Frames are made in linear light; sensor noise and
compression come after the camera response function, as in a camera.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mtdeblur.exposure.crf import CRF
from mtdeblur.exposure.levels import temporal_ladder

FRAMES = 13
"""Frames of an exposure: TL13 is the paper's highest temporal level."""


@dataclass(frozen=True)
class Motion:
    """How the simulated camera and scene move during the 13 frames of an exposure.

    Attributes:
        length: longest path of the camera over TL13, in pixels.
        still: share of the samples whose camera hardly moves (at most 1 pixel).
        rotation: standard deviation of the rotation over TL13, in degrees.
        zoom: standard deviation of the zoom over TL13, as a factor's logarithm.
        depth: how much the translation varies over the picture, as a share of itself (parallax).
        layers: share of the samples with an independently moving layer.
    """

    length: float = 48.0
    still: float = 0.1
    rotation: float = 0.6
    zoom: float = 0.01
    depth: float = 0.3
    layers: float = 0.4


@dataclass(frozen=True)
class Sensor:
    """What happens to an exposure after the camera response function.

    Attributes:
        noise: largest standard deviation of the noise at mid-grey, in [0, 1] units; each sample draws its own.
        noisy: share of the samples that have noise.
        compressed: share of the samples that are compressed.
        quality: range of the compression's quality, on JPEG's scale of 1 to 100.
    """

    noise: float = 0.015
    noisy: float = 0.5
    compressed: float = 0.3
    quality: tuple[int, int] = (70, 98)


def margin(motion: Motion) -> int:
    """Pixels that a photograph's crop needs around the wanted frame, so that the camera sees no border."""
    return math.ceil(motion.length / 2) + 4


def simulate_frames(photographs: Tensor, size: int, motion: Motion, seeds: Sequence[int]) -> Tensor:
    """The frames of one exposure of each photograph.

    Args:
        photographs: (B, 3, H, W), linear light in [0, 1], float, H and W at least `size`; what stands outside of
            a photograph is mirrored.
        size: height and width of the frames, in pixels; the mid-frame shows the
            photograph's middle, and the moving layer where there is one.
        motion: what moves, and how far.
        seeds: B seeds, one a sample: a sample does not depend on its neighbours, nor on the device.

    Returns:
        (13, B, 3, size, size), linear light in [0, 1]; frame 6 is the sharp one.

    Raises:
        ValueError: if the photographs are smaller than the frames, or there is not a seed for each.
    """
    batch, _, height, width = photographs.shape
    if min(height, width) < size:
        raise ValueError(f"photographs of {height}x{width} pixels are too small for frames of {size}x{size}")
    if len(seeds) != batch:
        raise ValueError(f"{batch} photographs need {batch} seeds, not {len(seeds)}")
    draw = _Draw(seeds, photographs.device)
    grid = _pixel_grid(size, (height, width), photographs.device)  # (size, size, 2), pixels from the middle
    lengths = draw.lengths(motion)
    depth = 1 + motion.depth * draw.smooth_field(size)  # (B, size, size, 1)
    frames = _expose(photographs, grid, draw.path(lengths), draw.twist(motion), depth)
    moving = draw.uniform() < motion.layers
    path, twist, blob = draw.path(draw.lengths(motion)), draw.twist(motion), draw.blob(height, width)
    if bool(moving.any()):  # the layer shows the photograph turned around, through a shape with a soft edge
        layer = torch.cat([photographs.flip(-1, -2), blob], dim=1)[moving]
        twist = (twist[0][:, moving], twist[1][:, moving])
        seen = _expose(layer, grid, path[:, moving], twist, torch.ones_like(depth[moving]))
        opacity = seen[:, :, 3:]  # (13, b, 1, size, size)
        frames[:, moving] = frames[:, moving] * (1 - opacity) + seen[:, :, :3] * opacity
    return frames


def simulate_ladder(
    photographs: Tensor, size: int, levels: Collection[int], motion: Motion, crf: CRF, seeds: Sequence[int]
) -> dict[int, Tensor]:
    """Temporal levels of one simulated exposure of each photograph.

    Args:
        photographs: (B, 3, H, W), stored values in [0, 1], float, H and W at least `size`.
        size: height and width of the levels' images, in pixels.
        levels: odd, from 1 to 13.
        motion: what moves, and how far.
        crf: the camera response function; the frames are made and averaged in its linear light.
        seeds: B seeds, one a sample.

    Returns:
        Level to image (B, 3, size, size), stored values in [0, 1].

    Raises:
        ValueError: as `simulate_frames` and `temporal_ladder` do.
    """
    frames = simulate_frames(crf.decode(photographs), size, motion, seeds)
    return {n: crf.encode(light).clamp(0, 1) for n, light in temporal_ladder(frames, levels).items()}


def record(exposures: Tensor, sensor: Sensor, seeds: Sequence[int]) -> Tensor:
    """What the camera stores of exposures: noisy and compressed in part of the samples, and quantised.

    Args:
        exposures: (B, 3, H, W), stored values in [0, 1], float.
        sensor: how noisy and how compressed.
        seeds: B seeds, one a sample.

    Returns:
        (B, 3, H, W) in [0, 1], multiples of 1/255.
    """
    draw = _Draw(seeds, exposures.device)
    deviation = torch.where(draw.uniform() < sensor.noisy, sensor.noise * draw.uniform(), 0)
    noise = torch.empty_like(exposures)
    for sample, seed in zip(noise, seeds, strict=True):
        sample.normal_(generator=torch.Generator(exposures.device).manual_seed(seed))
    stored = exposures + deviation[:, None, None, None] * (0.5 + exposures).sqrt() * noise
    stored = stored.clamp(0, 1).mul(255).round().div(255)
    chosen = draw.uniform() < sensor.compressed
    low, high = sensor.quality
    quality = low + (high - low) * draw.uniform()
    if bool(chosen.any()):
        stored[chosen] = compress(stored[chosen], quality[chosen]).clamp(0, 1).mul(255).round().div(255)
    return stored


def _expose(image: Tensor, grid: Tensor, path: Tensor, twist: tuple[Tensor, Tensor], depth: Tensor) -> Tensor:
    """Sample `image` (B, C, H, W) at every frame's place of the camera: (13, B, C, size, size)."""
    height, width = image.shape[-2:]
    angle, zoom = twist  # (13, B) each
    cos, sin = zoom.exp() * angle.cos(), zoom.exp() * angle.sin()
    # x right and y down from the middle; normalised coordinates are these, divided by half the size
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # (13, B, 2, 2)
    scale = torch.tensor([2 / width, 2 / height], device=image.device)
    frames: list[Tensor] = []
    for matrix, shift in zip(turn, path, strict=True):
        places = torch.einsum("bij,hwj->bhwi", matrix, grid) + shift[:, None, None] * depth
        frames.append(
            functional.grid_sample(image, places * scale, padding_mode="reflection", align_corners=False)
        )
    return torch.stack(frames)


def _pixel_grid(size: int, shape: tuple[int, int], device: torch.device) -> Tensor:
    """(size, size, 2): x and y of the middle pixels of a picture of that shape, from its middle."""
    rows, columns = (
        torch.arange(size, device=device) + (length - size) // 2 - (length - 1) / 2 for length in shape
    )
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)


class _Draw:
    """Random numbers of a batch, each sample's from its own seed; drawn on the CPU, so the same everywhere."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.device = device
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(self) -> Tensor:
        """(B,) in [0, 1)."""
        drawn = torch.stack([torch.rand((), generator=generator) for generator in self.generators])
        return drawn.to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape), standard normal."""
        drawn = torch.stack([torch.randn(shape, generator=generator) for generator in self.generators])
        return drawn.to(self.device)

    def lengths(self, motion: Motion) -> Tensor:
        """(B,) lengths of the camera's path over TL13 in pixels: some still, the rest up to the longest."""
        u = self.uniform()
        moving = (u - motion.still).clamp(min=0) / (1 - motion.still)
        return torch.where(u < motion.still, u / motion.still, 1 + (motion.length - 1) * moving**1.5)

    def path(self, lengths: Tensor) -> Tensor:
        """(13, B, 2) smooth random paths in pixels of the given lengths; the mid-frame is at the origin."""
        heading = self.normal(2, 1)
        bend = functional.avg_pool1d(self.normal(2, FRAMES + 6), 7, stride=1)  # (B, 2, 13), smooth over time
        velocity = heading + 0.9 * math.sqrt(7) * self.uniform()[:, None, None] * bend
        place = velocity.cumsum(-1).permute(2, 0, 1)
        moved = (place[1:] - place[:-1]).norm(dim=-1).sum(0)
        return (place - place[FRAMES // 2]) * (lengths / moved.clamp(min=1e-6))[None, :, None]

    def twist(self, motion: Motion) -> tuple[Tensor, Tensor]:
        """Rotation in radians and logarithm of the zoom, (13, B) each, zero at the mid-frame."""
        time = torch.linspace(-0.5, 0.5, FRAMES, device=self.device)[:, None]
        angle = math.radians(motion.rotation) * self.normal()
        return time * angle, time * motion.zoom * self.normal()

    def smooth_field(self, size: int) -> Tensor:
        """(B, size, size, 1) smooth random fields of about unit spread: the scene's depth."""
        coarse = self.normal(1, 4, 4)
        fine = functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)
        return fine.clamp(-2, 2).permute(0, 2, 3, 1)

    def blob(self, height: int, width: int) -> Tensor:
        """(B, 1, H, W) opacities in [0, 1] of a random shape with a soft edge."""
        coarse = self.normal(1, 5, 5)
        fine = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
        return (fine * min(height, width) / 12 - 2).add(0.5).clamp(0, 1)


_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation of luminance at quality 50, ITU-T T.81 Table K.1."""


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """Quantise 8x8 blocks in the frequency domain as JPEG does (luminance table for all of Y, Cb and Cr, 4:4:4).

    Args:
        images: (B, 3, H, W) in [0, 1], float.
        quality: (B,), JPEG's scale of 1 to 100.

    Returns:
        (B, 3, H, W), about [0, 1].
    """
    batch, _, height, width = images.shape
    device = images.device
    to_ycc = torch.tensor(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], device=device
    )
    ycc = torch.einsum("ij,bjhw->bihw", to_ycc, images * 255 - 128)
    ycc = functional.pad(ycc, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = ycc.unflatten(2, (-1, 8)).unflatten(4, (-1, 8)).transpose(3, 4)  # (B, 3, h, w, 8, 8)
    k = torch.arange(8, device=device, dtype=images.dtype)
    basis = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    table = torch.tensor(_LUMINANCE, device=device, dtype=images.dtype) * factor[:, None, None]
    table = table.round().clamp(1, 255)[:, None, None, None]
    blocks = basis.T @ ((basis @ blocks @ basis.T / table).round() * table) @ basis
    ycc = blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)[..., :height, :width]
    return (torch.einsum("ij,bjhw->bihw", to_ycc.inverse(), ycc) + 128) / 255
