"""Choice of the engine, and fallback to PyTorch with a reason."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from mtdeblur.errors import UserError, one_line
from mtdeblur.inference.devices import choose_device, choose_precision, out_of_memory
from mtdeblur.inference.engines import pytorch
from mtdeblur.inference.engines.graphs import GraphNetwork, kinds
from mtdeblur.inference.memory import measure
from mtdeblur.networks.contract import Contract, ProgressiveNetwork, State, members
from mtdeblur.networks.unroll import Step

PRECISIONS = {
    "pytorch": ("float32", "bfloat16"),
    "openvino": ("float32", "bfloat16", "int8"),
    "onnxruntime": ("float32",),
}
"""Engines, and the precisions that they offer."""
Notice = Callable[[str], None]
"""Receives a one-line notice for the user."""


class Prepared(NamedTuple):
    """A model that is ready to run.

    Attributes:
        networks: its members, on the device and in the precision.
        engine: a key of `PRECISIONS`.
        device: of the computation.
        precision: "float32", "bfloat16" or "int8".
    """

    networks: Sequence[ProgressiveNetwork]
    engine: str
    device: torch.device
    precision: str


def prepare(
    model: nn.Module,
    steps: Sequence[Step],
    device: str | torch.device,
    precision: str | torch.dtype,
    engine: str = "auto",
    *,
    calibration: Path | None = None,
    notice: Notice | None = None,
) -> Prepared:
    """Choose engine, device and precision, and prepare a model for inference.

    "auto" tries the engines in the order of `Contract.engines` that are installed and offer the precision;
    GPUs use PyTorch. If an engine cannot convert or run the network, PyTorch takes over with a notice.

    Args:
        model: one of the registry, or several; PyTorch prepares it in place.
        steps: that will run.
        device: as for `mtdeblur.inference.deblurrer.load`.
        precision: as for `load`.
        engine: "auto" or a key of `PRECISIONS`.
        calibration: for int8, a folder of blurred pictures; None for the packaged ones.
        notice: receives notices.

    Raises:
        UserError: if engine, device or precision is not available, or a named engine cannot convert the
            network.
    """
    if engine not in ("auto", *PRECISIONS):
        raise UserError(f"engine {engine!r} is not one of auto, {', '.join(PRECISIONS)}")
    if engine in ("openvino", "onnxruntime") and device == "auto":
        device = "cpu"
    contract = cast("Contract", model.contract)
    place = choose_device(device, contract.devices)
    if place.type != "cpu" and engine not in ("auto", "pytorch"):
        raise UserError(f"engine {engine!r} runs on the CPU here, not on {place}; choose --device cpu")
    chosen = _precision(precision, contract, place, engine)
    candidates = _candidates(contract, place, chosen) if engine == "auto" else [engine]
    if not candidates:
        raise UserError(
            f"precision {chosen!r} needs the engine openvino on a CPU: pip install 'mtdeblur[openvino]'"
        )
    for candidate in candidates:
        if candidate == "pytorch":
            break
        try:
            networks = _graphs(candidate, model, steps, chosen, calibration, notice)
        except Exception as error:
            if isinstance(error, UserError) or out_of_memory(error):
                raise
            reason = f"{candidate} cannot convert this network ({one_line(error, 160)})"
            if engine != "auto" or chosen == "int8":
                raise UserError(f"{reason}; use the engine pytorch") from error
            if notice is not None:
                notice(f"{reason}; PyTorch runs it instead")
        else:
            reserve = engine == "auto" and chosen != "int8"
            guard = _Guard(candidate, model if reserve else None, steps, chosen, notice)
            networks = [_Guarded(network, n, guard) for n, network in enumerate(networks)]
            return Prepared(networks, candidate, place, chosen)
    needed = {step.network for step in steps}
    return Prepared(pytorch.prepare(model, needed, place, chosen), "pytorch", place, chosen)


def _precision(precision: str | torch.dtype, contract: Contract, device: torch.device, engine: str) -> str:
    chosen = choose_precision(precision, contract, device)
    offered = tuple(name for names in PRECISIONS.values() for name in names)
    if engine != "auto":
        offered = PRECISIONS[engine]
    if chosen in offered:
        return chosen
    if str(precision) == "auto":
        return "float32"
    able = [name for name, names in PRECISIONS.items() if chosen in names]
    raise UserError(f"the engine {engine} does not offer the precision {chosen}; use {' or '.join(able)}")


def _candidates(contract: Contract, device: torch.device, precision: str) -> list[str]:
    """Engines to try in turn."""
    order = contract.engines if device.type == "cpu" else ("pytorch",)
    if precision == "int8" and device.type == "cpu":
        order = ("openvino",)
    return [name for name in order if precision in PRECISIONS[name] and _installed(name)]


def offered() -> dict[str, tuple[str, ...]]:
    """Precisions by engine, for engines whose packages are installed."""
    return {engine: precisions for engine, precisions in PRECISIONS.items() if _installed(engine)}


def _installed(engine: str) -> bool:
    return engine == "pytorch" or find_spec(engine) is not None


def _graphs(
    engine: str,
    model: nn.Module,
    steps: Sequence[Step],
    precision: str,
    calibration: Path | None,
    notice: Notice | None,
) -> list[ProgressiveNetwork]:
    """The members that the steps need as graphs; the others as they are."""
    parts = list(members(model.eval()))
    found = kinds(parts, steps)
    need = measure(parts, steps, torch.device("cpu")).step  # as PyTorch needs it in float32
    need *= 1.0 if precision == "float32" else 0.5  # other runtimes need about as much
    compile: Any
    if engine == "onnxruntime":
        from mtdeblur.inference.engines.onnxruntime import ONNXRuntime as Runtime

        runtimes = {number: Runtime() for number, _ in found}
    else:
        from mtdeblur.inference.engines.openvino import OpenVINO

        samples: Any = None
        if precision == "int8":
            from mtdeblur.inference.engines.int8 import Samples, calibration_pictures

            samples = Samples(parts, steps, calibration_pictures(calibration))
        runtimes = {number: OpenVINO(precision, samples, notice) for number, _ in found}
    for number, runtime in runtimes.items():
        own = {given: kind for (member, given), kind in found.items() if member == number}
        for kind in own.values():
            runtime.prepare(kind)
        compile = runtime.compile
        parts[number] = GraphNetwork(own, compile, need)
    return parts


class _Guard:
    """PyTorch in reserve, if an engine fails while it runs; without a model, the error is the user's."""

    def __init__(
        self,
        engine: str,
        model: nn.Module | None,
        steps: Sequence[Step],
        precision: str,
        notice: Notice | None,
    ) -> None:
        self.engine = engine
        self._model, self._needed = model, {step.network for step in steps}
        self._precision, self._notice = precision, notice
        self.networks: list[ProgressiveNetwork] | None = None

    def take_over(self, error: Exception) -> list[ProgressiveNetwork]:
        """Prepare PyTorch and say why."""
        reason = f"{self.engine} failed ({one_line(error, 160)})"
        if self._model is None:
            raise UserError(f"{reason}; use the engine pytorch") from error
        if self._notice is not None:
            self._notice(f"{reason}; PyTorch runs the network instead")
        self.engine = "pytorch"
        self.networks = pytorch.prepare(self._model, self._needed, torch.device("cpu"), self._precision)
        return self.networks


class _Guarded:
    """A member whose steps PyTorch repeats if the engine fails."""

    def __init__(self, network: ProgressiveNetwork, number: int, guard: _Guard) -> None:
        self.contract = network.contract
        self.one_size = getattr(network, "one_size", False)
        self.bytes_a_pixel = getattr(network, "bytes_a_pixel", 0.0)
        self._network, self._number, self._guard = network, number, guard

    @property
    def engine(self) -> str:
        """The engine that runs the network now."""
        return self._guard.engine

    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        reserve = self._guard.networks
        if reserve is None:
            try:
                return self._network(blurred, estimate, state)
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                reserve = self._guard.take_over(error)
        return reserve[self._number](blurred, estimate, state)
