"""The page in a real browser: Debian's Chromium, driven by Playwright.

MTDEBLUR_SCREENSHOTS=FOLDER gets the screenshots of results that `test_looks` makes; those of the other states
are in its temporary folder.
"""

import base64
import io
import os
import re
import shutil
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtdeblur.inference.batch import Job, deblur_file
from mtdeblur.inference.finish import Finish, Rectangle

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser) -> Generator[Callable[..., Any]]:
    """Open a page, which must not report an error."""
    contexts: list[Any] = []
    faults: list[str] = []

    def visit(address: str, **options: Any) -> Any:
        context = browser.new_context(**({"viewport": {"width": 1200, "height": 800}} | options))
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
        page.on("request", lambda sent: faults.append(sent.url) if not own(sent.url, address) else None)
        page.goto(address)
        page.wait_for_selector("#accepted:not(:empty)")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert faults == []


def own(url: str, address: str) -> bool:
    return url.startswith((address, f"blob:{address}"))


def drop(page, content: bytes, name: str) -> None:
    """Drop a file on the page."""
    page.evaluate(
        """([content, name]) => {
          const bytes = Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], name));
          for (const type of ["dragenter", "dragover", "drop"]) {
            const options = { dataTransfer: data, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new DragEvent(type, options));
          }
        }""",
        [base64.b64encode(content).decode(), name],
    )


def choose(page, content: bytes, name: str = "photo.png") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": content})


def text(page, selector: str) -> str:
    return page.text_content(selector).strip()


def wait_for(page, condition: Callable[[], bool]) -> None:
    """Wait for a condition while the page goes on."""
    end = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < end
        page.wait_for_timeout(20)


def finish(page) -> None:
    page.click("#deblur")
    page.wait_for_selector("#download:not([hidden])")


def download(page, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.click("#download")
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def colour(page, x: float, y: float) -> int:
    """The red of a pixel of the stage, at shares of its width and height."""
    taken = page.locator("#stage").screenshot()
    pixels = np.asarray(Image.open(io.BytesIO(taken)).convert("RGB"))
    return int(pixels[int(y * (len(pixels) - 1)), int(x * (pixels.shape[1] - 1)), 0])


def test_from_the_drop_to_the_download(reachable, visit, photo, tmp_path) -> None:
    server, address = reachable()
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", 3
    sent = photo(120, 80, "JPEG", exif=exif, quality=83)
    page = visit(address)
    drop(page, sent, "holiday.jpg")
    page.wait_for_selector("#before img")
    assert re.search(r"120 . 80$", text(page, "#name"))
    page.check("input[value=best]")
    page.focus("#strength")
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    assert "50" in text(page, "#strengthValue")
    finish(page)
    assert [recipe.quality for recipe in server.recipes] == ["best"]
    assert server.files() == []
    result = download(page, tmp_path)
    assert result.name == "holiday-deblurred.jpg"
    (tmp_path / "holiday.jpg").write_bytes(sent)
    expected = tmp_path / "expected.jpg"
    deblur_file(server.deblurrer, Job(tmp_path / "holiday.jpg", expected), None, None, Finish(0.5))
    assert result.read_bytes() == expected.read_bytes()
    with Image.open(result) as image:
        assert image.getexif()[0x010F] == "Camera"
    again = download(page, tmp_path)  # from the page's memory
    assert again.read_bytes() == expected.read_bytes()


def test_sliders_and_zoom_by_keyboard(reachable, visit, photo) -> None:
    _, address = reachable()
    page = visit(address)
    choose(page, photo(300, 200))
    finish(page)
    page.focus("#step")
    levels = []
    page.focus("#split")
    page.keyboard.press("Home")
    assert "0 percent before" in page.get_attribute("#split", "aria-valuetext")
    page.focus("#step")
    page.keyboard.press("Home")
    for _ in range(4):
        page.wait_for_timeout(50)
        levels.append(colour(page, 0.5, 0.3))
        page.keyboard.press("ArrowRight")
    assert [round((level - levels[0]) / 20) for level in levels] == [0, 1, 2, 3]
    assert text(page, "#stepValue") == "3 of 3"
    page.focus("#split")
    page.keyboard.press("End")  # all before
    page.wait_for_timeout(50)
    assert abs(colour(page, 0.5, 0.3) - levels[0]) <= 4
    page.focus("#stage")
    fitted = text(page, "#zoomValue")
    page.keyboard.press("1")
    assert text(page, "#zoomValue").startswith("100")
    for _ in range(10):
        page.keyboard.press("+")
    large = [page.locator(f"#{layer} img:visible").bounding_box() for layer in ("before", "after")]
    assert large[0] == large[1]
    assert large[0]["width"] > 2000
    page.keyboard.press("ArrowRight")
    moved = [page.locator(f"#{layer} img:visible").bounding_box() for layer in ("before", "after")]
    assert moved[0] == moved[1]
    assert moved[0]["x"] < large[0]["x"]
    page.keyboard.press("-")
    page.keyboard.press("0")
    assert text(page, "#zoomValue") == fitted


def test_mouse_wheel_and_divider(reachable, visit, photo) -> None:
    _, address = reachable()
    page = visit(address)
    choose(page, photo(1500, 1000))
    finish(page)
    box = page.locator("#stage").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 3
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 100, middle[1])
    page.mouse.up()
    assert page.locator("#divider").bounding_box()["x"] == pytest.approx(middle[0] + 100, abs=3)
    page.mouse.move(middle[0] - 200, middle[1])
    before = page.locator("#before img").bounding_box()
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(100)
    after = page.locator("#before img").bounding_box()
    assert after["width"] > 1.5 * before["width"]
    at = [(middle[0] - 200 - found["x"]) / found["width"] for found in (before, after)]
    assert at[0] == pytest.approx(at[1], abs=0.01)  # the point under the mouse stays
    page.mouse.down()
    page.mouse.move(middle[0] - 250, middle[1] + 30)
    page.mouse.up()
    moved = page.locator("#after img:visible").bounding_box()
    assert (moved["x"], moved["y"]) == pytest.approx((after["x"] - 50, after["y"] + 30), abs=1)


def test_a_region_is_drawn(reachable, visit, photo, tmp_path) -> None:
    server, address = reachable()
    page = visit(address)
    sent = photo(300, 200)
    choose(page, sent)
    page.wait_for_selector("#before img")
    page.click("#draw")
    picture = page.locator("#before img").bounding_box()
    scale = picture["width"] / 300
    corners = [(picture["x"] + x * scale, picture["y"] + y * scale) for x, y in ((200, 150), (50, 40))]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1])
    page.mouse.up()
    numbers = [int(page.input_value(f"#region{name}")) for name in "XYWH"]
    assert numbers == pytest.approx([50, 40, 150, 110], abs=1)
    page.fill("#regionX", "60")  # and by keyboard
    region = Rectangle(60, *numbers[1:])
    page.select_option("#format", "tiff")
    finish(page)
    (tmp_path / "photo.png").write_bytes(sent)
    expected = tmp_path / "expected.tif"
    deblur_file(server.deblurrer, Job(tmp_path / "photo.png", expected), None, None, Finish(region=region))
    result = download(page, tmp_path)
    assert result.suffix == ".tif"
    assert result.read_bytes() == expected.read_bytes()
    page.fill("#regionH", "")
    page.click("#deblur")
    page.wait_for_selector("#error:not([hidden])")
    page.click("#another")
    choose(page, sent)
    assert page.input_value("#regionX") == ""


def test_progress_and_cancelling(reachable, visit, photo) -> None:
    server, address = reachable()
    page = visit(address)
    choose(page, photo(77, 50))
    page.click("#deblur")
    page.wait_for_selector("#status:has-text('Iteration 1 of 3')")
    assert page.get_attribute("#spoken", "aria-live") == "polite"
    assert page.is_disabled("#strength")
    assert server.files() != []
    page.click("#cancel")
    assert page.is_visible("#deblur")
    wait_for(page, lambda: server.files() == [])
    server.deblurrer.go.set()
    finish(page)
    assert server.files() == []


def test_a_page_that_is_closed_stops_its_job(reachable, visit, photo) -> None:
    server, address = reachable()
    page = visit(address)
    choose(page, photo(77, 50))
    page.click("#deblur")
    page.wait_for_selector("#status:has-text('Iteration 1 of 3')")
    page.goto("about:blank")
    wait_for(page, lambda: server.files() == [])


def test_the_place_in_the_queue_and_a_full_queue(reachable, visit, photo) -> None:
    server, address = reachable(waiting=1)
    pages = [visit(address) for _ in range(3)]
    for page, said in zip(pages, ("Iteration 1", "next in the queue"), strict=False):
        choose(page, photo(77, 50))
        page.click("#deblur")
        page.wait_for_selector(f"#status:has-text('{said}')")
    choose(pages[2], photo())
    pages[2].click("#deblur")
    pages[2].wait_for_selector("#error:has-text('queue is full')")
    assert pages[2].is_visible("#deblur")
    server.deblurrer.go.set()
    for page in pages[:2]:
        page.wait_for_selector("#download:not([hidden])")


def test_errors_say_what_is_wrong(reachable, visit, photo) -> None:
    server, address = reachable(upload=50_000, pixels=5_000)
    page = visit(address)
    drop(page, b"no picture at all", "notes.txt")
    page.click("#deblur")
    page.wait_for_selector("#error:has-text('known format')")
    drop(page, photo(101, 100), "large.png")
    page.click("#deblur")
    page.wait_for_selector("#error:has-text('megapixels')")
    drop(page, photo()[:-40], "damaged.png")
    page.click("#deblur")
    page.wait_for_selector("#error:has-text('damaged')")
    drop(page, bytes(60_000), "heavy.png")
    page.wait_for_selector("#error:has-text('MB')")
    wait_for(page, lambda: server.files() == [])
    server.queue.closing = True
    drop(page, photo(), "late.png")
    page.click("#deblur")
    page.wait_for_selector("#error:has-text('stopped')")


def test_a_format_that_the_browser_does_not_show(reachable, visit, photo) -> None:
    _, address = reachable()
    page = visit(address)
    choose(page, photo(50, 40, "TIFF"), "scan.tif")
    page.wait_for_selector("#unseen:not([hidden])")
    finish(page)
    assert page.is_hidden("#unseen")
    assert page.locator("#before img").count() == 1
    assert re.search(r"50 . 40$", text(page, "#name"))


def test_everything_has_a_name_and_fits_on_a_phone(reachable, visit, photo) -> None:
    _, address = reachable()
    page = visit(address, viewport={"width": 340, "height": 640}, is_mobile=True, has_touch=True)
    states = [lambda: None, lambda: choose(page, photo(90, 160)), lambda: finish(page)]
    for state in states:
        state()
        assert page.evaluate("document.documentElement.scrollWidth") <= 340
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, input:not([type=file]), select, progress")]
              .filter((found) => !found.ariaLabel && !found.textContent.trim() && !found.labels?.length)
              .map((found) => found.id)"""
        )
        assert nameless == []
    page.tap("#zoomIn")
    page.tap("#zoomFull")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "width", "height"), [("wide", 1200, 760), ("phone", 390, 844)])
def test_looks(
    reachable, visit, tmp_path, monkeypatch, scheme: str, name: str, width: int, height: int
) -> None:
    """The page with the shipped weights, from the start to the result."""
    server, address = reachable()
    monkeypatch.setattr(server.queue, "_load", lambda recipe: recipe.load())
    results = Path(os.environ.get("MTDEBLUR_SCREENSHOTS") or tmp_path)
    page = visit(
        address,
        viewport={"width": width, "height": height},
        device_scale_factor=2 if name == "phone" else 1,
        is_mobile=name == "phone",
        has_touch=name == "phone",
        color_scheme=scheme,
    )

    def take(state: str) -> None:
        page.wait_for_timeout(200)
        folder = tmp_path if state else results
        with Image.open(io.BytesIO(page.screenshot())) as shot:
            shot.convert("RGB").save(folder / f"serve-{name}-{scheme}{state}.webp", quality=80, method=6)

    take("-start")
    page.click("#sample")
    page.wait_for_selector("#before img")
    if name == "wide":
        page.check("input[value=best]")
    take("-ready")
    page.click("#deblur")
    page.wait_for_selector("#status:has-text('%')")
    take("-running")
    page.wait_for_selector("#download:not([hidden])")
    take("")
    assert page.is_visible("#step") == (name == "wide")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(ground.split("(")[1].split(",")[0])
    assert (red < 100) == (scheme == "dark")
