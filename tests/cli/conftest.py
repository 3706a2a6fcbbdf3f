"""A command line that runs with a tiny deblurrer instead of a network."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mtdeblur as package

FAKE = """
import signal, sys, time, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background

class Deblurrer:
    def __init__(self, iterations):
        self.iterations = iterations
    def describe(self, sizes, within=None):
        return f"fake: {len(sizes)} sizes"
    def parts(self, height, width, results=1):
        from mtdeblur.inference.parts import Parts
        return Parts("whole")
    def keep_parts(self, height, width, kept=()):
        return list(kept)
    def progress(self, image, report, *, every, notify, within=None):
        for iteration in range(self.iterations):
            report((iteration + 1) / self.iterations)
            if image.shape[1] == 77:  # a picture of this width never ends
                print("waiting", flush=True)
                time.sleep(60)
            yield image // (iteration + 2)

def load(weights=None, *, quality=None, iterations=None, device="auto", precision="auto", tile="auto", **_):
    from mtdeblur.errors import UserError
    if weights == "nothing":
        raise UserError("there are no weights 'nothing'")
    if weights == "echo":
        print(quality, iterations, device, precision, repr(tile))
    return Deblurrer(int(iterations or 2))

fake = types.ModuleType("mtdeblur.inference.deblurrer")
fake.load, fake.Deblurrer = load, Deblurrer
sys.modules[fake.__name__] = fake
from mtdeblur.cli.app import main
main()
"""

SOURCE = Path(package.__file__).resolve().parents[1]
Run = Callable[..., subprocess.CompletedProcess[str]]


def command(*arguments: str | Path) -> list[str]:
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n{FAKE}"
    return [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]


@pytest.fixture
def mtdeblur(tmp_path: Path) -> Run:
    """Run the command line in a process of its own, in the test's folder."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*arguments), cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def cli_command() -> Callable[..., list[str]]:
    """The command that `mtdeblur` runs, for tests that hold the process themselves."""
    return command
