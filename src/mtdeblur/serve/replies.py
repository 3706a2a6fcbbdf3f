"""Replies that several routes share: errors in one line, files that are fetched once, streamed progress."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, cast

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from mtdeblur.errors import UserError, one_line
from mtdeblur.media.formats import container_of
from mtdeblur.serve.limits import Refused
from mtdeblur.serve.queue import Queue
from mtdeblur.serve.tasks import Task

_MEDIA = {"jpeg": "image/jpeg", "pnm": "image/x-portable-anymap"}
_PAUSE = 0.1  # seconds between two looks at a task
_HEARTBEAT = 10.0  # seconds after which a comment keeps a silent stream alive


def add_errors(app: FastAPI) -> None:
    """Make every error a reply `{"error": "one line"}`."""

    def refused(_: Request, error: Exception) -> Response:
        status = error.status if isinstance(error, Refused) else 422
        return _error(status, str(error))

    def invalid(_: Request, error: Exception) -> Response:
        problems: list[dict[str, Any]] = list(cast(RequestValidationError, error).errors())
        lines = [f"{problem['loc'][-1]}: {problem['msg']}" for problem in problems]
        return _error(422, "; ".join(lines))

    def http(_: Request, error: Exception) -> Response:
        found = cast(AnyHTTPException, error)
        return _error(found.status_code, str(found.detail))

    def internal(_: Request, error: Exception) -> Response:
        return _error(500, f"internal error: {one_line(error)}")

    app.add_exception_handler(UserError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(AnyHTTPException, http)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, internal)


def _error(status: int, line: str) -> Response:
    headers = {"retry-after": "60"} if status == 503 else None
    return JSONResponse({"error": " ".join(line.splitlines())}, status, headers)


class ResultFile(FileResponse):
    """The result of a task, which is discarded once it is sent completely.

    Args:
        queue: the queue.
        task: that is done.
        once: discard the task also if the client does not fetch all of it.
    """

    def __init__(self, queue: Queue, task: Task, *, once: bool = False) -> None:
        target = task.job.target
        container = container_of(target)
        media = _MEDIA.get(container, f"image/{container}")
        super().__init__(target, media_type=media, filename=target.name)
        self._queue, self._task, self._once = queue, task, once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        partly = any(name == b"range" for name, _ in scope["headers"])
        complete = False
        try:
            await super().__call__(scope, receive, send)
            complete = scope["method"] == "GET" and not partly
        finally:
            if complete or self._once:
                await asyncio.to_thread(self._queue.discard, self._task)


async def snapshots(queue: Queue, task: Task) -> AsyncIterator[str]:
    """The progress of a task as server-sent events, one after each change, until it is over."""
    task.listeners += 1
    last, silent_since = "", time.monotonic()
    try:
        while not queue.closing:
            over = task.over.is_set()
            now = json.dumps(task.snapshot(queue.place(task)))
            if now != last:
                yield f"data: {now}\n\n"
                last, silent_since = now, time.monotonic()
            elif time.monotonic() - silent_since > _HEARTBEAT:
                yield ": still here\n\n"
                silent_since = time.monotonic()
            if over:
                return
            await asyncio.sleep(_PAUSE)
    finally:
        task.listeners -= 1
        task.heard = time.monotonic()


async def finished(queue: Queue, task: Task, request: Request) -> None:
    """Wait until a task is done.

    Raises:
        Refused: if it fails, or the client goes away or the server ends, which stops it.
    """
    while not task.over.is_set():
        if queue.closing or await request.is_disconnected():
            await asyncio.to_thread(queue.discard, task)
            raise Refused(503, "the server is being stopped")
        await asyncio.sleep(_PAUSE)
    if task.progress.error:
        await asyncio.to_thread(queue.discard, task)
        raise Refused(task.progress.status, task.progress.error)
