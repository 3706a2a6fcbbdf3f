"""Deblurring many files: what goes where, and one after the other without one bad file stopping the rest."""

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
    """What this module needs of a deblurrer."""

    @property
    def iterations(self) -> int:
        """How many estimates `progress` yields."""
        ...

    def progress(self, image: NDArray[Any], report: Report | None, /) -> Iterator[NDArray[Any]]:
        """Yield every iteration's estimate, of the shape and dtype of `image`: (H, W, 3), uint8 or uint16.

        `report` is told the share of the work that is done, from 0 to 1.
        """
        ...


@dataclass(frozen=True)
class Job:
    """One photograph and the files that deblurring it writes.

    Attributes:
        source: the photograph.
        target: its last estimate.
        iterations: one file an iteration, in their order; empty if they are not wanted.
        comparison: the before/after picture, or None.
    """

    source: Path
    target: Path
    iterations: tuple[Path, ...] = ()
    comparison: Path | None = None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Every file that the job writes."""
        return (self.target, *self.iterations, *([self.comparison] if self.comparison else []))


class Observer:
    """Is told of a batch's progress; the methods do nothing here, and a progress display overrides them."""

    def chose(self, line: str) -> None:
        """What will run, and what it will cost, in one line."""

    def started(self, job: Job) -> None:
        """A job begins."""

    def advanced(self, job: Job, share: float) -> None:
        """That share of a job's work is done, from 0 to 1."""

    def noticed(self, job: Job, notice: str) -> None:
        """Something about a photograph that its owner should know, in one line."""

    def finished(self, job: Job) -> None:
        """A job's files are all written."""

    def failed(self, job: Job, reason: str) -> None:
        """A job has been given up, for the reason in one line; the next one follows."""


def plan(
    inputs: Sequence[Path],
    output: Path,
    *,
    iterations: int = 0,
    compare: bool = False,
    overwrite: bool = False,
) -> list[Job]:
    """Decide which file becomes which, and refuse what would do harm before anything is done.

    A folder among the inputs stands for the pictures in it and its sub-folders, whose structure is kept below
    the output. The output is a file if its name ends in a picture's suffix (and it is no folder that exists),
    and needs a single photograph; otherwise it is a folder, in which each file keeps its name. A photograph
    whose name does not say that it is one gets `.png` behind it. Photographs of one name in different folders
    get the folders' names before theirs.

    The extra files lie beside the target and have its suffix: `photo-iteration1.jpg`, `photo-compare.jpg`.

    Args:
        inputs: photographs and folders. Files are not opened; one that is missing fails when its turn comes.
        output: a file or a folder.
        iterations: how many intermediate estimates to save.
        compare: write a before/after picture too.
        overwrite: replace files that exist already, which are otherwise refused. An input is never replaced.

    Raises:
        UserError: if an output is an input (under whatever name), or two outputs are the same, or an output
            exists or cannot be written, or a folder has no pictures, or the output is one file for several
            photographs.
    """
    jobs = [_job(source, target, iterations, compare) for source, target in _pairs(inputs, output)]
    outputs = [path for job in jobs for path in job.outputs]
    _refuse_inputs([job.source for job in jobs], outputs)
    _refuse_collisions(jobs)
    existing = [path for path in outputs if os.path.lexists(path)]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise UserError(f"{existing[0]} exists already{more}; choose another output or --overwrite")
    for path in outputs:
        check_writable(path)
    return jobs


def sizes(jobs: Sequence[Job]) -> list[tuple[int, int]]:
    """Heights and widths of the jobs' photographs, without those that cannot be read."""
    return [size for job in jobs if (size := read_size(job.source)) is not None]


def deblur_files(deblurrer: Progressive, jobs: Sequence[Job], observer: Observer) -> int:
    """Carry out the jobs in turn; each file is written whole or not at all.

    Args:
        deblurrer: gives the estimates.
        jobs: from `plan`.
        observer: is told of each job's start, progress and end.

    Returns:
        how many jobs failed.
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
            observer.failed(
                job, f"cannot deblur {job.source}: not enough memory; a smaller --tile needs less"
            )
        else:
            observer.finished(job)
    return failures


def _deblur(deblurrer: Progressive, job: Job, observer: Observer) -> None:
    blurred = read_picture(job.source)
    if blurred.pages > 1:
        observer.noticed(job, f"{job.source} holds {blurred.pages} pictures; only the first is deblurred")
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
    """Each photograph with its target; one that is named twice comes once."""
    single = _names_a_file(inputs, output)
    pairs: dict[tuple[Path, Path], None] = {}
    for given in inputs:
        if given.is_dir():
            found = [path for path in list_pictures(given) if not _lies_in(path, output, given)]
            if not found:
                raise UserError(f"{given} has no pictures in it outside the output folder {output}")
            pairs |= {(path, output / _target_name(path.relative_to(given))): None for path in found}
        else:
            pairs[given, output / _target_name(Path(given.name))] = None
    if not single:
        return _told_apart(list(pairs))
    if len(pairs) > 1:
        raise UserError(
            f"{output} is one file, but there are {len(pairs)} photographs; name a folder instead"
        )
    return [(source, output) for source, _ in pairs]


def _told_apart(pairs: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Targets that photographs of different folders share get the names of these, as `100-IMG_0001.jpg`."""
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
    """Whether the output is a file; a name like result.gif is refused rather than taken for a folder's."""
    if output.is_dir():
        return False
    if output.suffix.lower() in SUFFIXES:
        return True
    if output.suffix and len(inputs) == 1 and not inputs[0].is_dir():
        raise UserError(
            f"cannot write {output}: a file's name must end in {', '.join(SUFFIXES)}, "
            "and a folder with a dot in its name must exist already"
        )
    return False


def _lies_in(path: Path, output: Path, given: Path) -> bool:
    """Whether a picture may be an earlier result, from an output folder inside the input folder."""
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
    """Compare files, not names: links and other spellings of an input's path are that input."""
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
