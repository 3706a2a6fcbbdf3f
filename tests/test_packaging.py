"""What a user gets: the wheel, the README's commands, and the environment that they are run in."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from skimage import data
from skimage.io import imread
from skimage.metrics import peak_signal_noise_ratio

ROOT = Path(__file__).parents[1]
PHOTOGRAPH = ROOT / "examples" / "coffee-blurred.png"
EDGE = 24  # what the simulated camera takes off the photograph on each side


def readme_commands():
    return re.findall(
        r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.M
    )


def test_the_first_two_blocks_of_the_readme_are_one_command_each():
    install, test, *_ = readme_commands()
    for command in (install, test):
        assert len(command.splitlines()) == 1
    assert "pip install -c constraints.txt . && mtdeblur deblur examples/coffee-blurred.png" in install
    assert "pip install -c constraints.txt -e '.[test]' && python -m pytest" in test
    assert (ROOT / "constraints.txt").is_file()
    assert PHOTOGRAPH.is_file()


def test_the_continuous_integration_runs_these_very_commands():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    function = re.search(r"^readme_command\(\) \{\n.*?^\}\n", script, re.DOTALL | re.M)
    assert function
    for number, command in enumerate(readme_commands()[:2], 1):
        assert f'eval "$(readme_command {number})"' in script
        said = subprocess.run(
            ["bash", "-c", f"{function[0]}readme_command {number}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout == command


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_every_file_of_the_package(wheel):
    package = ROOT / "src" / "mtdeblur"
    ours = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for path in ours:
            name = path.relative_to(ROOT / "src").as_posix()
            assert archive.read(name) == path.read_bytes()
    assert any(name.endswith(".safetensors") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_deblurs_in_an_environment_of_its_own(wheel, tmp_path):
    # To spare downloads, the environment borrows the dependencies installed here by a path file. That lends
    # no mtdeblur: a folder named in a path file comes after the environment's own, and path files within it,
    # such as that of an editable install, are not read.
    folder = tmp_path / "environment"
    venv.create(folder)
    paths = sysconfig.get_paths("venv", vars={"base": str(folder), "platbase": str(folder)})
    (Path(paths["purelib"]) / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python = str(Path(paths["scripts"]) / "python")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(wheel))
    home = Path(run(python, "-c", "import mtdeblur; print(mtdeblur.__file__)"))
    assert home.is_relative_to(folder)

    run(str(Path(paths["scripts"]) / "mtdeblur"), "deblur", str(PHOTOGRAPH), "-o", "sharper.png")
    blurred, sharper = imread(PHOTOGRAPH), imread(tmp_path / "sharper.png")
    sharp = data.coffee()[EDGE:-EDGE, EDGE:-EDGE]
    assert peak_signal_noise_ratio(sharp, sharper) > peak_signal_noise_ratio(sharp, blurred)
