"""Damaged files that strangers may give the program: each is read or refused in one line, without harm.

Seeded changes are made to whole files of each format, and processes of their own use them: they read
pictures, show them to a network that changes nothing, and encode them again; deblur videos with a deblurrer
that changes nothing; load weights; and read training packs. The counts are printed as a Markdown table; with
`--json` they are also written as JSON. Files that did harm are kept with `--keep`; the exit code is then 1.

    python tools/fuzz_files.py --each 500 --json fuzz.json
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from damaged_files import damaged
from whole_files import PACKS, PICTURES, VIDEOS, WEIGHTS

from mtdeblur.errors import UserError
from mtdeblur.media.formats import SUFFIXES, WRITABLE
from mtdeblur.media.pictures import encode_picture, read_picture
from mtdeblur.media.working import seen, with_estimate

OUTCOMES = ("read", "refused", "crash", "hang", "exception", "several lines", "spill")
"""What may become of a file; all but the first two are faults. A spill is output of a library."""
FAULTS = OUTCOMES[2:]
KINDS = (*PICTURES, *VIDEOS, *WEIGHTS, *PACKS)
SUFFIX = {"jpeg": ".jpg", "tiff": ".tif", "pnm": ".ppm", "export": ".json", "pack": ".zip"}
"""Suffixes of damaged files, where they are not the name of the format."""
_MOST_PIXELS = 50_000_000
_MEMORY = 6 * 2**30
_LONGEST_WRITTEN = 2000
_START = 60
"""Seconds in which a process starts."""


class Verdict(NamedTuple):
    """What became of one file."""

    outcome: str
    message: str


def work(connection: "Connection[Verdict, str]", spills: str) -> None:
    """Answer each name of a file with a verdict, until the connection ends.

    Args:
        connection: to the other process.
        spills: name of a file for what libraries print.
    """
    limits = {"MTDEBLUR_MAX_PIXELS": str(_MOST_PIXELS), "VIPS_CONCURRENCY": "1"}
    os.environ.update(limits)
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(spills, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    connection.send(Verdict("read", ""))
    try:
        while True:
            connection.send(verdict(Path(connection.recv())))
    except (EOFError, KeyboardInterrupt):
        return


def verdict(path: Path) -> Verdict:
    """What becomes of a file that is used in the ordinary way, by its suffix."""
    try:
        _USES.get(path.suffix, _use_picture)(path)
    except (UserError, MemoryError) as error:
        return Verdict("refused" if len(str(error).splitlines()) <= 1 else "several lines", str(error))
    except Exception as error:
        return Verdict("exception", f"{type(error).__name__}: {error}")
    return Verdict("read", "")


def _use_picture(path: Path) -> None:
    """Read a picture, show it to a network, and encode it in several formats."""
    picture = read_picture(path)
    shown = seen(picture)
    result = with_estimate(picture, shown, shown.copy())
    if max(shown.shape) < _LONGEST_WRITTEN:
        own = {SUFFIXES[path.suffix]} if path.suffix in WRITABLE else set[str]()
        for container in sorted(own | {"jpeg", "png", "tiff"}):
            encode_picture(result, container)


class _Unchanging:
    """A deblurrer that changes nothing, and a receiver of progress that ignores it."""

    iterations = 1

    def keep_parts(self, height: int, width: int, kept: Sequence[Any] = (), /) -> list[Any]:
        return list(kept) or ["whole"]

    def progress(self, image: Any, *_: Any, **__: Any) -> Iterator[Any]:
        yield image

    def began(self, what: str, total: int, done: int) -> None:
        pass

    def advanced(self) -> None:
        pass

    def noticed(self, notice: str) -> None:
        pass


def _use_video(path: Path) -> None:
    """Plan and deblur a video, and read the result, which must have as many frames as was said."""
    from mtdeblur.inference.video import deblur_video, plan_video
    from mtdeblur.media.video import video_frames

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        target, unchanging = Path(folder, f"sharp{path.suffix}"), _Unchanging()
        frames = deblur_video(unchanging, plan_video(path, target), {}, unchanging)
        written = sum(1 for _ in video_frames(target))
        if written != frames:
            raise AssertionError(f"of {frames} frames the result has {written}")


def _use_weights(path: Path) -> None:
    """Load weights."""
    from mtdeblur.weights.store import load_model

    load_model(path)


def _use_export(path: Path) -> None:
    """Read the metadata of an export, as far as it is used without its graphs."""
    from mtdeblur.networks.unroll import default_steps
    from mtdeblur.weights.exported.manifest import NAME
    from mtdeblur.weights.exported.network import ExportedModel

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        Path(folder, NAME).write_bytes(path.read_bytes())
        model = ExportedModel(Path(folder))
        model.available(default_steps(model))
        model.available(model.manifest.steps)


def _use_pack(path: Path) -> None:
    """Decode all pictures of a training pack; some may be damaged, but not all."""
    from mtdeblur.data.disk.decode import decode
    from mtdeblur.data.feeding.pack import Pack

    pack = Pack(path)
    try:
        entries = [*pack.photos, *chain(*pack.clips), *pack.valid_photos, *chain(*pack.pairs)]
        refused: list[UserError] = []
        for entry in entries:
            try:
                decode(entry)
            except UserError as error:
                refused.append(error)
        if len(refused) == len(entries):
            raise refused[0]
    finally:
        pack.close()


_USES: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys([f".{kind}" for kind in VIDEOS], _use_video),
    **dict.fromkeys([f".{kind}" for kind in WEIGHTS], _use_weights),
    SUFFIX["export"]: _use_export,
    SUFFIX["pack"]: _use_pack,
}


class Reader:
    """A process that reads files, and is started anew after a crash or a hang."""

    def __init__(self, limit: float, folder: Path) -> None:
        self._limit = limit
        self._spills = folder / "spills"
        self._spills.touch()
        self._started()

    def read(self, path: Path) -> Verdict:
        """What becomes of a file."""
        before = self._spills.stat().st_size
        try:
            self._connection.send(str(path))
            if not self._connection.poll(self._limit):
                return self._restarted("hang")
            found = self._connection.recv()
        except (EOFError, OSError):
            return self._restarted("crash")
        spilled = self._spills.read_bytes()[before:]
        return Verdict("spill", spilled.decode(errors="replace")[:300]) if spilled else found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _started(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=work, args=(other, str(self._spills)), daemon=True)
        self._process.start()
        other.close()
        if not self._connection.poll(_START):
            raise RuntimeError("a process that reads files does not start")
        self._connection.recv()

    def _restarted(self, outcome: str) -> Verdict:
        self.close()
        code = self._process.exitcode
        self._started()
        return Verdict(outcome, f"exit code {code}")


def fuzz(
    kind: str, number: int, seed: int, limit: float, keep: Path | None = None
) -> tuple[Counter[str], list[str]]:
    """Count what becomes of damaged files of a format, and describe the faults.

    Args:
        kind: the format.
        number: of files.
        seed: of the changes.
        limit: seconds for a file.
        keep: folder for files that did harm.
    """
    counts: Counter[str] = Counter()
    faults: list[str] = []
    suffix = SUFFIX.get(kind, f".{kind}")
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(limit, Path(folder))
        try:
            for index, content in enumerate(damaged(kind, number, seed)):
                path = Path(folder, f"{kind}-{index}{suffix}")
                path.write_bytes(content)
                found = reader.read(path)
                counts[found.outcome] += 1
                if found.outcome in FAULTS:
                    message = " ".join(found.message.split())[:200]
                    faults.append(f"{path.name}: {found.outcome}: {message}")
                    if keep:
                        keep.mkdir(parents=True, exist_ok=True)
                        (keep / path.name).write_bytes(content)
                path.unlink()
        finally:
            reader.close()
    return counts, faults


def table(counts: dict[str, Counter[str]]) -> str:
    """The counts as a Markdown table, with a line of sums."""
    total: Counter[str] = Counter()
    for row in counts.values():
        total.update(row)
    lines = ["| format | files | " + " | ".join(OUTCOMES) + " |", "| --- " * (len(OUTCOMES) + 2) + "|"]
    for name, row in [*counts.items(), ("all", total)]:
        cells = [name, str(row.total()), *(str(row[outcome]) for outcome in OUTCOMES)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def fuzz_all(
    kinds: Sequence[str], number: int, seed: int, limit: float, keep: Path | None, processes: int
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Count what becomes of damaged files of several formats, and describe the faults; see `fuzz`."""
    with ThreadPoolExecutor(processes) as pool:
        arguments = (kinds, *map(repeat, (number, seed, limit, keep)))
        results = dict(zip(kinds, pool.map(fuzz, *arguments), strict=True))
    faults = [fault for _, found in results.values() for fault in found]
    return {kind: count for kind, (count, _) in results.items()}, faults


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--each", type=int, default=500, help="files of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20, help="seconds for a file")
    parser.add_argument("--formats", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for files that did harm")
    given = parser.parse_args()
    counts, faults = fuzz_all(given.formats, given.each, given.seed, given.limit, given.keep, given.processes)
    print("\n".join([table(counts), *faults]))  # noqa: T201
    if given.json:
        rows = {name: {each: count[each] for each in OUTCOMES} for name, count in counts.items()}
        content = {"each": given.each, "seed": given.seed, "formats": rows, "faults": faults}
        given.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
