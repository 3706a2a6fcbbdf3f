"""Every block of code in the README and under docs/: parsed, and run unless the page says why not.

A block is left out by a comment before it, `<!-- not run: REASON -->`, with a reason of `REASONS`.
Placeholders such as PHOTO become small pictures and clips, and `shorter` makes long commands short.
"""

import contextlib
import importlib.util
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import typer
import yaml
from PIL import Image

from mtdeblur.cli.app import app, main

ROOT = Path(__file__).parents[2]
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
FOLDERS = {"": "*.md", "docs": "**/*.md", "examples": "*.md", "src": "**/*.md"}
PAGES = sorted(page for folder, pattern in FOLDERS.items() for page in (ROOT / folder).glob(pattern))
PROGRAMS = {
    "python",
    "python3",
    ".",
    "ruff",
    "pyright",
    "lint-imports",
    "pre-commit",
    ".ci/run",
    "curl",
    "mkdocs",
}
COMMANDS = typer.main.get_command(app)

TESTED_ELSEWHERE = {  # test_documentation.py: with what the pages add, and what they say
    "docs/adding-a-network.md",
    "docs/adding-an-approach.md",
    "docs/adding-a-dataset.md",
    "docs/exporting.md",
    "docs/library.md",
}


class Block(NamedTuple):
    page: str
    number: int
    language: str
    reason: str
    text: str
    output: str  # of the block right after it, if that has no language but text

    @property
    def name(self):
        return f"{self.page}:{self.number}"


def blocks_of(page):
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    fence = r"^(?:<!-- not run: ([^\n]+) -->\n)?```([^\n]*)\n(.*?)^```$"
    found = list(re.finditer(fence, text, re.DOTALL | re.M))
    assert 2 * len(found) == len(re.findall("^```", text, re.M)), name
    for number, match in enumerate(found, 1):
        after = found[number] if number < len(found) else None
        close = after is not None and not text[match.end() : after.start()].strip()
        output = after[3] if after is not None and close and after[2] == "text" else ""
        yield Block(name, number, match[2], match[1] or "", match[3], output)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def each(blocks):
    return pytest.mark.parametrize("block", [pytest.param(block, id=block.name) for block in blocks])


def commands(text):
    """The commands of a block as words: comments, continued lines and `&&` resolved, brackets taken off."""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.replace("...", "")
        line = re.sub(r"\[(-[^\]]*)\]", r"\1", line)
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield words[:end]
            words = words[end + 1 :]


def parse(words):
    """Parse a command line of mtdeblur, without running it."""
    context = COMMANDS.make_context("mtdeblur", list(words))
    name, command, rest = COMMANDS.resolve_command(context, list(words))
    command.make_context(name, list(rest), parent=context)
    return name


# What the commands are, and that they exist


@each(BLOCKS)
def test_a_block_says_what_it_is(block):
    assert block.language in {"bash", "python", "yaml", "text"}
    if block.language == "text":
        assert not re.search(r"^(mtdeblur|python|mkdocs) ", block.text, re.M), "a command: make it bash"


@each(block for block in BLOCKS if block.language == "bash")
def test_commands_and_their_options_exist(block):
    for program, *words in commands(block.text):
        if program == "mtdeblur":
            parse(words)
        elif program in ("python", "python3") and words[0] != "-m":
            script = ROOT / words[0]
            text = script.read_text(encoding="utf-8")
            for option in (word for word in words if word.startswith("--")):
                parameter = option.removeprefix("--").replace("-", "_")
                assert re.search(rf'"{option}"|\b{parameter}: Annotated', text), option
        elif program == "pip":
            check_extras(words)
        else:
            assert program in PROGRAMS, program


def check_extras(words):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        match = re.search(r"\[([\w,]+)\]$", word)
        for extra in match[1].split(",") if match else ():
            assert extra in project["optional-dependencies"], extra


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_text_exist(page):
    """`mtdeblur evaluate SET --weights NAME` within a line; required arguments may be left out there."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    for line in re.findall(r"`(mtdeblur [^`]+)`", text):
        for _, *words in commands(line.replace("\n", " ")):
            if words[0] == "--help":
                continue
            try:
                parse(words)
            except Exception as error:  # typer has no public class for it
                if type(error).__name__ not in ("MissingParameter", "BadOptionUsage", "Exit"):
                    raise


def test_the_list_of_all_commands_is_complete():
    (block,) = (block for block in BLOCKS if block.reason == "a list of all commands")
    assert {words[1] for words in commands(block.text)} == set(COMMANDS.commands)


# Why a block is not run


def only(*programs):
    return lambda block: all(words[0] in programs for words in commands(block.text))


def in_checks(block):
    readme = re.findall(
        r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.M
    )
    run = [" ".join(words[:3] if words[0] == "python" else words[:2]) for words in commands(block.text)]
    return block.text in readme[:2] or all(line.split(" ./")[0] in CI or line == ".ci/run" for line in run)


def names(pattern):
    return lambda block: re.search(pattern, block.text)


def missing_module(block):
    modules = re.findall(r"^(?:from|import) (\w+)", block.text, re.M)
    return not all(importlib.util.find_spec(module) for module in modules)


def missing_package(block):
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    wanted = [word for words in commands(block.text) if words[0] == "pip" for word in words if "==" in word]
    return wanted and not any(word.split("==")[0] + "==" in constraints for word in wanted)


def has_code(block):
    return block.page in TESTED_ELSEWHERE and any(
        other.language == "python" for other in BLOCKS if other.page == block.page
    )


REASONS = {
    "the checks run it": in_checks,
    "installs packages": only("pip", "python3", ".", "pre-commit"),
    "a list of all commands": names("mtdeblur networks"),
    "needs a data set that is not public domain": names(r"\b(GOPR\w+|DATASET\.\.\.|FRAMES|gopro=)"),
    "needs the code of this page": has_code,
    "needs a package outside the extras": missing_package,
    "needs your own code": missing_module,
    "takes minutes": names(r"tools/figures\.py|benchmarks/|reproduce table|6000x4000|benchmark --network"),
}


@each(block for block in BLOCKS if block.reason)
def test_a_block_that_is_not_run_has_a_reason(block):
    assert REASONS[block.reason](block)


# Running them


def picture(path, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    Image.fromarray(tiles.repeat(8, axis=0).repeat(8, axis=1)).save(path)


def folder(path, suffix=".png"):
    for number in range(2):
        picture(path / f"{number}{suffix}", (128, 112))


def pairs(path):
    for side in ("blur", "sharp"):
        picture(path / side / "1.png")


def frames(path, count=30):
    """A texture that moves."""
    path.mkdir(parents=True)
    texture = np.random.default_rng(0).integers(0, 256, (12, 24, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    for number in range(count):
        Image.fromarray(texture[:64, number : number + 96]).save(path / f"{number:04d}.png")


def clip(path, count=30):
    folder = path.with_name(f"{path.name}-frames")
    frames(folder, count)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=120)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for file in sorted(folder.iterdir()):
            with Image.open(file) as shown:
                container.mux(stream.encode(av.VideoFrame.from_image(shown)))
        container.mux(stream.encode(None))


MADE = {
    "PHOTO": ("photo.png", picture),
    "photo.jpg": ("photo.jpg", picture),
    "file=@photo.jpg": ("photo.jpg", picture),
    "FOLDER": ("photos", folder),
    "HOLIDAY": ("HOLIDAY", lambda path: folder(path, ".jpg")),
    "DATASET": ("DATASET", pairs),
    "PAIRS": ("PAIRS", pairs),
    "CLIP": ("slow-motion.mp4", clip),
    "slow-motion.mp4": ("slow-motion.mp4", clip),
    "clip.mp4": ("clip.mp4", lambda path: clip(path, 4)),
    "clip.mov": ("clip.mov", lambda path: clip(path, 4)),
    "frames/": ("frames", frames),
    "FRAMES": ("FRAMES", lambda path: frames(path, 3)),
}
"""What stands for a word of a command: a name, and what makes the file or folder unless it is there."""

TRAINING = {
    "optimiser.batches": "2",
    "network.options": "{width: 4}",
    "data.patch": "32",
    "data.batch": "1",
    "data.motion.length": "6",
    "validation.every": "2",
    "validation.iterations": "1",
    "validation.photos": "1",
}


def shorter(command, words):
    """The same command with less to do."""
    words = [{"60": "0.01", "4": "2"}.get(word, word) if before in ("--minutes", "--processes") else word
             for before, word in zip(["", *words], words, strict=False)]  # fmt: skip
    if command == "train":
        for key, value in TRAINING.items():
            words += ["--set", f"{key}={value}"]
    elif command == "simulate":
        words += ["--exposures", "1"]
        words += ["--longest", "128"] if "--public-domain" in words else ["--length", "6"]
    elif command == "evaluate":
        words += ["--max-images", "1"]
    elif command == "benchmark":
        words += ["--network", "mtnaf-small", "--size", "64x48", "--repeats", "1", "--no-psnr"]
        words += ["--engine", "pytorch", "--precision", "float32"]
    elif command == "deblur":
        words += [] if {"--quality", "--weights"} & set(words) else ["--quality", "fast"]
        words += [] if "--skip-existing" in words else ["--overwrite"]
    return words


def stand_in(words):
    """Make what the words stand for."""
    for before, word in zip(["", *words], words, strict=False):
        name, make = MADE.get(word, ("", None))
        if make and before not in ("-o", "--output"):
            if not Path(name).exists():
                make(Path(name))
            yield name if "=" not in word else word
        else:
            yield word


def run(words, monkeypatch):
    """Run a command of mtdeblur in this process."""
    command, *rest = words
    line = ["mtdeblur", command, *shorter(command, list(stand_in(rest)))]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code, line


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples")


@contextlib.contextmanager
def serving():
    """A server of its own process; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "mtdeblur", "serve", "--port", str(port)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as server:
        try:
            while True:
                assert server.poll() is None
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.1)
            yield port
        finally:
            server.terminate()


RUN = [block for block in BLOCKS if not block.reason and block.page not in TESTED_ELSEWHERE]
SERVED = "docs/serving.md"


@each(block for block in RUN if block.language == "python" and block.page != SERVED)
def test_python_works_as_printed(block, here, capsys):
    text = block.text.replace("(720, 1280, 3)", "(48, 64, 3)")
    exec(compile(text, block.name, "exec"), {"__name__": "page"})
    said = capsys.readouterr().out
    if block.output:
        assert said == block.output


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({block.page for block in RUN if block.language == "bash"} - {SERVED}))
def test_the_commands_of_a_page_work(page, here, monkeypatch):
    """In their order, in one folder."""
    for block in RUN:
        if block.page == page and block.language == "bash":
            for program, *words in commands(block.text):
                assert program in ("mtdeblur", "pip")
                if program == "mtdeblur":
                    run(words, monkeypatch)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_commands_and_the_code_on_the_page_on_serving_work(here):
    picture(Path("photo.jpg"))
    with serving() as port:
        for block in (block for block in RUN if block.page == SERVED):
            text = block.text.replace("8765", str(port))
            if block.language == "python":
                exec(compile(text, block.name, "exec"), {"__name__": "page"})
                continue
            for program, *words in commands(text):
                if program == "curl":
                    subprocess.run([program, "--silent", "--show-error", *words], check=True, timeout=120)
                else:
                    assert program == "pip" or words[0] == "serve"
    for name in ("sharper.jpg", "sharper.png"):
        with Image.open(name) as sharper:
            assert sharper.size == (64, 48)


# Other blocks


def test_the_excerpt_of_a_table_is_one():
    (block,) = (block for block in BLOCKS if block.page == "docs/reproducing.md" and block.language == "yaml")
    tables = ROOT / "src" / "mtdeblur" / "experiments" / "tables"
    (row,) = yaml.safe_load(block.text)
    rows = yaml.safe_load((tables / "table1.yaml").read_text(encoding="utf-8"))["rows"]
    assert any({**one, **row} == one for one in rows)
    assert {block.page for block in BLOCKS if block.language == "yaml"} <= {
        block.page,
        "docs/adding-a-network.md",
        "docs/adding-an-approach.md",
    }
