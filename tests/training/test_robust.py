"""What a run survives, and what it refuses before work is lost."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mtdeblur.data.feeding.stream import LadderStream
from mtdeblur.errors import UserError
from mtdeblur.files.journal import lock_folder
from mtdeblur.networks.blocks import repeated_blocks
from mtdeblur.networks.contract import members
from mtdeblur.networks.registry import create_network
from mtdeblur.training.algorithm import IncrementalTemporalTraining
from mtdeblur.training.config import DataConfig, OptimiserConfig, TrainingConfig
from mtdeblur.training.config_file import FIRST_VALUES, fingerprint, first_difference, parse_config
from mtdeblur.training.network import build_network
from mtdeblur.training.run import train
from mtdeblur.weights.store import read_header

Configure = Callable[..., TrainingConfig]


def pairs(folder: Path, pack: Path, count: int, places: tuple[str, str] = ("blur", "sharp")) -> Path:
    """A folder of pairs: links to photographs of a pack."""
    for number in range(count):
        for index, place in enumerate(places):
            target = folder / place / f"{number:02d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(pack / f"train/photos/{(number + index) % 4}.png")
    return folder


def test_a_plain_folder_of_pairs_is_trained_on(
    configure: Configure, pack: Path, tmp_path: Path, capfd
) -> None:
    folder = pairs(tmp_path / "pairs", pack, 12)
    config = configure(data={"pack": None, "dataset": str(folder)})
    assert train(config, tmp_path / "run", device="cpu").finished
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert list(history[-1]["gains"]) == ["pairs"]  # every tenth is validated on
    assert "11 of 11 exposures have no temporal levels" in capfd.readouterr().err


# -- damaged pictures


def damage(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()  # which may be a link
    file.write_bytes(content[: len(content) // 3])


def test_a_damaged_pair_is_named_and_left_out(
    configure: Configure, pack: Path, tmp_path: Path, capfd
) -> None:
    folder = pairs(tmp_path / "pairs", pack, 9)
    damage(folder / "blur/03.png")
    damage(folder / "sharp/05.png")
    config = configure(data={"pack": None, "dataset": str(folder)}, optimiser={"batches": 12})
    assert train(config, tmp_path / "run", device="cpu").finished
    said = capfd.readouterr().err
    for name in ("blur/03.png", "sharp/05.png"):
        assert said.count(name) == 1
    assert said.count("left out") == 2


def test_a_damaged_level_is_named_and_its_exposure_left_out(
    configure: Configure, pack: Path, tmp_path: Path, capfd
) -> None:
    folder = tmp_path / "data/train/clip"
    for side in ("blur", "sharp", "TL3", "TL5", "TL7"):
        pairs(folder, pack, 4, (side,))
    damage(folder / "TL5/02.png")
    config = configure(
        data={"pack": None, "dataset": str(tmp_path / "data")},
        optimiser={"batches": 12},
        approach={"levels": [7]},
    )
    assert train(config, tmp_path / "run", device="cpu").finished
    assert capfd.readouterr().err.count("TL5/02.png") == 1


def test_a_damaged_frame_parts_a_clip(pack: Path, tmp_path: Path) -> None:
    from mtdeblur.data.feeding.pack import Pack

    (tmp_path / "pack/train").mkdir(parents=True)
    pairs(tmp_path / "pack/train/clips", pack, 30, ("one",))
    damage(tmp_path / "pack/train/clips/one/14.png")
    told: list[str] = []
    data = DataConfig(pack=tmp_path / "pack").exposures()
    stream = LadderStream(
        Pack(tmp_path / "pack"), data, levels=(7,), patch=16, batch=2, pool=1, report=told.append
    )
    assert stream.clip_first.tolist() == [0, 15]
    assert stream.clip_starts.tolist() == [2, 3]  # 14 and 15 frames
    assert len(told) == 1
    assert "14.png" in told[0]


def test_pictures_that_are_all_damaged_are_refused_before_the_first_batch(
    configure: Configure, pack: Path, tmp_path: Path
) -> None:
    folder = pairs(tmp_path / "pairs", pack, 2)
    for file in folder.rglob("*.png"):
        damage(file)
    with pytest.raises(UserError, match="none of the 4 pictures"):
        train(configure(data={"pack": None, "dataset": str(folder)}), tmp_path / "run", device="cpu")


# -- work that would be lost


@pytest.mark.parametrize("error", [UserError("gone"), RuntimeError("broken"), MemoryError()])
def test_an_error_leaves_a_checkpoint_to_resume_from(
    configure: Configure, tmp_path: Path, assert_same_run, checkpoint, monkeypatch: pytest.MonkeyPatch, error
) -> None:
    config = configure(optimiser={"batches": 6}, validation={"every": 6})
    train(config, tmp_path / "whole", device="cpu")
    plain = LadderStream.batch

    def fail(self: LadderStream, number: int):
        if number == 4:
            raise error
        return plain(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(LadderStream, "batch", fail)
        with pytest.raises(type(error)):
            train(config, tmp_path / "parts", device="cpu")
    assert checkpoint(tmp_path / "parts")["run"]["batches_done"] == 4
    assert train(config, tmp_path / "parts", resume=True, device="cpu").finished
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_weights_that_are_no_numbers_end_the_run_and_keep_the_last_good_ones(
    configure: Configure, tmp_path: Path, checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = IncrementalTemporalTraining.training_step

    def diverge(self: IncrementalTemporalTraining, batch, batch_idx: int):
        if batch.number == 3:
            with torch.no_grad():
                next(iter(self.network.parameters())).fill_(torch.nan)
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(IncrementalTemporalTraining, "training_step", diverge)
    with pytest.raises(UserError, match=r"not finite after batch 4.*learning rate"):
        train(configure(optimiser={"ema": None}), tmp_path / "run", device="cpu")
    kept = checkpoint(tmp_path / "run")
    assert kept["run"]["batches_done"] == 2
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_two_processes_do_not_train_in_one_folder(configure: Configure, tmp_path: Path) -> None:
    train(configure(), tmp_path / "run", device="cpu", max_minutes=1e-9)
    with (
        lock_folder(tmp_path / "run"),
        pytest.raises(UserError, match=r"another process is working in .*run"),
    ):
        train(configure(), tmp_path / "run", resume=True, device="cpu")
    assert train(configure(), tmp_path / "run", resume=True, device="cpu").finished


# -- what is asked for is what happens


def test_networks_that_lose_by_bfloat16_are_trained_in_float32(
    configure: Configure, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    plain = IncrementalTemporalTraining.training_step

    def watch(self: IncrementalTemporalTraining, batch, batch_idx: int):
        seen.append(torch.is_autocast_enabled("cpu"))
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(IncrementalTemporalTraining, "training_step", watch)
    optimiser = {"precision": "bfloat16", "batches": 1}
    careful = {"name": "dmphn", "options": {"width": 4}}
    train(configure(optimiser=optimiser, network=careful), tmp_path / "careful", device="cpu")
    assert "dmphn loses precision in bfloat16" in capfd.readouterr().err
    train(configure(optimiser=optimiser), tmp_path / "plain", device="cpu")
    assert seen == [False, True]


@pytest.mark.parametrize(
    "changes",
    [
        {"approach": {"name": "stacked", "extra": None, "levels": None}},
        {"network": {"name": "pss_nsc", "options": {"width": 4}}, "approach": {"name": "multi_scale"}},
        {},
    ],
)
def test_blocks_to_compile_are_those_of_every_member(settings, changes) -> None:
    given = {**settings, **changes}
    given["approach"] = {k: v for k, v in given.get("approach", {}).items() if v is not None and k != "extra"}
    network = build_network(parse_config(given))
    blocks = repeated_blocks(network)
    assert blocks
    for member in members(network):
        if isinstance(member, nn.Module):  # or one scale of a network that shares its weights
            assert set(member.modules()) & set(blocks)


def test_repeated_blocks_are_outermost_and_all_there() -> None:
    network = create_network("mtrnn")
    blocks = repeated_blocks(network)
    assert len(blocks) == 18
    assert {type(block).__name__ for block in blocks} == {"ResidualBlock"}


@pytest.mark.parametrize("batches", [3, 4, 7, 12])
@pytest.mark.parametrize("networks", [2, 3, 5])
def test_every_stacked_network_has_its_share_of_the_batches(settings, batches: int, networks: int) -> None:
    if batches < networks:
        return
    config = parse_config(
        {
            **settings,
            "approach": {"name": "stacked", "iterations": networks},
            "optimiser": {"batches": batches},
        }
    )
    module = IncrementalTemporalTraining(build_network(config), config, [])
    turns = [module.schedule(batch)[0] for batch in range(batches)]
    counts = [turns.count(network) for network in range(networks)]
    assert turns == sorted(turns)
    assert max(counts) - min(counts) <= 1
    rates = [module.schedule(batch)[1] for batch in range(batches)]
    assert all(rates[turns.index(network)] == max(rates) for network in range(networks))


@pytest.mark.parametrize("approach", [{"name": "stacked"}, {"name": "one_stage", "one_stage_first": 0.5}])
def test_runs_whose_batches_are_divided_are_not_lengthened(settings, approach) -> None:
    short, long = (
        parse_config({**settings, "approach": approach, "optimiser": {"batches": batches}})
        for batches in (6, 12)
    )
    assert first_difference(short, long) == "optimiser.batches"


def test_weights_advise_the_steps_that_were_measured(configure: Configure, tmp_path: Path) -> None:
    config = configure(approach={"name": "one_stage", "extra": [1, 3]}, validation={"iterations": 6})
    train(config, tmp_path / "run", device="cpu")
    gains = json.loads((tmp_path / "run" / "history.json").read_text())[-1]["gains"]["simulated"]
    steps = read_header(tmp_path / "run" / "last.safetensors").steps
    assert steps is not None
    assert len(steps) == gains.index(max(gains)) + 1


def test_weights_that_nobody_measured_advise_the_steps_they_were_trained_for(
    configure: Configure, pack: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "pack"
    (bare / "train").mkdir(parents=True)
    (bare / "train" / "photos").symlink_to(pack / "train" / "photos")
    config = configure(
        data={"pack": str(bare)},
        approach={"name": "one_stage", "extra": [1, 3]},
        validation={"iterations": 6},
    )
    steps = read_header(train(config, tmp_path / "run", device="cpu").weights).steps
    assert steps is not None
    assert len(steps) == 1


def test_a_recipe_counts_in_python_too() -> None:
    data = DataConfig(pack=Path("x"))
    config = TrainingConfig(recipe="modern", data=data, optimiser=OptimiserConfig(batches=5))
    assert config == parse_config({"recipe": "modern", "data": {"pack": "x"}, "optimiser": {"batches": 5}})
    assert config.optimiser.name == "adamw"
    assert TrainingConfig(data=data).optimiser == OptimiserConfig()


@pytest.mark.parametrize("kind", ["weights.pkl", "folder"])
def test_other_programs_weights_are_a_start(configure: Configure, tmp_path: Path, capfd, kind: str) -> None:
    """Told by what they hold, as everywhere."""
    network = create_network("mtnaf", width=8, blocks=[1, 1, 1, 1, 1])
    file = tmp_path / kind
    if kind == "folder":
        file.mkdir()
    else:
        torch.save(network.state_dict(), file)
    config = configure(network={"weights": str(file)})
    with pytest.raises(UserError, match=f"{kind}") as caught:
        train(config, tmp_path / "run", rebuild=True, resume=True, device="cpu")
    assert "header" not in str(caught.value)
    assert "No such device" not in str(caught.value)


def test_a_changed_default_makes_other_runs(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a release whose cameras move half as far by default."""
    before = fingerprint(parse_config(settings))
    sooner = parse_config({**settings, "data": {**settings["data"], "gamma": 0.25}})
    monkeypatch.setitem(FIRST_VALUES["settings"]["data"], "gamma", 0.5)
    assert fingerprint(sooner) != before
    monkeypatch.setitem(DataConfig.model_fields, "gamma", DataConfig.model_fields["gamma"])
    monkeypatch.setattr(DataConfig.model_fields["gamma"], "default", 0.25)
    DataConfig.model_rebuild(force=True)
    try:
        assert fingerprint(sooner) != before
    finally:
        monkeypatch.undo()
        DataConfig.model_rebuild(force=True)


def test_every_setting_has_a_first_value(settings) -> None:
    """A new one gets the value that means what was before it."""

    def keys(values: dict, prefix: str = "") -> set[str]:
        inner = (
            keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
            for key, value in values.items()
        )
        return set().union(*inner)

    config = parse_config({"data": {"pack": "x"}})
    ours = keys(config.model_dump(mode="json"))
    free = {"optimiser.batches", "validation.every", "checkpoint_minutes", "data.cache", "data.pack"}
    free |= {"data.photos", "data.dataset", "network.weights", "network.backbone"}
    assert ours - free == keys(FIRST_VALUES["settings"])
