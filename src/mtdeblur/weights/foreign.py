"""Released weights of other programs: state dicts of PyTorch whose layout is recognised by their names.

Another program's layout is a file in `mtdeblur.weights.layouts` and its line in `LAYOUTS` here.
"""

from pathlib import Path

from torch import Tensor, nn

from mtdeblur.errors import UserError
from mtdeblur.networks.registry import create_network
from mtdeblur.weights.layouts import Layout, deepdeblur, dmphn, mtrnn, nafnet
from mtdeblur.weights.tensors import read_tensors

LAYOUTS: tuple[Layout, ...] = (
    *mtrnn.LAYOUTS,
    *dmphn.LAYOUTS,
    *nafnet.LAYOUTS,
    *deepdeblur.LAYOUTS,
)

SUFFIXES = (".pt", ".pth", ".pkl")
"""Of files that PyTorch wrote."""


def is_foreign(path: Path) -> bool:
    """Whether a path is that of another program's weights: a folder, or a file that PyTorch wrote."""
    return path.is_dir() or path.suffix.lower() in SUFFIXES


def checkpoint_files(path: Path) -> list[Path]:
    """The files that make up a set of weights: the file itself, or a folder's files that PyTorch wrote.

    Raises:
        OSError: if the folder cannot be read.
    """
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in SUFFIXES)


def load_foreign(path: Path) -> nn.Module:
    """Read another program's weights.

    Args:
        path: a file that `torch.save` wrote, or a folder of such files. Tensors alone are unpickled.

    Returns:
        The network with these weights, float32, in evaluation mode, on the CPU.

    Raises:
        UserError: if there is nothing at the path, it is damaged, or its layout is unknown.
    """
    if not path.exists():
        raise UserError(f"there is no weights file {path}")
    try:
        state = _read(path)
        layout = next((layout for layout in LAYOUTS if layout.mark in state), None)
        if layout is None:
            names = dict.fromkeys(layout.name for layout in LAYOUTS)
            raise ValueError(f"their layout is none of those known: {'; '.join(names)}")
        name, options, renamed = layout.translate(state)
        network = create_network(name, **options)
        network.load_state_dict(renamed)
    except (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:400]
        raise UserError(f"cannot load weights from {path}: {reason}") from None
    return network.float().eval()


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict of a file; of a folder that of all its files, under `FILE.NAME`."""
    if not path.is_dir():
        return read_tensors(path)
    states = {file.stem: read_tensors(file) for file in checkpoint_files(path)}
    return {f"{stem}.{name}": value for stem, state in states.items() for name, value in state.items()}
