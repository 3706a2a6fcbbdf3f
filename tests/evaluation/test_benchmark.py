"""The benchmark of networks, engines, precisions and sizes."""

import json
from contextlib import contextmanager

import numpy as np
import pytest

from mtdeblur.cli import app
from mtdeblur.data.disk.pairs import Pair
from mtdeblur.errors import UserError
from mtdeblur.evaluation import benchmark
from mtdeblur.evaluation.benchmark_report import as_json, as_markdown, conditions
from mtdeblur.evaluation.benchmark_worker import Answer, Case, load_model, prepare, steps_of
from mtdeblur.networks.contract import Contract
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import Step
from mtdeblur.weights.store import save_network

SIZES = [(72, 128), (144, 256)]


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_network(path, create_network("mtnaf", width=4, blocks=(1, 1, 1, 1, 1)))
    return str(path)


def test_each_network_and_size_has_its_plain_path_first():
    contracts = [Contract(8, 8, ()), Contract(8, 8, (), precisions=("float32",))]
    cases = benchmark.list_cases(["a", "b"], contracts, SIZES, engines=["pytorch"])
    listed = [(case.network, case.engine, case.precision, case.height) for case in cases]
    for height, _ in SIZES:
        assert [row[:3] for row in listed if row[3] == height] == [
            ("a", "plain", "float32"),
            ("a", "pytorch", "float32"),
            ("a", "pytorch", "bfloat16"),
            ("b", "plain", "float32"),
            ("b", "pytorch", "float32"),
        ]


@pytest.mark.parametrize("wrong", [{"engines": ["abacus"]}, {"precisions": ["float3"]}])
def test_what_is_not_offered_is_refused(wrong):
    with pytest.raises(UserError):
        benchmark.list_cases(["a"], [Contract(8, 8, ())], SIZES, **wrong)


def test_steps_are_the_models_own_and_then_the_last_again():
    assert steps_of(create_network("mtnaf", width=2), 2) == (Step(),) * 2
    staged = create_network("maxim", width=4, tokens=(4, 4, 2, 2))
    assert [step.network for step in steps_of(staged, 1)] == [0]
    assert [step.network for step in steps_of(staged, 4)] == [0, 1, 2, 2]


def test_figures_are_medians_and_ratios_of_turns(monkeypatch, tmp_path):
    seconds = {"plain": [99.0, 4.0, 5.0, 9.0], "pytorch": [99.0, 1.0, 0.5, 0.1]}  # the first is the warm-up
    decibels = {"plain": 30.0, "pytorch": 29.5}
    order = []

    @contextmanager
    def process(case, threads):
        times = iter(seconds[case.engine])

        def ask(question):
            if question == "memory":
                return 100.0
            if isinstance(question, Pair):
                return decibels[case.engine]
            order.append(case.engine)
            return Answer(taken := next(times), 2 * taken, 0.1 * taken)

        yield ask

    monkeypatch.setattr(benchmark, "_process", process)
    cases = benchmark.list_cases(
        ["a"], [Contract(8, 8, ())], SIZES[:1], engines=["pytorch"], precisions=["float32"]
    )
    pairs = [Pair("p", tmp_path, tmp_path)]
    plain, fast = figures = benchmark.measure_cases(cases, lambda case: 10**9, pairs, repeats=3)
    assert order == ["plain", "pytorch"] * 4
    assert (plain.seconds, plain.times_plain, plain.psnr_change) == (5.0, 1.0, 0.0)
    assert (fast.seconds, fast.times_plain, fast.times_reference) == (0.5, 10.0, 10.0)
    assert (fast.seconds_of_cores, fast.gflops, fast.psnr_change) == (1.0, 4.0, -0.5)

    given = conditions(2, {"float32": 123.4}, 3, 1, "none")
    table = [line for line in as_markdown(given, figures).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert "| a | pytorch | float32 | 128x72 | 0.500 |" in table[3]
    assert "float32 123" in as_markdown(given, figures)
    read = json.loads(as_json(given, figures))
    assert read["figures"][1]["case"]["engine"] == "pytorch"
    assert read["conditions"]["threads"] == 2


def test_all_ways_give_the_same_picture(weights):
    picture = np.random.default_rng(1).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    plain, fast = (
        prepare(Case(weights, engine, "float32", 37, 50, 2))(picture) for engine in ("plain", "pytorch")
    )
    assert np.abs(plain.astype(int) - fast).max() <= 1


def test_random_weights_are_always_the_same():
    one, other = (load_model("mtnaf").state_dict() for _ in range(2))
    assert all(bool((one[key] == other[key]).all()) for key in one)


@pytest.mark.slow
def test_the_command_writes_both_reports(weights, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        "sys.argv",
        [
            *("mtdeblur", "benchmark", "--network", weights, "--size", "64x48"),
            *("--engine", "pytorch", "--repeats", "1", "--threads", "1", "-o", str(tmp_path / "out")),
        ],
    )
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert not stop.value.code
    assert (tmp_path / "out/benchmark.md").read_text() == capsys.readouterr().out
    figures = json.loads((tmp_path / "out/benchmark.json").read_text())["figures"]
    assert [one["case"]["precision"] for one in figures] == ["float32", "float32", "bfloat16"]
    for one in figures:
        assert one["times_plain"] == pytest.approx(figures[0]["seconds"] / one["seconds"])
        assert one["peak_mib"] > 50
        assert abs(one["psnr_change"]) < 0.05
