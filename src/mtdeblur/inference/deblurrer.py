"""The deblurrer, which combines weights, device, precision and tiling."""

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
"""(H, W, 3) array, or another input of `mtdeblur.inference.inputs.take`."""

# Without tiles, 4 megapixels need about 1 GiB in bfloat16 and 2 in float32 (mtnaf), or 2.5 and 4 (mtrnn).
AUTO_TILE_ABOVE = 4_000_000  # pixels
AUTO_TILE = 1024
PROBE = 128  # side in pixels of the picture for the estimate of run time
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
    """Load a deblurrer.

    Args:
        weights: a name of the catalogue, or a path as for `load_network`.
        quality: "fast", "good" or "best" instead of weights and iterations; by default "good", if no weights
            are given either.
        iterations: number of iterations, an integer of any library; None for the number that the weights or
            the quality advise.
        or_fewer: accept a model with fewer steps and run all of them.
        device: "auto", "cpu", "gpu", "cuda", "cuda:1", "mps", or a device of PyTorch.
        precision: "auto", "float32" or "bfloat16", or a dtype of PyTorch; auto selects bfloat16 where the
            device is fast at it.
        tile: side in pixels of the parts that are processed separately, "off" for the whole picture, or
            "auto". For most networks the parts are exact tiles, which save memory without changing the
            result; auto uses them above four megapixels. For networks with a global operation they are
            blended windows, which change the result; auto uses the network's best window size.

    Raises:
        UserError: if an argument is invalid or not available.
    """
    iterations = None if iterations is None else whole_number("iterations", iterations)
    if weights is not None and quality is not None:
        raise UserError("give either weights or a quality, not both: a quality selects weights")
    if weights is None:
        weights, advised = offered(quality or DEFAULT)
        iterations = advised if iterations is None else iterations
    network, steps = load_model(find_weights(weights), iterations, or_fewer=or_fewer)
    name = Path(weights).name
    return Deblurrer(network, iterations=steps, device=device, precision=precision, tile=tile, name=name)


class Deblurrer:
    """Deblurs pictures with one model.

    Attributes:
        steps: the steps to run.
        contract: facts of the network.
        networks: the members of the model, on the device and in the chosen precision.
        device: of the computation.
        precision: "float32" or "bfloat16".
        tile: side of tiles or windows, "off" or "auto".
        name: of the weights.
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
        """Wrap a model of the registry and move it to the device.

        Args:
            network: the model.
            iterations: number of iterations, or the steps themselves; None for the network's own.
            device: as for `load`.
            precision: as for `load`.
            tile: as for `load`.
            name: of the weights in `describe`.

        Raises:
            UserError: as `load` does.
        """
        self.name = name
        self.contract = cast(Contract, network.contract)
        steps = default_steps(network) if iterations is None else iterations
        if isinstance(steps, Sequence) and not isinstance(steps, str) and steps:
            self.steps = steps
        else:
            self.steps = (Step(),) * whole_number("iterations", steps)
        self.tile = _check_tile(tile)
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.contract, self.device)
        needed = {step.network for step in self.steps}
        self.networks = prepare(network, needed, self.device, self.precision)

    @property
    def iterations(self) -> int:
        """Number of iterations."""
        return len(self.steps)

    def __call__(self, image: Image) -> Image:
        """Deblur one picture.

        Args:
            image: (H, W, 3) RGB, uint8, uint16, or float32 in [0, 1], of any size. Or a Pillow image, or a
                tensor (3, H, W) or (1, 3, H, W), see `mtdeblur.inference.inputs.take`.

        Returns:
            The last iteration's estimate, of the same type, shape and dtype, clamped and, for integers,
            rounded.

        Raises:
            ValueError: if the image has another type, shape or dtype.
            UserError: if the network's output is not finite.
        """
        pixels, back = take(image)
        last = deque(self._run(_to_tensor(pixels)), maxlen=1).pop()
        return back(_to_array(last, pixels.dtype))

    def progress(self, image: Image, report: Report | None = None) -> Iterator[Image]:
        """Deblur one picture and yield the estimate of every iteration; otherwise like `__call__`.

        Estimates at a lower scale are enlarged bilinearly. With blended windows, all estimates of a large
        picture are yielded at the end.

        Args:
            image: as for `__call__`.
            report: receives the finished share of the work, from 0 to 1.
        """
        pixels, back = take(image)
        estimates = self._run(_to_tensor(pixels), report)
        return (back(_to_array(estimate, pixels.dtype)) for estimate in estimates)

    def estimates(self, blurred: Tensor) -> Iterator[Tensor]:
        """The clamped estimate of every iteration.

        Args:
            blurred: (B, 3, H, W) in [0, 1], float, on any device.

        Returns:
            An iterator over (B, 3, H, W) in [0, 1], float32, on the deblurrer's device. They are not checked
            for NaN or infinity, which would synchronise the device.

        Raises:
            ValueError: if it is not a tensor of that shape and dtype.
        """
        if not isinstance(blurred, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(blurred).__name__
            raise ValueError(f"blurred must be a tensor (B, 3, H, W), not {kind}; others: call the deblurrer")
        return (estimate.clamp(0, 1) for estimate in self._run(blurred))

    def window(self, height: int, width: int) -> int | None:
        """Maximum side of the blended windows for a picture of that size; None without windows.

        Only networks with a global operation use windows, which, unlike exact tiles, change the result.

        Args:
            height: of the picture, in pixels.
            width: of the picture, in pixels.
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
        """Model, device and estimated time for pictures of these heights and widths, in one line."""
        steps = f"{self.iterations} step{'s' if self.iterations > 1 else ''}"
        parts = [f"{self.name}: {steps}", f"{self.precision} on {self.device}"]
        if sides := {side for size in sizes if (side := self.window(*size)) is not None}:
            side = " or ".join(map(str, sorted(sides)))
            parts.append(
                f"blended windows of up to {side} pixels (the result differs from that of the whole picture)"
            )
        if sizes:
            pixels = sum(height * width for height, width in sizes) / 1e6
            parts.append(f"about {_in_words(self.estimate_seconds(sizes))} for {pixels:.1f} megapixels")
        return ", ".join(parts)

    def estimate_seconds(self, sizes: Iterable[tuple[int, int]]) -> float:
        """Estimated time for pictures of these heights and widths, measured on a small picture."""
        side = -(-PROBE // self.contract.multiple) * self.contract.multiple
        probe = torch.zeros(1, 3, side, side)
        seconds = 0.0
        for _ in range(2):  # the first is a warm-up
            started = time.perf_counter()
            deque((estimate.cpu() for estimate in self._run(probe)), maxlen=0)
            seconds = time.perf_counter() - started
        return seconds / side**2 * sum(self._pixels_run(*size) for size in sizes)

    def _pixels_run(self, height: int, width: int) -> int:
        """Pixels of all windows of a picture."""
        side = self.window(height, width) or max(height, width)
        axes = (spans(length, side, self.contract.multiple) for length in (width, height))
        across, down = (sum(len(span.weights) for span in axis) for axis in axes)
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
    """A duration with about two digits: 0.4 s, 12 s, 7 min, 1.5 h."""
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
        UserError: if the estimate is not finite, as that of a diverged network.
    """
    if not bool(torch.isfinite(estimate).all()):
        raise UserError(
            "the network's output is not finite (NaN or infinity): its weights have diverged, or overflow in "
            "this precision; try --precision float32, or other weights"
        )
    values: NDArray[Any] = estimate[0].clamp(0, 1).permute(1, 2, 0).contiguous().cpu().numpy()
    if dtype.name == "float32":
        return values
    values *= _WHITE[dtype.name]
    return np.rint(values, out=values).astype(dtype)
