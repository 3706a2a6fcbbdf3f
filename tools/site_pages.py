"""Hook of mkdocs.yml: pages of the site that stand outside docs/, and links between all of them.

Links in the repository are relative paths, which work on GitHub. On the site, the README, the model cards
and the contributors' pages have another place. Files that are no page there, such as programs, are named
without a link.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
CARDS = "src/mtdeblur/weights/files"
OUTSIDE = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    **{
        f"{CARDS}/{name}.md": f"cards/{name}.md"
        for name in ("maxim-mixed", "maxim-gopro", "mtnaf-small", "mtrnn-mixed")
    },
}
"""Path in the repository to path on the site."""

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/."""
    for path, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page at the pages of the site."""
    return rewritten(markdown, page.file.src_uri)


def rewritten(markdown: str, place: str) -> str:
    """The page with its links as they are on the site.

    Args:
        markdown: its text, with links as in the repository.
        place: of the page on the site, such as `experiments/cell.md`.
    """
    sources = {there: path for path, there in OUTSIDE.items()}
    folder = posixpath.dirname(sources.get(place, f"docs/{place}"))

    def linked(match: re.Match[str]) -> str:
        text, link, anchor = match.groups(default="")
        path = posixpath.normpath(posixpath.join(folder, link))
        there = path.removeprefix("docs/") if path.startswith("docs/") else OUTSIDE.get(path)
        if there is None:
            return text if (ROOT / path).exists() else match[0]  # a missing file: the build reports it
        return f"[{text}]({posixpath.relpath(there, posixpath.dirname(place) or '.')}{anchor})"

    return LINK.sub(linked, markdown)
