"""Every network of the registry is trained: in its own approach, and converted to multi-temporal."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mtdeblur.errors import UserError
from mtdeblur.inference.deblurrer import load
from mtdeblur.networks.cost import Surveyed
from mtdeblur.networks.registry import NETWORKS, conversion, create_network
from mtdeblur.networks.unroll import Step, default_steps
from mtdeblur.training.algorithm import IncrementalTemporalTraining
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.config_file import parse_config
from mtdeblur.training.network import build_network
from mtdeblur.training.run import train
from mtdeblur.weights.store import read_header

MAXIM = NETWORKS["maxim"].small


def own_approach(name):
    network = create_network(name, **NETWORKS[name].small)
    return Surveyed(name, False, network, default_steps(network)).approach.replace("-", "_")


OWN = {name: (name, own_approach(name), {}) for name in NETWORKS}
CONVERTED = {
    f"{name}, converted": (name, "multi_temporal", options)
    for name in NETWORKS
    if (options := conversion(name)) is not None
}
SWITCHES = {
    "maxim, one stage": ("maxim", "one_stage", {"stages": 1}),
    "scale_recurrent, LSTM": ("scale_recurrent", "multi_scale", {"grey": True, "recurrent": True}),
}
CASES = OWN | CONVERTED | SWITCHES


def test_networks_are_trained_in_the_approach_of_their_authors():
    approaches = {name: approach for name, approach, _ in OWN.values()}
    assert approaches["nafnet"] == "one_stage"
    assert approaches["deepdeblur"] == "multi_scale"
    assert approaches["maxim"] == "stacked"
    assert approaches["mtrnn"] == "multi_temporal"


@pytest.mark.parametrize("case", CASES)
def test_a_few_batches_train_every_weight_and_what_is_kept_deblurs(
    configure: Callable[..., TrainingConfig], tmp_path: Path, checkpoint, case: str
):
    name, approach, options = CASES[case]
    extra = {"extra": [1, 1]} if approach == "multi_temporal" else {"extra": [1, 3]}
    config = configure(
        network={"name": name, "options": NETWORKS[name].small | options},
        approach={"name": approach, "levels": [7], **extra},
        data={"patch": 32},
        optimiser={"batches": 3, "ema": None},  # what starts at zero has no gradient at first
        validation={"every": 3, "iterations": 1 if approach == "one_stage" else 2},
        seed=6,  # which leaves none of MAXIM's few ReLUs without a gradient
    )
    outcome = train(config, tmp_path / "run", device="cpu")
    trained = checkpoint(tmp_path / "run")["state_dict"]
    for parameter_name, fresh in build_network(config).named_parameters():
        if fresh.requires_grad:
            assert not torch.equal(trained[f"network.{parameter_name}"], fresh), parameter_name
    deblurrer = load(outcome.weights, device="cpu")
    scales = [step.scale for step in deblurrer.steps]
    assert scales == ([4, 2, 1] if approach == "multi_scale" else [1] * len(scales))
    picture = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    assert deblurrer(picture).shape == picture.shape


@pytest.mark.parametrize("name", ["pss_nsc", "deepdeblur"])
def test_weights_for_each_scale_need_the_multi_scale_approach(configure, name):
    config = configure(network={"name": name, "options": {}}, approach={"extra": [1, 1]})
    with pytest.raises(UserError, match=r"convert it with network\.options \{scales: 1\}"):
        build_network(config)


@pytest.mark.parametrize(
    ("approach", "message"),
    [
        ({"name": "multi_temporal", "extra": [1, 1]}, "3 stages.*stacked and approach.iterations 3"),
        ({"name": "stacked", "iterations": 2}, "3 stages"),
        ({"name": "multi_scale"}, r"one stage with network\.options \{stages: 1\}"),
    ],
)
def test_a_network_of_stages_needs_the_stacked_approach(configure, approach, message):
    config = configure(network={"name": "maxim", "options": MAXIM}, approach={"extra": [1, 3]} | approach)
    with pytest.raises(UserError, match=message):
        build_network(config)


def test_stages_that_learn_together_have_no_adversarial_loss(configure):
    config = configure(
        network={"name": "maxim", "options": MAXIM},
        approach={"name": "stacked", "extra": [1, 3]},
        optimiser={"adversarial": {}},
    )
    with pytest.raises(UserError, match=r"stages of maxim .*\{stages: 1\}"):
        build_network(config)


def test_stages_learn_from_the_sum_of_their_losses(configure):
    """What a stage hands on is trained by the next one's loss; each has a loss of its own."""
    config = configure(
        network={"name": "maxim", "options": MAXIM},
        approach={"name": "stacked", "extra": [1, 3]},
        data={"patch": 32},
    )
    module = IncrementalTemporalTraining(build_network(config), config, [])
    learned: list[torch.Tensor] = []
    module.optimizers = lambda: SimpleNamespace(param_groups=[{}])
    module.log = lambda *args: None
    module._optimise = lambda optimiser, loss: learned.append(loss)
    blurred, sharp = torch.rand(2, 2, 3, 32, 32).unbind()
    batch = SimpleNamespace(number=0, level=7, has_pairs=False, blurred=blurred, ladder={1: sharp})
    losses = module.training_step(batch, 0)["losses"]
    (total,) = learned
    assert len(losses) == 3
    torch.testing.assert_close(total.detach(), losses.sum())
    total.backward()
    stages = module.network.stages
    assert all(part.grad is not None for stage in stages for part in stage.output.parameters())


def test_stages_are_trained_together_and_their_steps_come_with_the_weights(configure, tmp_path):
    config = configure(
        network={"name": "maxim", "options": MAXIM},
        approach={"name": "stacked", "extra": [1, 3]},
        data={"patch": 32},
        optimiser={"batches": 1, "ema": None},
        validation={"every": 1, "iterations": 3},
    )
    outcome = train(config, tmp_path / "run", device="cpu")
    steps = read_header(outcome.weights).steps  # as many as were best
    assert steps == tuple(Step(1, number) for number in range(len(steps)))
    assert load(outcome.weights, iterations=3, device="cpu").iterations == 3


def test_a_multi_scale_run_hands_its_steps_on_with_the_weights(configure, tmp_path):
    config = configure(
        network={"name": "pss_nsc", "options": {"width": 4}},
        approach={"name": "multi_scale", "extra": [1, 3]},
        optimiser={"batches": 1, "ema": None},
        validation={"every": 1},
    )
    train(config, tmp_path / "run", device="cpu")
    for name in ("best", "last"):
        steps = read_header(tmp_path / "run" / f"{name}.safetensors").steps
        assert steps == (Step(4, 0), Step(2, 1), Step(1, 2))


def test_the_backbone_starts_at_the_weights_of_a_named_file(configure, tmp_path, capfd):
    options = {"width": 8, "converted": True}
    features = build_network(configure(network={"name": "deblurgan_v2", "options": {"width": 8}}))
    state = features.network.features.state_dict()
    torch.save({f"features.{key}": value + 1 for key, value in state.items()}, tmp_path / "imagenet.pth")
    network = {"name": "deblurgan_v2", "options": options, "backbone": tmp_path / "imagenet.pth"}
    built = build_network(configure(network=network)).network.features[3].conv[2].weight
    assert torch.equal(built, state["3.conv.2.weight"] + 1)
    with pytest.raises(UserError, match=r"network\.backbone: mtnaf has no backbone"):
        build_network(configure(network={"backbone": tmp_path / "imagenet.pth"}))
    with pytest.raises(UserError, match="either weights or backbone"):
        parse_config({"network": network | {"weights": Path("a")}, "data": {"pack": "p"}})


def test_without_named_files_it_says_so_and_trains_adversarially_all_the_same(
    configure, tmp_path, checkpoint, capfd, monkeypatch
):
    monkeypatch.setattr("mtdeblur.training.adversarial.WIDTH", 8)  # as wide as published takes half a minute

    def run(batches):
        return configure(
            network={"name": "deblurgan_v2", "options": {"width": 8}},
            approach={"name": "one_stage", "extra": [1, 3]},
            data={"patch": 32},
            optimiser={"batches": batches, "adversarial": {"weight": 0.01}},
            validation={"every": 2, "iterations": 1},
        )

    train(run(2), tmp_path / "halves", device="cpu")
    said = " ".join(capfd.readouterr().err.split())
    assert "network.backbone" in said
    assert "optimiser.adversarial.vgg19" in said
    train(run(4), tmp_path / "halves", device="cpu", resume=True)
    train(run(4), tmp_path / "whole", device="cpu")
    states = [checkpoint(tmp_path / name)["current_model_state"] for name in ("halves", "whole")]
    assert any(key.startswith("adversarial.discriminators") for key in states[1])
    for key, value in states[1].items():
        torch.testing.assert_close(states[0][key], value, rtol=0, atol=0, equal_nan=True, msg=key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": {"adversarial": {}, "loss": "log_l1"}}, "loss does not work with adversarial"),
        (
            {"optimiser": {"adversarial": {}}, "approach": {"through": 2}},
            "optimiser.adversarial needs approach.through",
        ),
        ({"optimiser": {"adversarial": {"weight": 0}}}, "optimiser.adversarial.weight"),
    ],
)
def test_what_does_not_go_with_adversarial_training_is_refused(configure, changes, message):
    with pytest.raises(UserError, match=message):
        configure(**changes)


def test_discriminators_learn_on_one_device(configure, tmp_path):
    config = configure(optimiser={"adversarial": {}})
    with pytest.raises(UserError, match=r"optimiser\.adversarial.*--devices 1"):
        train(config, tmp_path / "run", device="cpu", devices=2)
