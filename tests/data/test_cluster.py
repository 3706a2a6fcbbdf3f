"""Builds on a real Ray cluster: two nodes of one processor each, on this machine."""

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtdeblur.data import build as building
from mtdeblur.data.augment import augment
from mtdeblur.data.manifest import check_dataset
from mtdeblur.data.recipes import Recipe
from mtdeblur.data.runner import Stages, run_tasks
from mtdeblur.errors import UserError

pytest.importorskip("pyarrow")
ROOT = Path(__file__).parents[2]
SMALL = Recipe((3, 5), (3, 5), stride=2)


class Witness:
    """An interpolator that makes nothing, and notes in a folder on which node of the cluster it was asked."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __call__(self, before, after):
        ray = sys.modules.get("ray")
        if ray and ray.is_initialized():
            (self._folder / ray.get_runtime_context().get_node_id()).touch()
        return []


class Interrupted(Stages):
    """Ctrl-C after some exposures."""

    def __init__(self, after):
        self._left, self._stage = after, ""

    def began(self, what, total, done):
        self._stage = what

    def advanced(self):
        self._left -= self._stage == "exposures"
        if not self._left:
            raise KeyboardInterrupt


@pytest.fixture
def cluster(monkeypatch):
    """The address of a running cluster is in RAY_ADDRESS."""
    from ray.cluster_utils import Cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'src'}")  # the nodes import this file
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
    finally:
        nodes.shutdown()


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_two_nodes_build_the_same_bytes_as_one_machine(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # so that relative paths are tried
    for clip in range(4):
        folder = tmp_path / f"frames/walk{clip}"
        folder.mkdir(parents=True)
        rng = np.random.default_rng(clip)
        for number in range(20):
            pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:06}.png")
    seen = tmp_path / "seen"
    seen.mkdir()
    build = {"recipe": SMALL, "interpolate": Witness(seen)}
    augment(["frames"], Path("local"), workers=1, **build)
    assert not list(seen.iterdir())

    with pytest.raises(KeyboardInterrupt):
        augment(["frames"], Path("cluster"), distributed=True, workers=1, progress=Interrupted(5), **build)
    assert not (tmp_path / "cluster/manifest.parquet").exists()
    rows = augment(["frames"], Path("cluster"), distributed=True, **build)
    assert len(rows) == 4 * 8 * 3
    assert content(tmp_path / "cluster") == content(tmp_path / "local")
    assert [problem for problem in check_dataset(tmp_path / "cluster")[1] if problem] == []
    nodes = {node.node_id for node in cluster.list_all_nodes()}
    assert {path.name for path in seen.iterdir()} == nodes
    assert len(nodes) == 2

    with pytest.raises(ValueError, match="math domain error") as raised:
        list(run_tasks(math.sqrt, [[1.0, -1.0]], distributed=True))
    assert raised.type is ValueError  # not one of Ray's


@pytest.mark.slow
def test_without_a_cluster_it_is_said_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where Ray looks for a cluster of this machine
    with pytest.raises(UserError, match=r"^found no Ray cluster: start one with ray start --head"):
        list(run_tasks(math.sqrt, [[1.0]], distributed=True))


def test_a_node_that_does_not_see_the_data_set_writes_nothing(tmp_path):
    folder = tmp_path / "elsewhere"
    with pytest.raises(UserError, match=f"does not see {folder}; choose a folder that all nodes share"):
        building._work(None, function=None, folder=folder)


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--distributed needs Ray: pip install 'mtdeblur\[ray\]'$"):
        list(run_tasks(math.sqrt, [[1.0]], distributed=True))
