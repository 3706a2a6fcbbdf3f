"""A server over deblurrers without a network."""

import io
import socket
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from mtdeblur.inference.recipe import Recipe
from mtdeblur.serve.app import create_app
from mtdeblur.serve.limits import Limits
from mtdeblur.serve.queue import Queue


class Brighten:
    """Three iterations, each of which adds 20 grey levels, in two halves.

    A photograph of the width `SLOW` waits before each half until `go` is set.
    """

    SLOW = 77

    def __init__(self, iterations: int = 3) -> None:
        self.iterations = iterations
        self.go = threading.Event()
        self.sizes: list[tuple[int, int]] = []

    def describe(self, sizes: Any) -> str:
        return "fake: 3 steps"

    def in_turn(self, height: int, width: int) -> bool:
        return True

    def keep_parts(self, height: int, width: int, kept: Any = ()) -> list[Any]:
        self.sizes.append((height, width))
        return []

    def progress(self, image, report, /, *, every, notify, watch=None, within=None):
        height = len(image)
        for step in range(self.iterations):
            estimate = image + np.array(20 * (step + 1), image.dtype)
            for half in (1, 2):
                while image.shape[1] == self.SLOW and not self.go.wait(0.02):
                    report((2 * step + half - 1) / 2 / self.iterations)
                report((2 * step + half) / 2 / self.iterations)
                if watch is not None:
                    watch(step, estimate, height * half // 2)
            if every or step == self.iterations - 1:
                yield estimate


class Server:
    """An application in this process, and what it stands on.

    Attributes:
        app: the application.
        client: speaks HTTP with it.
        queue: its queue.
        deblurrer: that all tasks use.
        recipes: that were asked for.
        folder: of its files.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.deblurrer = folder, Brighten()
        self.recipes: list[Recipe] = []
        self.queue = Queue(folder, limits, Recipe(device="cpu"), self._load)
        self.app = create_app(self.queue)
        self.client = TestClient(self.app, base_url="http://127.0.0.1:8765")

    def _load(self, recipe: Recipe) -> Brighten:
        self.recipes.append(recipe)
        return self.deblurrer

    def files(self) -> list[str]:
        """All files that the server keeps."""
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Generator[Start]:
    """Start a server with some limits."""
    servers: list[Server] = []

    def start(**limits: Any) -> Server:
        folder = tmp_path / f"server{len(servers)}"
        folder.mkdir()
        server = Server(folder, Limits(**limits))
        server.client.__enter__()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.client.__exit__(None, None, None)
        assert server.files() == []


@pytest.fixture
def server(start: Start) -> Server:
    return start()


@pytest.fixture(scope="session")
def photo() -> Callable[..., bytes]:
    """Makes encoded photographs."""
    return _photo


@pytest.fixture(scope="session")
def upload() -> Callable[..., dict[str, Any]]:
    """Makes the arguments of a request that sends a file."""
    return _upload


def _photo(width: int = 40, height: int = 30, kind: str = "PNG", **saved: Any) -> bytes:
    """An encoded photograph: a grey ramp from 50."""
    ramp = 50 + (np.arange(width) % 100).astype(np.uint8)
    pixels = np.repeat(np.broadcast_to(ramp, (height, width))[..., None], 3, axis=2)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, **saved)
    return file.getvalue()


def _upload(content: bytes, name: str = "photo.png") -> dict[str, Any]:
    """The arguments of a request that sends a file."""
    return {"files": {"file": (name, content)}}


@pytest.fixture
def reachable(start: Start) -> Generator[Callable[..., tuple[Server, str]]]:
    """Start a server that listens on a port; gives it and its address."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def reachable(**limits: Any) -> tuple[Server, str]:
        server = start(**limits)
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(server.app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        runner = uvicorn.Server(config)
        thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((runner, thread))
        return server, f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield reachable
    for runner, thread in running:
        runner.should_exit = True
        thread.join()
