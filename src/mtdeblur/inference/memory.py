"""How much memory deblurring may use, how much a network needs, and the parts of a picture that fit."""

import ctypes
import math
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from mtdeblur.errors import UserError
from mtdeblur.networks.contract import ProgressiveNetwork, State
from mtdeblur.networks.unroll import Step, unroll

DEFAULT = 2 * 2**30
"""Upper limit in bytes of what the default lets the process use on a CPU."""
_SHARE = {"cpu": 0.5, "cuda": 0.8}  # of what is free
_OVERHEAD = 1.5  # memory of a step over that of its tensors: buffers of the libraries, fragments
_LEAST = 256  # bytes a pixel of a step
_IMAGE = 12  # bytes a pixel of three float32 channels
_PROBE = 128  # side of a picture in pixels
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # from malloc.h
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def to_bytes(memory: int | str) -> int | None:
    """Bytes of a limit such as 2GB, 2GiB or 500MB; None for "auto".

    Raises:
        UserError: if it is something else.
    """
    if memory == "auto":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(|[KMG]I?)B?", str(memory).strip().upper())
    value = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if value < 1:
        raise UserError(f"memory must be 'auto' or a size such as 2GB or 500MB, not {memory!r}")
    return value


def usable(limit: int | None, device: torch.device) -> int:
    """Bytes that may be used on a device in addition to those in use now.

    Args:
        limit: for the whole process on a CPU, for PyTorch's tensors on another device; None for a share of
            what is free, and on a CPU at most `DEFAULT`.
        device: of the computation.
    """
    if device.type == "cuda":
        used, free = torch.cuda.memory_allocated(device), torch.cuda.mem_get_info(device)[0]
        free += torch.cuda.memory_reserved(device) - used
        return int(_SHARE["cuda"] * free) if limit is None else min(limit - used, free)
    if device.type != "cpu":
        return DEFAULT if limit is None else limit
    share = int(_SHARE["cpu"] * free_memory())
    return min(DEFAULT - resident(), share) if limit is None else limit - resident()


def resident() -> int:
    """Resident memory of this process in bytes; a usual value where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 2**28


def peak_memory() -> int | None:
    """Resident memory of this process at its peak, in bytes; None where the system does not tell.

    Linux's getrusage is not used: it starts at the peak of the process that started this one.
    """
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory(root: Path = Path("/")) -> int:
    """Free memory of the machine, or of this process's control groups if that is less, in bytes."""
    try:
        meminfo = (root / "proc/meminfo").read_text()
    except OSError:
        return 2 * DEFAULT
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo)
    free = int(found[1]) * 1024 if found else 2 * DEFAULT
    return max(0, min([free, *_control_groups(root)]))


def _control_groups(root: Path) -> list[int]:
    """Free memory of this process's control groups (version 1 or 2) that have a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    free: list[int] = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        files = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else ("memory.max", "memory.current")
        )
        own = mount / name.lstrip("/")
        for folder in {mount, own, *(parent for parent in own.parents if mount in parent.parents)}:
            try:
                limit, used = (int((folder / file).read_text()) for file in files)
                stat = (folder / "memory.stat").read_text()
            except (OSError, ValueError):  # no limit is "max"
                continue
            cached = re.search(r"^(?:total_)?inactive_file (\d+)", stat, re.MULTILINE)
            free.append(limit - used + (int(cached[1]) if cached else 0))
    return free


def keep_freed_memory() -> None:
    """Let the GNU C library keep freed memory for reuse; elsewhere do nothing.

    By default it returns large blocks to the system at once, so that every tile pays for fresh pages: up to a
    third of the processor time. A process that deblurs a picture and ends has no other use for them.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_THRESHOLD, 2**30)


def return_freed_memory() -> None:
    """Return freed memory to the system now, also what `keep_freed_memory` keeps; elsewhere do nothing.

    A process that deblurs one picture after the other then finds as much memory for each as for the first.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class Need(NamedTuple):
    """Memory of a model, in bytes a pixel.

    Attributes:
        step: largest need of one step: its tensors, its input and its output.
        held: the estimate and the state between two steps.
    """

    step: float
    held: float


def measure(networks: Sequence[ProgressiveNetwork], steps: Sequence[Step], device: torch.device) -> Need:
    """Measure a model's need on a small picture.

    The tensors of another runtime cannot be seen: its networks tell their need as `bytes_a_pixel`.
    """
    distinct = [step for n, step in enumerate(steps) if n < 2 or step != steps[n - 1]]
    side = _PROBE
    for step in distinct:
        multiple = networks[step.network].contract.multiple * step.scale
        side = max(side, -(-_PROBE // multiple) * multiple)
    watched = [_Watched(network) for network in networks]
    size = networks[steps[0].network].contract.size or (side, side)
    probe = torch.zeros(1, 3, *size, device=device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), _Live() as live:
        for _ in unroll(watched, probe, distinct):
            pass
    held = max(network.held for network in watched)
    step = _OVERHEAD * live.most / math.prod(size) + _IMAGE
    told = [getattr(networks[step.network], "bytes_a_pixel", 0.0) for step in distinct]
    return Need(max(step, _LEAST, *told), held / math.prod(size))


class _Watched:
    """Passes on to a network, and measures what it returns."""

    def __init__(self, network: ProgressiveNetwork) -> None:
        self.network, self.contract, self.held = network, network.contract, 0

    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        estimate, state = self.network(blurred, estimate, state)
        self.held = max(self.held, sum(part.nbytes for part in (estimate, *(state or ()))))
        return estimate, state


class _Live(TorchDispatchMode):
    """Largest sum of the bytes of all tensors alive that operations have made."""

    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.most = 0
        self._given: set[int] = set()  # storages from elsewhere, such as weights
        self._alive: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors([args, *(kwargs or {}).values()]):
            storage: Any = StorageWeakRef(tensor.untyped_storage())
            if storage.cdata not in self._alive:
                self._given.add(storage.cdata)
        result = func(*args, **(kwargs or {}))
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        for tensor in _tensors([result]):
            storage: Any = StorageWeakRef(tensor.untyped_storage())
            if storage.cdata not in self._given:
                self._alive[storage.cdata] = storage, tensor.untyped_storage().nbytes()
        self.most = max(self.most, sum(size for _, size in self._alive.values()))
        return result


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, list | tuple):
        return [tensor for value in values for tensor in _tensors(value)]  # pyright: ignore[reportUnknownVariableType]
    return []
