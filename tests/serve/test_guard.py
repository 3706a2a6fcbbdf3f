"""Who may ask: only this server's own page, under this server's own name."""

import re

import pytest
from fastapi.testclient import TestClient

from mtdeblur.serve.app import PAGE
from mtdeblur.serve.guard import HEADERS, Guard


def names(loopback: bool, *hosts: str) -> Guard:
    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return Guard(app, hosts=hosts, upload=10, loopback=loopback)


@pytest.mark.parametrize(
    ("host", "at_home", "on_network"),
    [
        ("localhost:8765", 200, 200),
        ("127.0.0.1", 200, 200),
        ("127.0.0.1:80", 200, 200),
        ("[::1]:8765", 200, 200),
        ("192.168.1.4:8765", 403, 200),
        ("photos.example:8765", 200, 200),
        ("PHOTOS.example", 200, 200),
        ("evil.example:8765", 403, 403),
        ("localhost.evil.example", 403, 403),
        ("127.0.0.1.evil.example", 403, 403),
        ("", 403, 403),
    ],
)
def test_names(host: str, at_home: int, on_network: int) -> None:
    for loopback, status in ((True, at_home), (False, on_network)):
        client = TestClient(names(loopback, "photos.example"))
        reply = client.get("/", headers={"host": host})
        assert reply.status_code == status
        if status == 403:
            assert "not called" in reply.json()["error"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/", {"sec-fetch-site": "cross-site"}, 200),  # a link on another page
        ("/", {"origin": "http://evil.example"}, 403),
        ("/api/deblur", {}, 200),
        ("/api/deblur", {"origin": "http://127.0.0.1:8765", "sec-fetch-site": "same-origin"}, 200),
        ("/api/deblur", {"origin": "http://127.0.0.1:9999", "sec-fetch-site": "same-site"}, 403),
        ("/api/deblur", {"origin": "https://127.0.0.1:8765"}, 403),
        ("/api/deblur", {"origin": "null"}, 403),
        ("/api/deblur", {"sec-fetch-site": "cross-site"}, 403),
        ("/api/limits", {"sec-fetch-site": "none"}, 200),
    ],
)
def test_origins(path: str, headers: dict[str, str], status: int) -> None:
    client = TestClient(names(True), base_url="http://127.0.0.1:8765")
    assert client.post(path, headers=headers).status_code == status


def test_every_reply_has_the_headers(server) -> None:
    for path in ("/", "/page/page.js", "/api/limits", "/nothing", "/api/jobs/none"):
        reply = server.client.get(path)
        assert HEADERS.items() <= dict(reply.headers).items(), path
    assert HEADERS.items() <= dict(server.client.get("/", headers={"host": "x"}).headers).items()


def test_the_page_is_complete_and_loads_nothing_from_elsewhere(server) -> None:
    page = server.client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for name, media in PAGE.items():
        reply = server.client.get(f"/page/{name}")
        assert (reply.status_code, reply.headers["content-type"]) == (200, media)
        if media.startswith("text/"):
            addresses = reply.text.replace("http://www.w3.org/2000/svg", "")
            assert "//" not in re.sub(r"(^|\s)// .*", "", addresses, flags=re.MULTILINE)  # but comments
    assert server.client.get("/page/app.py").status_code == 404
    assert server.client.get("/page/..%2Fapp.py").status_code == 404
