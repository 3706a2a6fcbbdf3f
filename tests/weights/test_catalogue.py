import hashlib
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from mtdeblur.errors import UserError
from mtdeblur.networks.registry import create_network
from mtdeblur.weights import catalogue as module
from mtdeblur.weights.catalogue import FILES, QUALITIES, catalogue, find_weights, offered
from mtdeblur.weights.store import load_model, load_network, read_header, save_network

ENTRY = {"sha256": "0" * 64, "network": "mtnaf", "licence": "MIT", "training_data": ["photographs"]}
OFFERS = {"offers": {"fast": 1, "good": 2, "best": 3}}
HUB = {"repo": "somebody/weights", "file": "x.safetensors", "revision": "0123abc"}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a catalogue of one's own, with a folder of files beside it."""
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "FILES", tmp_path / "files")
    (tmp_path / "files").mkdir()

    def write(entries) -> None:
        (tmp_path / "catalogue.json").write_text(json.dumps(entries))

    catalogue.cache_clear()
    yield write
    catalogue.cache_clear()


@pytest.mark.parametrize("name", [name for name, entry in catalogue().items() if entry.file])
def test_every_shipped_file_is_the_one_described_and_has_a_card(name):
    path = find_weights(name)
    assert path.parent == FILES
    assert read_header(path).network == catalogue()[name].network
    network = load_network(path)
    blurred = torch.rand(1, 3, 40, 24)
    with torch.no_grad():
        assert torch.isfinite(network(blurred, blurred)[0]).all()
    assert f"# {name}" in (FILES / f"{name}.md").read_text(encoding="utf-8")


def test_the_weights_that_ship_are_not_too_large_together():
    assert sum(path.stat().st_size for path in FILES.iterdir()) < 50e6


def test_no_name_means_what_a_good_quality_takes():
    name, steps = offered("good")
    assert find_weights() == find_weights(name)
    for quality in QUALITIES:
        name, steps = offered(quality)
        assert load_model(find_weights(name), steps).steps
    assert offered("best")[1] > offered("good")[1]


def test_a_path_is_taken_as_it_is_and_a_name_wins_over_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = next(iter(catalogue()))
    for file in ("mine.safetensors", name):
        save_network(tmp_path / file, create_network("mtnaf", width=2, blocks=(0, 0, 0, 0, 0)))
    assert find_weights("mine.safetensors").read_bytes() == (tmp_path / "mine.safetensors").read_bytes()
    assert find_weights(name).parent == FILES
    assert find_weights(tmp_path / name) == tmp_path / name


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"'sharpest'.*mtnaf-small"):
        find_weights("sharpest")


def test_a_changed_file_is_refused(written, tmp_path):
    written({"a": ENTRY | OFFERS | {"file": "a.safetensors"}})
    (tmp_path / "files" / "a.safetensors").write_bytes(b"changed")
    with pytest.raises(
        UserError, match=r"is not the weights file 'a'.*" + hashlib.sha256(b"changed").hexdigest()
    ):
        find_weights("a")
    (tmp_path / "files" / "a.safetensors").unlink()
    with pytest.raises(UserError, match="cannot read the weights 'a'"):
        find_weights()


def test_a_hub_entry_is_downloaded_at_its_revision_and_checked(written, tmp_path, monkeypatch):
    good = tmp_path / "downloaded"
    good.write_bytes(b"weights")
    asked = []

    def download(repo, file, *, revision):
        asked.append((repo, file, revision))
        return str(good)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    written({"a": ENTRY | {"hub": HUB, "sha256": hashlib.sha256(b"weights").hexdigest()} | OFFERS})
    assert find_weights("a") == good
    assert asked == [("somebody/weights", "x.safetensors", "0123abc")]
    good.write_bytes(b"tampered")
    with pytest.raises(UserError, match="sha256"):
        find_weights("a")


def test_a_failed_download_and_a_missing_package_are_one_line_each(written, monkeypatch):
    def download(*args, **kwargs):
        raise OSError("no route\nto host")

    written({"a": ENTRY | {"hub": HUB} | OFFERS})
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    with pytest.raises(UserError, match="'a' from somebody/weights: no route to host"):
        find_weights("a")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install"):
        find_weights("a")


@pytest.mark.parametrize(
    "entries",
    [
        {"a": ENTRY | {**OFFERS}},
        {"a": ENTRY | {"file": "a", "hub": HUB} | OFFERS},
        {"a": ENTRY | {"file": "a", **OFFERS, "colour": "red"}},
        {"a": ENTRY | {"file": "a", **OFFERS, "sha256": "12"}},
        {"a": ENTRY | {"file": "a"}},
        {"a": ENTRY | {"file": "a"} | OFFERS, "b": ENTRY | {"file": "b"} | OFFERS},
    ],
    ids=["nowhere", "two places", "unknown key", "short sha256", "no default", "two defaults"],
)
def test_a_catalogue_that_is_not_well_formed_is_refused(written, entries):
    written(entries)
    with pytest.raises((ValidationError, ValueError)):
        catalogue()
