"""The running server: from its start to Ctrl-C."""

import contextlib
import ipaddress
import socket
import webbrowser
from collections.abc import Callable, Collection
from functools import partial
from types import FrameType
from typing import cast

import uvicorn

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import reason
from mtdeblur.inference.deblurrer import Deblurrer
from mtdeblur.inference.recipe import Recipe
from mtdeblur.serve.app import create_app
from mtdeblur.serve.folders import own_folder
from mtdeblur.serve.limits import Limits
from mtdeblur.serve.queue import Load, Queue
from mtdeblur.serve.work import Deblurs

_GRACE = 2  # seconds for replies in progress when the server ends
_CONNECTIONS = 200
_BACKLOG = 128


def serve(
    host: str,
    port: int,
    *,
    names: Collection[str] = (),
    limits: Limits | None = None,
    base: Recipe | None = None,
    load: Load | None = None,
    say: Callable[[str], None] = print,
    browse: bool = False,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        host: address or name to listen on.
        port: to listen on; 0 for a free one.
        names: further names of this server, which requests may use.
        limits: of the server.
        base: options for deblurrers that clients do not choose.
        load: of deblurrers; by default from the recipe.
        say: receives lines for the user: the address of the page first.
        browse: open the page in the browser.

    Raises:
        UserError: if it cannot listen there.
        KeyboardInterrupt: one of its subclasses, if a handler of SIGTERM raises it.
    """
    limits, base = limits or Limits(), base or Recipe()
    hosts = {host.lower(), *(name.lower() for name in names)}
    with contextlib.closing(_listen(host, port)) as listener, own_folder() as folder:
        loopback = ipaddress.ip_address(listener.getsockname()[0]).is_loopback
        queue = Queue(folder, limits, base, load or partial(_load, say=say))
        try:
            address = _address(host, listener)
            say(f"the page is at {address} (Ctrl-C stops the server)")
            if not loopback:
                say("other computers may reach it, without a password and without encryption")
            if browse:
                webbrowser.open(address)
            server = _Server(_config(queue, hosts, loopback), queue)
            server.run(sockets=[listener])
        except KeyboardInterrupt as interruption:
            if type(interruption) is not KeyboardInterrupt:
                raise
        finally:
            queue.close()
    say("stopped; all photographs are removed")


def _load(recipe: Recipe, say: Callable[[str], None]) -> Deblurs:
    return cast(Deblurrer, recipe.load(say))  # clients cannot ask for 0 iterations


def _config(queue: Queue, hosts: Collection[str], loopback: bool) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(queue, hosts=hosts, loopback=loopback),
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
        ws="none",
    )


class _Server(uvicorn.Server):
    """A server that closes the queue first, so that streams of progress end by themselves."""

    def __init__(self, config: uvicorn.Config, queue: Queue) -> None:
        super().__init__(config)
        self._queue = queue

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End after a signal."""
        self._queue.closing = True
        super().handle_exit(sig, frame)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UserError: if there is no such address, or the port is taken or not allowed.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is no name of a computer"
        raise UserError(
            f"cannot listen on {host}, port {port}: {why}; try another --host or --port"
        ) from error
    return listener


def _address(host: str, listener: socket.socket) -> str:
    """The address of the page."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/"
