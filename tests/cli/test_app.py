"""The command line as a program: help, version, mistakes, interruptions."""

import os
import re
import subprocess
import sys

import pytest
from typer.main import get_command

import mtdeblur as package
from mtdeblur.cli.app import app

HEAVY = ["torch", "numpy", "pyvips", "pydantic", "skimage", "safetensors", "pytorch_lightning"]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from mtdeblur.cli.app import main
sys.argv = ["mtdeblur", "--help"]
try:
    main()
finally:
    print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert "deblur" in result.stdout
    assert result.stdout.endswith("heavy: []\n")


def test_version(mtdeblur) -> None:
    result = mtdeblur("--version")
    assert (result.returncode, result.stdout) == (0, f"mtdeblur {package.__version__}\n")


def test_no_command_shows_the_help(mtdeblur) -> None:
    result = mtdeblur()
    assert result.returncode == 2
    assert "Commands" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--fast"], "--fast"),
        (["blurr"], "blurr"),
        (["deblur"], "PHOTO"),
        (["deblur", "-o", "out"], "PHOTO"),
        (["deblur", "a.jpg", "-o", "out", "--sharper"], "--sharper"),
        (["deblur", "a.jpg", "-o", "out", "--iterations", "-1"], "--iterations"),
        (["deblur", "a.jpg", "-o", "out", "--iterations", "many"], "--iterations"),
        (["deblur", "a.jpg", "-o", "out", "--tile", "-5"], "-5"),
        (["deblur", "a.jpg", "-o", "out", "--tile", "0"], "--tile"),
        (["deblur", "a.jpg", "-o", "out", "--tile", "big"], "big"),
        (["deblur", "a.jpg", "-o", "out", "--precision", "float8"], "float8"),
        (["deblur", "a.jpg", "-o", "out", "--quality", "superb"], "superb"),
        (["deblur", "a.jpg", "--quality-jpeg", "0"], "--quality-jpeg"),
        (["deblur", "a.jpg", "--quality-jpeg", "101"], "--quality-jpeg"),
    ],
)
def test_mistakes_at_the_command_line(mtdeblur, arguments: list[str], names: str) -> None:
    result = mtdeblur(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("mtdeblur: ")
    assert names in result.stderr
    assert "Value error" not in result.stderr
    command = "mtdeblur deblur" if arguments[0] == "deblur" else "mtdeblur"
    assert f" {command} --help" in result.stderr


@pytest.mark.parametrize("command", ["deblur", "evaluate", "curve", "sheets", "simulate", "train"])
def test_a_command_without_arguments_is_one_line(mtdeblur, command: str) -> None:
    result = mtdeblur(command)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "Missing" in result.stderr
    assert f"mtdeblur {command} --help" in result.stderr


@pytest.mark.parametrize("command", [command.name for command in app.registered_commands])
def test_the_help_of_a_command_mentions_only_its_own_options(command: str) -> None:
    parameters = get_command(app).commands[command].params
    own = {option for parameter in parameters for option in parameter.opts}
    for parameter in parameters:
        said = (parameter.help or "").replace("deblur --weights", "")  # another command's, and named so
        assert set(re.findall(r"--[a-z][\w-]+", said)) <= own, parameter.name
        if getattr(parameter, "is_flag", False):
            assert parameter.metavar == "", parameter.name  # otherwise the help shows a type


def test_errors_of_the_user_are_one_line(mtdeblur) -> None:
    result = mtdeblur("deblur", "a.jpg", "-o", "out", "--weights", "nothing")
    assert result.returncode == 1
    assert result.stderr == "mtdeblur: there are no weights 'nothing'\n"


@pytest.mark.fault("closed or full standard streams")
def test_a_reader_that_leaves_is_no_error_of_ours() -> None:
    code = "import sys; sys.argv = ['mtdeblur', '--help']; from mtdeblur.cli.app import main; main()"
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.fault("closed or full standard streams")
def test_a_full_standard_output_is_one_line() -> None:
    code = "import sys; sys.argv = ['mtdeblur', '--version']; from mtdeblur.cli.app import main; main()"
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert result.returncode == 1
    assert result.stderr == "mtdeblur: standard output: No space left on device\n"
