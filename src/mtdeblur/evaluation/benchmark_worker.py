"""The process that measures one case of a benchmark."""

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtdeblur.data.disk.pairs import Pair
from mtdeblur.errors import one_line
from mtdeblur.inference.deblurrer import Deblurrer
from mtdeblur.inference.memory import peak_memory
from mtdeblur.media.pictures import read_pixels
from mtdeblur.metrics.arrays import psnr
from mtdeblur.networks.contract import ProgressiveNetwork, State, members
from mtdeblur.networks.registry import NETWORKS, create_network
from mtdeblur.networks.unroll import Step, default_steps
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.store import load_network

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """What runs: a network, in an engine and a precision, on a picture of a size.

    Attributes:
        network: name of weights or their path, or of a registered network, which gets random weights.
        engine: an installed one, or "plain".
        precision: of the computation.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        iterations: number of steps.
    """

    network: str
    engine: str
    precision: str
    height: int
    width: int
    iterations: int = 1

    def __str__(self) -> str:
        return f"{self.network}, {self.engine}, {self.precision}, {self.width}x{self.height}"


class Answer(NamedTuple):
    """Seconds for one picture: by the clock, of all cores together, and those of the operating system."""

    clock: float
    cores: float
    system: float


def load_model(name: str) -> nn.Module:
    """The network of that name, float32, in evaluation mode; random weights are always the same.

    Raises:
        UserError: if there are no such weights or they cannot be loaded.
    """
    if name not in NETWORKS or Path(name).exists():
        return load_network(find_weights(name))
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    return create_network(name).eval()


def steps_of(model: nn.Module, iterations: int) -> tuple[Step, ...]:
    """So many of the model's own steps; the last one again if it has fewer."""
    own = default_steps(model)
    return (*own[:iterations], *own[-1:] * (iterations - len(own)))


def prepare(case: Case) -> Callable[[Pixels], Pixels]:
    """A function from picture to picture, (H, W, 3) uint8, that runs a case."""
    model = load_model(case.network)
    steps = steps_of(model, case.iterations)
    if case.engine != "plain":
        return Deblurrer(model, iterations=steps, device="cpu", precision=case.precision, engine=case.engine)
    deblurrer = Deblurrer(model, iterations=steps, device="cpu", precision="float32", engine="pytorch")
    deblurrer.networks = [_Plain(network) for network in members(load_model(case.network))]
    return deblurrer


class _Plain:
    """The trained form of a network with pictures in NCHW, eager."""

    def __init__(self, network: ProgressiveNetwork) -> None:
        self.contract = network.contract
        self._network = network

    @torch.inference_mode()
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration; arguments and result are those of the network."""
        return self._network(blurred.contiguous(), estimate.contiguous(), state)


def serve(connection: Connection, case: Case, threads: int | None) -> None:
    """Answer questions until None: "time", "memory", or a pair for its PSNR; errors are answered as text.

    Args:
        connection: to the process that asks.
        case: to measure.
        threads: for the computation; None for PyTorch's choice.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        run = prepare(case)
        shape = (case.height, case.width, 3)
        picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        while (question := connection.recv()) is not None:
            connection.send(_answer(question, run, picture))
    except EOFError:
        return
    except Exception as error:  # also the engines' own
        connection.send(one_line(error))


def _answer(question: Any, run: Callable[[Pixels], Pixels], picture: Pixels) -> object:
    if isinstance(question, Pair):
        return psnr(run(read_pixels(question.blur)), read_pixels(question.sharp))
    if question == "memory":
        peak = peak_memory()
        return None if peak is None else peak / 2**20
    before, started = os.times(), time.perf_counter()
    deque([run(picture)], maxlen=0)
    clock, after = time.perf_counter() - started, os.times()
    system = after.system - before.system
    return Answer(clock, after.user - before.user + system, system)
