"""Write the report on reliability, docs/reliability.md: what was tried, and what was lost.

Damaged files are read (`fuzz_files.py`), jobs are killed and resumed (`kill_jobs.py`), and the tests with the
marker `fault` inject faults. The exit code is 1 if anything was lost, or a fault was not tried.

    python tools/reliability.py
    python tools/reliability.py --each 20 --kills 2 -o short.md
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import fuzz_files
import kill_jobs
from whole_files import PACKS, PICTURES, VIDEOS, WEIGHTS

import mtdeblur

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
FAULTS = {
    "full disk": """
        The disk fills up while a result, a journal, a part of a video or a data set is written. The job
        ends in one line and keeps what is finished; repeated later, it gives the same results.
    """,
    "lost output folder": """
        The output folder vanishes during the work, like a disk that is unplugged, or another folder
        takes its place. Nothing is written there; when the folder is back, the job is resumed.
    """,
    "SIGINT or SIGTERM": """
        The program is interrupted at different moments. Nothing is half-written, and a repeated command
        gives the same bytes as an undisturbed run.
    """,
    "two runs at once": """
        Two runs write into one folder, and share the work, or into one video, which the second run
        refuses.
    """,
    "killed worker process": "A worker process is killed. Another one does its work.",
    "lost node of a cluster": """
        A node of a real Ray cluster of two nodes is lost. Every result comes out once.
    """,
    "killed training or data set": """
        Training, or the making of a data set, is killed and resumed. The result has the same bytes.
    """,
    "torn journal": """
        A journal is cut off at any byte, or garbage follows. Its whole records count, and no result is
        taken for another.
    """,
    "files that change between runs": """
        Photographs, results and parts change or vanish between two runs. Such work is done again, and
        files of others are not replaced.
    """,
    "lack of memory": "Memory runs out in a picture. It is told, and the others are done.",
    "damaged pictures among others": """
        Damaged files lie among whole ones. Each is told in one line, and the others are done.
    """,
    "damaged frames of a video": """
        Frames of a video are damaged. They keep their place and time, and the others are deblurred.
    """,
    "decompression bomb": """
        A file would become a picture or a frame beyond the limit of pixels. It is refused before it is
        decoded.
    """,
    "links and paths that lead elsewhere": """
        Links, `..` and lists of other files in inputs, outputs and archives. No input is overwritten,
        and nothing elsewhere is read or written.
    """,
    "unusual file names": """
        Names that are not UTF-8, that a file system takes for one, or that FFmpeg takes for addresses.
        They are used as they are, or refused.
    """,
    "weights that run code": """
        Code is hidden in weights, in every format of PyTorch, and in exported programs as a pickled
        object. It does not run.
    """,
    "pipes and devices": """
        Pipes, sockets and devices take the place of files. They are refused, and nothing waits for them.
    """,
    "places that cannot be written": "Folders and files cannot be written. That is told in one line.",
    "closed or full standard streams": """
        Standard input, output or error is closed or full. The work is done, or one line says why not.
    """,
}
"""The faults that tests inject, and what is expected."""
_GROUPS = {"Pictures": PICTURES, "Videos": VIDEOS, "Weights and exports": WEIGHTS, "Training packs": PACKS}
_OUTCOMES = ("passed", "failed", "skipped")
_WORST = ("failed", "skipped", "passed")
_LIMIT = 20


class Found(NamedTuple):
    """What was tried and what became of it.

    Attributes:
        files: for each format, the number of files by outcome.
        harm: a line for each file that did harm.
        kills: for each kind of job, the counts of `kill_jobs`.
        faults: for each fault, the number of cases by outcome.
    """

    files: dict[str, Counter[str]]
    harm: list[str]
    kills: dict[str, dict[str, int]]
    faults: dict[str, Counter[str]]

    def losses(self) -> dict[str, int]:
        """What was lost in each part."""
        untried = sum(not count.total() for count in self.faults.values())
        return {
            "files": sum(count[fault] for count in self.files.values() for fault in fuzz_files.FAULTS),
            "kills": kill_jobs.losses(self.kills),
            "faults": untried + sum(count["failed"] for count in self.faults.values()),
        }


def inject(tests: Sequence[str], expected: Sequence[str], processes: int) -> dict[str, Counter[str]]:
    """Run the tests with the marker `fault`, and count their outcomes.

    A test that does not end, because its process is killed, has failed.

    Args:
        tests: files and folders of tests.
        expected: names of faults that must be among them.
        processes: number of processes.
    """
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        notes.touch()
        tools = str(Path(__file__).parent)
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment = {
            **ours,
            "MTDEBLUR_FAULTS": str(notes),
            "PYTHONPATH": os.pathsep.join([tools, *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-m", "fault", "-p", "fault_counts"]
        command += ["-n", str(processes), "--dist", "loadfile", *tests]
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False).returncode
        records = [json.loads(line) for line in notes.read_text("utf-8").splitlines()]
    counts = _counted(records, expected)
    if code not in (0, 1):
        counts[f"pytest itself (exit code {code})"] = Counter(failed=1)
    return counts


def _counted(records: Sequence[Mapping[str, str]], expected: Sequence[str]) -> dict[str, Counter[str]]:
    """The outcomes of the cases of each fault, from the records of `fault_counts`."""
    counts = {fault: Counter[str]() for fault in expected}
    outcomes: dict[str, set[str]] = {}
    for record in records:
        if "outcome" in record:
            outcomes.setdefault(record["case"], set()).add(record["outcome"])
    cases = {(record["fault"], record["case"]): None for record in records if "fault" in record}
    for fault, case in cases:
        found = outcomes.get(case, {"failed"})
        counts.setdefault(fault, Counter())[next(each for each in _WORST if each in found)] += 1
    return counts


def page(found: Found, given: argparse.Namespace) -> str:
    """The report as Markdown."""
    losses = found.losses()
    tried = {
        "files": sum(count.total() for count in found.files.values()),
        "kills": sum(count["kills"] for count in found.kills.values()),
        "faults": sum(count.total() for count in found.faults.values()),
    }
    titles = {"files": "Damaged files", "kills": "Kills", "faults": "Injected faults"}
    lines = ["# Reliability", "", _filled(_HEAD), "", "| | tried | lost |", "| --- | --- | --- |"]
    for part, title in titles.items():
        link = f"[{title}](#{title.lower().replace(' ', '-')})"
        lines.append(f"| {link} | {tried[part]} | {losses[part]} |")
    numbers = f"{given.each} files of each format, {given.kills} kills of each job, seed {given.seed}"
    lines += ["", _filled(f"Conditions: {_conditions()}; {numbers}."), ""]
    for part, section in (("files", _files(found)), ("kills", _kills(found)), ("faults", _faults(found))):
        lines += [f"## {titles[part]}", "", *section]
    return "\n".join(lines).rstrip() + "\n"


def _filled(text: str, indent: str = "") -> str:
    """A paragraph in lines of at most 120 characters."""
    return fill(" ".join(text.split()), 120, subsequent_indent=indent, break_on_hyphens=False)


_HEAD = """
What was tried against mtdeblur, and what was lost. `python tools/reliability.py`, in a clone of the
repository, writes this page; its exit code is 1 if anything was lost.
"""
_FILES = """
Whole files of every format get seeded changes: other bytes and numbers, cuts, insertions, repetitions,
parts of other files, and other values in JSON. Processes of their own use them in the ordinary way.
Pictures are read, shown to a network that changes nothing, and written in several formats. Videos, with
sound and subtitles, are deblurred by a deblurrer that changes nothing, and the results are read. Weights
and the metadata of exports are loaded. All pictures of packs are decoded.
"""
_OUTCOMES_OF_FILES = f"""
*Read*: the file can be used, perhaps without some of its frames or pictures. *Refused*: one line says
why. All else is a loss: a crash, a hang of more than {_LIMIT} seconds, an unexpected exception, a
message of several lines, or a spill, which is output of a library on the terminal.
"""
_KILLS = """
The ordinary command deblurs a folder of pictures, in two processes, and a video with sound, subtitles
and irregular timestamps. It gets SIGKILL at random moments, some before the work begins, and is
repeated. After each kill and each completed run, all results are compared with those of an undisturbed
run.
"""
_FAULTS = """
Each case is a test (`pytest -m fault`). A case that does not end has failed. A case is skipped if it
needs another system, package or user than there is.
"""


def _files(found: Found) -> list[str]:
    """The section on damaged files."""
    lines = [_filled(_FILES), "", _filled(_OUTCOMES_OF_FILES), ""]
    for name, kinds in _GROUPS.items():
        counts = {kind: found.files[kind] for kind in kinds if kind in found.files}
        if counts:
            lines += [f"{name}:", "", fuzz_files.table(counts), ""]
    if found.harm:
        lines += ["Files that did harm:", "", *(f"- {line}" for line in found.harm), ""]
    return lines


def _kills(found: Found) -> list[str]:
    """The section on kills."""
    return [_filled(_KILLS), "", kill_jobs.table(found.kills), ""]


def _faults(found: Found) -> list[str]:
    """The section on injected faults."""
    lines = [
        _filled(_FAULTS),
        "",
        f"| fault | cases | {' | '.join(_OUTCOMES)} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for fault, count in found.faults.items():
        cells = [fault, str(count.total()), *(str(count[outcome]) for outcome in _OUTCOMES)]
        lines.append(f"| {' | '.join(cells)} |")
    told = [_filled(f"- *{fault}*: {FAULTS[fault]}", "  ") for fault in found.faults if fault in FAULTS]
    return [*lines, "", *told]


def _conditions() -> str:
    """Versions and platform."""
    import av
    import pyvips
    import torch

    libvips = ".".join(str(pyvips.version(part)) for part in range(3))
    return (
        f"mtdeblur {mtdeblur.__version__}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, PyTorch {torch.__version__}, libvips {libvips}, PyAV {av.__version__}"
    )


def _as_json(found: Found, given: argparse.Namespace) -> dict[str, Any]:
    return {
        "conditions": _conditions(),
        "each": given.each,
        "seed": given.seed,
        "losses": found.losses(),
        "files": {
            kind: {each: count[each] for each in fuzz_files.OUTCOMES} for kind, count in found.files.items()
        },
        "harm": found.harm,
        "kills": found.kills,
        "faults": {fault: {each: count[each] for each in _OUTCOMES} for fault, count in found.faults.items()},
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Write the report on reliability.")
    parser.add_argument("--each", type=int, default=500, help="damaged files of each format")
    parser.add_argument("--formats", nargs="*", default=list(fuzz_files.KINDS), choices=fuzz_files.KINDS)
    parser.add_argument("--kills", type=int, default=20, help="of each job")
    parser.add_argument("--pictures", type=int, default=60, help="in the killed folder job")
    parser.add_argument("--frames", type=int, default=200, help="in the killed video job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--tests", nargs="*", help="files and folders of tests that inject faults; default: all"
    )
    parser.add_argument("--processes", type=int, default=1, help="for damaged files and tests")
    parser.add_argument("--keep", type=Path, help="folder for damaged files that did harm")
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    parser.add_argument("--json", type=Path, help="also write the counts as JSON")
    given = parser.parse_args()
    expected = list(FAULTS) if given.tests is None else []
    found = Found(
        *fuzz_files.fuzz_all(given.formats, given.each, given.seed, _LIMIT, given.keep, given.processes),
        kill_jobs.count_all(given.kills, given.pictures, given.frames, given.seed) if given.kills else {},
        inject(["tests"] if given.tests is None else given.tests, expected, given.processes),
    )
    given.output.write_text(page(found, given), "utf-8")
    if given.json:
        given.json.write_text(json.dumps(_as_json(found, given), indent=1) + "\n", "utf-8")
    return int(any(found.losses().values()))


if __name__ == "__main__":
    sys.exit(main())
