"""What the pages under docs/ say is carried out."""

import ast
import importlib.util
import itertools
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from mtdeblur import approaches
from mtdeblur.cli.app import main
from mtdeblur.data.disk import layouts
from mtdeblur.data.disk import pairs as room
from mtdeblur.networks import registry
from mtdeblur.networks.convert import ProgressiveAdapter
from mtdeblur.training.config_file import parse_config
from mtdeblur.training.run import train

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")])
PAGE = (ROOT / "docs" / "adding-a-network.md").read_text(encoding="utf-8")
APPROACH = (ROOT / "docs" / "adding-an-approach.md").read_text(encoding="utf-8")
DATASET = (ROOT / "docs" / "adding-a-dataset.md").read_text(encoding="utf-8")


def load_module(path, name):
    """A file as a module, such as tests that are parametrised over a registry as it is now."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def blocks(language, page=PAGE):
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.M)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The page's file as a module of the package, and its line in the registry."""
    monkeypatch.chdir(tmp_path)
    file, line, _ = blocks("python")
    (name,) = re.findall(r"`src/mtdeblur/networks/(\w+)\.py`: an ordinary module", PAGE)
    path = tmp_path / f"{name}.py"
    path.write_text(file)
    full_name = f"mtdeblur.networks.{name}"
    monkeypatch.setitem(sys.modules, full_name, None)
    module = load_module(path, full_name)
    entries = eval(f"{{{line}}}", vars(registry) | vars(module))
    for key, entry in entries.items():
        monkeypatch.setitem(registry.NETWORKS, key, entry)
    return name


def test_the_network_that_the_page_adds_works_as_the_page_says(small, capsys):
    said: dict = {}
    exec(blocks("python")[2], said)
    assert capsys.readouterr().out.splitlines() == [
        f"{3 * 16 * 9} more parameters",
        "torch.Size([1, 3, 45, 61]) 6",
        "SmallConfig(converted=True, width=16)",
    ]
    assert isinstance(said["converted"], ProgressiveAdapter)


def test_the_configuration_on_the_page_is_one(small):
    (text,) = blocks("yaml")
    config = parse_config(yaml.safe_load(text))
    assert config.network.name == small
    assert config.network.checked_options() == {"converted": True, "width": 24}


def test_the_network_on_the_page_sees_as_far_as_it_says(small):
    """NaN put into a pixel comes out wherever that pixel is looked at."""
    network = registry.create_network(small, converted=True).double()
    halo = network.contract.halo
    furthest = 0
    for place in (40, 41):
        for which in range(2):
            images = torch.rand(2, 1, 3, 80, 80, dtype=torch.float64)
            images[which, ..., place, place] = torch.nan
            with torch.no_grad():
                seen = network(*images)[0].isnan().any(dim=1)[0].nonzero()
            furthest = max(furthest, int((seen - place).abs().max()))
    assert halo - network.contract.multiple < furthest <= halo
    assert halo % network.contract.multiple == 0


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_network_on_the_page_passes_the_tests_of_the_registry(small, monkeypatch, mirrored):
    monkeypatch.setitem(sys.modules, "registered_reach", None)
    tests = load_module(ROOT / "tests" / "networks" / "test_reach.py", "registered_reach")
    cases = [case for case, (name, _) in tests.SMALL.items() if name == small]
    assert len(cases) == 2
    for case in cases:
        network = tests.prepared(*tests.SMALL[case])
        tests.test_nothing_is_seen_from_further_away_than_the_halo(network, mirrored, upright=False)


@pytest.fixture
def halving(monkeypatch):
    """The page's class, and its line in the registry."""
    code, line = blocks("python", APPROACH)
    written = {"__name__": approaches.__name__, **vars(approaches)}
    exec(code, written)
    for key, kind in eval(f"{{{line}}}", written).items():
        monkeypatch.setitem(approaches.APPROACHES, key, kind)
    return written["Halving"]


def test_the_approach_on_the_page_halves_the_level(halving):
    plans = {level: [goal.level for goal in halving().plan(level, len)] for level in (3, 7, 9, 11, 13)}
    assert plans == {3: [1, 1], 7: [3, 1, 1], 9: [5, 3, 1, 1], 11: [5, 3, 1, 1], 13: [7, 3, 1, 1]}


def test_the_approach_on_the_page_passes_the_tests_of_the_registry(halving, monkeypatch):
    monkeypatch.setitem(sys.modules, "registered_approaches", None)
    tests = load_module(ROOT / "tests" / "test_approaches.py", "registered_approaches")
    passed = 0
    for test in vars(tests).values():
        marks = {mark.args[0]: mark.args[1] for mark in getattr(test, "pytestmark", ())}
        if halving in (kinds := marks.get("kind", ())):
            assert set(kinds) == set(approaches.APPROACHES.values())
            for values in itertools.product(*(marks[word] for word in marks if word != "kind")):
                words = [word for word in marks if word != "kind"]
                test(kind=halving, **dict(zip(words, values, strict=True)))
                passed += 1
    assert passed == 6


def test_the_approach_on_the_page_can_be_trained(halving, tmp_path):
    (text,) = blocks("yaml", APPROACH)
    small = {
        "optimiser": {"batches": 2},
        "network": {"name": "mtrnn", "options": {"width": 4}},
        "validation": {"every": 2, "iterations": 2, "photos": 1},
    }
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)):
        Image.fromarray(pixels).save(photos / f"{number}.png")
    data = {"photos": [str(photos)], "patch": 16, "batch": 1, "motion": {"length": 6.0}}
    config = parse_config(yaml.safe_load(text) | small | {"data": data})
    assert config.approach.build() == halving(repeats=2)
    assert train(config, tmp_path / "run", device="cpu").finished


@pytest.fixture
def night(tmp_path, monkeypatch):
    """The page's files, and its entry among the layouts; the page's second form of it."""
    monkeypatch.chdir(tmp_path)
    (listing,) = blocks("text", DATASET)
    files = [line.split()[0] for line in listing.splitlines()]
    for file in files:
        path = tmp_path / "NIGHT" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    entry, by_lists, *_ = (block.strip() for block in blocks("python", DATASET))
    added, listed = (eval(f"{{{text}}}", vars(layouts) | {}) for text in (entry, by_lists))
    pairs = layouts.LAYOUTS["pairs"]
    known = {name: layout for name, layout in layouts.LAYOUTS.items() if name != "pairs"}
    monkeypatch.setattr(room, "LAYOUTS", known | added | {"pairs": pairs})
    return files, listed


def test_the_data_set_that_the_page_adds_is_found(night, capsys):
    files, _ = night
    exec(blocks("python", DATASET)[2], {})
    lines = capsys.readouterr().out.splitlines()
    training = [file for file in files if file.startswith("training/")]
    assert [word for line in lines for word in line.split()[1:]] == [f"NIGHT/{file}" for file in training]
    assert [line.split()[0] for line in lines] == ["seq01/0001", "seq02/0001"]
    (test,) = room.find_pairs(Path("NIGHT"), "night")
    assert (test.blur, test.sharp) == tuple(Path("NIGHT") / file for file in files[-2:])
    assert room.find_pairs(Path("NIGHT")) == [test]


def test_the_example_on_the_page_is_found_as_it_says(night):
    ((others, splits),) = eval(f"{{{blocks('python', DATASET)[3]}}}").values()
    assert all(isinstance(file, str) for file in others)
    for split, pairs in splits.items():
        found = room.find_pairs(Path("NIGHT"), split=split)
        places = [(pair.name, *(path.relative_to("NIGHT").as_posix() for path in pair[1:])) for pair in found]
        assert set(pairs) <= set(places)


def test_the_code_on_the_page_on_data_sets_imports_what_it_uses():
    for block in blocks("python", (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")):
        tree = ast.parse(block)
        called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert called <= {alias.name for node in ast.walk(tree) for alias in getattr(node, "names", ())}


def test_the_data_set_on_the_page_may_list_its_pairs(night, monkeypatch):
    files, listed = night
    monkeypatch.setattr(room, "LAYOUTS", listed)
    Path("NIGHT/test_pairs.txt").write_text(f"{files[-1]} {files[-2]}\n")
    (pair,) = room.find_pairs(Path("NIGHT"))
    assert (pair.blur, pair.sharp) == tuple(Path("NIGHT") / file for file in files[-2:])


@pytest.mark.parametrize("page", [PAGE, DATASET], ids=["network", "dataset"])
def test_the_files_that_the_page_names_are_there(page):
    for name in re.findall(r"`((?:src|tests)/[\w/]+(?:\.py|/))`", page):
        assert name.endswith("/small.py") or (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            assert heading in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]


@pytest.mark.slow
def test_the_commands_and_the_code_on_the_page_on_exports_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "exporting.md").read_text(encoding="utf-8")
    (commands,), (code,) = blocks("bash", page), blocks("python", page)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 61, 3), np.uint8)).save("blurred.png")
    for command in commands.splitlines():
        monkeypatch.setattr("sys.argv", shlex.split(command))
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
    with Image.open("sharper.png") as sharper:
        assert sharper.size == (61, 50)
    capsys.readouterr()
    exec(code, {})
    assert capsys.readouterr().out == "(1, 3, 96, 128) (1, 64, 24, 32) (1, 128, 12, 16)\n"
    assert {path.name for path in Path("small-onnx").iterdir()} == {
        "export.json",
        "step-first.onnx",
        "step-next.onnx",
    }


def test_the_code_on_the_page_on_the_library_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 61, 3), np.uint8)).save("blurred.jpg")
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    said: dict = {}
    for block in blocks("python", page):
        exec(block, said)
    printed = capsys.readouterr().out
    assert printed.startswith("Apache-2.0 64 True\n")
    assert "psnr" in printed
    files = {path.name for path in Path("my-model").iterdir()}
    assert {"model.safetensors", "config.json", "README.md"} <= files
    assert {"sharper.jpg", "after-1.png"} <= {path.name for path in Path().iterdir()}


def test_the_code_of_the_readme_works(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (code,) = blocks("python", (ROOT / "README.md").read_text(encoding="utf-8"))
    exec(code.replace('"good"', '"fast"'), {})
    assert capsys.readouterr().out == "(552, 352)\n"
