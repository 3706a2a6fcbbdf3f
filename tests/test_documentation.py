"""What the pages under docs/ say is carried out."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from mtdeblur.networks import registry
from mtdeblur.networks.convert import ProgressiveAdapter
from mtdeblur.training.reading import parse_config

PAGE = (Path(__file__).parents[1] / "docs" / "adding-a-network.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.M)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The page's file as a module of the package, and its line in the registry."""
    monkeypatch.chdir(tmp_path)
    file, line, _ = blocks("python")
    (name,) = re.findall(r"`src/mtdeblur/networks/(\w+)\.py`: an ordinary module", PAGE)
    path = tmp_path / f"{name}.py"
    path.write_text(file)
    spec = importlib.util.spec_from_file_location(f"mtdeblur.networks.{name}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for their module
    spec.loader.exec_module(module)
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


def test_the_files_that_the_page_names_are_there():
    root = Path(__file__).parents[1]
    for name in re.findall(r"`((?:src|tests)/[\w/]+(?:\.py|/))`", PAGE):
        assert name.endswith("/small.py") or (root / name).exists(), name
