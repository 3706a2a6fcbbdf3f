"""Worker processes on a Ray cluster, for `mtdeblur.processes.pool`."""

import logging
import os
from collections.abc import Callable, Generator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import Any, ParamSpec, TypeVar

from mtdeblur.errors import UserError, require

P = ParamSpec("P")
T = TypeVar("T")


class RayProcess:
    """A process on the cluster; it reserves a processor from its first call on.

    Args:
        start: returns a Ray actor of `_Worker`.
    """

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start

    @cached_property
    def _actor(self) -> Any:
        return self._start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in the process; function, arguments and result are pickled."""
        result = Future[Any]()
        result.set_running_or_notify_cancel()
        called = self._actor.work.remote(partial(fn, *args, **kwargs)).future()
        called.add_done_callback(partial(_pass_on, result))
        return result

    def replace(self, *, last: bool) -> bool:
        """Start anew if no other process is left: there may be no node for another one."""
        del self._actor
        return last


def _pass_on(result: Future[Any], called: Future[Any]) -> None:
    """Pass on the result of a call; the loss of an actor or its node is a BrokenExecutor."""
    from ray.exceptions import RayActorError

    error = called.exception()
    if error is None:
        result.set_result(called.result())
    elif isinstance(error, RayActorError):
        broken = BrokenExecutor(str(error))
        broken.__cause__ = error
        result.set_exception(broken)
    else:
        result.set_exception(error)


class _Worker:
    """The actor on the cluster."""

    def __init__(self, folder: str) -> None:
        with suppress(OSError):  # not needed if all paths are absolute
            os.chdir(folder)

    def work(self, call: Callable[[], Any]) -> Any:
        return call()


@contextmanager
def ray_processes(workers: int | None) -> Generator[list[RayProcess]]:
    """Processes spread over the nodes of the Ray cluster at RAY_ADDRESS or on this machine.

    They end with the block, and with this process if it is killed. Relative paths keep their meaning on nodes
    that share the current folder.

    Args:
        workers: number of processes; by default one per processor of the cluster.

    Raises:
        UserError: if Ray is not installed, there is no cluster, or a worker is lost.
        Exception: of a submitted function whose result is requested within the block.
    """
    api = require("ray", "ray", "--distributed")
    joined = not api.is_initialized()
    try:
        if joined:
            api.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
        count = workers or max(1, int(api.cluster_resources().get("CPU", 1)))
        actor = api.remote(scheduling_strategy="SPREAD", num_cpus=1)(_Worker)
        yield [RayProcess(partial(actor.remote, os.getcwd())) for _ in range(count)]
    except ConnectionError as error:
        raise UserError(
            "found no Ray cluster: start one with ray start --head, or set RAY_ADDRESS to its HOST:PORT"
        ) from error
    except api.exceptions.RayTaskError as error:
        if not isinstance(error.cause, api.exceptions.RayError):
            raise error.cause from error
        why = str(error.cause).strip().splitlines()[-1]
        raise UserError(f"a node cannot work ({why}); install the same mtdeblur on every node") from error
    except (BrokenExecutor, api.exceptions.RayError) as error:
        raise UserError(
            "a worker or its node was lost, perhaps for lack of memory; repeat the command to resume"
        ) from error
    finally:
        if joined:
            api.shutdown()
