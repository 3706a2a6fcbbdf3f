"""The plan of a batch: which photograph becomes which files, and what is refused before the work."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from pathlib import Path

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import check_writable, distinct_names, name_one_file, without_case
from mtdeblur.files.places import is_local, is_there, real
from mtdeblur.inference.batch import Comparison, Job
from mtdeblur.inference.finding import Found, Patterns, search
from mtdeblur.inference.resuming import Ledger, LedgerOf, State
from mtdeblur.media.formats import SUFFIXES, WRITABLE
from mtdeblur.media.pictures import read_size


class Existing(Enum):
    """What to do where an output exists already."""

    REFUSE = "refuse"
    REPLACE = "replace"
    SKIP = "skip"


@dataclass(frozen=True)
class Plan:
    """The work of a batch.

    Attributes:
        jobs: what is to be done.
        changed: those of them that an unfinished run has done, but whose photographs have changed since.
        begun: those of them that an unfinished run has begun, so that their outputs may exist.
        finished: what an unfinished run has done already.
        skipped: what is skipped because its outputs exist.
        found: the folders that were searched.
        existing: what to do where an output exists.
        ledger: of the output folder; None if the output is one file, or at an address.
    """

    jobs: list[Job] = field(default_factory=list[Job])
    changed: list[Job] = field(default_factory=list[Job])
    begun: list[Job] = field(default_factory=list[Job])
    finished: list[Job] = field(default_factory=list[Job])
    skipped: list[Job] = field(default_factory=list[Job])
    found: list[Found] = field(default_factory=list[Found])
    existing: Existing = Existing.REFUSE
    ledger: Ledger | None = None


def plan(
    inputs: Sequence[Path],
    output: Path | None,
    *,
    iterations: int = 0,
    compare: Comparison | None = None,
    patterns: Patterns | None = None,
    existing: Existing = Existing.REFUSE,
    ledger_of: LedgerOf | None = None,
) -> Plan:
    """Plan the outputs of photographs, and refuse unsafe plans before any file is written.

    A folder among the inputs represents all pictures in it and its sub-folders; the output has the same
    structure. The output is a file if it has a picture's suffix and is not an existing folder; there must
    then be a single photograph. Otherwise it is a folder in which each file keeps its name; `.png` is
    appended to names without a picture's suffix, and duplicate names are prefixed with parent folders.

    Without an output, results are beside the inputs: `photo-deblurred.jpg`, and for a folder a folder
    `FOLDER-deblurred`.

    Extra files are beside the target: `photo-iteration1.jpg`, `photo-compare.jpg`, `photo-compare.html`.

    Args:
        inputs: photographs and folders, on disk or at addresses, see `mtdeblur.files.places`. Files are not
            opened; a missing file fails when it is processed.
        output: a file or a folder, or None.
        iterations: number of estimates to save.
        compare: form of before/after files to write, if any.
        patterns: which files of folders to take; by default all.
        existing: what to do with jobs whose outputs exist. `SKIP` skips a job if all its outputs are there;
            otherwise only the missing ones are written. A file that is empty or no picture is not there.
            Inputs are never replaced.
        ledger_of: gives what unfinished runs in the output folder have done. What they have finished with
            the same settings is not done again; but if the photograph has changed since, it is.

    Raises:
        UserError: if an output is an input (under any name), two outputs are the same, also on file systems
            that ignore case or Unicode's forms, an output exists or cannot be written, a folder contains no
            pictures, or the output is one file for several photographs.
    """
    patterns = patterns or Patterns()
    if output is None and len(inputs) == 1 and inputs[0].is_dir():
        output = _folder_beside(inputs[0])
    pairs, found = _beside(inputs, patterns) if output is None else _into(inputs, output, patterns)
    jobs = [_job(source, target, iterations, compare) for source, target in pairs]
    _refuse_inputs([job.source for job in jobs], [path for job in jobs for path in job.outputs])
    _refuse_collisions(jobs)
    folder = _own_folder(inputs, output)
    work = Plan(
        found=found,
        existing=existing,
        ledger=ledger_of(folder) if ledger_of and folder else None,
    )
    for job in jobs:
        _sort(job, work)
    if existing is Existing.REFUSE:
        _refuse_existing(work)
    for job in work.jobs:
        for path in job.missing:
            if is_local(path):
                check_writable(path)
    return work


def _sort(job: Job, work: Plan) -> None:
    """Enter a job into the plan by what is there already."""
    state = work.ledger.state(job) if work.ledger else State.NEW
    if state is State.FINISHED:
        work.finished.append(job)
        return
    if state in (State.CHANGED, State.BEGUN):
        (work.changed if state is State.CHANGED else work.begun).append(job)
    elif work.existing is Existing.SKIP:
        job = replace(job, keep=frozenset(filter(_is_result, job.outputs)))
        if not job.missing:
            work.skipped.append(job)
            return
    work.jobs.append(job)


def _own_folder(inputs: Sequence[Path], output: Path | None) -> Path | None:
    """The output, if it is a folder on disk."""
    if output is None or not is_local(output) or _names_a_file(inputs, output):
        return None
    return output


def _into(
    inputs: Sequence[Path], output: Path, patterns: Patterns
) -> tuple[list[tuple[Path, Path]], list[Found]]:
    """Photographs and their targets in a file or a folder; and the folders that were searched."""
    pairs, found = _pairs(inputs, output, patterns)
    if not _names_a_file(inputs, output):
        return _with_distinct_targets(pairs), found
    if len(pairs) > 1:
        raise UserError(
            f"{output} is one file, but there are {len(pairs)} photographs; give a folder instead"
        )
    return [(pairs[0][0], output)], found


def _beside(inputs: Sequence[Path], patterns: Patterns) -> tuple[list[tuple[Path, Path]], list[Found]]:
    """Photographs and targets beside them; and the folders that were searched."""
    pairs: dict[tuple[Path, Path], None] = {}
    searched: list[Found] = []
    for given in inputs:
        if given.is_dir():
            more, found = _pairs([given], _folder_beside(given), patterns)
            pairs |= dict.fromkeys(more)
            searched += found
        else:
            suffix = given.suffix if given.suffix.lower() in WRITABLE else ".png"
            pairs[given, given.with_name(f"{given.stem}-deblurred{suffix}")] = None
    return list(pairs), searched


def _folder_beside(folder: Path) -> Path:
    """The folder of the results of a folder."""
    whole = Path(os.path.abspath(folder)) if is_local(folder) else folder  # for `.` and `..`
    named = folder if folder.name not in ("", "..") else whole
    return named.with_name(f"{whole.name}-deblurred")


def _pairs(
    inputs: Sequence[Path], output: Path, patterns: Patterns
) -> tuple[list[tuple[Path, Path]], list[Found]]:
    """Photographs and their targets, without duplicates; and the folders that were searched."""
    pairs: dict[tuple[Path, Path], None] = {}
    searched: list[Found] = []
    for given in inputs:
        if given.is_dir():
            found = search(given, patterns, output)
            searched.append(found)
            pairs |= {
                (path, output / _target_name(Path(path.relative_to(given).as_posix()))): None
                for path in found.pictures
            }
        else:
            pairs[given, output / _target_name(Path(given.name))] = None
    return list(pairs), searched


def _with_distinct_targets(pairs: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Prefix shared targets with the names of the photographs' folders, as in `100-IMG_0001.jpg`."""
    sharing: dict[Path, list[int]] = {}
    for index, (_, target) in enumerate(pairs):
        sharing.setdefault(target, []).append(index)
    for target, group in sharing.items():
        sources = [pairs[index][0] for index in group]
        folders = {real(source.parent) for source in sources}
        if len(folders) == len(group) > 1 and target not in sources:
            names = distinct_names(sources, [target.stem] * len(group))
            for index, name in zip(group, names, strict=True):
                pairs[index] = pairs[index][0], target.with_name(name + target.suffix)
    return pairs


def _names_a_file(inputs: Sequence[Path], output: Path) -> bool:
    """Whether the output is a file; a name such as result.gif is refused, not used for a folder."""
    if output.is_dir():
        return False
    if output.suffix.lower() in WRITABLE:
        return True
    if output.suffix and len(inputs) == 1 and not inputs[0].is_dir():
        raise UserError(
            f"cannot write {output}: a file's name must end in {', '.join(sorted(WRITABLE))}; to use it as a "
            "folder, create it first"
        )
    return False


def _target_name(name: Path) -> Path:
    return name if name.suffix.lower() in WRITABLE else name.with_name(name.name + ".png")


def _job(source: Path, target: Path, iterations: int, compare: Comparison | None) -> Job:
    def beside(label: str, suffix: str = target.suffix) -> Path:
        return target.with_name(f"{target.stem}-{label}{suffix}")

    digits = len(str(iterations))
    numbers = range(1, iterations + 1)
    suffix = ".html" if compare is Comparison.page else target.suffix
    return Job(
        source,
        target,
        tuple(beside(f"iteration{number:0{digits}d}") for number in numbers),
        beside("compare", suffix) if compare else None,
    )


def _is_result(path: Path) -> bool:
    """Whether a file is there and is a result: not empty, and a picture if its name says so."""
    try:
        size = path.stat().st_size
    except OSError:
        return False
    if not is_local(path) or path.suffix.lower() not in SUFFIXES:
        return size > 0
    return read_size(path) is not None


def _refuse_existing(work: Plan) -> None:
    """Refuse outputs that exist, except those that an unfinished run has made.

    Raises:
        UserError: if there are such outputs.
    """
    jobs = [job for job in work.jobs if job not in work.changed and job not in work.begun]
    existing = [(path, job) for job in jobs for path in job.outputs if is_there(path)]
    if not existing:
        return
    path, job = existing[0]
    more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
    if work.ledger is not None and work.ledger.state(job) is State.OTHER:
        raise UserError(
            f"{path} was made with other settings by an unfinished run{more} "
            f"({work.ledger.difference(job)}); repeat with those, or use --skip-existing or --overwrite"
        )
    raise UserError(f"{path} exists already{more}; use --skip-existing or --overwrite, or another output")


def _refuse_inputs(sources: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Refuse outputs that are inputs, under any name or link."""
    inputs = {identity: source for source in sources if (identity := _identity(source))}
    for path in outputs:
        identity = _identity(path)
        if identity in inputs:
            raise UserError(f"{path} would overwrite the input {inputs[identity]}; choose another output")


def _identity(path: Path) -> tuple[int, int] | Path | None:
    if not is_local(path):
        return path
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    """Refuse two jobs with one output, also where the file system takes two names for one."""
    makers: dict[str, dict[Path, Path]] = {}
    real_folder = cache(real)
    for job in jobs:
        for path in job.outputs:
            place = real_folder(path.parent) / path.name
            similar = makers.setdefault(without_case(str(place)), {})
            for other, maker in similar.items():
                if maker != job.source and (
                    other == place or (is_local(place) and name_one_file(other, place))
                ):
                    raise UserError(
                        f"both {maker} and {job.source} would become {path}; deblur them separately"
                    )
            similar[place] = job.source
