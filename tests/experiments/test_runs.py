"""Runs: told apart by their settings, resumed where they stopped, used again when finished."""

import gc
import json

import pytest

from mtdeblur.data.feeding.cache import Decoded
from mtdeblur.errors import UserError
from mtdeblur.experiments.catalogue import experiment, merge, training_config
from mtdeblur.experiments.material import prepare
from mtdeblur.experiments.runs import as_run, carry_out_all
from mtdeblur.training.checkpoints import batches_done
from mtdeblur.training.config_file import parse_config
from mtdeblur.training.run import train


@pytest.fixture
def run(tiny, photographs, tmp_path):
    material = prepare([str(photographs)], {}, tiny.test, tmp_path / "data")
    row = experiment("table1").rows[0]
    config = training_config(row, tiny, dict(material.data), 0)
    return as_run("(a)", config, material.key, tmp_path / "runs")


def test_settings_data_and_seed_tell_runs_apart(tmp_path):
    settings = {"data": {"pack": "here.zip"}, "optimiser": {"batches": 5}}

    def folder(material="key", **changes):
        return as_run("any", parse_config(merge(settings, changes)), material, tmp_path).folder

    assert folder() == folder(data={"pack": "there.zip"}) == folder(checkpoint_minutes=1.0)
    different = [
        folder(),
        folder("other"),
        folder(seed=1),
        folder(optimiser={"batches": 6}),
        folder(network={"options": {"residual": "none"}}),
        folder(approach={"step": 4}),
        folder(data={"patch": 64}),
    ]
    assert len(set(different)) == len(different)
    assert folder().name.startswith("mtrnn-multi-temporal-")


def test_a_finished_run_is_used_again(run, capfd):
    carry_out_all([run, run], device="cpu")
    assert run.finished
    assert run.account()["device"].startswith("cpu")
    assert capfd.readouterr().err.count("training (a)") == 1
    written = run.weights.stat().st_mtime_ns
    carry_out_all([run], device="cpu")
    assert run.weights.stat().st_mtime_ns == written
    assert "(a) is trained already" in capfd.readouterr().err


def test_a_finished_run_gives_back_the_memory_of_its_pictures(run):
    carry_out_all([run], device="cpu")
    assert not [kept for kept in gc.get_objects() if type(kept) is Decoded]


def test_an_interrupted_run_goes_on(run):
    train(run.config, run.folder, device="cpu", max_minutes=1e-6)
    assert batches_done(run.folder / "last.ckpt") == 1
    assert not run.finished
    carry_out_all([run], device="cpu")
    assert batches_done(run.folder / "last.ckpt") == 2
    assert run.finished


@pytest.mark.slow
def test_several_devices_share_a_run_in_a_process_of_its_own(run):
    shared = run._replace(
        config=run.config.model_copy(update={"data": run.config.data.model_copy(update={"batch": 2})})
    )
    carry_out_all([shared], device="cpu", devices=2)
    assert json.loads((run.folder / "finished.json").read_text())["devices"] == "2"
    assert batches_done(run.folder / "last.ckpt") == 2


@pytest.mark.slow
def test_what_another_process_cannot_train_is_said(run):
    with pytest.raises(UserError, match=r"\(a\)"):
        carry_out_all([run], device="abacus", devices=2)
