"""Released weights of other programs: named tensors whose layout is recognised by their names.

Another program's layout is a file in `mtdeblur.weights.layouts` and its line in `LAYOUTS` here; another way
to store tensors is a line in `READERS`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from mtdeblur.errors import UserError, one_line
from mtdeblur.networks.registry import create_network
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
    """One way to store tensors under names, in a file or in a folder of files.

    Attributes:
        holds: whether what is at a path is stored this way; it may also be what the files' names begin with.
        parts: the files that make up the weights there, by their names.
        read: their tensors.
    """

    holds: Callable[[Path], bool]
    parts: Callable[[Path], list[Path]]
    read: Callable[[Path], dict[str, Tensor]]


READERS: tuple[Reader, ...] = (
    Reader(is_checkpoint, checkpoint_parts, read_checkpoint),
    Reader(is_model, model_parts, read_model),
    Reader(is_pytorch, pytorch_parts, read_pytorch),
)
"""The first that holds something at a path reads it."""


def is_foreign(path: Path) -> bool:
    """Whether a path is that of another program's weights: any folder, and what a reader knows."""
    return path.is_dir() or _reader(path) is not None


def checkpoint_files(path: Path) -> list[Path]:
    """The files that make up a set of weights, ours or another program's; none where there is nothing.

    Raises:
        UserError: if they cannot be listed.
    """
    try:
        reader = _reader(path)
        files = reader.parts(path) if reader else [path]
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return [file for file in files if file.is_file()]


def load_foreign(path: Path) -> nn.Module:
    """Read another program's weights.

    Args:
        path: a file or a folder of files that one of `READERS` knows. Tensors alone are unpickled.

    Returns:
        The network with these weights, float32, in evaluation mode, on the CPU.

    Raises:
        UserError: if there is nothing at the path, it is damaged, or its layout is unknown.
    """
    if not path.exists() and not checkpoint_files(path):
        raise UserError(f"there is no weights file {path}")
    try:
        reader = _reader(path)
        state = reader.read(path) if reader else {}
        layout, own = _recognised(state)
        if path.is_dir():
            _refuse_several(state, layout.mark)
        name, options, renamed = layout.translate(own)
        network = create_network(name, **options)
        network.load_state_dict(renamed)
        check_finite(renamed)
    except (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    return network.float().eval()


def _recognised(state: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor]]:
    """The layout of tensors, and those of them that it is about."""
    for layout in LAYOUTS:
        own = find_state(state, layout.mark)
        if own is not None:
            return layout, own
    names = dict.fromkeys(layout.name for layout in LAYOUTS)
    raise ValueError(f"their layout is none of those known: {'; '.join(names)}")


def _refuse_several(state: Mapping[str, Tensor], mark: str) -> None:
    """Raise ValueError if several files of a folder hold the same network."""
    files = dict.fromkeys(name.split(".")[0] for name in state if name.endswith(f".{mark}"))
    if len(files) > 1:
        raise ValueError(f"it holds several networks, in {', '.join(files)}; name one file")


def _reader(path: Path) -> Reader | None:
    return next((reader for reader in READERS if reader.holds(path)), None)


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"cannot load weights from {path}: {one_line(error, 600)}")
