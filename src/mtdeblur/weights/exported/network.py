"""An exported model as progressive networks, which run in the export's runtime."""

from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtdeblur.errors import UserError, one_line
from mtdeblur.networks.contract import Contract, ProgressiveNetwork, State, any_size
from mtdeblur.networks.unroll import Step
from mtdeblur.weights.exported.manifest import Manifest, Member, check_files, read_manifest
from mtdeblur.weights.exported.runtimes import ENGINES, RUNTIMES, Run


class ExportedStep:
    """One network of an exported model.

    Args:
        member: its entry in the manifest.
        engine: that runs it.
    """

    def __init__(self, member: Member, engine: str) -> None:
        self.engine = engine
        self.contract: Contract = member.facts()
        self.bytes_a_pixel = member.bytes_a_pixel
        self.files = {False: member.first, True: member.next}
        self._runs: dict[bool, Run] = {}
        self._state: Any = _state_type(member.state) if member.state else None

    def use(self, has_state: bool, run: Run) -> None:
        """Set what runs a step without or with a state."""
        self._runs[has_state] = run

    @any_size
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration; (B, 3, H, W) float32 on the CPU in and out.

        Raises:
            ValueError: if the step, with or without a state, was not opened.
            UserError: if the export is for another size of pictures.
        """
        size = self.contract.size
        if size is not None and blurred.shape[-2:] != size:
            raise UserError(
                f"this export is for pictures of {size[1]}x{size[0]} pixels: export it without --size for "
                "pictures of any size"
            )
        run = self._runs.get(state is not None)
        if run is None:
            raise ValueError(f"this step {'with' if state else 'without'} a state is not open")
        inputs = [part.float().contiguous() for part in (blurred, estimate, *(state or ()))]
        each = [run([part[number : number + 1] for part in inputs]) for number in range(blurred.shape[0])]
        output, *maps = each[0] if len(each) == 1 else map(torch.cat, zip(*each, strict=True))
        return output, self._state(*maps) if self._state else None

    def for_inference(self, dtype: torch.dtype) -> ProgressiveNetwork:
        """Itself; see `mtdeblur.networks.contract.inference_form`."""
        return self


class ExportedModel(nn.Module):
    """An exported model: its `members` run once `open` has opened their graphs.

    Args:
        folder: of the export.

    Raises:
        UserError: if the manifest is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self._steps = [
            ExportedStep(member, ENGINES[self.manifest.target]) for member in self.manifest.members
        ]

    @property
    def members(self) -> Sequence[ProgressiveNetwork]:
        """The networks in order."""
        return self._steps

    @property
    def contract(self) -> Contract:
        """Properties of the first network."""
        return self._steps[0].contract

    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration with the first network."""
        return self._steps[0](blurred, estimate, state)

    def available(self, steps: Iterable[Step]) -> int:
        """How many of the leading steps were exported."""
        number = 0
        for member, has_state in _walk(self._steps, steps):
            if member.files[has_state] is None:
                break
            number += 1
        return number

    def open(self, steps: Iterable[Step]) -> None:
        """Check all files and open the graphs of some steps.

        Raises:
            UserError: if a file is missing or damaged, or the runtime is not installed or refuses a file.
        """
        check_files(self.folder, self.manifest)
        for member, has_state in dict.fromkeys(_walk(self._steps, steps)):
            path = self.folder / str(member.files[has_state])
            member.use(has_state, open_graph(path, self.manifest.target))


def open_graph(path: Path, target: str) -> Run:
    """Open one graph in the runtime of its target.

    Raises:
        UserError: if the runtime is not installed or refuses the file.
    """
    try:
        return RUNTIMES[target](path)
    except UserError:
        raise
    except Exception as error:  # each runtime has exceptions of its own
        raise UserError(f"cannot open the export {path}: {one_line(error)}") from error


def _state_type(names: Sequence[str]) -> Any:
    return namedtuple("ExportedState", names, rename=True)  # pyright: ignore[reportUntypedNamedTuple]


def _walk(members: Sequence[ExportedStep], steps: Iterable[Step]) -> Iterator[tuple[ExportedStep, bool]]:
    """The member of each step, and whether it is given a state."""
    has_state = False
    for step in steps:
        yield members[step.network], has_state
        has_state = bool(members[step.network].contract.state_scales)
