"""Choice of device and precision."""

import platform
import re
from collections.abc import Sequence

import torch

from mtdeblur.errors import UserError
from mtdeblur.networks.contract import Contract

_ALLOCATORS = re.compile(
    r"DefaultCPUAllocator: |CUDA (error: )?out of memory|MPS backend out of memory|_STATUS_ALLOC_FAILED"
    r"|bad_alloc|^could not create a primitive$"  # the latter is oneDNN's, whose code needs memory
)
"""Messages of allocators that raise a plain RuntimeError."""


def choose_device(name: str | torch.device, supported: Sequence[str] = ()) -> torch.device:
    """The device of that name; "auto" selects CUDA, MPS or the CPU, in this order, and "gpu" CUDA or MPS.

    Args:
        name: of the device.
        supported: see `Contract.devices`.

    Raises:
        UserError: if the device is not available, or the network does not run on it.
    """
    if name == "auto" and supported:
        name = supported[0]
    device = _available_device(name)
    if supported and device.type not in supported:
        raise UserError(f"these weights run on {' or '.join(supported)} only, not on {str(name)!r}")
    return device


def _available_device(name: str | torch.device) -> torch.device:
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
    """Whether the device multiplies bfloat16 in hardware, faster than float32.

    Intel processors with AVX-512 BF16 but without AMX, as in virtual machines that hide AMX, are slower: a
    step of `mtrnn` takes 1.3 times as long as in float32, one of MAXIM 1.2 times (docs/engines.md).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    capabilities = torch.cpu.get_capabilities()
    intel = "intel" in str(capabilities.get("cpu_name", "")).lower()
    return bool(capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and not intel))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error reports that the machine or its accelerator has too little memory.

    PyTorch's CPU allocator raises a RuntimeError that only its text identifies. Other errors that mention
    memory, such as an illegal access, do not count.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _ALLOCATORS.search(str(error)) is not None
