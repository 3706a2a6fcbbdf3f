"""`mtdeblur train` at the command line: mistakes are one line, whoever made them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mtdeblur as package

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd) -> Run:
    """Run `mtdeblur train` in this process, for PyTorch takes seconds to import, in the test's folder."""
    from mtdeblur.cli.app import main

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = ["mtdeblur", "train", *map(str, arguments)]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            main()
        said = capfd.readouterr()
        return subprocess.CompletedProcess(command, int(end.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(10):
        picture = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        picture.resize((72, 72), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def test_photographs_are_all_it_takes(train: Run, photos: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(
        "network: {name: mtnaf, options: {width: 8, blocks: [1, 1, 1, 1, 1]}}\n"
        "data: {patch: 16, batch: 2, pool: 1, motion: {length: 6.0}}\n"
        "optimiser: {batches: 2}\n"
        "validation: {iterations: 2}\n"
    )
    result = train(small, "--photos", photos, "--device", "cpu")
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.splitlines()[-1] == "weights: runs/small/best.safetensors"
    assert (tmp_path / "runs" / "small" / "best.safetensors").exists()
    changed = ["--photos", photos, "--device", "cpu", "--resume", "--set", "data.patch=24"]
    again = train(small, *changed, "--set", "optimiser.batches=3")
    assert (again.returncode, "data.patch" in again.stderr) == (1, True)
    again = train(small, "--photos", photos, "--device", "cpu")
    assert again.returncode == 1
    assert all(fact in again.stderr for fact in ("runs/small", "--resume", "--run"))
    for how in (["--resume"], ["--resume", "auto"], ["--resume=checkpoint"]):
        for arguments in ([*how, small], [small, *how]):
            again = train(*arguments, "--photos", photos, "--device", "cpu")
            assert (again.returncode, "is finished: 2 of 2 batches are done" in again.stderr) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nothing.yaml"], "cannot read the configuration nothing.yaml: No such file"),
        (["fast"], "'fast'"),
        (["fast"], "modern, paper, release-base"),
        (["modern", "--set", "batches"], "KEY=VALUE"),
        (["modern", "--pack", "a.zip", "--set", "optimiser.rate=3"], "optimiser.rate"),
        (["modern"], "data: nothing to train on; give sharp photographs (--photos"),
        (["modern", "--pack", "a.zip"], "make one with 'mtdeblur pack'"),
        (["modern", "--photos", "nowhere"], "nowhere"),
        (["modern", "--dataset", "nowhere"], "there is no folder nowhere"),
        (["modern", "--dataset", "."], "expected blur/NAME.png with sharp/NAME.png"),
        (
            ["modern", "--pack", "a", "--photos", "b"],
            "--pack, --photos and --dataset",
        ),
        (["paper", "--pack", "a.zip", "--device", "cpu", "--devices", "5"], "data.batch"),
    ],
)
def test_what_cannot_be_trained_is_one_line(train: Run, arguments: list[str | Path], reason: str) -> None:
    result = train(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("mtdeblur: ")
    assert reason in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-minutes", "0"],
        ["--max-minutes", "long"],
        ["--devices", "0"],
        ["--device", "abacus"],
        ["--device", "cuda:1"],
        ["--epochs", "3"],
        ["--resume=x"],
    ],
)
def test_mistakes_at_the_command_line(train: Run, arguments: list[str]) -> None:
    result = train("paper", *arguments)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert arguments[0].split("=")[0] in result.stderr


@pytest.mark.slow
def test_a_missing_package_is_named(tmp_path: Path) -> None:
    source = Path(package.__file__).resolve().parents[1]
    code = (
        f"import sys; sys.path.insert(0, {str(source)!r}); sys.modules['pytorch_lightning'] = None\n"
        f"from mtdeblur.cli.app import main\n"
        f"sys.argv = ['mtdeblur', 'train', 'paper']; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr.startswith("mtdeblur: training needs pytorch_lightning")
    assert "pip install 'mtdeblur[train]'" in result.stderr
