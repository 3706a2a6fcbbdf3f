"""Export of a model: trace, write, run in its own runtime, compare, and only then keep."""

import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import nn

import mtdeblur
from mtdeblur.errors import UserError
from mtdeblur.export.comparison import compare_steps, compare_unrolled
from mtdeblur.export.graphs import Graph, Size, trace
from mtdeblur.export.planning import described_members, graph_of, multiple_of_all, plan, steps_to_compare
from mtdeblur.export.source import copy_licences, describe
from mtdeblur.export.targets import TARGETS
from mtdeblur.files.atomic import atomic_folder, check_writable, reason
from mtdeblur.networks.contract import Contract, Several
from mtdeblur.networks.graph import UnrolledGraph
from mtdeblur.networks.registry import network_options
from mtdeblur.networks.unroll import Step
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.exported.manifest import NAME, Manifest, Target, is_export, sha256
from mtdeblur.weights.exported.network import ExportedModel, open_graph
from mtdeblur.weights.store import load_model

Report = Callable[[str], None]
"""Receives a line on what is done next."""


def export(
    weights: str | Path,
    folder: Path,
    target: str,
    *,
    iterations: int | None = None,
    unrolled: bool = False,
    size: Size | None = None,
    report: Report = lambda line: None,
) -> Manifest:
    """Export weights to a folder.

    Args:
        weights: a name of the catalogue, or a path as for `load_network`.
        folder: to create.
        target: a key of `TARGETS`.
        iterations: number of steps; None for the number that the weights advise.
        unrolled: also write one graph of all steps.
        size: export for pictures of this height and width alone, rounded up to the network's multiple.
        report: receives progress.

    Returns:
        The manifest, with the measured differences.

    Raises:
        UserError: if an argument is invalid, a package is missing, the folder exists, or the export differs
            from PyTorch; then nothing is left behind.
    """
    if target not in TARGETS:
        raise UserError(f"unknown target {target!r}; choose one of {', '.join(get_args(Target))}")
    path = find_weights(weights)
    if is_export(path):
        raise UserError(f"{path} is an export already; give the weights that it was made from")
    if folder.exists():
        raise UserError(f"cannot write {folder}: it exists; give a new folder")
    check_writable(folder)
    packages = TARGETS[target].versions()
    model, steps = load_model(path, iterations)
    multiple = multiple_of_all(model, steps)
    if size is not None:
        if any(step.scale > 1 for step in steps):
            raise UserError("this network runs at several scales and cannot be exported for one size")
        size = cast("Size", tuple(-(-side // multiple) * multiple for side in size))
    compared = steps_to_compare(model, steps)
    planned = plan(model, compared)
    network, options = _described(model)
    suffix = TARGETS[target].suffix
    manifest = Manifest(
        program=mtdeblur.__version__,
        target=cast("Target", target),
        packages=packages,
        network=network,
        options=options,
        source=describe(weights, path, cast("Contract", model.contract).original),
        steps=steps,
        members=tuple(described_members(model, planned, steps, size, suffix)),
        unrolled=f"unrolled{suffix}" if unrolled else None,
    )
    facts = manifest.model_dump(mode="json", exclude={"measured", "files"})
    with _temporary(folder) as part:

        def write(name: str, graph: Graph, divisor: int) -> None:
            report(f"writing {name}{suffix}")
            program = trace(graph, None if size else divisor)
            TARGETS[target].write(program, graph, part / f"{name}{suffix}", facts)

        for (number, _), file in planned.items():
            graph = graph_of(model, number, file, size)
            write(file.name, graph, manifest.members[number].facts().multiple)
        if unrolled:
            write("unrolled", _unrolled_graph(model, steps, size or (2 * multiple, 3 * multiple)), multiple)
        copy_licences(path, part, manifest)
        report("comparing with PyTorch")
        manifest = _save(part, manifest)
        exported = ExportedModel(part)
        exported.open(compared)
        measured = compare_steps(model, exported, compared)
        if manifest.unrolled:
            run = open_graph(part / manifest.unrolled, target)
            measured += compare_unrolled(model, run, manifest.unrolled, steps, multiple, size)
        return _save(part, manifest.model_copy(update={"measured": tuple(measured)}))


@contextmanager
def _temporary(folder: Path) -> Generator[Path]:
    """A temporary folder that becomes `folder`, or is deleted if the block fails."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as part:
            try:
                part.mkdir()
                yield part
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
    except OSError as error:
        raise UserError(f"cannot write {folder}: {reason(error)}") from error


def _save(part: Path, manifest: Manifest) -> Manifest:
    """Write the manifest with the files' hashes, and return it."""
    names = sorted(file.name for file in part.iterdir() if file.name != NAME)
    manifest = manifest.model_copy(update={"files": {name: sha256([part / name]) for name in names}})
    (part / NAME).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return manifest


def _described(model: nn.Module) -> tuple[str, tuple[dict[str, Any], ...]]:
    """Name of the registered network, and its options, or those of each of several."""
    networks = list(model.networks) if isinstance(model, Several) else [model]
    described = [network_options(network) for network in networks]
    return described[0][0], tuple(options for _, options in described)


def _unrolled_graph(model: nn.Module, steps: Sequence[Step], size: Size) -> Graph:
    outputs = [f"estimate{number}" for number in range(1, len(steps) + 1)]
    return Graph(UnrolledGraph(model, steps), {"blurred": torch.rand(1, 3, *size)}, outputs, (1,))
