"""Small packs, and pictures to make them of; builds that are killed."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtdeblur.processes.pool import Stages


def picture(seed, height=40, width=50):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def save():
    """Writes a random picture, and gives its pixels."""

    def write(path: Path, seed=0, height=40, width=50):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = picture(seed, height, width)
        Image.fromarray(pixels).save(path)
        return pixels

    return write


@pytest.fixture
def folder(tmp_path, save):
    """A pack as a folder of PNG: 5 photographs, 2 clips, 2 photographs and 2 pairs held out."""
    root = tmp_path / "pack"
    for index in range(5):
        save(root / f"train/photos/{index}.png", index, 90, 100)
    for clip in range(2):
        for frame in range(15):
            save(root / f"train/clips/clip{clip}/{frame}.png", 100 * (clip + 1) + frame, 40, 44)
    for index in range(2):
        save(root / f"valid/photos/{index}.png", 300 + index, 60, 70)
        save(root / f"valid/pairs/blur/{index}.png", 400 + index, 20, 24)
        save(root / f"valid/pairs/sharp/{index}.png", 500 + index, 20, 24)
    return root


IN_TURN = """
import os
for line in sys.stdin:  # one child for every line, so that the imports are paid for once
    child = os.fork()
    if not child:
        build(Path(sys.argv[2]), 1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
IN_PROCESSES = """
if __name__ == "__main__":
    build(Path(sys.argv[2]), 2)
"""


class Builder:
    """Kills builds, and looks at what is left of them.

    The code of a build defines `build(folder, workers)`, and finds its source in `sys.argv[1]`.
    """

    def __init__(self, folder: Path):
        self._script, self._set = folder / "build.py", folder / "set"

    def kill_and_repeat(self, code: str, source: Path, undisturbed: Path, times: int, pictures: int):
        """Kill it at random moments, each time later; `pictures` is the number of an exposure's."""
        if not hasattr(os, "fork"):
            pytest.skip("this system cannot fork")
        expected, rng = content(undisturbed), random.Random(0)
        whole = sum(name.endswith(".png") for name in expected)
        moments = sorted(
            rng.sample(range(whole - 2 * pictures), times)
        )  # by the number of pictures that are there
        inodes = {}
        with self._start(code + IN_TURN, source) as process:
            for moment in moments:
                process.stdin.write("again\n")
                process.stdin.flush()
                child = int(process.stdout.readline())
                wait_for(lambda least=moment: len(self._pictures()) >= least)
                time.sleep(rng.uniform(0, 0.01))
                os.kill(child, signal.SIGKILL)
                assert int(process.stdout.readline()) == signal.SIGKILL
                for path, inode in self._pictures().items():
                    assert path.read_bytes() == expected[path.relative_to(self._set).as_posix()]
                    inodes.setdefault(path, []).append(inode)
                done = len(self._pictures()) // pictures
                if (self._set / ".journal").exists():  # it may have come to its end
                    assert self._journaled() >= done - 1  # all but the exposure in flight is noted
            process.stdin.write("to the end\n")
            process.stdin.close()
            process.stdout.readline()
            assert int(process.stdout.readline()) == 0
        assert content(self._set) == expected
        remade = sum(len(set(seen)) - 1 for seen in inodes.values())
        assert remade <= times * pictures  # at most the pictures of the exposure in flight, each time

    def kill_with_its_workers(self, code: str, source: Path, undisturbed: Path, pictures: int):
        """Kill it with two workers at work, halfway, and repeat it."""
        if not Path("/proc/self/task").exists():
            pytest.skip("this system does not tell of children")
        half = sum(name.endswith(".png") for name in content(undisturbed)) // 2
        with self._start(code + IN_PROCESSES, source) as process:
            wait_for(lambda: len(self._pictures()) >= half)
            workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.kill()
        assert len(workers) >= 2
        wait_for(lambda: not any(Path(f"/proc/{worker}/fd").exists() for worker in workers), 20)
        assert self._journaled() >= half // pictures - 2
        with self._start(code + IN_PROCESSES, source) as process:
            assert process.wait() == 0
        assert content(self._set) == content(undisturbed)

    def _start(self, code: str, source: Path):
        self._script.write_text(code)
        package = Path(__file__).parents[2] / "src"
        environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(self._script), str(source), str(self._set)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True)

    def _pictures(self):
        """Whole pictures by their names: what is hidden has not got its name yet."""
        return {p: p.stat().st_ino for p in self._set.rglob("*.png") if not p.name.startswith(".")}

    def _journaled(self):
        with contextlib.suppress(FileNotFoundError):
            return (self._set / ".journal").read_bytes().count(b'\n{"exposure"')
        return 0


class Heard(Stages):
    """Remembers of each stage how much there is and is done, and was when it began; and every notice."""

    def __init__(self):
        self.stages, self.begun, self.notices = [], {}, []

    def began(self, what, total, done):
        self.stages.append([what, total, done])
        self.begun[what] = total, done

    def advanced(self):
        self.stages[-1][2] += 1

    def noticed(self, notice):
        self.notices.append(notice)


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def heard_again():
    return Heard()


def content(folder: Path):
    """The bytes of every file, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(name="content")
def give_content():
    return content


@pytest.fixture
def builder(tmp_path):
    return Builder(tmp_path)
