"""Released weights of other programs: named tensors whose layout is detected from the names.

To add a layout, add a file in `mtdeblur.weights.layouts` and a line in `LAYOUTS`; to add a file format, add a
line in `READERS`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from mtdeblur.errors import UserError, one_line
from mtdeblur.networks.registry import create_network
from mtdeblur.weights.exported.manifest import is_export, parts
from mtdeblur.weights.layouts import Layout, deepdeblur, dmphn, maxim, mtrnn, nafnet, scale_recurrent
from mtdeblur.weights.tensorflow import checkpoint_parts, is_checkpoint, read_checkpoint
from mtdeblur.weights.tensors import check_finite, find_state, is_pytorch, pytorch_parts, read_pytorch
from mtdeblur.weights.tfjs import is_model, model_parts, read_model

LAYOUTS: tuple[Layout, ...] = (
    *mtrnn.LAYOUTS,
    *dmphn.LAYOUTS,
    *nafnet.LAYOUTS,
    *deepdeblur.LAYOUTS,
    *scale_recurrent.LAYOUTS,
    *maxim.LAYOUTS,
)


class Reader(NamedTuple):
    """A format of named tensors in a file or folder.

    Attributes:
        holds: whether the file, folder or path prefix has this format.
        parts: its files, sorted by name.
        read: its tensors.
    """

    holds: Callable[[Path], bool]
    parts: Callable[[Path], list[Path]]
    read: Callable[[Path], dict[str, Tensor]]


READERS: tuple[Reader, ...] = (
    Reader(is_checkpoint, checkpoint_parts, read_checkpoint),
    Reader(is_model, model_parts, read_model),
    Reader(is_pytorch, pytorch_parts, read_pytorch),
)
"""Readers by priority."""


def is_foreign(path: Path) -> bool:
    """Whether a path is that of another program's weights: any folder, or a file of a known format."""
    return path.is_dir() or _reader(path) is not None


def checkpoint_files(path: Path) -> list[Path]:
    """The files of a set of weights, ours, another program's or exported; empty if there are none.

    Raises:
        UserError: if they cannot be listed.
    """
    if is_export(path):
        return parts(path)
    try:
        reader = _reader(path)
        files = reader.parts(path) if reader else [path]
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return [file for file in files if file.is_file()]


def load_foreign(path: Path) -> nn.Module:
    """Read another program's weights.

    Args:
        path: a file or folder in a format of `READERS`. Only tensors are unpickled.

    Returns:
        The network with these weights, float32, in evaluation mode, on the CPU.

    Raises:
        UserError: if the path does not exist, is damaged, or has an unknown layout.
    """
    if not path.exists() and not checkpoint_files(path):
        raise UserError(f"there is no weights file {path}")
    try:
        reader = _reader(path)
        state = reader.read(path) if reader else {}
        layout, tensors = _detect_layout(state)
        if path.is_dir():
            _refuse_several(state, layout.mark)
        name, options, renamed = layout.translate(tensors)
        network = create_network(name, **options)
        network.load_state_dict(renamed)
        check_finite(renamed)
    except (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    return network.float().eval()


def _detect_layout(state: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor]]:
    """The layout of the tensors, and the state dict in that layout."""
    for layout in LAYOUTS:
        tensors = find_state(state, layout.mark)
        if tensors is not None:
            return layout, tensors
    names = dict.fromkeys(layout.name for layout in LAYOUTS)
    raise ValueError(f"their layout is none of those known: {'; '.join(names)}")


def _refuse_several(state: Mapping[str, Tensor], mark: str) -> None:
    """Raise ValueError if several files of a folder contain the same network."""
    files = dict.fromkeys(name.split(".")[0] for name in state if name.endswith(f".{mark}"))
    if len(files) > 1:
        raise ValueError(f"it contains several networks, in {', '.join(files)}; give one file")


def _reader(path: Path) -> Reader | None:
    return next((reader for reader in READERS if reader.holds(path)), None)


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"cannot load weights from {path}: {one_line(error, 600)}")
