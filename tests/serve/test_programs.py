"""The endpoint for programs: the file that the command line writes, and errors in one line."""

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from mtdeblur.inference.batch import Job, deblur_file
from mtdeblur.inference.finish import Finish, Rectangle
from mtdeblur.inference.recipe import Recipe


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_the_reply_is_the_file_that_the_command_line_writes(server, photo, upload, tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    sent = photo(kind="JPEG", exif=exif, quality=81)
    options = {"quality": "best", "strength": 0.5, "region": "5,5,10,20"}
    reply = server.client.post("/api/deblur", data=options, **upload(sent, "my photo.jpg"))
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "image/jpeg"
    assert "my%20photo-deblurred.jpg" in reply.headers["content-disposition"]
    (tmp_path / "my photo.jpg").write_bytes(sent)
    job = Job(tmp_path / "my photo.jpg", tmp_path / "result.jpg")
    deblur_file(server.deblurrer, job, None, None, Finish(0.5, Rectangle(5, 5, 10, 20)))
    assert reply.content == job.target.read_bytes()
    assert opened(reply.content).getexif()[0x010F] == "Camera"
    assert server.recipes == [Recipe(quality="best", device="cpu")]
    assert server.deblurrer.sizes == [(30, 40)]
    assert server.files() == []


@pytest.mark.parametrize(
    ("format", "kind", "media"), [("webp", "WEBP", "webp"), ("pnm", "PPM", "x-portable-anymap")]
)
def test_another_format(server, photo, upload, format: str, kind: str, media: str) -> None:
    reply = server.client.post("/api/deblur", data={"format": format}, **upload(photo()))
    assert opened(reply.content).format == kind
    assert reply.headers["content-type"] == f"image/{media}"


def test_jpeg_quality_and_iterations(server, photo, upload) -> None:
    sizes = [
        len(
            server.client.post(
                "/api/deblur", data={"format": "jpeg", "jpeg_quality": n}, **upload(photo())
            ).content
        )
        for n in (30, 95)
    ]
    assert sizes[0] < sizes[1]
    server.client.post("/api/deblur", data={"iterations": "3"}, **upload(photo()))
    assert [recipe.iterations for recipe in server.recipes] == [None, "3"]


def test_16_bits_stay(server, photo, upload) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((9, 11), 40_000, np.uint16)).save(file, "PNG")
    reply = server.client.post("/api/deblur", **upload(file.getvalue()))
    assert np.asarray(opened(reply.content)).tolist() == [[40_060] * 11] * 9


@pytest.mark.parametrize(
    ("status", "words", "content", "options"),
    [
        (415, ["known format"], b"no picture", {}),
        (415, ["empty"], b"", {}),
        (415, ["photo.png"], 30, {}),
        (422, ["photo.png"], -40, {}),
        (413, ["MB"], bytes(300_000), {}),
        (413, ["MB"], bytes(2_000_000), {}),
        (413, ["101 x 100", "megapixels"], (101, 100), {}),
        (422, ["quality"], (), {"quality": "perfect"}),
        (422, ["strength"], (), {"strength": "1.5"}),
        (422, ["region", "X,Y,W,H"], (), {"region": "/etc/passwd"}),
        (422, ["region", "area"], (), {"region": "1,2,0,4"}),
        (422, ["outside", "40 x 30"], (), {"region": "40,0,5,5"}),
        (422, ["iterations"], (), {"iterations": "0"}),
        (422, ["21", "20"], (), {"iterations": "21"}),
        (422, ["format"], (), {"format": "gif"}),
    ],
)
def test_refusals_in_one_line(
    start, photo, upload, status: int, words: list[str], content, options: dict
) -> None:
    server = start(upload=100_000, pixels=10_000)
    if isinstance(content, int):
        content = photo()[:content]  # truncated
    elif isinstance(content, tuple):
        content = photo(*content)
    reply = server.client.post("/api/deblur", data=options, **upload(content))
    error = reply.json()["error"]
    assert reply.status_code == status, error
    assert reply.json().keys() == {"error"}
    assert "\n" not in error
    assert all(word in error for word in words), error
    assert str(server.folder) not in error
    assert server.files() == []


def test_a_form_without_a_file(server) -> None:
    reply = server.client.post("/api/deblur", data={"quality": "fast"})
    assert reply.status_code == 422
    assert "file" in reply.json()["error"]


def test_a_full_queue_and_the_limit_of_time(start, photo, upload) -> None:
    server = start(waiting=0, seconds=0.3)
    replies = []

    def send() -> None:
        replies.append(server.client.post("/api/deblur", **upload(photo(77))))

    first = threading.Thread(target=send)
    first.start()
    while not server.recipes:
        time.sleep(0.01)
    second = server.client.post("/api/deblur", **upload(photo()))
    assert second.status_code == 503
    assert int(second.headers["retry-after"]) > 0
    assert "queue is full" in second.json()["error"]
    first.join()
    assert replies[0].status_code == 504
    assert "longer than" in replies[0].json()["error"]


def test_weights_that_cannot_be_loaded_are_reported(server, photo, upload, monkeypatch) -> None:
    def fail(recipe: Recipe):
        raise RuntimeError("boom")

    monkeypatch.setattr(server.queue, "_load", fail)
    reply = server.client.post("/api/deblur", **upload(photo()))
    assert reply.status_code == 500
    assert "boom" in reply.json()["error"]


def test_the_description_for_programs(server) -> None:
    api = server.client.get("/api/openapi.json").json()
    operation = api["paths"]["/api/deblur"]["post"]
    assert {"200", "413", "415", "422", "503", "504"} <= operation["responses"].keys()
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["$ref"].rsplit("/", 1)[1]
    fields = api["components"]["schemas"][form]["properties"]
    assert fields.keys() == {"file", "quality", "iterations", "strength", "region", "format", "jpeg_quality"}
