"""Folders of models, and the Hugging Face Hub with a stand-in for its network calls."""

import json
import pickle
import sys
from pathlib import Path
from unittest.mock import MagicMock

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from PIL import Image

import mtdeblur
from mtdeblur import Deblurrer
from mtdeblur.cli import app
from mtdeblur.errors import UserError
from mtdeblur.export.source import describe as source_of_export
from mtdeblur.networks.registry import NETWORKS, create_network
from mtdeblur.weights.catalogue import FILES, Stopping, catalogue, find_weights
from mtdeblur.weights.description import describe
from mtdeblur.weights.hub import fetch
from mtdeblur.weights.layouts.mtrnn import to_authors
from mtdeblur.weights.pretrained import model_card
from mtdeblur.weights.store import save_network

PIXELS = np.random.default_rng(3).integers(0, 256, (16, 18, 3), dtype=np.uint8)


@pytest.fixture
def mine(tmp_path):
    """A file of one's own weights, with a licence beside it."""
    torch.manual_seed(4)
    network = create_network("mtnaf", width=4, blocks=(1, 0, 0, 0, 0))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path / "mine.safetensors"
    save_network(path, network, iterations=2)
    path.with_name("mine.LICENSE").write_text("Do as you like.")
    return path


class Hub:
    """The Hub as a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.made = folder, [], []

    def download(self, repo, *, revision, allow_patterns, token):
        self.asked.append((repo, revision, token))
        assert "README.md" not in allow_patterns
        if not (self.folder / repo).is_dir():
            raise RepositoryNotFoundError("401\nNot Found", response=MagicMock())
        if revision not in (None, "main"):
            raise RevisionNotFoundError("404", response=MagicMock())
        return str(self.folder / repo)

    def __call__(self, **settings):
        return self

    def create_repo(self, repo, *, private, exist_ok):
        assert exist_ok
        if "/" not in repo:
            raise ValueError("repo must be\nOWNER/NAME")
        self.made.append((repo, private))

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        Path(folder_path).rename(self.folder / repo_id)
        Path(folder_path).mkdir()
        return huggingface_hub.CommitInfo(
            commit_url=f"https://huggingface.co/{repo_id}/commit/1",
            commit_message="",
            commit_description="",
            oid="1",
        )


@pytest.fixture
def hub(tmp_path, monkeypatch):
    folder = tmp_path / "hub"
    (folder / "me").mkdir(parents=True)
    standing_in = Hub(folder)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", standing_in.download)
    monkeypatch.setattr(huggingface_hub, "HfApi", standing_in)
    return standing_in


def test_a_saved_model_comes_back_with_all_that_is_known_about_it(tmp_path):
    deblurrer = mtdeblur.load("maxim-mixed", device="cpu")
    folder = deblurrer.save_pretrained(tmp_path / "a" / "b")
    assert {path.name for path in folder.iterdir()} == {
        *("model.safetensors", "config.json", "README.md", "LICENSE", "NOTICE")
    }
    assert (folder / "model.safetensors").read_bytes() == find_weights("maxim-mixed").read_bytes()
    assert (folder / "NOTICE").read_bytes() == (FILES / "maxim-mixed.NOTICE").read_bytes()
    again = Deblurrer.from_pretrained(folder, device="cpu")
    assert repr(again) == repr(deblurrer)
    assert again.stopping == catalogue()["maxim-mixed"].stopping
    assert mtdeblur.load(folder, iterations=1, device="cpu").stopping is None


def test_a_model_of_one_s_own_gives_the_same_picture_and_its_card_is_kept(mine, tmp_path):
    deblurrer = mtdeblur.load(mine, device="cpu", precision="float32")
    folder = deblurrer.save_pretrained(str(tmp_path / "saved"))
    assert (folder / "LICENSE").read_text() == "Do as you like."
    again = Deblurrer.from_pretrained(str(folder), device="cpu", precision="float32")
    assert again.iterations == 2
    np.testing.assert_array_equal(again(PIXELS), deblurrer(PIXELS))
    (folder / "README.md").write_text("# Mine")
    assert again.save_pretrained(folder) == folder
    assert (folder / "README.md").read_text() == "# Mine"
    other = again.save_pretrained(tmp_path / "other")
    assert (other / "LICENSE").read_text() == "Do as you like."


def test_the_card_has_the_front_matter_of_the_hub():
    card = ModelCard(model_card(describe("mtnaf-small"), "me/small", "# mtnaf-small\n\nMore.\n"))
    assert card.data.license == "mit"
    assert card.data.library_name == "mtdeblur"
    assert card.data.pipeline_tag == "image-to-image"
    assert {"deblurring", "mtnaf"} <= set(card.data.tags)
    assert '"me/small"' in card.text
    assert card.text.count("# mtnaf-small") == 1
    described = describe("mtnaf-small")
    for licence, known, name in (("Do as you like", "other", "Do as you like"), (None, None, None)):
        card = ModelCard(model_card(described.model_copy(update={"licence": licence})))
        assert (card.data.license, card.data.get("license_name")) == (known, name)


def test_other_programs_weights_are_saved_as_safetensors(tmp_path):
    network = create_network("mtrnn", **NETWORKS["mtrnn"].small)
    torch.save(to_authors(network.state_dict()), tmp_path / "theirs.pth")
    plain = {"device": "cpu", "precision": "float32"}
    deblurrer = mtdeblur.load(tmp_path / "theirs.pth", **plain)
    again = Deblurrer.from_pretrained(deblurrer.save_pretrained(tmp_path / "saved"), **plain)
    np.testing.assert_array_equal(again(PIXELS), deblurrer(PIXELS))


def test_what_was_not_loaded_and_a_folder_that_is_a_file_are_refused_in_one_line(mine):
    with pytest.raises(UserError, match="save_network"):
        Deblurrer(create_network("mtnaf", width=4), device="cpu").save_pretrained("nowhere")
    with pytest.raises(UserError, match="cannot write"):
        mtdeblur.load(mine).save_pretrained(mine)


def test_a_damaged_description_is_refused_and_another_program_s_is_left_alone(mine, tmp_path):
    folder = mtdeblur.load(mine).save_pretrained(tmp_path / "saved")
    config = folder / "config.json"
    config.write_text('{"model_type": "swin"}')
    assert mtdeblur.load(folder).stopping is None
    for damaged in ('{"library_name": "mtdeblur"}', "{"):
        config.write_text(damaged)
        with pytest.raises(UserError, match=r"config\.json is no description"):
            mtdeblur.load(folder)


def test_a_pushed_model_is_loaded_from_the_hub(mine, hub):
    deblurrer = mtdeblur.load(mine, device="cpu", precision="float32")
    assert deblurrer.push_to_hub("me/mine", private=True) == "https://huggingface.co/me/mine/commit/1"
    assert hub.made == [("me/mine", True)]
    assert 'from_pretrained("me/mine")' in (hub.folder / "me" / "mine" / "README.md").read_text()
    settings = {"device": "cpu", "precision": "float32"}
    for again in (
        Deblurrer.from_pretrained("me/mine", **settings),
        Deblurrer.from_pretrained("me/mine", revision="main", token="secret", **settings),
        mtdeblur.load("hf:me/mine", **settings),
        mtdeblur.load("hf:me/mine@main", **settings),
    ):
        np.testing.assert_array_equal(again(PIXELS), deblurrer(PIXELS))
    assert hub.asked[0] == ("me/mine", None, None)
    assert hub.asked[1] == ("me/mine", "main", "secret")
    assert describe("hf:me/mine").name == "mine.safetensors"


def test_the_command_line_takes_models_of_the_hub_and_folders(mine, hub, tmp_path, monkeypatch):
    folder = mtdeblur.load(mine).save_pretrained(hub.folder / "me" / "mine")
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    expected = mtdeblur.load(mine, device="cpu", precision="float32")(PIXELS)
    for weights in ("hf:me/mine", str(folder)):
        words = ["deblur", str(tmp_path / "photo.png"), "-o", str(tmp_path / "sharper.png"), "--overwrite"]
        words += ["--weights", weights, "--device", "cpu", "--precision", "float32"]
        monkeypatch.setattr("sys.argv", ["mtdeblur", *words])
        with pytest.raises(SystemExit) as stop:
            app.main()
        assert not stop.value.code
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "sharper.png")), expected)


def test_an_export_of_a_saved_model_keeps_its_name_and_licence(mine, tmp_path):
    folder = mtdeblur.load(mine).save_pretrained(tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"licence": "CC0-1.0", "name": "ours"}))
    source = source_of_export(folder, find_weights(folder), None)
    assert (source.name, source.licence) == ("ours", "CC0-1.0")


def test_calibrated_thresholds_come_with_a_model_of_the_hub(mine, hub, tmp_path):
    folder = mtdeblur.load(mine).save_pretrained(hub.folder / "me" / "calibrated")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"stopping": {"change": 0.02}}))
    assert mtdeblur.load("hf:me/calibrated").stopping == Stopping(change=0.02)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_nothing_but_safetensors_is_loaded_from_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = hub.folder / "me" / "bomb"
    folder.mkdir()
    with pytest.raises(UserError, match=r"me/bomb has no model\.safetensors"):
        mtdeblur.load("hf:me/bomb")
    for name in ("model.safetensors", "model.pth"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(UserError, match=r"me/bomb has no model\.safetensors"):
            mtdeblur.load("hf:me/bomb")
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:me/nothing", "no model me/nothing .* hf auth login"),
        ("hf:me/mine@v9", "no revision v9"),
        ("hf:mine", "write hf:OWNER/NAME"),
        ("hf:https://hub/me/mine", "write hf:OWNER/NAME"),
    ],
)
def test_what_the_hub_does_not_have_is_said_in_one_line(mine, hub, monkeypatch, capsys, source, message):
    mtdeblur.load(mine).save_pretrained(hub.folder / "me" / "mine")
    with pytest.raises(UserError, match=message) as caught:
        mtdeblur.load(source)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("sys.argv", ["mtdeblur", "networks", source])
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err == f"mtdeblur: {caught.value}\n"


def test_failed_transfers_and_a_missing_package_are_one_line(mine, hub, monkeypatch):
    with pytest.raises(UserError, match="cannot upload the model mine: repo must be OWNER/NAME"):
        mtdeblur.load(mine).push_to_hub("mine")

    def unreachable(*args, **settings):
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(UserError, match="cannot download the model me/mine: no route to host"):
        fetch("me/mine")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: fetch("me/mine"), lambda: mtdeblur.load(mine).push_to_hub("me/mine")):
        with pytest.raises(UserError, match=r"pip install 'mtdeblur\[hub\]'"):
            call()
