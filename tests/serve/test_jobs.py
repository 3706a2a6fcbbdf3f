"""The requests of the page: progress, views, the queue, and what becomes of the files."""

import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from mtdeblur.inference.batch import Job, deblur_file
from mtdeblur.media.pictures import read_pixels


def create(server, content: bytes, upload, **options) -> dict:
    reply = server.client.post("/api/jobs", data=options, **upload(content))
    assert reply.status_code == 201, reply.text
    return reply.json()


def events(server, job: dict) -> list[dict]:
    """All events of a job until it is over."""
    text = server.client.get(f"/api/jobs/{job['id']}/events").text
    return [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")
    ]


def look(server, job: dict) -> dict:
    return server.client.get(f"/api/jobs/{job['id']}").json()


def wait_for(condition) -> None:
    while not condition():
        time.sleep(0.01)


def view(server, job: dict, name: str) -> np.ndarray:
    reply = server.client.get(f"/api/jobs/{job['id']}/views/{name}")
    assert reply.status_code == 200, reply.text
    return np.asarray(Image.open(io.BytesIO(reply.content))).astype(int)


def test_a_photograph_is_watched_and_downloaded(server, photo, upload, tmp_path) -> None:
    sent = photo()
    job = create(server, sent, upload)
    assert (job["width"], job["height"], job["name"]) == (40, 30, "photo-deblurred.png")
    last = events(server, job)[-1]
    assert (last["phase"], last["share"], last["steps"], last["ready"]) == ("done", 1.0, 3, 3)
    (tmp_path / "photo.png").write_bytes(sent)
    before = read_pixels(tmp_path / "photo.png").astype(int)
    for name, more in (("before", 0), ("step1", 20), ("step2", 40), ("step3", 60)):
        assert np.abs(view(server, job, name) - before - more).max() <= 2
    reply = server.client.get(f"/api/jobs/{job['id']}/result")
    deblur_file(server.deblurrer, Job(tmp_path / "photo.png", tmp_path / "result.png"))
    assert reply.content == (tmp_path / "result.png").read_bytes()
    assert server.files() == []
    assert server.client.get(f"/api/jobs/{job['id']}/result").status_code == 404


def test_a_part_of_a_file_is_no_download(server, photo, upload) -> None:
    job = create(server, photo(), upload)
    events(server, job)
    address = f"/api/jobs/{job['id']}/result"
    assert server.client.get(address, headers={"range": "bytes=0-9"}).status_code == 206
    assert server.client.get(address).status_code == 200
    assert server.client.get(address).status_code == 404


def test_progress_within_an_iteration(server, photo, upload) -> None:
    job = create(server, photo(77, 20), upload)
    wait_for(lambda: look(server, job)["viewable"])
    seen: list[dict] = []
    listener = threading.Thread(target=lambda: seen.extend(events(server, job)))
    listener.start()
    wait_for(lambda: server.queue.find(job["id"]).listeners)
    server.deblurrer.go.set()
    listener.join()
    shares = [event["share"] for event in seen]
    assert shares == sorted(shares)
    assert seen[0]["phase"] == "running"
    assert seen[-1]["frame"] > 0
    frame = view(server, job, "frame")
    assert frame.shape == (20, 77, 3)
    server.client.delete(f"/api/jobs/{job['id']}")


def test_a_turned_photograph_is_shown_upright(server, photo, upload) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    job = create(server, photo(kind="JPEG", exif=exif), upload, region="0,0,30,5")
    last = events(server, job)[-1]
    assert (last["width"], last["height"]) == (30, 40)
    after, before = view(server, job, "step1"), view(server, job, "before")
    assert after.shape == (40, 30, 3)
    assert (after - before)[0, :, 0].mean() > 10
    assert np.abs((after - before)[8:]).max() <= 4
    server.client.delete(f"/api/jobs/{job['id']}")


def test_the_queue_tells_places_and_a_task_can_be_cancelled(start, photo, upload) -> None:
    server = start(waiting=2)
    first, second, third = (create(server, photo(77), upload) for _ in range(3))
    wait_for(lambda: look(server, first)["phase"] == "running")
    assert [look(server, job)["place"] for job in (first, second, third)] == [0, 1, 2]
    full = server.client.post("/api/jobs", **upload(photo()))
    assert (full.status_code, "queue is full" in full.json()["error"]) == (503, True)
    assert server.client.delete(f"/api/jobs/{second['id']}").status_code == 204
    assert look(server, third)["place"] == 1
    assert server.client.delete(f"/api/jobs/{first['id']}").status_code == 204
    wait_for(lambda: look(server, third)["phase"] == "running")
    assert server.client.get(f"/api/jobs/{first['id']}").status_code == 404
    wait_for(lambda: not (server.folder / first["id"]).exists())
    assert not (server.folder / second["id"]).exists()
    server.client.delete(f"/api/jobs/{third['id']}")


def test_failures_are_events(server, photo, upload) -> None:
    job = create(server, photo()[:-40], upload)
    last = events(server, job)[-1]
    assert (last["phase"], last["status"]) == ("failed", 422)
    assert "damaged" in last["error"]
    wait_for(lambda: server.files() == [])
    assert server.client.get(f"/api/jobs/{job['id']}/result").status_code == 404


def test_what_nobody_watches_or_fetches_is_discarded(start, photo, upload) -> None:
    server = start(away=0.0, keep=0.0)
    slow = create(server, photo(77), upload)
    wait_for(lambda: server.client.get(f"/api/jobs/{slow['id']}").status_code == 404)
    quick = create(server, photo(), upload)
    wait_for(lambda: server.client.get(f"/api/jobs/{quick['id']}").status_code == 404)
    wait_for(lambda: server.files() == [])


def test_a_watched_task_is_not_discarded(start, photo, upload) -> None:
    server = start(away=0.0)
    task = server.queue
    job = create(server, photo(77), upload)
    found = task.find(job["id"])
    found.listeners = 1
    task.sweep()
    assert task.find(job["id"]) is found
    found.listeners = 0
    task.sweep()
    assert found.cancelled.is_set()


@pytest.mark.parametrize("name", ["frame", "step1", "..%2Fphoto.png", "*", "x"])
def test_views_that_are_not_there(server, photo, upload, name) -> None:
    job = create(server, photo(77), upload)
    reply = server.client.get(f"/api/jobs/{job['id']}/views/{name}")
    assert reply.status_code == 404
    server.client.delete(f"/api/jobs/{job['id']}")


def test_the_limits_are_told(start) -> None:
    told = start(upload=123, pixels=456).client.get("/api/limits").json()
    assert (told["upload"], told["pixels"], told["quality"]) == (123, 456, "good")
    assert {".jpg", ".heic"} <= set(told["reads"])
