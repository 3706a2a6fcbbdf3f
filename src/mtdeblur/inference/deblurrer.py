"""The deblurrer: weights, device, precision and tiling put together, from pictures to pictures."""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtdeblur.errors import UserError
from mtdeblur.inference.engines import TorchEngine, choose_device, choose_precision, move
from mtdeblur.inference.tiling import TiledNetwork
from mtdeblur.networks.contract import Contract, ProgressiveNetwork, check_inputs, members
from mtdeblur.networks.unroll import Step, default_steps, resize, unroll
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.store import advised_steps, load_network

Image = NDArray[Any]

# Untiled, a picture of 4 megapixels takes mtnaf about 1 GiB in bfloat16 and 2 in float32, mtrnn 2.5 and 4.
AUTO_TILE_ABOVE = 4_000_000  # pixels
AUTO_TILE = 1024
_WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


def load(
    weights: str | Path | None = None,
    *,
    iterations: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    tile: int | str = "auto",
) -> "Deblurrer":
    """Make a deblurrer.

    Args:
        weights: a name of the catalogue, a path as for `load_network`, or None for the default weights.
        iterations: how many to run; None for what the weights advise.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "auto", "float32" or "bfloat16"; auto takes bfloat16 where the processor is good at it.
        tile: side in pixels of the tiles that each iteration runs over, "off", or "auto" (on for pictures
            above four megapixels). Tiles change the memory needed, not the result.

    Raises:
        UserError: in one line, if any of these cannot be had.
    """
    path = find_weights(weights)
    network = load_network(path)
    steps = choose_steps(advised_steps(path) or default_steps(network), iterations)
    return Deblurrer(network, iterations=steps, device=device, precision=precision, tile=tile)


def choose_steps(advised: Sequence[Step] | None, iterations: int | None) -> int | Sequence[Step] | None:
    """The steps to carry out: those that the weights advise, unless another number is wanted.

    Args:
        advised: what the weights advise; None if nothing.
        iterations: how many are wanted; None for what is advised.

    Raises:
        UserError: if the steps of these weights differ from one another, and so cannot be another number.
    """
    if iterations is None or (advised and len(advised) == iterations):
        return advised
    if advised and any(step != Step() for step in advised):
        if iterations < len(advised) and all(step.scale == 1 for step in advised):
            return advised[:iterations]
        raise UserError(
            f"these weights go through {len(advised)} steps, each of its own kind, not {iterations}"
        )
    return iterations


class Deblurrer:
    """Deblurs pictures with one model.

    Attributes:
        steps: what is carried out.
        networks: the members of the model as progressive networks, on the device and in the precision chosen.
        device: where it runs.
        precision: "float32" or "bfloat16".
        tile: side of the tiles, "off" or "auto".
    """

    steps: Sequence[Step]
    networks: Sequence[ProgressiveNetwork]
    device: torch.device
    precision: str
    tile: int | str

    def __init__(
        self,
        network: nn.Module,
        *,
        iterations: int | Sequence[Step] | None = None,
        device: str = "auto",
        precision: str = "auto",
        tile: int | str = "auto",
    ) -> None:
        """Take over a model of the registry, which moves to the device.

        Args:
            network: the model.
            iterations: how many to run, or the steps themselves; None for the network's own.
            device: as for `load`.
            precision: as for `load`.
            tile: as for `load`.

        Raises:
            UserError: as `load` does.
        """
        contract = cast(Contract, network.contract)
        wanted = default_steps(network) if iterations is None else iterations
        self.steps = (Step(),) * wanted if isinstance(wanted, int) else wanted
        if not self.steps:
            raise UserError(f"the number of iterations must be at least 1, not {wanted}")
        self.tile = _check_tile(tile, contract)
        self.device = choose_device(device)
        self.precision = choose_precision(precision, contract, self.device)
        move(network, self.device, self.precision)
        self.networks = [TorchEngine(member) for member in members(network)]

    @property
    def iterations(self) -> int:
        """How many iterations are run."""
        return len(self.steps)

    def __call__(self, image: Image) -> Image:
        """Deblur one picture.

        Args:
            image: (H, W, 3) RGB, uint8, uint16, or float32 in [0, 1]; H and W from 1 pixel up.

        Returns:
            The last iteration's estimate in the same shape and dtype, clamped and, for integers, rounded.

        Raises:
            ValueError: if the array is none of these.
        """
        last = deque(self._run(_to_tensor(image)), maxlen=1).pop()
        return _to_array(last, image.dtype)

    def progress(self, image: Image) -> Iterator[Image]:
        """Deblur one picture and give the estimate of every iteration; as `__call__` otherwise.

        Estimates at a lower scale are enlarged bilinearly.
        """
        return (_to_array(estimate, image.dtype) for estimate in self._run(_to_tensor(image)))

    def estimates(self, blurred: Tensor) -> Iterator[Tensor]:
        """The clamped estimate of every iteration.

        Args:
            blurred: (B, 3, H, W) in [0, 1], float, on any device.

        Returns:
            An iterator over (B, 3, H, W) in [0, 1], float32, on the deblurrer's device.

        Raises:
            ValueError: if the shape or the dtype does not fit.
        """
        return (estimate.clamp(0, 1) for estimate in self._run(blurred))

    def _run(self, blurred: Tensor) -> Iterator[Tensor]:
        check_inputs(blurred, blurred)
        height, width = blurred.shape[-2:]
        networks = self.networks
        if isinstance(self.tile, int):
            networks = [TiledNetwork(network, self.tile) for network in networks]
        elif self.tile == "auto" and height * width > AUTO_TILE_ABOVE:
            networks = [
                network if network.contract.global_operation else TiledNetwork(network, AUTO_TILE)
                for network in networks
            ]
        blurred = blurred.to(self.device, torch.float32, memory_format=torch.channels_last)
        return (resize(estimate, height, width) for estimate in unroll(networks, blurred, self.steps))


def _check_tile(tile: int | str, contract: Contract) -> int | str:
    if tile in ("auto", "off"):
        return tile
    if isinstance(tile, str) and tile.isdecimal():
        tile = int(tile)
    if not isinstance(tile, int) or tile < 1:
        raise UserError(f"tile must be 'auto', 'off' or a number of pixels from 1 up, not {tile!r}")
    if contract.global_operation:
        raise UserError(f"this network cannot be tiled exactly, because it has {contract.global_operation}")
    return tile


def _to_tensor(image: Image) -> Tensor:
    """(H, W, 3) of a known dtype to (1, 3, H, W) float32 in [0, 1], channels-last."""
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be (H, W, 3) and not empty, not {image.shape}")
    if image.dtype.name not in _WHITE:
        raise ValueError(f"image must be uint8, uint16 or float32, not {image.dtype}")
    values = image.astype(np.float32)  # a copy, native and contiguous
    if image.dtype.name == "float32" and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"a float32 image must be in [0, 1], not {values.min()} to {values.max()}")
    values /= _WHITE[image.dtype.name]
    return torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)[None]  # pyright: ignore[reportUnknownMemberType]


def _to_array(estimate: Tensor, dtype: np.dtype[Any]) -> Image:
    """(1, 3, H, W) to (H, W, 3), clamped and, for integers, rounded."""
    values: Image = estimate[0].clamp(0, 1).permute(1, 2, 0).contiguous().cpu().numpy()
    if dtype.name == "float32":
        return values
    return np.rint(values * _WHITE[dtype.name]).astype(dtype)
