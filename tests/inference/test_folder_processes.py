"""Batches in several processes and on a real Ray cluster of two nodes, with a tiny network."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtdeblur.inference.batch import Job, Observer, Outcome
from mtdeblur.inference.folder import Means, deblur_batch
from mtdeblur.inference.planning import Plan, plan
from mtdeblur.inference.recipe import Recipe
from mtdeblur.inference.resuming import JOURNAL, Ledger
from mtdeblur.networks.registry import create_network
from mtdeblur.weights.store import save_network

pytestmark = pytest.mark.slow
NUMBER = 18


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    torch.manual_seed(0)
    save_network(tmp_path / "tiny.safetensors", create_network("mtnaf", width=4, blocks=(1, 1, 1, 1, 1)))
    return Recipe(weights=str(tmp_path / "tiny.safetensors"), iterations="2", device="cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(NUMBER):
        path = tmp_path / "in" / f"roll {number % 3}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (40 + number % 5, 50, 3), np.uint8)).save(path)
    return tmp_path / "in"


def planned(photos: Path, recipe: Recipe, out: Path) -> Plan:
    return plan([photos], out, ledger_of=lambda folder: Ledger(folder, recipe.given()))


def run(work: Plan, recipe: Recipe, observer: Observer | None = None, **means) -> list[Outcome]:
    deblurrer = recipe.load()
    return list(deblur_batch(work, deblurrer, observer or Observer(), Means(recipe, **means)))


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


class Once(Observer):
    """Does something after some photographs."""

    def __init__(self, after: int, act: Callable[[], None]) -> None:
        self._left, self._act = after, act

    def ended(self, outcome: Outcome) -> None:
        self._left -= 1
        if self._left == 0:
            self._act()


def check_whole(outcomes: list[Outcome], out: Path, expected: dict[str, bytes]) -> None:
    """Every photograph has come out once, and none half-written."""
    assert [outcome.reason for outcome in outcomes] == [""] * NUMBER
    assert len({outcome.job.target for outcome in outcomes}) == NUMBER
    assert content(out) == expected


def test_several_processes_make_the_same_bytes_as_one(photos: Path, recipe: Recipe, tmp_path: Path) -> None:
    run(planned(photos, recipe, tmp_path / "one"), recipe)
    expected = content(tmp_path / "one")
    assert len(expected) == NUMBER
    outcomes = run(planned(photos, recipe, tmp_path / "three"), recipe, processes=3)
    check_whole(outcomes, tmp_path / "three", expected)


@pytest.mark.fault("killed worker process")
def test_a_process_that_is_killed_costs_nothing(photos: Path, recipe: Recipe, tmp_path: Path) -> None:
    run(planned(photos, recipe, tmp_path / "one"), recipe)

    def kill() -> None:
        child = multiprocessing.active_children()[0]
        os.kill(child.pid, signal.SIGKILL)

    out = tmp_path / "killed"
    outcomes = run(planned(photos, recipe, out), recipe, Once(5, kill), processes=2)
    check_whole(outcomes, out, content(tmp_path / "one"))


@pytest.mark.fault("SIGINT or SIGTERM")
def test_an_interruption_is_no_loss(photos: Path, recipe: Recipe, tmp_path: Path) -> None:
    run(planned(photos, recipe, tmp_path / "one"), recipe)

    def interrupt() -> None:
        raise KeyboardInterrupt

    out = tmp_path / "two"
    with pytest.raises(KeyboardInterrupt):
        run(planned(photos, recipe, out), recipe, Once(7, interrupt), processes=2)
    assert (out / JOURNAL).exists()
    assert not list(out.rglob(".*.part*"))
    work = planned(photos, recipe, out)
    assert 7 <= len(work.finished) <= 9
    run(work, recipe, processes=2)
    assert content(out) == content(tmp_path / "one")


NOTICES_SOON = {"health_check_period_ms": 500, "health_check_timeout_ms": 2000}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    """Two nodes of one processor each on this machine; the address is in RAY_ADDRESS."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    settings = {"num_cpus": 1, "include_dashboard": False, "_system_config": NOTICES_SOON}
    nodes = Cluster(initialize_head=True, head_node_args=settings)
    try:
        nodes.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
    finally:
        nodes.shutdown()


class WhenBothWork(Observer):
    """Does something once both nodes have finished their first photograph.

    If one is still starting when the other has done half of the work, it is done then.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._started: list[Job] = []
        self._ended: list[Job] = []
        self._act: Callable[[], None] | None = act

    def started(self, job: Job) -> None:
        self._started.append(job)

    def ended(self, outcome: Outcome) -> None:
        self._ended.append(outcome.job)
        both = set(self._started[:2]) <= set(self._ended)
        if self._act and (both or len(self._ended) == NUMBER // 2):
            self._act()
            self._act = None


@pytest.mark.fault("lost node of a cluster")
def test_a_cluster_that_loses_a_node_makes_every_picture_once(
    cluster, photos: Path, recipe: Recipe, tmp_path: Path
) -> None:
    run(planned(photos, recipe, tmp_path / "one"), recipe)
    lost = []

    def lose() -> None:
        lost.append(len(content(tmp_path / "two")))
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)

    out = tmp_path / "two"
    outcomes = run(planned(photos, recipe, out), recipe, WhenBothWork(lose), processes=None, distributed=True)
    assert len(lost) == 1
    assert lost[0] < NUMBER
    assert len(cluster.list_all_nodes()) == 1
    check_whole(outcomes, out, content(tmp_path / "one"))
