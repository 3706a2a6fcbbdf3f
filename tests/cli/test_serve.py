"""The command `mtdeblur serve`: what it needs, and how it starts and ends."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from mtdeblur.cli.app import main

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
PHOTOGRAPH = Path(__file__).parents[2] / "examples" / "coffee-blurred.png"


def failure(monkeypatch, capsys, *arguments: str) -> str:
    """The line of a command that fails."""
    monkeypatch.setattr("sys.argv", ["mtdeblur", "serve", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("package", ["uvicorn", "fastapi", "python_multipart"])
def test_the_missing_extra(monkeypatch, capsys, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = failure(monkeypatch, capsys)
    assert package in line
    assert "pip install 'mtdeblur[serve]'" in line


def test_a_port_that_is_taken(monkeypatch, capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = failure(monkeypatch, capsys, "--port", port)
    assert port in line
    assert "--port" in line


@pytest.mark.parametrize(
    ("option", "value"), [("--max-upload", "much"), ("--memory", "much"), ("--host", "no.such.host.invalid")]
)
def test_invalid_options(monkeypatch, capsys, option: str, value: str) -> None:
    assert value in failure(monkeypatch, capsys, option, value)


class Running(NamedTuple):
    """A server in a process of its own: the process, its address, and the parent of its folder."""

    process: subprocess.Popen[str]
    address: str
    folder: Path

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def running(tmp_path: Path) -> Generator[Running]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    # Ctrl-C also where the tests run in the background, which ignores it.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from mtdeblur.cli.app import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/", line)
    try:
        assert found, line + process.stderr.read()
        yield Running(process, found[0], folder)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_examples_on_the_page_work_and_ctrl_c_ends_cleanly(running, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Image.open(PHOTOGRAPH) as photograph:
        photograph.crop((0, 0, 160, 120)).save("photo.jpg", quality=90)
    blocks = re.findall(
        r"^```(\w+)\n(.*?)^```", PAGE.replace("http://127.0.0.1:8765/", running.address), re.M | re.S
    )
    (command,) = [text for language, text in blocks if language == "bash" and text.startswith("curl")]
    (code,) = [text for language, text in blocks if language == "python"]
    for options in ("-o expected.png", "--strength 0.8 -o expected.jpg"):
        given = f"mtdeblur deblur photo.jpg --quality fast {options}"
        monkeypatch.setattr("sys.argv", given.split())
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
    exec(code, {})
    assert Path("sharper.png").read_bytes() == Path("expected.png").read_bytes()
    if shutil.which("curl"):
        subprocess.run(shlex.split(command), check=True, capture_output=True)
        assert Path("sharper.jpg").read_bytes() == Path("expected.jpg").read_bytes()
    assert running.end(signal.SIGINT) == 0
    assert list(running.folder.iterdir()) == []


@pytest.mark.slow
def test_sigterm_ends_cleanly_while_a_photograph_is_in_work(running, tmp_path) -> None:
    Image.fromarray(np.full((3000, 4000, 3), 90, np.uint8)).save(tmp_path / "large.jpg")
    request = """
import sys, requests
with open(sys.argv[1], "rb") as photo:
    reply = requests.post(sys.argv[2] + "api/deblur", files={"file": photo}, data={"quality": "best"})
print(reply.status_code)
"""
    client = subprocess.Popen(
        [sys.executable, "-c", request, str(tmp_path / "large.jpg"), running.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    while not list(running.folder.glob("*/*/large.jpg")):
        assert client.poll() is None
    assert running.end(signal.SIGTERM) == 143
    client.communicate(timeout=60)
    assert list(running.folder.iterdir()) == []
