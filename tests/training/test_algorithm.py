"""Incremental temporal training against a loop written out in plain PyTorch."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtdeblur.data.feeding.pack import Pack
from mtdeblur.data.feeding.stream import LadderBatch, LadderStream
from mtdeblur.networks.contract import Several, members
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import unroll
from mtdeblur.training.algorithm import IncrementalTemporalTraining, detach, learning_rate
from mtdeblur.training.batches import open_stream
from mtdeblur.training.config import OptimiserConfig, TrainingConfig
from mtdeblur.training.config_file import parse_config
from mtdeblur.training.network import build_network
from mtdeblur.training.run import train


def stream(config: TrainingConfig, pack: Path) -> LadderStream:
    return open_stream(config, Pack(pack))


def test_two_batches_equal_a_plain_loop(
    configure: Callable[..., TrainingConfig], pack: Path, tmp_path: Path, checkpoint
) -> None:
    config = configure(optimiser={"batches": 2, "ema": None, "clip": 0.1, "learning_rate": 1e-3})
    train(config, tmp_path / "run", device="cpu")

    network = build_network(config)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, fused=True)
    batches = stream(config, pack)
    for number in range(2):
        batch = batches.batch(number)
        goals = {7: [5, 3, 1, 1], 9: [7, 5, 3, 1, 1]}[batch.level]
        estimate, state = network(batch.blurred, batch.blurred, None)
        for iteration, goal in enumerate(goals):
            loss = (estimate - batch.ladder[goal]).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
            optimiser.step()
            if iteration + 1 < len(goals):
                f1, f2 = (part.detach() for part in state)
                estimate, state = network(batch.blurred, estimate.detach(), type(state)(f1, f2))
    trained = checkpoint(tmp_path / "run")["state_dict"]
    for name, value in network.state_dict().items():
        assert torch.equal(trained[f"network.{name}"], value), name


def test_an_optimiser_step_an_iteration(
    configure: Callable[..., TrainingConfig], pack: Path, tmp_path: Path, checkpoint
) -> None:
    config = configure(optimiser={"batches": 3})
    train(config, tmp_path / "run", device="cpu")
    batches = stream(config, pack)
    expected = sum({7: 4, 9: 5}[batches.batch(number).level] for number in range(3))
    steps = [
        int(state["step"]) for state in checkpoint(tmp_path / "run")["optimizer_states"][0]["state"].values()
    ]
    assert set(steps) == {expected}


class Recorder(nn.Module):
    """Passes every call on, and keeps what the network was given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.given: list[Tensor] = []

    @property
    def contract(self) -> Any:
        return self.network.contract

    def forward(self, blurred: Tensor, estimate: Tensor, state: Any = None) -> Any:
        self.given += [estimate, *(state or ())]
        return self.network(blurred, estimate, state)


class ByHand(IncrementalTemporalTraining):
    """The algorithm without a trainer around it."""

    def by_hand(self, batch: LadderBatch) -> Tensor:
        optimiser = self.configure_optimizers()
        self.optimizers = lambda use_pl_optimizer=True: optimiser  # type: ignore[method-assign]
        self.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
        self.log = lambda *_, **__: None  # type: ignore[method-assign]
        return self.training_step(batch, 0)["losses"]


def made_up_batch(level: int, size: int = 16) -> LadderBatch:
    random = torch.Generator().manual_seed(level)
    ladder = {n: torch.rand(2, 3, size, size, generator=random) for n in range(1, level + 1, 2)}
    return LadderBatch(0, level, ladder[level], ladder)


def test_what_an_iteration_is_given_carries_no_graph(configure: Callable[..., TrainingConfig]) -> None:
    config = configure(approach={"levels": [9], "extra": [2, 2]})
    recorder = Recorder(build_network(config))
    losses = ByHand(recorder, config, []).by_hand(made_up_batch(9))
    assert len(losses) == 6
    assert len(recorder.given) == 6 + 2 * 5  # an estimate each, and two maps from the second iteration on
    assert not any(tensor.requires_grad for tensor in recorder.given)


def test_every_iteration_on_a_pair_aims_at_the_sharp_image(configure: Callable[..., TrainingConfig]) -> None:
    config = configure(approach={"levels": [9], "extra": [2, 2]}, optimiser={"learning_rate": 1e-12})
    network = build_network(config)
    batch = made_up_batch(9)
    pairs = batch._replace(ladder={1: batch.ladder[1]})
    losses = ByHand(network, config, []).by_hand(pairs)
    estimates = [estimate.detach() for estimate in unroll(network, batch.blurred, 6)]
    expected = torch.stack([(estimate - batch.ladder[1]).abs().mean() for estimate in estimates])
    torch.testing.assert_close(losses, expected)


def test_detaching_keeps_values_and_a_missing_state() -> None:
    network = create_network("mtrnn", width=4)
    blurred = torch.rand(1, 3, 8, 8)
    estimate, state = network(blurred, blurred)
    cut, maps = detach(estimate, state)
    assert torch.equal(cut, estimate)
    assert not cut.requires_grad
    assert [part.requires_grad for part in maps] == [False, False]
    assert detach(estimate, None)[1] is None


class LiveBytes:
    """Counts the bytes that autograd keeps for backward passes, and their peak."""

    def __init__(self) -> None:
        self.live = self.peak = 0

    def pack(self, tensor: Tensor) -> "Saved":
        return Saved(self, tensor)


class Saved:
    def __init__(self, counter: LiveBytes, tensor: Tensor) -> None:
        self.counter, self.tensor = counter, tensor
        self.size = tensor.nelement() * tensor.element_size()
        counter.live += self.size
        counter.peak = max(counter.peak, counter.live)

    def __del__(self) -> None:
        self.counter.live -= self.size


def peak_bytes(work: Callable[[], Any]) -> int:
    counter = LiveBytes()
    with torch.autograd.graph.saved_tensors_hooks(counter.pack, lambda saved: saved.tensor):
        work()
    return counter.peak


def test_memory_does_not_grow_with_the_iterations(configure: Callable[..., TrainingConfig]) -> None:
    def incrementally(iterations: int) -> None:
        config = configure(approach={"levels": [13], "extra": [1, 3], "iterations": iterations})
        ByHand(build_network(config), config, []).by_hand(made_up_batch(13, 32))

    def through_all(iterations: int) -> None:
        network, batch = build_network(configure()), made_up_batch(13, 32)
        estimate, state, loss = batch.blurred, None, torch.zeros(())
        for _ in range(iterations):
            estimate, state = network(batch.blurred, estimate, state)
            loss = loss + (estimate - batch.ladder[1]).abs().mean()
        loss.backward()

    first, second, seventh = (peak_bytes(lambda n=n: incrementally(n)) for n in (1, 2, 7))
    assert second == seventh
    assert seventh <= 1.01 * first  # the maps of the iteration before count, nothing else
    assert peak_bytes(lambda: through_all(7)) > 6 * peak_bytes(lambda: through_all(1))


def test_the_paper_s_learning_rate_is_halved_every_46000_batches() -> None:
    settings = OptimiserConfig()
    rates = {0: 2e-4, 45_999: 2e-4, 46_000: 1e-4, 91_999: 1e-4, 92_000: 5e-5, 459_999: 2e-4 / 2**9}
    for batch, rate in rates.items():
        assert learning_rate(settings, batch, settings.batches) == rate


def test_a_new_optimiser_warms_up_for_as_long_as_it_remembers(
    configure: Callable[..., TrainingConfig],
) -> None:
    """From where the run went on, over 1 / (1 - beta2) batches, times the rate that the batch would have."""
    config = configure(recipe="modern", optimiser={"batches": 500, "warmup": 0, "learning_rate": 1e-3})
    training = ByHand(build_network(config), config, [])
    rates: dict[int, float] = {}
    optimiser = training.configure_optimizers()
    training.configure_optimizers = lambda: optimiser  # type: ignore[method-assign]
    for warm_restart_at in (None, 200):
        training.warm_restart_at = warm_restart_at
        for number in (200, 249, 299, 400):
            training.by_hand(made_up_batch(3)._replace(number=number))
            rate = optimiser.param_groups[0]["lr"]
            if warm_restart_at is None:
                rates[number] = rate
            else:
                assert rate == pytest.approx(rates[number] * min(1, (number - 199) / 100))


def test_the_modern_learning_rate_rises_and_falls_along_a_cosine() -> None:
    optimiser = parse_config({"recipe": "modern", "data": {"pack": "x"}, "optimiser": {"batches": 1200}})
    rates = [learning_rate(optimiser.optimiser, batch, 1200) for batch in range(1201)]
    for batch in (0, 1, 99, 199):
        assert rates[batch] == pytest.approx(1e-3 * (batch + 1) / 200)
    assert max(rates) == rates[199] == rates[200] == 1e-3
    for batch in (300, 450, 700, 1100):
        turn = math.pi * (batch - 200) / 1000
        assert rates[batch] == pytest.approx(1e-6 + (1e-3 - 1e-6) * math.cos(turn / 2) ** 2)
    assert rates[700] == pytest.approx((1e-3 + 1e-6) / 2)
    assert rates[1200] == pytest.approx(1e-6)
    assert rates[199:] == sorted(rates[199:], reverse=True)


def test_the_loss_falls_on_pictures_seen_again_and_again(configure: Callable[..., TrainingConfig]) -> None:
    config = configure(approach={"levels": [7]}, optimiser={"learning_rate": 3e-3})
    training = ByHand(build_network(config), config, [])
    optimiser = training.configure_optimizers()
    training.configure_optimizers = lambda: optimiser  # type: ignore[method-assign]
    batch = made_up_batch(7)
    losses = [float(training.by_hand(batch)[-1]) for _ in range(60)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_configured_loss_is_what_is_minimised(
    configure: Callable[..., TrainingConfig], pack: Path, tmp_path: Path, checkpoint
) -> None:
    plain = {"batches": 1, "ema": None, "clip": None, "learning_rate": 1e-3}
    config = configure(optimiser={**plain, "loss": "log_l1"}, approach={"levels": [3], "extra": [0, 0]})
    train(config, tmp_path / "run", device="cpu")

    network = build_network(config)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, fused=True)
    batch = stream(config, pack).batch(0)
    estimate, _ = network(batch.blurred, batch.blurred, None)
    ((estimate - batch.ladder[1]).abs().mean(dim=(1, 2, 3)) + 4 / 255).log().mean().backward()
    optimiser.step()
    trained = checkpoint(tmp_path / "run")["state_dict"]
    for name, value in network.state_dict().items():
        assert torch.equal(trained[f"network.{name}"], value), name


def goals_and_inputs(
    configure: Callable[..., TrainingConfig], network: dict[str, Any], approach: dict[str, Any]
) -> tuple[list[Any], list[Tensor], list[bool]]:
    """Train a batch from TL9: iterations, tensors given to each network, these, which networks learned."""
    config = configure(network=network, approach={"levels": [9], "extra": [1, 3]} | approach)
    model = build_network(config)
    recorders = [Recorder(part) for part in (model.networks if isinstance(model, Several) else [model])]
    whole = Several(recorders) if len(recorders) > 1 else recorders[0]
    before = [[parameter.clone() for parameter in part.parameters()] for part in recorders]
    losses = ByHand(whole, config, []).by_hand(made_up_batch(9, 32))
    trained = [
        any(not torch.equal(old, new) for old, new in zip(values, part.parameters(), strict=True))
        for values, part in zip(before, recorders, strict=True)
    ]
    assert torch.isfinite(losses).all()
    given = [tensor for recorder in recorders for tensor in recorder.given]
    return [len(losses), *(len(recorder.given) for recorder in recorders)], given, trained


SMALL = {"width": 4}
ROWS = {  # of Tables 1 and 2, Section 6: options, approach, (iterations, tensors given to each network)
    "a, k: MT": (SMALL, {}, None),
    "b, g: OS": (SMALL | {"recurrent": False}, {"name": "one_stage", "extra": [1, 3]}, [1, 1]),
    "c: TS 4": (SMALL, {"step": 4, "iterations": 4}, [4, 1 + 3 * 3]),
    "d, j: no RFM": (SMALL | {"recurrent": False}, {"iterations": 6}, [6, 6]),
    "e: ResL to the estimate": (SMALL | {"residual": "estimate"}, {"iterations": 6}, [6, 1 + 5 * 3]),
    "f: no ResL": (SMALL | {"residual": "none"}, {"iterations": 6}, [6, 1 + 5 * 3]),
    "kernel 5": (SMALL | {"kernel": 5}, {"iterations": 6}, [6, 1 + 5 * 3]),
    "h: SV": (SMALL, {"name": "stacked", "extra": [1, 3]}, [1, 1, 0, 0]),
    "i, m: MS": (SMALL | {"recurrent": False}, {"name": "multi_scale", "extra": [1, 3]}, [3, 3]),
    "l: MS + MT": (
        SMALL | {"images": 4},
        {"name": "multi_scale_temporal", "iterations": 6},
        [18, 1 + 17 * 4],
    ),
    "no weight sharing": (SMALL, {"iterations": 6, "sharing": False}, [6, 1, 3, 3, 3, 3, 3]),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_step_of_every_row_of_tables_1_and_2(row: str, configure: Callable[..., TrainingConfig]) -> None:
    options, approach, expected = ROWS[row]
    counts, given, trained = goals_and_inputs(configure, {"name": "mtrnn", "options": options}, approach)
    if expected is not None:
        assert counts == expected
    assert not any(tensor.requires_grad for tensor in given)  # estimates and state are handed on detached
    assert trained == ([True, False, False] if row == "h: SV" else [True] * len(trained))


@pytest.mark.parametrize(
    ("options", "approach", "parameters"),
    [
        ({}, {}, 2_635_523),
        ({"recurrent": False}, {"name": "one_stage"}, 2_594_371),
        ({"recurrent": False}, {}, 2_594_371),
        ({"recurrent": False}, {"name": "multi_scale"}, 2_594_371),
        ({"images": 4}, {"name": "multi_scale_temporal"}, 2_637_251),
        ({"residual": "estimate"}, {}, 2_635_523),
        ({"residual": "none"}, {}, 2_635_523),
        ({}, {"name": "stacked"}, 7_890_057),
    ],
)
def test_parameters_of_table_2(options: dict[str, Any], approach: dict[str, Any], parameters: int) -> None:
    network = {"name": "mtrnn", "options": options}
    if approach.get("name") == "stacked":
        network["later"] = {"recurrent": "f2"}
    model = build_network(parse_config({"network": network, "approach": approach, "data": {"pack": "x"}}))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_stacked_networks_are_trained_in_turn_on_what_the_one_before_gives(
    configure: Callable[..., TrainingConfig],
) -> None:
    options = {"name": "mtrnn", "options": {"width": 4}}
    plain = {"batches": 6, "ema": None, "schedule": "halve", "halve_every": 1}
    config = configure(network=options, approach={"name": "stacked", "extra": [1, 3]}, optimiser=plain)
    training = ByHand(build_network(config), config, [])
    batch, states = made_up_batch(9), []
    rates: list[float] = []
    training.log = lambda name, value, **_: rates.append(value)  # type: ignore[method-assign]
    for number in range(6):
        before = [[p.clone() for p in part.parameters()] for part in training.network.networks]
        first, rate = training.schedule(number)
        rates.append(rate)
        losses = training.by_hand(batch._replace(number=number))
        assert losses.isnan().tolist() == [True] * first + [False]
        after = [list(part.parameters()) for part in training.network.networks]
        changed = [
            any(not torch.equal(a, b) for a, b in zip(*pair, strict=True))
            for pair in zip(before, after, strict=True)
        ]
        assert first == number // 2
        assert changed == [part == first for part in range(3)]
        states.append(losses)
    assert rates == [1e-3, 5e-4] * 3  # each network has a schedule of its own


def test_through_two_iterations_a_gradient_flows(configure: Callable[..., TrainingConfig]) -> None:
    approach = {"levels": [9], "extra": [1, 3], "iterations": 4, "through": 2}
    config = configure(network={"name": "mtrnn", "options": {"width": 4}}, approach=approach)
    recorder = Recorder(build_network(config))
    losses = ByHand(recorder, config, []).by_hand(made_up_batch(9))
    assert len(losses) == 4
    with_graph = [tensor.requires_grad for tensor in recorder.given]
    assert with_graph == [False, True, True, True, False, False, False, True, True, True]


def test_only_the_last_iteration_has_a_loss(configure: Callable[..., TrainingConfig]) -> None:
    """One step of the optimiser, of the gradient of the last loss through all iterations."""
    approach = {"levels": [9], "extra": [1, 3], "iterations": 5, "through": 5, "trained": "last"}
    config = configure(
        network={"name": "mtrnn", "options": {"width": 4}},
        approach=approach,
        optimiser={"ema": None, "clip": None},
    )
    network, batch = build_network(config), made_up_batch(9)
    estimate, state = batch.blurred, None
    for _ in range(5):
        estimate, state = network(batch.blurred, estimate, state)
    (estimate - batch.ladder[1]).abs().mean().backward()
    training = ByHand(build_network(config), config, [])
    losses = training.by_hand(batch)
    assert len(losses) == 5
    for ours, plain in zip(training.network.parameters(), network.parameters(), strict=True):
        assert ours.grad is not None
        assert plain.grad is not None
        torch.testing.assert_close(ours.grad, plain.grad)


def test_stages_of_one_network_learn_together_from_the_sum_of_their_losses(
    configure: Callable[..., TrainingConfig],
) -> None:
    """One step of the optimiser; what a stage hands on is trained through the next."""
    config = configure(
        network={"name": "maxim", "options": {"width": 4, "tokens": [4, 4, 2, 2]}},
        approach={"name": "stacked", "extra": [1, 3]},
        optimiser={"ema": None, "clip": None},
    )
    network, batch = build_network(config), made_up_batch(9, 32)
    estimate, state, losses = batch.blurred, None, []
    for member in members(network):
        estimate, state = member(batch.blurred, estimate, state)
        losses.append((estimate - batch.ladder[1]).abs().mean())
    torch.stack(losses).sum().backward()
    training = ByHand(build_network(config), config, [])
    torch.testing.assert_close(training.by_hand(batch), torch.stack(losses).detach())
    for ours, plain in zip(training.network.parameters(), network.parameters(), strict=True):
        assert ours.grad is not None
        assert plain.grad is not None
        torch.testing.assert_close(ours.grad, plain.grad)


def test_one_iteration_is_drawn_and_the_others_run_without_a_gradient(
    configure: Callable[..., TrainingConfig],
) -> None:
    approach = {"levels": [9], "extra": [1, 3], "iterations": 4, "trained": "drawn"}
    config = configure(network={"name": "mtrnn", "options": {"width": 4}}, approach=approach)
    drawn: set[int] = set()
    for number in range(24):
        recorder = Recorder(build_network(config))
        losses = ByHand(recorder, config, []).by_hand(made_up_batch(9)._replace(number=number))
        trained = len(losses) - 1
        assert losses.isnan().tolist() == [True] * trained + [False]
        assert not any(tensor.requires_grad for tensor in recorder.given)
        assert len(recorder.given) == 1 + 3 * trained  # the first call has no state
        drawn.add(trained)
    assert drawn == {0, 1, 2, 3}


def test_a_one_stage_start_turns_multi_temporal(configure: Callable[..., TrainingConfig]) -> None:
    config = configure(
        network={"name": "mtrnn", "options": {"width": 4}},
        approach={"levels": [9], "extra": [1, 1], "one_stage_first": 0.5},
        optimiser={"batches": 4},
    )
    training = ByHand(build_network(config), config, [])
    batch = made_up_batch(9)
    lengths = [len(training.by_hand(batch._replace(number=number))) for number in range(4)]
    assert lengths == [1, 1, 5, 5]


def test_a_goal_at_a_lower_scale_is_the_image_resized(configure: Callable[..., TrainingConfig]) -> None:
    """The loss of an untrained network that gives I0 back is the distance of the two images at that scale."""
    network = {"name": "mtrnn", "options": {"width": 4, "recurrent": False}}
    rate = {"learning_rate": 1e-12, "zero_last": True}
    config = configure(network=network, approach={"name": "multi_scale", "extra": [1, 3]}, optimiser=rate)
    batch = made_up_batch(9, 32)
    losses = ByHand(build_network(config), config, []).by_hand(batch)
    for loss, size in zip(losses, (8, 16, 32), strict=True):
        blurred, sharp = (
            nn.functional.interpolate(image, (size, size), mode="bilinear", align_corners=False)
            for image in (batch.blurred, batch.ladder[1])
        )
        assert float(loss) == pytest.approx(float((blurred - sharp).abs().mean()), rel=1e-4)


def test_goals_of_a_network_that_resizes_by_corners_are_resized_so(
    configure: Callable[..., TrainingConfig],
) -> None:
    """A network whose last layer is zero gives black: the loss is the mean of the goal."""
    options = {"width": 2, "corners": True}
    config = configure(
        network={"name": "scale_recurrent", "options": options},
        approach={"name": "multi_scale", "extra": [1, 3]},
        optimiser={"learning_rate": 1e-12},
    )
    network = create_network("scale_recurrent", **options)
    for parameter in network.tail.parameters():
        nn.init.zeros_(parameter)
    batch = made_up_batch(9, 32)
    losses = ByHand(network, config, []).by_hand(batch)
    for loss, scale in zip(losses, (4, 2, 1), strict=True):
        sharp = batch.ladder[1][..., ::scale, ::scale]
        assert float(loss) == pytest.approx(float(sharp.mean()), rel=1e-4)
