"""The documentation site: its build, its links, and that it needs nothing from elsewhere; the figures."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import mtdeblur

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FIGURES = sorted((DOCS / "figures").iterdir())
WORDS = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def hook():
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "tools" / "site_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("place", "link", "there"),
    [
        ("index.md", "[a](../README.md)", "[a](overview.md)"),
        ("index.md", "[a](../README.md#results)", "[a](overview.md#results)"),
        ("weights.md", "[a](../src/mtdeblur/weights/files/maxim-mixed.md)", "[a](cards/maxim-mixed.md)"),
        ("experiments/cell.md", "[a](comparison.md)", "[a](comparison.md)"),
        ("experiments/cell.md", "[a](../folders.md#on-a-cluster)", "[a](../folders.md#on-a-cluster)"),
        ("overview.md", "![a](docs/astronaut-compare.webp)", "![a](astronaut-compare.webp)"),
        ("CONTRIBUTING.md", "[a](docs/design.md), [b](CHANGELOG.md)", "[a](design.md), [b](CHANGELOG.md)"),
        ("index.md", "[the script](../examples/train_minimal.py)", "the script"),
        ("index.md", "[a](../missing.py)", "[a](../missing.py)"),
        (
            "index.md",
            "[a](https://example.org/x.md), [b](#here)",
            "[a](https://example.org/x.md), [b](#here)",
        ),
    ],
)
def test_links_lead_to_the_pages_of_the_site(hook, place, link, there):
    assert hook.rewritten(link, place) == there


def test_the_navigation_names_pages_that_exist(hook):
    def pages(entry):
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry if isinstance(entry, list) else entry.values():
                yield from pages(part)

    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    there = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} | set(hook.OUTSIDE.values())
    named = list(pages(config["nav"]))
    assert set(named) <= there
    assert len(named) == len(set(named))


def test_every_public_name_is_on_the_page_on_python():
    named = re.findall(r"^::: ([\w.]+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.M)
    public = {f"mtdeblur.{name}" for name in mtdeblur.__all__ if not name.startswith("_")}
    assert public <= set(named)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_figures_are_small_and_shown(figure):
    assert figure.stat().st_size < 150_000
    assert f"figures/{figure.name})" in WORDS


@pytest.mark.slow
def test_the_figures_are_those_of_the_program(tmp_path):
    options = ["--only", "levels", "--only", "fig1", "-o", str(tmp_path)]
    subprocess.run([sys.executable, ROOT / "tools" / "figures.py", *options], check=True)
    drawn = sorted(tmp_path.iterdir())
    assert [path.name for path in drawn] == ["approaches.webp", "levels.webp"]
    for path in drawn:
        with Image.open(path) as now, Image.open(DOCS / "figures" / path.name) as kept:
            assert now.size == kept.size
            assert np.abs(np.asarray(now, float) - np.asarray(kept, float)).mean() < 2


class Loaded(HTMLParser):
    """What a browser fetches by itself."""

    def __init__(self):
        super().__init__()
        self.fetched = []

    def handle_starttag(self, tag, attrs):
        address = dict(attrs).get("href" if tag == "link" else "src")
        if address and tag != "a":
            self.fetched.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},  # the theme's notice of its end of support
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr + done.stdout
    return folder


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_needs_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        for address in loaded.fetched:
            assert not re.match(r"(https?:)?//", address), (page.name, address)
            if page.name != "404.html" and not address.startswith("data:"):
                assert (page.parent / address.split("?")[0].split("#")[0]).exists(), (page.name, address)
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_search_works_from_a_disk_without_a_connection(site):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "experiments" / "cell.html").as_uri())
        page.keyboard.press("/")
        page.keyboard.type("temporal level")
        found = page.wait_for_selector(".md-search-result__link", timeout=60_000)
        assert ".html" in found.get_attribute("href")
        browser.close()
    assert all(url.startswith("file:") for url in asked)
