"""Deblurring of many files: planning of the outputs, and processing that skips failed files."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import check_writable, distinct_names
from mtdeblur.inference.devices import out_of_memory
from mtdeblur.inference.windows import Report
from mtdeblur.media.comparison import side_by_side
from mtdeblur.media.pictures import SUFFIXES, Picture, list_pictures, read_picture, read_size, write_picture


class Progressive(Protocol):
    """The interface of a deblurrer that this module uses."""

    @property
    def iterations(self) -> int:
        """Number of estimates that `progress` yields."""
        ...

    def progress(self, image: NDArray[Any], report: Report | None, /) -> Iterator[NDArray[Any]]:
        """Yield every iteration's estimate, of the shape and dtype of `image`: (H, W, 3), uint8 or uint16.

        `report` receives the finished share of the work, from 0 to 1.
        """
        ...


@dataclass(frozen=True)
class Job:
    """One photograph and the files that deblurring it writes.

    Attributes:
        source: the photograph.
        target: its last estimate.
        iterations: one file an iteration, in order; may be empty.
        comparison: the before/after picture, or None.
    """

    source: Path
    target: Path
    iterations: tuple[Path, ...] = ()
    comparison: Path | None = None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All files that the job writes."""
        return (self.target, *self.iterations, *([self.comparison] if self.comparison else []))


class Observer:
    """Receiver of a batch's progress; a progress display overrides the empty methods."""

    def chose(self, line: str) -> None:
        """The model and the estimated time, in one line."""

    def started(self, job: Job) -> None:
        """A job begins."""

    def advanced(self, job: Job, share: float) -> None:
        """A share of a job is finished, from 0 to 1."""

    def noticed(self, job: Job, notice: str) -> None:
        """A one-line notice about a photograph for the user."""

    def finished(self, job: Job) -> None:
        """All files of a job are written."""

    def failed(self, job: Job, reason: str) -> None:
        """A job has failed, with the reason in one line; the next job follows."""


def plan(
    inputs: Sequence[Path],
    output: Path,
    *,
    iterations: int = 0,
    compare: bool = False,
    overwrite: bool = False,
) -> list[Job]:
    """Plan the outputs of photographs, and refuse unsafe plans before any file is written.

    A folder among the inputs represents all pictures in it and its sub-folders; the output has the same
    structure. The output is a file if it has a picture's suffix and is not an existing folder; there must
    then be a single photograph. Otherwise it is a folder in which each file keeps its name; `.png` is
    appended to names without a picture's suffix, and duplicate names are prefixed with parent folders.

    Extra files are beside the target and have its suffix: `photo-iteration1.jpg`, `photo-compare.jpg`.

    Args:
        inputs: photographs and folders. Files are not opened; a missing file fails when it is processed.
        output: a file or a folder.
        iterations: number of estimates to save.
        compare: whether to write before/after pictures.
        overwrite: whether to replace existing files. Inputs are never replaced.

    Raises:
        UserError: if an output is an input (under any name), two outputs are the same, an output exists or
            cannot be written, a folder contains no pictures, or the output is one file for several
            photographs.
    """
    jobs = [_job(source, target, iterations, compare) for source, target in _pairs(inputs, output)]
    outputs = [path for job in jobs for path in job.outputs]
    _refuse_inputs([job.source for job in jobs], outputs)
    _refuse_collisions(jobs)
    existing = [path for path in outputs if os.path.lexists(path)]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise UserError(f"{existing[0]} exists already{more}; choose another output or use --overwrite")
    for path in outputs:
        check_writable(path)
    return jobs


def sizes(jobs: Sequence[Job]) -> list[tuple[int, int]]:
    """Heights and widths of the readable photographs of the jobs."""
    return [size for job in jobs if (size := read_size(job.source)) is not None]


def deblur_files(deblurrer: Progressive, jobs: Sequence[Job], observer: Observer) -> int:
    """Process the jobs in turn; each file is written atomically.

    Args:
        deblurrer: the deblurrer.
        jobs: from `plan`.
        observer: receives the start, progress and end of each job.

    Returns:
        number of failed jobs.
    """
    failures = 0
    for job in jobs:
        observer.started(job)
        try:
            _deblur(deblurrer, job, observer)
        except UserError as error:
            failures += 1
            named = str(job.source) in str(error) or str(job.target) in str(error)
            observer.failed(job, str(error) if named else f"cannot deblur {job.source}: {error}")
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            failures += 1
            observer.failed(job, f"cannot deblur {job.source}: not enough memory; use a smaller --tile")
        else:
            observer.finished(job)
    return failures


def _deblur(deblurrer: Progressive, job: Job, observer: Observer) -> None:
    blurred = read_picture(job.source)
    if blurred.pages > 1:
        observer.noticed(job, f"{job.source} contains {blurred.pages} pictures; only the first is deblurred")
    estimate = blurred.pixels
    progress = deblurrer.progress(blurred.pixels, partial(observer.advanced, job))
    for iteration, estimate in enumerate(progress):
        if job.iterations:
            write_picture(job.iterations[iteration], blurred.with_pixels(estimate))
    deblurred: Picture = blurred.with_pixels(estimate)
    write_picture(job.target, deblurred)
    if job.comparison:
        write_picture(job.comparison, side_by_side(blurred, deblurred))


def _pairs(inputs: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    """Photographs and their targets, without duplicates."""
    single = _names_a_file(inputs, output)
    pairs: dict[tuple[Path, Path], None] = {}
    for given in inputs:
        if given.is_dir():
            pictures = [path for path in list_pictures(given) if not _is_output(path, output, given)]
            if not pictures:
                raise UserError(f"{given} contains no pictures outside the output folder {output}")
            pairs |= {(path, output / _target_name(path.relative_to(given))): None for path in pictures}
        else:
            pairs[given, output / _target_name(Path(given.name))] = None
    if not single:
        return _with_distinct_targets(list(pairs))
    if len(pairs) > 1:
        raise UserError(
            f"{output} is one file, but there are {len(pairs)} photographs; give a folder instead"
        )
    return [(source, output) for source, _ in pairs]


def _with_distinct_targets(pairs: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Prefix shared targets with the names of the photographs' folders, as in `100-IMG_0001.jpg`."""
    sharing: dict[Path, list[int]] = {}
    for index, (_, target) in enumerate(pairs):
        sharing.setdefault(target, []).append(index)
    for target, group in sharing.items():
        sources = [pairs[index][0] for index in group]
        folders = {os.path.abspath(source.parent) for source in sources}
        if len(folders) == len(group) > 1 and target not in sources:
            names = distinct_names(sources, [target.stem] * len(group))
            for index, name in zip(group, names, strict=True):
                pairs[index] = pairs[index][0], target.with_name(name + target.suffix)
    return pairs


def _names_a_file(inputs: Sequence[Path], output: Path) -> bool:
    """Whether the output is a file; a name such as result.gif is refused, not used for a folder."""
    if output.is_dir():
        return False
    if output.suffix.lower() in SUFFIXES:
        return True
    if output.suffix and len(inputs) == 1 and not inputs[0].is_dir():
        raise UserError(
            f"cannot write {output}: a file's name must end in {', '.join(SUFFIXES)}; to use it as a folder, "
            "create it first"
        )
    return False


def _is_output(path: Path, output: Path, given: Path) -> bool:
    """Whether a picture of the folder `given` is in an output folder inside it, from an earlier run."""
    folder = output.resolve()
    return folder != given.resolve() and folder in path.resolve().parents


def _target_name(name: Path) -> Path:
    return name if name.suffix.lower() in SUFFIXES else name.with_name(name.name + ".png")


def _job(source: Path, target: Path, iterations: int, compare: bool) -> Job:
    def beside(label: str) -> Path:
        return target.with_name(f"{target.stem}-{label}{target.suffix}")

    digits = len(str(iterations))
    numbers = range(1, iterations + 1)
    return Job(
        source,
        target,
        tuple(beside(f"iteration{number:0{digits}d}") for number in numbers),
        beside("compare") if compare else None,
    )


def _refuse_inputs(sources: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Refuse outputs that are inputs, under any name or link."""
    inputs = {identity: source for source in sources if (identity := _identity(source))}
    for path in outputs:
        identity = _identity(path)
        if identity in inputs:
            raise UserError(f"{path} would overwrite the input {inputs[identity]}; choose another output")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    makers: dict[str, Path] = {}
    for job in jobs:
        for path in job.outputs:
            place = os.path.realpath(path.parent / os.path.normcase(path.name))
            maker = makers.setdefault(place, job.source)
            if maker != job.source:
                raise UserError(f"both {maker} and {job.source} would become {path}; deblur them separately")
