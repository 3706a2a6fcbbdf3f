"""The deblurrer, which combines weights, device, precision and tiling."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, SupportsIndex, cast

import torch
from torch import Tensor, nn

from mtdeblur.errors import UserError, whole_number
from mtdeblur.inference.choosing import Choice, check_tile
from mtdeblur.inference.engines.choice import Notice, prepare
from mtdeblur.inference.inputs import Batch, as_batch, take
from mtdeblur.inference.memory import to_bytes
from mtdeblur.inference.parts import Model, Parts
from mtdeblur.inference.resting import RestingNetwork, can_rest
from mtdeblur.inference.running import Notify, in_turn, run
from mtdeblur.inference.stopping import settled
from mtdeblur.inference.strips import ArraySource, Report, Source, Strip, TensorSource, Watch, to_array
from mtdeblur.inference.within import Box, around, copied
from mtdeblur.media import spool
from mtdeblur.networks.contract import Contract, ProgressiveNetwork, check_inputs
from mtdeblur.networks.cost import parameters
from mtdeblur.networks.registry import architecture
from mtdeblur.networks.unroll import Step, default_steps
from mtdeblur.weights.catalogue import DEFAULT, Quality, Stopping, find_weights, offered
from mtdeblur.weights.description import origin, published
from mtdeblur.weights.hub import fetch
from mtdeblur.weights.pretrained import push_to_hub, save_pretrained
from mtdeblur.weights.store import load_model

Image = Any
"""(H, W, 3) array, or another input of `mtdeblur.inference.inputs.take` or `as_batch`."""

PROBE = 128  # side in pixels of the picture for the estimate of run time


def load(
    weights: str | Path | None = None,
    *,
    quality: Quality | None = None,
    iterations: SupportsIndex | str | None = None,
    or_fewer: bool = False,
    device: str | torch.device = "auto",
    precision: str | torch.dtype = "auto",
    tile: SupportsIndex | str = "auto",
    memory: int | str = "auto",
    engine: str = "auto",
    calibration: str | Path | None = None,
    notice: Notice | None = None,
) -> "Deblurrer":
    """Load a deblurrer.

    Args:
        weights: a name of the catalogue, a path as for `load_network`, a folder of `save_pretrained`, or
            `hf:OWNER/NAME` for a model on the Hugging Face Hub, see `Deblurrer.from_pretrained`.
        quality: "fast", "good" or "best" instead of weights and iterations; by default "good", if no weights
            are given either.
        iterations: number of iterations, an integer of any library; "auto" for early stopping, see
            `mtdeblur.inference.stopping`, with at most as many as the weights or the quality advise; None for
            "auto" where its thresholds are calibrated, otherwise for the advised number.
        or_fewer: accept a model with fewer steps and run all of them.
        device: "auto", "cpu", "gpu", "cuda", "cuda:1", "mps", or a device of PyTorch.
        precision: "auto", "float32", "bfloat16" or "int8", or a dtype of PyTorch; auto selects bfloat16 where
            the device is fast at it. int8 needs the engine openvino.
        tile: side in pixels of the parts that are processed separately, "off" for the whole picture, or
            "auto", the size that fits into `memory`. For most networks the parts are exact tiles, which save
            memory without changing the result. For networks with a global operation they are blended windows,
            which change the result; auto uses the network's best window size, or a smaller one if necessary.
        memory: limit in bytes, or such as "2GB" or "500MB", for the whole process on a CPU and for tensors on
            another device; "auto" for a share of what is free, on a CPU at most 2 GiB. Arrays that the caller
            holds count on a CPU, except that the parts are chosen before results are made.
        engine: "auto", "pytorch", "openvino" or "onnxruntime"; auto selects the fastest one that is installed
            and safe for network and device, and falls back to PyTorch.
        calibration: for int8, a folder of blurred pictures; by default packaged ones.
        notice: receives one-line notices, such as the reason of a fallback.

    Raises:
        UserError: if an argument is invalid or not available.
    """
    chosen, iterations = iterations, None if iterations in (None, "auto") else _count(iterations)
    if weights is not None and quality is not None:
        raise UserError("give either weights or a quality, not both: a quality selects weights")
    if weights is None:
        weights, advised = offered(quality or DEFAULT)
        iterations = advised if iterations is None else iterations
    path = find_weights(weights)
    source = origin(weights, path)
    known = published(source)
    stopping = known.stopping
    if chosen == "auto":
        stopping = stopping or Stopping()
    network, steps = load_model(path, iterations, or_fewer=or_fewer)
    return Deblurrer(
        network,
        iterations=steps,
        device=device,
        precision=precision,
        tile=tile,
        memory=memory,
        name=known.name or Path(weights).name,
        engine=engine,
        calibration=calibration,
        notice=notice,
        stopping=stopping if chosen in (None, "auto") else None,
        weights=source,
    )


class Deblurrer:
    """Deblurs pictures with one model.

    Attributes:
        steps: the steps to run.
        contract: facts of the network.
        networks: the members of the model, on the device and in the chosen precision.
        device: of the computation.
        precision: "float32", "bfloat16" or "int8".
        tile: side of tiles or windows, "off" or "auto".
        memory: limit in bytes, or None for a share of what is free.
        name: of the weights.
        stopping: thresholds of early stopping; None: all steps run everywhere.
        weights: name or path of the weights; None for a model that was not loaded.
    """

    steps: Sequence[Step]
    contract: Contract
    networks: Sequence[ProgressiveNetwork]
    device: torch.device
    precision: str
    tile: int | str
    memory: int | None
    name: str
    stopping: Stopping | None
    weights: str | Path | None

    def __init__(
        self,
        network: nn.Module,
        *,
        iterations: SupportsIndex | Sequence[Step] | None = None,
        device: str | torch.device = "auto",
        precision: str | torch.dtype = "auto",
        tile: SupportsIndex | str = "auto",
        memory: int | str = "auto",
        name: str = "network",
        engine: str = "auto",
        calibration: str | Path | None = None,
        notice: Notice | None = None,
        stopping: Stopping | None = None,
        weights: str | Path | None = None,
    ) -> None:
        """Wrap a model of the registry and move it to the device.

        Args:
            network: the model.
            iterations: number of iterations, or the steps themselves; None for the network's own.
            device: as for `load`.
            precision: as for `load`.
            tile: as for `load`.
            memory: as for `load`.
            name: of the weights in `describe`.
            engine: as for `load`.
            calibration: as for `load`.
            notice: as for `load`.
            stopping: thresholds of early stopping; None: all steps run everywhere.
            weights: name or path of the weights, for `save_pretrained` and `push_to_hub`.

        Raises:
            UserError: as `load` does.
        """
        self.name, self.stopping, self.weights = name, stopping, weights
        self.contract = cast(Contract, network.contract)
        self._architecture, self._parameters = architecture(network), parameters(network)
        steps = default_steps(network) if iterations is None else iterations
        if isinstance(steps, Sequence) and not isinstance(steps, str) and steps:
            self.steps = steps
        else:
            self.steps = (Step(),) * whole_number("iterations", steps)
        self.tile = check_tile(tile)
        self.memory = to_bytes(memory)
        folder = None if calibration is None else Path(calibration)
        if stopping is not None and self.contract.global_operation is None and engine == "auto":
            engine = "pytorch"  # parts that rest change the sizes of the others, for which engines compile
        self.networks, self._engine, self.device, self.precision = prepare(
            network, self.steps, device, precision, engine, calibration=folder, notice=notice
        )
        self._choice = Choice(self._model, self.device, self.tile, self.memory)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        **settings: Any,
    ) -> "Deblurrer":
        """Load a model from the Hugging Face Hub, or from a folder of `save_pretrained`.

        Only safetensors are loaded. Thresholds of early stopping come with the model.

        Args:
            model: `OWNER/NAME` on the Hub, or a folder.
            revision: branch, tag or commit on the Hub.
            token: for private models, as for `huggingface_hub`; None for that of `hf auth login`.
            **settings: as for `load`, such as `device`.

        Raises:
            UserError: if the model cannot be had, or as `load` does.
        """
        if Path(model).is_dir():
            return load(model, **settings)
        return load(fetch(f"{model}@{revision}" if revision else str(model), token), **settings)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights, description, model card and licence into a folder; returns the folder.

        Args:
            folder: is made if it does not exist; its files are replaced, but for a model card.

        Raises:
            UserError: if the model was not loaded from weights, or the folder cannot be written.
        """
        return save_pretrained(self._loaded_from(), folder)

    def push_to_hub(self, repo: str, *, private: bool | None = None, token: str | bool | None = None) -> str:
        """Upload the folder of `save_pretrained` to the Hugging Face Hub; returns the commit's address.

        Args:
            repo: `OWNER/NAME`; it is made if it does not exist.
            private: of a new repository; None for the owner's default.
            token: as for `huggingface_hub`; None for that of `hf auth login`.

        Raises:
            UserError: as `save_pretrained` does, or if huggingface_hub is not installed or the upload fails.
        """
        return push_to_hub(self._loaded_from(), repo, private=private, token=token)

    def _loaded_from(self) -> str | Path:
        if self.weights is None:
            raise UserError(
                "this model was not loaded from weights: write them by mtdeblur.weights.store.save_network, "
                "and load that file"
            )
        return self.weights

    @property
    def engine(self) -> str:
        """The engine that runs the network: "pytorch", "openvino" or "onnxruntime"."""
        return getattr(self.networks[self.steps[0].network], "engine", self._engine)

    @property
    def iterations(self) -> int:
        """Number of iterations."""
        return len(self.steps)

    def __call__(self, image: Image) -> Image:
        """Deblur one picture, or several.

        Args:
            image: (H, W, 3) RGB, uint8, uint16, or floating point in [0, 1], of any size. Or a Pillow image,
                a tensor (3, H, W), or others of `mtdeblur.inference.inputs.take`. Or several: a list of any
                of these, an array (B, H, W, 3) or a tensor (B, 3, H, W); they are deblurred one after
                another, so that a batch gives what each picture gives by itself.

        Returns:
            The last iteration's estimate, of the same type, shape and dtype, clamped and, for integers,
            rounded.

        Raises:
            ValueError: if the image has another type, shape or dtype.
            UserError: if the network's output is not finite.
        """
        batch = as_batch(image)
        if batch is not None:
            return batch.join([self(one) for one in batch.images])
        return deque(self.progress(image, every=False), maxlen=1).pop()

    def progress(
        self,
        image: Image,
        report: Report | None = None,
        *,
        every: bool = True,
        notify: Notify | None = None,
        watch: Watch | None = None,
        within: Box | None = None,
    ) -> Iterator[Image]:
        """Deblur and yield the estimate of every iteration, of the type of the image, see `__call__`.

        Estimates at a lower scale are enlarged bilinearly. All estimates of a large picture are yielded at
        the end.

        Args:
            image: as for `__call__`. Estimates of an array in a file (`mtdeblur.media.spool`) are in files.
            report: receives the finished share of the work, from 0 to 1.
            every: yield all estimates; otherwise only the last, which needs less memory.
            notify: receives a notice in one line if memory runs out and smaller parts are tried.
            watch: receives estimates while their rows are being filled; for one picture only.
            within: the part to deblur, and hardly more: the others keep the pixels of the image. Its result
                is that of the whole picture, except over blended windows, which are others then.

        Raises:
            ValueError: as `__call__` does, at once.
        """
        batch = as_batch(image)
        if batch is not None:
            if watch is not None:
                raise ValueError("watch is for one picture, and this is a batch")
            return self._together(batch, report, every, notify, within)
        pixels, back = take(image)
        box = within and around(within, self.contract, self.steps, *pixels.shape[:2])
        source = ArraySource(pixels[box.place] if box else pixels, self.device)
        return map(back, self._arrays(source, pixels, report, every, notify, watch, box))

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
        return (estimate.clamp(0, 1) for estimate in self._tensors(blurred))

    def window(self, height: int, width: int) -> int | None:
        """Maximum side of the blended windows for a picture of that size; None without windows.

        Only networks with a global operation use windows, which, unlike exact tiles, change the result.

        Args:
            height: of the picture, in pixels.
            width: of the picture, in pixels.
        """
        parts = self.parts(height, width)
        return parts.rows if parts.kind == "windows" else None

    def in_turn(self, height: int, width: int) -> bool:
        """Whether each iteration is finished before the next begins, and not all of them row by row.

        Args:
            height: of the picture, in pixels.
            width: of the picture, in pixels.
        """
        return in_turn(self.parts(height, width), height, width)

    def keep_parts(self, height: int, width: int, kept: Sequence[Any] = ()) -> list[Any]:
        """Deblur all pictures of a size in the same parts, however much memory is free later.

        Args:
            height: of the pictures, in pixels.
            width: of the pictures, in pixels.
            kept: what this method returned in an earlier run, so that the result is the same.

        Returns:
            The parts, of JSON's types.
        """
        return self._choice.keep(height, width, kept)

    def parts(self, height: int, width: int, results: int = 1) -> Parts:
        """The parts in which a picture is deblurred.

        Args:
            height: of the picture, in pixels.
            width: of the picture, in pixels.
            results: number of estimates that are wanted.
        """
        return self._choice.parts(height, width, results)

    def _model(self) -> Model:
        """The model with early stopping, if any."""
        stopping = self.stopping
        if stopping is None:
            return Model(self.networks, self.steps)
        if self.contract.global_operation is not None:
            settle = partial(settled, stopping=stopping, number=len(self.steps))
            return Model(self.networks, self.steps, settle)
        if not can_rest(self.networks, self.steps):
            return Model(self.networks, self.steps)
        return Model([RestingNetwork(network, stopping.change) for network in self.networks], self.steps)

    def _facts(self) -> dict[str, str]:
        """What a person wants to know of it, by name."""
        licence = None if self.weights is None else published(self.weights).licence
        facts = {
            "weights": self.name,
            "network": self._architecture,
            "parameters": f"{self._parameters:,}" if self._parameters else None,
            "licence": licence,
            "steps": f"{'at most ' if self.stopping else ''}{self.iterations}",
            "device": str(self.device),
            "precision": self.precision,
            "engine": self.engine,
        }
        return {name: fact for name, fact in facts.items() if fact}

    def __repr__(self) -> str:
        return f"Deblurrer({', '.join(f'{name}: {fact}' for name, fact in self._facts().items())})"

    def _repr_html_(self) -> str:
        """The facts as a table, which notebooks show."""
        left = 'style="text-align: left"'
        facts = self._facts().items()
        rows = "".join(
            f"<tr><th {left}>{name}</th><td {left}>{escape(fact)}</td></tr>" for name, fact in facts
        )
        return f"<table><caption>Deblurrer</caption>{rows}</table>"

    def describe(self, sizes: Sequence[tuple[int, int]], within: Box | None = None) -> str:
        """Model, device and estimated time for pictures of these heights and widths, in one line.

        Args:
            sizes: of the pictures.
            within: the part to deblur, as for `progress`.
        """
        steps = f"{self.iterations} step{'s' if self.iterations > 1 else ''}"
        most = "at most " if self.stopping else ""
        parts = [f"{self.name}: {most}{steps}", f"{self.precision} on {self.device} by {self.engine}"]
        if sides := {side for size in sizes if (side := self.window(*size)) is not None}:
            side = " or ".join(map(str, sorted(sides)))
            parts.append(
                f"blended windows of up to {side} pixels (the result differs from that of the whole picture)"
            )
        if any(self.parts(*size).kind in ("tiles", "bands") for size in sizes):
            parts.append("in exact tiles")
        if within:
            sizes = [around(within, self.contract, self.steps, *size).size for size in sizes]
        if sizes:
            pixels = sum(height * width for height, width in sizes) / 1e6
            parts.append(f"about {_in_words(self.estimate_seconds(sizes))} for {pixels:.1f} megapixels")
        return ", ".join(parts)

    def estimate_seconds(self, sizes: Iterable[tuple[int, int]]) -> float:
        """Estimated time for pictures of these heights and widths, measured on a small picture."""
        side = -(-PROBE // self.contract.multiple) * self.contract.multiple
        probe = torch.zeros(1, 3, *(self.contract.size or (side, side)))
        seconds = 0.0
        for _ in range(2):  # the first is a warm-up
            started = time.perf_counter()
            deque((estimate.cpu() for estimate in self._tensors(probe, early=False)), maxlen=0)
            seconds = time.perf_counter() - started
        return seconds / probe[0, 0].numel() * sum(self._choice.pixels_run(*size) for size in sizes)

    def _together(
        self, batch: Batch, report: Report | None, every: bool, notify: Notify | None, within: Box | None
    ) -> Iterator[Image]:
        """The estimates of all pictures of a batch after each iteration."""
        shares = [0.0] * len(batch.images)

        def told(number: int, share: float) -> None:
            shares[number] = share
            if report is not None:
                report(sum(shares) / len(shares))

        estimates = [
            self.progress(image, partial(told, number), every=every, notify=notify, within=within)
            for number, image in enumerate(batch.images)
        ]
        return map(batch.join, zip(*estimates, strict=True))

    def _tensors(self, blurred: Tensor, *, early: bool = True) -> Iterator[Tensor]:
        """The estimate of every iteration: (B, 3, H, W) float32 on the device."""
        check_inputs(blurred, blurred)
        blurred = blurred.to(self.device, torch.float32, memory_format=torch.channels_last)
        results: dict[int, Tensor] = {}
        for step, start, rows in self._strips(TensorSource(blurred), self.iterations, early=early):
            if rows.shape[-2:] == blurred.shape[-2:]:
                yield rows
                continue
            result = results[step] if step in results else torch.empty_like(blurred)
            results[step] = result
            result[..., start : start + rows.shape[-2], :] = rows
            if start + rows.shape[-2] == blurred.shape[-2]:
                yield results.pop(step)

    def _arrays(
        self,
        source: Source,
        pixels: Any,
        report: Report | None,
        every: bool,
        notify: Notify | None,
        watch: Watch | None,
        box: Box | None,
    ) -> Iterator[Any]:
        """The estimates as arrays like `pixels`; the source is the part of them in a box."""
        results: dict[int, Any] = {}
        number = self.iterations if every else 1
        finished = self.iterations - number
        whole = pixels.shape[:2]
        top, columns = (box.top, box.place[1]) if box else (0, slice(None))
        for step, start, rows in self._strips(source, number, report, notify, whole=whole):
            if step < finished:  # once more, after memory had run out
                continue
            if step not in results:
                empty = partial(spool.like, pixels, pixels.shape, pixels.dtype.newbyteorder("="))
                results[step] = copied(pixels) if box else empty()
            end = start + rows.shape[-2]
            to_array(rows, results[step][top + start : top + end, columns])
            if watch is not None:
                watch(step, results[step], top + end)
            if end == source.height:
                finished = step + 1
                yield results.pop(step)

    def _strips(
        self,
        source: Source,
        results: int,
        report: Report | None = None,
        notify: Notify | None = None,
        *,
        early: bool = True,
        whole: tuple[int, int] | None = None,
    ) -> Iterator[Strip]:
        """The rows of the last estimates, `results` in number.

        All steps run everywhere if not `early`. The parts are those of a picture of the size `whole`, of
        which the source may be a part.
        """
        wanted = range(self.iterations - results, self.iterations)
        parts = self.parts(*(whole or (source.height, source.width)), results)
        model = self._model() if early else Model(self.networks, self.steps)
        return run(model, source, parts, wanted, report, notify)


def _count(iterations: SupportsIndex | str) -> int:
    digits = isinstance(iterations, str) and iterations.isascii() and iterations.isdigit()
    return whole_number("iterations", int(iterations) if digits else iterations)


def _in_words(seconds: float) -> str:
    """A duration with about two digits: 0.4 s, 12 s, 7 min, 1.5 h."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 3 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
