"""The application: the page, its requests, and the endpoint for programs."""

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, File, Request, Response, UploadFile
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from mtdeblur import __version__
from mtdeblur.media.formats import SUFFIXES, WRITABLE
from mtdeblur.serve.guard import Guard
from mtdeblur.serve.limits import Refused
from mtdeblur.serve.queue import Queue
from mtdeblur.serve.replies import ResultFile, add_errors, finished, snapshots
from mtdeblur.serve.tasks import Phase
from mtdeblur.serve.uploads import accept
from mtdeblur.serve.wishes import Wishes, wishes
from mtdeblur.weights.catalogue import DEFAULT, QUALITIES

PAGE = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "texts.js": "text/javascript; charset=utf-8",
    "server.js": "text/javascript; charset=utf-8",
    "viewer.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "sample.webp": "image/webp",
}
"""The files of the page, with their media types."""
_SWEEP = 1.0  # seconds between two looks at what is not wanted any more
_LINE = {"type": "object", "properties": {"error": {"type": "string"}}}
_ERROR: dict[str, Any] = {"content": {"application/json": {"schema": _LINE}}}
_ERRORS: dict[int | str, dict[str, Any]] = {
    413: {"description": "The file or the photograph is too large.", **_ERROR},
    415: {"description": "The file is not a picture of a known format, or damaged.", **_ERROR},
    422: {"description": "An option is invalid, or the photograph cannot be deblurred.", **_ERROR},
    503: {"description": "The queue is full, or the server is being stopped.", **_ERROR},
}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The deblurred photograph.", "content": {"image/*": {}}}
}
_TOO_LONG: dict[int | str, dict[str, Any]] = {504: {"description": "It took too long.", **_ERROR}}
_GONE: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such photograph.", **_ERROR}}

Photograph = Annotated[UploadFile, File(description="The photograph.")]
Options = Annotated[Wishes, Depends(wishes)]


def create_app(queue: Queue, *, hosts: Collection[str] = (), loopback: bool = True) -> ASGIApp:
    """The application over a queue, which is closed when the application ends.

    Args:
        queue: the queue.
        hosts: names of this server beside `localhost`.
        loopback: whether it listens on this machine alone.
    """

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncGenerator[None]:
        sweeping = asyncio.create_task(_sweep(queue))
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
            await asyncio.to_thread(queue.close)

    app = FastAPI(
        title="mtdeblur",
        version=__version__,
        summary="Removes motion blur from photographs.",
        lifespan=life,
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    add_errors(app)
    _add_page(app)
    _add_jobs(app, queue)
    _add_endpoint(app, queue)
    return Guard(app, hosts=hosts, upload=queue.limits.upload, loopback=loopback)


async def _sweep(queue: Queue) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        await asyncio.to_thread(queue.sweep)


def _add_page(app: FastAPI) -> None:
    folder = files("mtdeblur.serve") / "page"
    contents = {name: (folder / name).read_bytes() for name in PAGE}

    def send(name: str) -> Response:
        if name not in contents:
            raise Refused(404, f"there is no {name}")
        return Response(contents[name], media_type=PAGE[name])

    app.add_api_route("/", lambda: send("page.html"), include_in_schema=False)
    app.add_api_route("/page/{name}", send, include_in_schema=False)


def _add_jobs(app: FastAPI, queue: Queue) -> None:
    """The requests of the page, with which programs can show progress, too."""

    @app.get("/api/limits")
    def limits() -> dict[str, Any]:
        """What the server accepts, and what it offers."""
        return {
            "upload": queue.limits.upload,
            "pixels": queue.limits.pixels,
            "qualities": list(QUALITIES),
            "quality": DEFAULT,
            "reads": sorted(SUFFIXES),
            "writes": sorted(WRITABLE),
            "version": __version__,
        }

    @app.post("/api/jobs", status_code=201, responses=_ERRORS)
    def create(file: Photograph, given: Options) -> dict[str, Any]:
        """Send a photograph to the queue, and get its progress.

        It is discarded unless the events are listened to.
        """
        task = accept(queue, file.file, file.filename or "", given, watched=True)
        return task.snapshot(queue.place(task))

    @app.get("/api/jobs/{key}", responses=_GONE)
    def look(key: str) -> dict[str, Any]:
        """How far a photograph is."""
        task = queue.find(key)
        return task.snapshot(queue.place(task))

    @app.get("/api/jobs/{key}/events", responses=_GONE, response_class=StreamingResponse)
    async def listen(key: str) -> StreamingResponse:
        """How far a photograph is, as server-sent events."""
        return StreamingResponse(snapshots(queue, queue.find(key)), media_type="text/event-stream")

    @app.get("/api/jobs/{key}/views/{name}", responses=_GONE, response_class=Response)
    def view(key: str, name: str) -> Response:
        """A view for browsers: `before`, `step1`, `step2` and so on, or `frame`, the iteration in work."""
        task = queue.find(key)
        if name == "frame" and task.frame:
            kind = "jpeg" if task.frame.startswith(b"\xff\xd8") else "webp"
            return Response(task.frame, media_type=f"image/{kind}")
        path = task.view(name) if name.isalnum() else None
        if path is None:
            raise Refused(404, f"there is no view {name!r} yet")
        return FileResponse(path)

    @app.get("/api/jobs/{key}/result", responses=_PICTURE | _GONE, response_class=Response)
    def result(key: str) -> Response:
        """The deblurred photograph, once: it is then discarded."""
        task = queue.find(key)
        if task.progress.phase != Phase.done:
            raise Refused(404, "the photograph is not finished")
        return ResultFile(queue, task)

    @app.delete("/api/jobs/{key}", status_code=204, responses=_GONE)
    def discard(key: str) -> None:
        """Stop the work on a photograph and discard it."""
        queue.discard(queue.find(key))

    del limits, create, look, listen, view, result, discard


def _add_endpoint(app: FastAPI, queue: Queue) -> None:
    """The endpoint for programs."""

    @app.post("/api/deblur", responses=_PICTURE | _ERRORS | _TOO_LONG, response_class=Response)
    async def deblur(request: Request, file: Photograph, given: Options) -> Response:
        """Deblur a photograph: the reply is the file that `mtdeblur deblur` would write.

        It waits in the queue like everybody else's. If the client goes away, the work stops.
        """
        name = file.filename or ""
        task = await run_in_threadpool(accept, queue, file.file, name, given, watched=False)
        await finished(queue, task, request)
        return ResultFile(queue, task, once=True)

    del deblur
