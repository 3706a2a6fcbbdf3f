"""Builds on a real Ray cluster: two nodes of one processor each, on this machine."""

import math
import os
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtdeblur.data.disk.manifest import check_dataset
from mtdeblur.data.disk.photographs import find_photographs
from mtdeblur.data.making import build as building
from mtdeblur.data.making.camera import Simulation
from mtdeblur.data.making.from_frames import augment
from mtdeblur.data.making.from_photographs import simulate
from mtdeblur.data.making.interpolation import FrameMotion, Interpolation
from mtdeblur.data.making.plan import Recipe
from mtdeblur.errors import UserError
from mtdeblur.exposure.simulate import Motion
from mtdeblur.processes.pool import Stages, open_runner

pytest.importorskip("pyarrow")
ROOT = Path(__file__).parents[3]
SMALL = Recipe((3, 5), (3, 5), stride=2)


@dataclass(frozen=True)
class Repeat:
    """An interpolator that repeats the frame before."""

    name: str = "repeat"

    def between(self, before, after, time):
        return before

    def motion(self, before, after):
        return FrameMotion(0.0, 0.0)


@dataclass(frozen=True)
class Witness(Repeat):
    """Notes in a folder on which node of the cluster it was asked."""

    folder: Path = Path()

    def between(self, before, after, time):
        ray = sys.modules.get("ray")
        if ray and ray.is_initialized():
            (self.folder / ray.get_runtime_context().get_node_id()).touch()
        return before


class Slow(Repeat):
    """Takes its time."""

    def between(self, before, after, moment):
        time.sleep(0.05)
        return before


class Once(Stages):
    """Does something after some exposures."""

    def __init__(self, after, act):
        self._left, self._act, self._stage = after, act, ""

    def began(self, what, total, done):
        self._stage = what

    def advanced(self):
        self._left -= self._stage == "exposures"
        if not self._left:
            self._act()


def interrupt():
    """Ctrl-C."""
    raise KeyboardInterrupt


@pytest.fixture
def cluster(monkeypatch, request):
    """The address of a running cluster is in RAY_ADDRESS; a parameter has Ray's own settings of it."""
    from ray.cluster_utils import Cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'src'}")  # the nodes import this file
    settings = {"num_cpus": 1, "include_dashboard": False, "_system_config": getattr(request, "param", {})}
    nodes = Cluster(initialize_head=True, head_node_args=settings)
    try:
        nodes.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
    finally:
        nodes.shutdown()


def run_there(numbers):
    with open_runner(distributed=True) as run:
        list(run(math.sqrt, [numbers]))


def film(folder):
    """Four clips of noise."""
    for clip in range(4):
        (folder / f"walk{clip}").mkdir(parents=True)
        rng = np.random.default_rng(clip)
        for number in range(20):
            pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"walk{clip}/{number:06}.png")


@pytest.mark.slow
def test_two_nodes_build_the_same_bytes_as_one_machine(cluster, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)  # so that relative paths are tried
    film(tmp_path / "frames")
    seen = tmp_path / "seen"
    seen.mkdir()
    build = {"recipe": SMALL, "interpolation": Interpolation(Witness(folder=seen), 2)}
    augment(["frames"], Path("local"), workers=1, **build)
    assert not list(seen.iterdir())

    with pytest.raises(KeyboardInterrupt):
        augment(
            ["frames"], Path("cluster"), distributed=True, workers=1, progress=Once(5, interrupt), **build
        )
    assert not (tmp_path / "cluster/manifest.parquet").exists()
    rows = augment(["frames"], Path("cluster"), distributed=True, **build)
    assert len(rows) == 4 * 18 * 3
    assert content(tmp_path / "cluster") == content(tmp_path / "local")
    assert [problem for problem in check_dataset(tmp_path / "cluster")[1] if problem] == []
    nodes = {node.node_id for node in cluster.list_all_nodes()}
    assert {path.name for path in seen.iterdir()} == nodes
    assert len(nodes) == 2

    with pytest.raises(ValueError, match="math domain error") as raised:
        run_there([1.0, -1.0])
    assert raised.type is ValueError  # not one of Ray's


@pytest.mark.slow
def test_two_nodes_simulate_the_same_bytes_as_one_machine(cluster, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{number}.png")
    (tmp_path / "photos/broken.png").write_bytes(b"no picture")
    photographs = find_photographs([Path("photos")])
    how = Simulation(motion=Motion(length=8.0))
    for kind, inputs in (("pairs", ()), ("temporal", (7, 13))):
        local, shared = Path(kind, "local"), Path(kind, "cluster")
        simulate(photographs, local, 2, how, inputs, workers=1)
        stop = Once(3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate(photographs, shared, 2, how, inputs, distributed=True, progress=stop)
        assert list(simulate(photographs, shared, 2, how, inputs, distributed=True)) == ["broken"]
        assert content(shared) == content(local)


NOTICES_SOON = {"health_check_period_ms": 500, "health_check_timeout_ms": 2000}


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [NOTICES_SOON], indirect=True, ids=["two-nodes"])
@pytest.mark.fault("lost node of a cluster")
def test_a_node_that_is_lost_is_told_in_one_line_and_the_build_goes_on_when_repeated(
    cluster, tmp_path, content, heard
):
    film(tmp_path / "frames")
    build = {"recipe": SMALL, "interpolation": Interpolation(Slow(), 2), "distributed": True}
    augment([tmp_path / "frames"], tmp_path / "undisturbed", **build | {"distributed": False, "workers": 1})
    (node,) = cluster.worker_nodes
    lose = Once(5, lambda: cluster.remove_node(node, allow_graceful=False))
    with pytest.raises(UserError, match=r"^a worker or its node was lost\b"):
        augment([tmp_path / "frames"], tmp_path / "set", progress=lose, **build)
    journal = (tmp_path / "set/.journal").read_bytes()
    noted = journal.count(b'\n{"exposure"')
    assert 5 <= noted < 72
    cluster.wait_for_nodes(timeout=60)  # until the cluster has noticed as well
    augment([tmp_path / "frames"], tmp_path / "set", progress=heard, **build)
    assert heard.begun["exposures"] == (72, noted)  # on the node that is left
    assert content(tmp_path / "set") == content(tmp_path / "undisturbed")


@pytest.mark.slow
def test_without_a_cluster_it_is_said_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where Ray looks for a cluster of this machine,
    monkeypatch.setattr(
        "ray._private.services.find_gcs_addresses", cache(set)
    )  # and then among the processes
    with pytest.raises(UserError, match=r"^found no Ray cluster: start one with ray start --head"):
        run_there([1.0])


def test_a_node_that_does_not_see_the_data_set_writes_nothing(tmp_path):
    folder = tmp_path / "elsewhere"
    with pytest.raises(UserError, match=f"cannot access {folder}; choose a folder that all nodes share"):
        building._work(None, function=None, folder=folder)


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--distributed needs ray: pip install 'mtdeblur\[ray\]'$"):
        run_there([1.0])
