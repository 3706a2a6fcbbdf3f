"""Kill jobs at random moments, resume them, and count what was lost: zero is expected everywhere.

    python tools/kill_jobs.py --kills 20 --json kills.json > kills.md

A tiny network deblurs a folder of small pictures, and a video, by the ordinary command, which gets SIGKILL
(with all its processes) at random moments of its work, some before the work begins. After each kill, every
file in the output folder is compared with that of an undisturbed run; then the command is repeated. A run
that ends before its kill makes way for a new folder. Linux and macOS only.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from clips import write_clip
from PIL import Image

from mtdeblur.inference.resuming import JOURNAL
from mtdeblur.inference.video import parts_of
from mtdeblur.networks.mtnaf import MTNAF, MTNAFConfig
from mtdeblur.weights.store import save_network

_STARTING = 0.2  # share of the kills that are timed from the start of the process
_LONGEST = 600  # seconds for a run
_RATE = 10  # frames a second


class Work(NamedTuple):
    """A kind of job.

    Attributes:
        make: writes an input of a number of pictures or frames into a folder.
        arguments: of the command, for an output folder.
        journal: the file that shows the progress of the work, in an output folder.
    """

    make: Callable[[Path, int], None]
    arguments: Callable[[Path], list[str]]
    journal: Callable[[Path], Path]


class Trial:
    """An input, the command, and the counts.

    Args:
        work: the kind of job.
        place: an empty folder.
        items: number of pictures or frames.
        seed: of the moments.

    Attributes:
        counts: what was tried and what was lost.
    """

    def __init__(self, work: Work, place: Path, items: int, seed: int) -> None:
        self._work, self._place, self._random = work, place, random.Random(seed)
        self.counts = Counter[str](dict.fromkeys(LINES, 0))
        self.counts["items"] = items
        self._states = set[int]()
        _save_weights(place / "tiny.safetensors")
        work.make(place, items)
        started = time.monotonic()
        run = self._start(place / "undisturbed")
        self._wait_for_work(run, place / "undisturbed")
        self._starting = time.monotonic() - started
        self._succeeded(run.wait(_LONGEST))
        self._working = time.monotonic() - started - self._starting
        self._expected = _contents(place / "undisturbed")

    def kill(self, kills: int) -> None:
        """Kill and resume, and complete the last folder."""
        folder = self._new_folder()
        while self.counts["kills"] < kills:
            if self._killed(folder):
                self.counts["kills"] += 1
                self._check(folder, "half-written")
                if not self._is_whole(folder):
                    continue
            folder = self._completed(folder)
        self._succeeded(self._start(folder).wait(_LONGEST))
        self._completed(folder)

    def _start(self, folder: Path) -> "subprocess.Popen[bytes]":
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "mtdeblur", "deblur", *self._work.arguments(folder)]
        options = ["--weights", "tiny.safetensors", "--iterations", "2", "--device", "cpu"]
        options += ["--engine", "pytorch"]
        with (self._place / "log").open("ab") as log:
            return subprocess.Popen([*command, *options], cwd=self._place, stderr=log, start_new_session=True)

    def _wait_for_work(self, run: "subprocess.Popen[bytes]", folder: Path) -> None:
        """Wait until the run writes into the journal, or ends."""
        journal = self._work.journal(folder)
        before = _size(journal)
        while run.poll() is None and _size(journal) == before:
            time.sleep(0.01)

    def _killed(self, folder: Path) -> bool:
        """Run the command; whether it was killed before its end."""
        run = self._start(folder)
        if self._random.random() < _STARTING:
            moment = self._random.uniform(0, self._starting)
        else:
            self._wait_for_work(run, folder)
            moment = self._random.uniform(0, self._working)
        try:
            run.wait(moment)
        except subprocess.TimeoutExpired:
            state = _size(self._work.journal(folder))
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            if state >= 0:
                self.counts["work begun"] += 1
                self._states.add(state)
                self.counts["states"] = len(self._states)
            return True
        self._succeeded(run.returncode)
        return False

    def _succeeded(self, code: int) -> None:
        """Give up if a run that nobody killed has failed."""
        if code:
            raise SystemExit(f"a run failed: {(self._place / 'log').read_text()[-2000:]}")

    def _is_whole(self, folder: Path) -> bool:
        """Whether the last kill came when all was done."""
        hidden = any(_is_hidden(path, folder) for path in folder.rglob("*"))
        return not hidden and self._expected.keys() <= _contents(folder).keys()

    def _check(self, folder: Path, name: str) -> None:
        """Compare the results that are there with those of the undisturbed run."""
        found = _contents(folder)
        self.counts[name] += sum(self._expected.get(path) != content for path, content in found.items())

    def _completed(self, folder: Path) -> Path:
        """Compare a finished folder, and give a new one."""
        left = [path for path in folder.rglob("*") if path.is_file() and _is_hidden(path, folder)]
        self.counts["left-over files"] += len(left)
        self.counts["lost"] += len(self._expected.keys() - _contents(folder).keys())
        self._check(folder, "different")
        self.counts["completed folders"] += 1
        shutil.rmtree(folder)
        return self._new_folder()

    def _new_folder(self) -> Path:
        return self._place / f"killed {self.counts['completed folders']}"


LINES = {
    "items": "Pictures in the folder, frames in the video",
    "kills": "Kills (SIGKILL to all processes of the run)",
    "work begun": "of which in the middle of the work",
    "states": "Different states of the work at these kills",
    "completed folders": "Runs completed after kills",
    "half-written": "Results that were half-written or wrong after a kill",
    "lost": "Results missing from completed runs",
    "different": "Results that differ from the undisturbed run",
    "left-over files": "Temporary files and journals left by completed runs",
}
LOSSES = ("half-written", "lost", "different", "left-over files")


def _save_weights(path: Path) -> None:
    """A tiny network that changes every picture a little."""
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    network = MTNAF(MTNAFConfig(width=4, blocks=(1, 1, 1, 1, 1)))
    torch.nn.init.normal_(network.tail.weight, std=0.02)
    save_network(path, network)


def _photographs(place: Path, number: int) -> None:
    for index in range(number):
        path = place / "photos" / f"roll {index % 3}" / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(index).integers(0, 256, (90 + index % 7, 120, 3), np.uint8)
        Image.fromarray(samples).save(path)


def _video(place: Path, number: int) -> None:
    """A video of irregular timestamps, with sound and subtitles."""
    write_clip(
        place / "clip.mp4",
        codec="libx264",
        frames=number,
        rate=_RATE,
        size=(48, 64),
        irregular=True,
        sound="aac",
        subtitles="mov_text",
    )


def _folder_arguments(folder: Path) -> list[str]:
    return ["photos", "-o", str(folder), "--processes", "2"]


def _folder_journal(folder: Path) -> Path:
    return folder / JOURNAL


def _video_arguments(folder: Path) -> list[str]:
    return ["clip.mp4", "-o", str(folder / "sharp.mp4")]


def _video_journal(folder: Path) -> Path:
    return parts_of(folder / "sharp.mp4") / "journal"


WORKS: Mapping[str, Work] = {
    "folder": Work(_photographs, _folder_arguments, _folder_journal),
    "video": Work(_video, _video_arguments, _video_journal),
}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _contents(folder: Path) -> dict[Path, bytes]:
    """The visible files."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not _is_hidden(path, folder)
    }


def count(work: str, kills: int, items: int, seed: int) -> dict[str, int]:
    """The counts of a trial in a temporary folder.

    Args:
        work: a key of `WORKS`.
        kills: their number.
        items: number of pictures or frames.
        seed: of the moments.
    """
    with tempfile.TemporaryDirectory(prefix="mtdeblur-kills-") as place:
        trial = Trial(WORKS[work], Path(place), items, seed)
        trial.kill(kills)
        return dict(trial.counts)


def count_all(kills: int, pictures: int, frames: int, seed: int) -> dict[str, dict[str, int]]:
    """The counts of all kinds of jobs; see `count`."""
    return {work: count(work, kills, {"folder": pictures}.get(work, frames), seed) for work in WORKS}


def table(counts: Mapping[str, Mapping[str, int]]) -> str:
    """The counts as a Markdown table."""
    lines = [f"| Job | {' | '.join(counts)} |", "| --- " * (len(counts) + 1) + "|"]
    for name, line in LINES.items():
        lines.append(f"| {line} | {' | '.join(str(each[name]) for each in counts.values())} |")
    return "\n".join(lines)


def losses(counts: Mapping[str, Mapping[str, int]]) -> int:
    """The sum of all losses."""
    return sum(each[name] for each in counts.values() for name in LOSSES)


def main() -> int:
    """Print the counts as Markdown; the exit code is 1 if anything was lost."""
    parser = argparse.ArgumentParser(description="Kill jobs at random moments; count what was lost.")
    parser.add_argument("--kills", type=int, default=20, help="of each job")
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--json", type=Path, help="also write the counts as JSON")
    arguments = parser.parse_args()
    counts = count_all(arguments.kills, arguments.pictures, arguments.frames, arguments.seed)
    sys.stdout.write(table(counts) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(counts, indent=1) + "\n")
    return int(losses(counts) > 0)


if __name__ == "__main__":
    sys.exit(main())
