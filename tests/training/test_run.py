"""Training runs from outside: what they leave, say and refuse, and how they go on."""

import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtdeblur.errors import UserError
from mtdeblur.networks.registry import create_network
from mtdeblur.training import run as room
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.config_file import read_config
from mtdeblur.training.run import train
from mtdeblur.weights.store import load_network, read_header

Configure = Callable[..., TrainingConfig]


def test_what_a_run_leaves(configure: Configure, tmp_path: Path, checkpoint) -> None:
    folder = tmp_path / "deep" / "run"
    config = configure(optimiser={"batches": 5})
    outcome = train(config, folder, device="cpu")
    assert outcome == (folder / "best.safetensors", True, None)
    assert read_config(folder / "config.yaml") == config
    history = json.loads((folder / "history.json").read_text())
    assert [row["batches"] for row in history] == [2, 4, 5]  # the end is validated as well
    assert all(len(row["gains"]["simulated"]) == 2 for row in history)
    best = max(history, key=lambda row: (max(row["gains"]["simulated"]), row["batches"]))
    assert read_header(outcome.weights).notes["batches"] == str(best["batches"])
    # The last weights are the average, which Lightning keeps in the place of the weights.
    average = checkpoint(folder)["state_dict"]
    current = checkpoint(folder)["current_model_state"]
    assert any(not torch.equal(average[name], current[name]) for name in average)
    for name, value in load_network(folder / "last.safetensors").state_dict().items():
        assert torch.equal(value, average[f"network.{name}"].half().float())
    assert not list(folder.rglob("*.part*"))


def test_without_anything_to_validate_on_the_last_weights_are_the_best(
    configure: Configure, pack: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "pack"
    (bare / "train").mkdir(parents=True)
    (bare / "train" / "photos").symlink_to(pack / "train" / "photos")
    outcome = train(configure(data={"pack": str(bare)}), tmp_path / "run", device="cpu")
    assert outcome.weights == tmp_path / "run" / "best.safetensors"
    assert read_header(outcome.weights).notes["batches"] == "4"


@pytest.mark.parametrize("minutes", [1e-9, 1e-9 + 0.004])
def test_a_run_that_ran_out_of_time_goes_on_as_if_it_had_not(
    configure: Configure, tmp_path: Path, assert_same_run, checkpoint, capfd, minutes: float
) -> None:
    config = configure(optimiser={"batches": 6}, validation={"every": 3})
    train(config, tmp_path / "whole", device="cpu")
    while not (
        outcome := train(config, tmp_path / "parts", resume=True, max_minutes=minutes, device="cpu")
    ).finished:
        assert outcome.interrupted is None
        assert outcome.weights.exists()
        assert "time is up" in capfd.readouterr().err
    one, other = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    regular = [row for row in other["run"]["history"] if row[0] % 3 == 0]  # the others were ends of parts
    other["run"]["history"] = regular
    torch.save(other, tmp_path / "parts" / "last.ckpt")
    assert one["run"]["batches_done"] == 6
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_without_its_checkpoint_a_run_goes_on_from_its_weights(
    configure: Configure, tmp_path: Path, assert_same_run, capfd
) -> None:
    """From the batch at which they were kept, rounded to a validation; and again as if uninterrupted."""
    train(configure(), tmp_path / "before", device="cpu")  # 4 batches, validated every 2
    capfd.readouterr()
    weights = tmp_path / "before" / "last.safetensors"
    longer = configure(optimiser={"batches": 8}, network={"weights": str(weights)})
    train(longer, tmp_path / "whole", resume=True, rebuild=True, device="cpu")
    said = capfd.readouterr().err
    assert all(fact in said for fact in (str(weights), "batch 4 of 8", "over 1000 batches"))
    history = json.loads((tmp_path / "whole" / "history.json").read_text())
    assert [row["batches"] for row in history] == [6, 8]
    again = {"resume": True, "rebuild": True, "device": "cpu"}
    while not train(longer, tmp_path / "parts", max_minutes=1e-9, **again).finished:
        pass
    assert capfd.readouterr().err.count("no checkpoint") == 1
    kept = torch.load(tmp_path / "parts" / "last.ckpt", weights_only=True)
    assert [row[0] for row in kept["run"]["history"]] == [5, 6, 7, 8]
    kept["run"]["history"] = [row for row in kept["run"]["history"] if row[0] % 2 == 0]
    torch.save(kept, tmp_path / "parts" / "last.ckpt")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_from_another_run_s_weights_a_run_begins_at_its_start(
    configure: Configure, tmp_path: Path, capfd
) -> None:
    train(configure(seed=3), tmp_path / "other", device="cpu")
    weights = tmp_path / "other" / "last.safetensors"
    config = configure(network={"weights": str(weights)}, recipe="modern")
    train(config, tmp_path / "run", rebuild=True, max_minutes=1e-9, device="cpu")
    said = capfd.readouterr().err
    assert all(fact in said for fact in (str(weights), "batch 0 of 4", "over 100 batches"))
    train(configure(), tmp_path / "fresh", rebuild=True, max_minutes=1e-9, device="cpu")
    assert "network.weights" in capfd.readouterr().err


def test_weights_of_a_finished_run_are_not_gone_on_from(configure: Configure, tmp_path: Path) -> None:
    train(configure(), tmp_path / "run", device="cpu")
    weights = tmp_path / "run" / "last.safetensors"
    with pytest.raises(UserError, match=r"has all batches of this run; raise optimiser\.batches"):
        train(configure(network={"weights": str(weights)}), tmp_path / "next", rebuild=True, device="cpu")


def test_a_data_set_on_disk_is_one_more_data_block(
    configure: Configure, pack: Path, tmp_path: Path, assert_same_run
) -> None:
    """Trained on in one go, in two, and from decoded pictures: the same run."""
    for number in range(3):
        for index, side in enumerate(("blur", "sharp", "TL3", "TL5", "TL7")):
            target = tmp_path / f"data/train/clip/{side}/{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(pack / f"train/photos/{(number + index) % 4}.png")
    data = {"pack": None, "dataset": str(tmp_path / "data")}
    train(configure(data=data), tmp_path / "whole", device="cpu")
    parts = configure(data={**data, "cache": str(tmp_path / "cache")})
    assert not train(parts, tmp_path / "parts", device="cpu", max_minutes=1e-9).finished
    assert train(parts, tmp_path / "parts", device="cpu", resume=True).finished
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert len(list((tmp_path / "cache").iterdir())) == 4  # links to four photographs


def test_a_finished_run_says_so(configure: Configure, tmp_path: Path, capfd) -> None:
    first = train(configure(), tmp_path / "run", device="cpu")
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    capfd.readouterr()
    assert train(configure(), tmp_path / "run", resume=True, device="cpu") == first
    said = capfd.readouterr()
    assert said.err.splitlines() == [f"{tmp_path / 'run'} is finished: 4 of 4 batches are done"]
    assert said.out == ""
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before


def test_a_run_can_be_lengthened(configure: Configure, tmp_path: Path, assert_same_run) -> None:
    train(configure(), tmp_path / "run", device="cpu")
    train(configure(optimiser={"batches": 8}), tmp_path / "run", resume=True, device="cpu")
    train(configure(optimiser={"batches": 8}), tmp_path / "long", device="cpu")
    assert_same_run(tmp_path / "run", tmp_path / "long")


def test_a_changed_configuration_is_not_resumed(configure: Configure, tmp_path: Path) -> None:
    train(configure(), tmp_path / "run", device="cpu")
    with pytest.raises(UserError, match=r"^approach\.levels differs from .*config\.yaml"):
        train(configure(approach={"levels": [7]}), tmp_path / "run", resume=True, device="cpu")
    assert read_config(tmp_path / "run" / "config.yaml") == configure()


def test_a_run_is_not_overwritten(configure: Configure, tmp_path: Path) -> None:
    train(configure(), tmp_path / "run", device="cpu")
    with pytest.raises(UserError, match=r"add --resume"):
        train(configure(), tmp_path / "run", device="cpu")


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "foreign", "code"])
def test_a_checkpoint_that_is_none(configure: Configure, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "run"
    train(configure(), folder, device="cpu")
    file = folder / "last.ckpt"
    if kind == "foreign":
        torch.save({"state_dict": create_network("mtrnn", width=4).state_dict()}, file)
    elif kind == "code":  # a pickle that would run something
        torch.save({"run": pytest.raises}, file)
    else:
        file.write_bytes({"empty": b"", "text": b"text" * 99, "cut": file.read_bytes()[:5000]}[kind])
    with pytest.raises(UserError, match=r"last\.ckpt is damaged, or not a checkpoint of a run; remove it"):
        train(configure(), folder, resume=True, device="cpu")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"device": "fast"}, "auto, cpu, gpu, cuda or mps, not 'fast'"),
        ({"device": "gpu"}, "--device gpu: PyTorch finds none on this machine"),
        ({"device": "cuda"}, "--device cuda: PyTorch finds none"),
        ({"device": "cpu", "devices": 4}, r"data\.batch: .* 2 .* 4 "),
    ],
)
def test_devices_that_there_are_not(
    configure: Configure, tmp_path: Path, options: dict, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=reason):
        train(configure(), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_missing_data(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.zip is no.* training pack.*mtdeblur pack"):
        train(configure(data={"pack": "nowhere.zip"}), tmp_path / "run", device="cpu")
    with pytest.raises(UserError, match="nowhere"):
        train(configure(data={"pack": None, "photos": ["nowhere"]}), tmp_path / "run", device="cpu")
    train(configure(), tmp_path / "run", device="cpu")  # and what failed stands in nobody's way


def test_photographs_become_a_pack_once(configure: Configure, pack: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = configure(data={"pack": None, "photos": [str(pack / "train" / "photos")]})
    train(config, folder, max_minutes=1e-9, device="cpu")
    made = (folder / "pack.zip").stat().st_mtime_ns
    train(config, folder, resume=True, device="cpu")
    assert (folder / "pack.zip").stat().st_mtime_ns == made


def test_what_a_run_says(configure: Configure, tmp_path: Path, capfd) -> None:
    train(configure(), tmp_path / "run", device="cpu")
    said = capfd.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    speed = r"batch 4/4, 0 min left, \d+\.\d patches/s, \d+ % waiting for data, "
    pattern = speed + r"L1 x 255 per iteration:( \d+\.\d\d){4,5}"
    gain = r"validation after batch {}: gain in PSNR on simulated per iteration:( [+-]\d+\.\d{{3}}){{2}} dB"
    assert len(lines) == 3, lines
    for line, expected in zip(lines, [gain.format(2), pattern, gain.format(4)], strict=True):
        assert re.fullmatch(expected, line), line


def test_curves_with_pictures_of_every_iteration(configure: Configure, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = configure(optimiser={"batches": 52}, validation={"every": 26})
    train(config, tmp_path / "run", device="cpu")
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "curves")).Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"learning_rate", "loss/iteration1", "loss/iteration4"} <= scalars
    assert [event.step for event in events.Scalars("gain/simulated/iteration2")] == [26, 52]
    pictures = events.Images("iterations/simulated")
    assert [picture.step for picture in pictures] == [26, 52]
    side = pictures[0].height
    assert pictures[0].width == 3 * side  # blurred, and the estimates of two iterations


def test_a_table_where_tensorboard_is_missing(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(configure(), tmp_path / "run", device="cpu")
    table = (tmp_path / "run" / "curves" / "metrics.csv").read_text().splitlines()
    assert "gain/simulated/iteration1" in table[0]
    assert len(table) >= 3


def test_signal_handlers_and_precision_are_as_before(configure: Configure, tmp_path: Path) -> None:
    def mine(number: int, frame: object) -> None:
        raise AssertionError

    before = {number: signal.signal(number, mine) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        train(configure(), tmp_path / "run", device="cpu")
        with pytest.raises(UserError):
            train(configure(data={"pack": "nowhere"}), tmp_path / "other", device="cpu")
        assert all(signal.getsignal(number) is mine for number in before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert torch.get_float32_matmul_precision() == "highest"


def test_bfloat16_trains_float32_weights(configure: Configure, tmp_path: Path, checkpoint) -> None:
    config = configure(recipe="modern", optimiser={"warmup": 0})
    assert config.optimiser.precision == "bfloat16"
    train(config, tmp_path / "run", device="cpu")
    state = checkpoint(tmp_path / "run")["current_model_state"]
    assert {value.dtype for value in state.values()} == {torch.float32}
    start = room.build_network(config).state_dict()
    assert any(not torch.equal(value, state[f"network.{name}"]) for name, value in start.items())


@pytest.mark.slow
def test_a_run_of_so_many_minutes_ends_with_its_schedule(configure: Configure, tmp_path: Path, capfd) -> None:
    """The learning rate is near its end when the time is, with however many batches."""
    config = configure(
        optimiser={"batches": 1_000_000, "schedule": "cosine", "final": 0.0}, validation={"every": 1_000_000}
    )
    outcome = train(config, tmp_path / "run", device="cpu", minutes=0.2)
    said = capfd.readouterr().err
    assert "trained for 0.2 minutes" in said
    assert "--resume" not in said
    assert outcome.weights.exists()
    kept = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    (group,) = kept["optimizer_states"][0]["param_groups"]
    assert kept["run"]["batches_done"] > 10
    assert group["lr"] < 0.5 * config.optimiser.learning_rate
