"""What stands before every request: who may ask, how much may be sent, and which headers a reply has.

A server on this machine can be reached by every web page that its user opens. Such a page may send requests
under its own name (cross-site request forgery), or let its name point to this machine (DNS rebinding). So a
request must name this server as its host, and must not come from another site's page.
"""

import asyncio
import ipaddress
from collections.abc import Collection

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""Headers of every reply."""
FORM = 65_536
"""Bytes of an upload beside the file itself."""
PATIENCE = 60.0
"""Seconds to wait for more of an upload."""
_DRAINED = 4  # an upload that is too large is read up to so many limits, so that the client reads the reply


class Guard:
    """Checks requests before an application sees them.

    Args:
        app: the application.
        hosts: names of this server, beside `localhost` and numeric addresses.
        upload: largest file in an upload, in bytes.
        loopback: whether the server listens on this machine alone: then only its numeric addresses count.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], upload: int, loopback: bool) -> None:
        self._app, self._hosts, self._upload, self._loopback = app, hosts, upload, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(headers, str(scope["path"]), str(scope["scheme"]))
        if refusal:
            await JSONResponse({"error": refusal}, 403)(scope, receive, with_headers)
            return
        await self._app(scope, _Limited(receive, headers, self._upload), with_headers)

    def _refusal(self, headers: Headers, path: str, scheme: str) -> str:
        """Why a request is refused; empty if it is not."""
        host = headers.get("host", "")
        if not self._is_own(_name_of(host)):
            return f"this server is not called {_name_of(host)!r}; its option --allow-host allows a name"
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        foreign = origin is not None and origin != f"{scheme}://{host}"
        if path.startswith("/api/"):
            foreign = foreign or site not in ("none", "same-origin")
        return "requests from other web pages are refused" if foreign else ""

    def _is_own(self, name: str) -> bool:
        if name == "localhost" or name in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._loopback


class _Limited:
    """Receives the body of a request up to a limit of size and of patience."""

    def __init__(self, receive: Receive, headers: Headers, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self._left = limit + FORM
        self._complete = False
        self._told = int(told) if (told := headers.get("content-length", "")).isdigit() else 0

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        if self._told > _DRAINED * self._limit + FORM:
            self._refuse()
        message = await self._next()
        if self._left < 0:
            for _ in iter(lambda: self._complete or self._left < -_DRAINED * self._limit, True):
                await self._next()
            self._refuse()
        return message

    async def _next(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), PATIENCE)
        except TimeoutError:
            raise HTTPException(408, f"nothing more of the upload came for {PATIENCE:.0f} s") from None
        self._left -= len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        return message

    def _refuse(self) -> None:
        raise HTTPException(413, f"the file is too large: at most {megabytes(self._limit)} are accepted here")


def megabytes(size: int) -> str:
    """A size in bytes as people write it."""
    return f"{size / 1e6:.0f} MB" if size >= 10_000_000 else f"{size / 1e6:.3g} MB"


def _name_of(host: str) -> str:
    """The name in a Host header, without port and the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
