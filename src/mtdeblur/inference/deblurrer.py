"""The deblurrer: weights, device, precision and tiling put together, from pictures to pictures."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtdeblur.errors import UserError, whole_number
from mtdeblur.inference.devices import choose_device, choose_precision, prepare
from mtdeblur.inference.inputs import take
from mtdeblur.inference.tiling import TiledNetwork
from mtdeblur.inference.windows import Report, spans, unroll_windows
from mtdeblur.networks.contract import Contract, ProgressiveNetwork, check_inputs
from mtdeblur.networks.unroll import Step, default_steps, resize, unroll
from mtdeblur.weights.catalogue import DEFAULT, Quality, find_weights, offered
from mtdeblur.weights.store import load_model

Image = Any
"""(H, W, 3) array, or what else `mtdeblur.inference.inputs.take` takes."""

# Untiled, a picture of 4 megapixels takes mtnaf about 1 GiB in bfloat16 and 2 in float32, mtrnn 2.5 and 4.
AUTO_TILE_ABOVE = 4_000_000  # pixels
AUTO_TILE = 1024
PROBE = 128  # side in pixels of the picture from which the time for others is estimated
_WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


def load(
    weights: str | Path | None = None,
    *,
    quality: Quality | None = None,
    iterations: SupportsIndex | None = None,
    or_fewer: bool = False,
    device: str | torch.device = "auto",
    precision: str | torch.dtype = "auto",
    tile: SupportsIndex | str = "auto",
) -> "Deblurrer":
    """Make a deblurrer.

    Args:
        weights: a name of the catalogue, or a path as for `load_network`.
        quality: "fast", "good" or "best" in place of weights and iterations; "good" where neither weights nor
            quality is given.
        iterations: how many to run, an integer of any library; None for what the weights advise, or the
            quality stands for.
        or_fewer: run all steps of a model that has fewer than that, which is an error otherwise.
        device: "auto", "cpu", "gpu", "cuda", "cuda:1", "mps", or a device of PyTorch.
        precision: "auto", "float32" or "bfloat16", or a dtype of PyTorch; auto takes bfloat16
            where the processor is good at it.
        tile: side in pixels of the parts that a picture is run over, "off" for the whole picture, or "auto".
            For most networks these are tiles, which change the memory needed and not the result; auto takes
            them above four megapixels. A network that takes in the whole picture at once runs over windows
            that are blended, with another result; auto takes those at which the network is best.

    Raises:
        UserError: in one line, if any of these cannot be had.
    """
    iterations = None if iterations is None else whole_number("iterations", iterations)
    if weights is not None and quality is not None:
        raise UserError("weights and quality exclude one another: a quality stands for weights")
    if weights is None:
        weights, advised = offered(quality or DEFAULT)
        iterations = advised if iterations is None else iterations
    network, steps = load_model(find_weights(weights), iterations, or_fewer=or_fewer)
    name = Path(weights).name
    return Deblurrer(network, iterations=steps, device=device, precision=precision, tile=tile, name=name)


class Deblurrer:
    """Deblurs pictures with one model.

    Attributes:
        steps: what is carried out.
        contract: facts of the network.
        networks: the members of the model as progressive networks, on the device and in the precision chosen.
        device: where it runs.
        precision: "float32" or "bfloat16".
        tile: side of tiles or windows, "off" or "auto".
        name: what the weights are called.
    """

    steps: Sequence[Step]
    contract: Contract
    networks: Sequence[ProgressiveNetwork]
    device: torch.device
    precision: str
    tile: int | str
    name: str

    def __init__(
        self,
        network: nn.Module,
        *,
        iterations: SupportsIndex | Sequence[Step] | None = None,
        device: str | torch.device = "auto",
        precision: str | torch.dtype = "auto",
        tile: SupportsIndex | str = "auto",
        name: str = "network",
    ) -> None:
        """Take over a model of the registry, which moves to the device.

        Args:
            network: the model.
            iterations: how many to run, or the steps themselves; None for the network's own.
            device: as for `load`.
            precision: as for `load`.
            tile: as for `load`.
            name: what the weights are called in `describe`.

        Raises:
            UserError: as `load` does.
        """
        self.name = name
        self.contract = cast(Contract, network.contract)
        wanted = default_steps(network) if iterations is None else iterations
        if isinstance(wanted, Sequence) and not isinstance(wanted, str) and wanted:
            self.steps = wanted
        else:
            self.steps = (Step(),) * whole_number("iterations", wanted)
        self.tile = _check_tile(tile)
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.contract, self.device)
        needed = {step.network for step in self.steps}
        self.networks = prepare(network, needed, self.device, self.precision)

    @property
    def iterations(self) -> int:
        """How many iterations are run."""
        return len(self.steps)

    def __call__(self, image: Image) -> Image:
        """Deblur one picture.

        Args:
            image: (H, W, 3) RGB, uint8, uint16, or float32 in [0, 1]; H and W from 1 pixel up. Or a picture
                of Pillow, or a tensor (3, H, W) or (1, 3, H, W), see `mtdeblur.inference.inputs.take`.

        Returns:
            The last iteration's estimate, of the same kind, shape and dtype, clamped and, for integers,
            rounded.

        Raises:
            ValueError: if the picture is none of these.
            UserError: if the network gives numbers that are not finite.
        """
        pixels, back = take(image)
        last = deque(self._run(_to_tensor(pixels)), maxlen=1).pop()
        return back(_to_array(last, pixels.dtype))

    def progress(self, image: Image, report: Report | None = None) -> Iterator[Image]:
        """Deblur one picture and give the estimate of every iteration; as `__call__` otherwise.

        Estimates at a lower scale are enlarged bilinearly. Over windows, those of a large picture come all at
        the end.

        Args:
            image: as for `__call__`.
            report: told the share of the work that is done, from 0 to 1.
        """
        pixels, back = take(image)
        estimates = self._run(_to_tensor(pixels), report)
        return (back(_to_array(estimate, pixels.dtype)) for estimate in estimates)

    def estimates(self, blurred: Tensor) -> Iterator[Tensor]:
        """The clamped estimate of every iteration.

        Args:
            blurred: (B, 3, H, W) in [0, 1], float, on any device.

        Returns:
            An iterator over (B, 3, H, W) in [0, 1], float32, on the deblurrer's device. Whether the numbers
            are finite is not checked, for a device would have to be waited for.

        Raises:
            ValueError: if it is no tensor, or the shape or the dtype does not fit.
        """
        if not isinstance(blurred, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(blurred).__name__
            raise ValueError(f"blurred must be a tensor (B, 3, H, W), not {kind}; others: call the deblurrer")
        return (estimate.clamp(0, 1) for estimate in self._run(blurred))

    def window(self, height: int, width: int) -> int | None:
        """Side, at most, of the windows over which a picture of that size is run; None for no windows.

        Windows give another result than the whole picture; exact tiles do not. Only networks that take in
        the whole picture at once are run over windows.

        Args:
            height: of the picture, in pixels.
            width: likewise.
        """
        if self.contract.global_operation is None or self.tile == "off":
            return None
        side = self.tile
        if not isinstance(side, int):
            side = self.contract.window or (AUTO_TILE if height * width > AUTO_TILE_ABOVE else None)
        if side is None or max(height, width) <= side:
            return None
        return -(-side // self.contract.multiple) * self.contract.multiple

    def describe(self, sizes: Sequence[tuple[int, int]]) -> str:
        """What is run over pictures of these heights and widths, and about how long it takes, in one line."""
        steps = f"{self.iterations} step{'s' if self.iterations > 1 else ''}"
        parts = [f"{self.name}: {steps}", f"{self.precision} on {self.device}"]
        if sides := {side for size in sizes if (side := self.window(*size)) is not None}:
            side = " or ".join(map(str, sorted(sides)))
            parts.append(
                f"blended windows of up to {side} pixels (the whole picture at once gives another result)"
            )
        if sizes:
            pixels = sum(height * width for height, width in sizes) / 1e6
            parts.append(f"about {_in_words(self.estimate_seconds(sizes))} for {pixels:.1f} megapixels")
        return ", ".join(parts)

    def estimate_seconds(self, sizes: Iterable[tuple[int, int]]) -> float:
        """About how long pictures of these heights and widths will take, from two runs over a small one."""
        side = -(-PROBE // self.contract.multiple) * self.contract.multiple
        probe = torch.zeros(1, 3, side, side)
        seconds = 0.0
        for _ in range(2):  # of which the first warms up
            started = time.perf_counter()
            deque((estimate.cpu() for estimate in self._run(probe)), maxlen=0)
            seconds = time.perf_counter() - started
        return seconds / side**2 * sum(self._pixels_run(*size) for size in sizes)

    def _pixels_run(self, height: int, width: int) -> int:
        """Pixels of a picture, counted once for each window that they lie in."""
        side = self.window(height, width) or max(height, width)
        found = (spans(length, side, self.contract.multiple) for length in (width, height))
        across, down = (sum(len(span.weights) for span in axis) for axis in found)
        return across * down

    def _run(self, blurred: Tensor, report: Report | None = None) -> Iterator[Tensor]:
        check_inputs(blurred, blurred)
        height, width = blurred.shape[-2:]
        blurred = blurred.to(self.device, torch.float32, memory_format=torch.channels_last)
        side = self.window(height, width)
        if side is not None:
            return unroll_windows(self.networks, blurred, self.steps, side, report)
        networks = self.networks
        if self.contract.global_operation is None:
            if isinstance(self.tile, int):
                networks = [TiledNetwork(network, self.tile) for network in networks]
            elif self.tile == "auto" and height * width > AUTO_TILE_ABOVE:
                networks = [TiledNetwork(network, AUTO_TILE) for network in networks]
        corners = self.contract.corners
        estimates = (
            resize(estimate, height, width, corners=corners)
            for estimate in unroll(networks, blurred, self.steps)
        )
        return estimates if report is None else _reported(estimates, len(self.steps), report)


def _in_words(seconds: float) -> str:
    """A duration to about two digits: 0.4 s, 12 s, 7 min, 1.5 h."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 3 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _reported(estimates: Iterable[Tensor], number: int, report: Report) -> Iterator[Tensor]:
    for done, estimate in enumerate(estimates, 1):
        report(done / number)
        yield estimate


def _check_tile(tile: object) -> int | str:
    if isinstance(tile, str) and tile in ("auto", "off"):
        return tile
    try:
        return whole_number("pixels", int(tile) if isinstance(tile, str) else tile)
    except (UserError, ValueError):
        raise UserError(f"tile must be 'auto', 'off' or a number of pixels from 1 up, not {tile!r}") from None


def _to_tensor(image: NDArray[Any]) -> Tensor:
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


def _to_array(estimate: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """(1, 3, H, W) to (H, W, 3), clamped and, for integers, rounded.

    Raises:
        UserError: if a number is not finite: of a diverged network no picture can be made.
    """
    if not bool(torch.isfinite(estimate).all()):
        raise UserError(
            "the network gives numbers that are not finite (NaN or infinity): its weights have diverged, or "
            "overflow in this precision; try --precision float32, or other weights"
        )
    values: NDArray[Any] = estimate[0].clamp(0, 1).permute(1, 2, 0).contiguous().cpu().numpy()
    if dtype.name == "float32":
        return values
    values *= _WHITE[dtype.name]
    return np.rint(values, out=values).astype(dtype)
