"""Choice of device and precision, and preparation of networks for inference."""

import platform
import re
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from mtdeblur.errors import UserError
from mtdeblur.networks.contract import Contract, ProgressiveNetwork, State, inference_form, members

_ALLOCATORS = re.compile(
    r"DefaultCPUAllocator: |CUDA (error: )?out of memory|MPS backend out of memory|_STATUS_ALLOC_FAILED"
)
"""Messages of allocators that raise a plain RuntimeError."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchEngine:
    """A progressive network for inference, on one device, in one precision, channels-last.

    In bfloat16, parameters and features are bfloat16, but images are float32 and the residual is added to I0
    in float32, so that only the residual is rounded.

    Args:
        network: prepared by `prepare`.
    """

    def __init__(self, network: ProgressiveNetwork) -> None:
        self.contract = network.contract
        self._network = network

    @torch.inference_mode()
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration, without gradients; (B, 3, H, W) float32 on the network's device in and out."""
        return self._network(blurred, estimate, state)


def prepare(
    model: nn.Module, needed: Collection[int], device: torch.device, precision: str
) -> list[ProgressiveNetwork]:
    """Prepare a model for inference: device, precision and channels-last layout.

    Args:
        model: one of the registry, or several; modified in place.
        needed: numbers of the members that will run; the others are unchanged.
        device: of the computation.
        precision: one of `contract.precisions`.

    Returns:
        The members; on a CPU, their inference forms where these exist.
    """
    parts = list(members(model.eval()))
    for number in needed:
        form = inference_form(parts[number], DTYPES[precision]) if device.type == "cpu" else None
        if form is None:
            part: Any = parts[number]
            module: Any = part if isinstance(part, nn.Module) else model
            module.to(device, DTYPES[precision], memory_format=torch.channels_last)
        else:
            parts[number] = form
    return [TorchEngine(part) for part in parts]


def choose_device(name: str | torch.device) -> torch.device:
    """The device of that name; "auto" selects CUDA, MPS or the CPU, in this order, and "gpu" CUDA or MPS.

    Raises:
        UserError: if the device is not available.
    """
    if name in ("auto", "gpu"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        if name == "auto":
            return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
        TypeError,
    ):  # all are torch's
        raise UserError(f"device {str(name)!r} is not available here; try 'auto' or 'cpu'") from None
    if device.type == "meta":
        raise UserError("device 'meta' computes nothing; try 'auto' or 'cpu'")
    return device


def choose_precision(name: str | torch.dtype, contract: Contract, device: torch.device) -> str:
    """The precision of that name; "auto" selects bfloat16 if network and device support it well.

    Raises:
        UserError: if it is not one of the network's precisions.
    """
    name = str(name).removeprefix("torch.")
    if name == "auto":
        return "bfloat16" if "bfloat16" in contract.precisions and fast_bfloat16(device) else "float32"
    if name not in contract.precisions:
        raise UserError(f"precision {name!r} is not one of auto, {', '.join(contract.precisions)}")
    return name


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error reports that the machine or its accelerator has too little memory.

    PyTorch's CPU allocator raises a RuntimeError that only its text identifies. Other errors that mention
    memory, such as an illegal access, do not count.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _ALLOCATORS.search(str(error)) is not None
