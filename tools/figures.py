"""Draw the figures of the documentation from the program's own data structures: `python tools/figures.py`.

The photographs are scikit-image's, in the public domain, and exposed as by
`mtdeblur simulate --public-domain`, by motion of the camera alone. It takes about two minutes on one
processor core.
"""

import argparse
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtdeblur.approaches import APPROACHES, Goal, Plan
from mtdeblur.data.disk.photographs import public_domain_photographs
from mtdeblur.data.making.camera import Simulation, prepare, simulate_levels, simulate_pair
from mtdeblur.errors import require
from mtdeblur.experiments.drawing import Part, furthest_part
from mtdeblur.exposure.simulate import Motion
from mtdeblur.inference.deblurrer import load
from mtdeblur.metrics.arrays import psnr

Pixels = NDArray[Any]
FOLDER = Path(__file__).parents[1] / "docs" / "figures"
SETTINGS = Simulation(motion=Motion(length=24.0, layers=0.0))
"""Those of `mtdeblur simulate`, but no exposure has a layer that moves by itself: it hides the photograph."""

LEVELS = range(1, 14, 2)
SHOWN = {
    "one_stage": "one-stage",
    "stacked": "stacking version",
    "multi_scale": "multi-scale",
    "multi_temporal": "multi-temporal",
}
"""The approaches of Fig. 1, in its order."""


class Panel(NamedTuple):
    """A picture in a figure.

    Attributes:
        picture: (H, W, 3).
        title: above it.
        frame: a part that is framed.
    """

    picture: Pixels
    title: str
    frame: Part | None = None


def levels() -> dict[str, Any]:
    """Temporal levels of one exposure of each of two photographs."""
    rows: list[list[Panel]] = []
    for name in ("astronaut-0", "coffee-1"):
        ladder = simulate_levels(_photograph(name), name, LEVELS, SETTINGS)
        part = furthest_part(ladder[13], ladder[1])
        rows.append([Panel(ladder[level][part], f"TL{level}") for level in (13, 9, 5, 1)])
    return {"levels": _rows(rows)}


def fig1() -> dict[str, Any]:
    """Fig. 1: the goals of each approach from TL13, as its plan names them."""
    name = "astronaut-0"
    ladder = simulate_levels(_photograph(name), name, LEVELS, SETTINGS)
    part = furthest_part(ladder[13], ladder[1])
    shown = {level: picture[part] for level, picture in ladder.items()}
    figure = _figure(11.3, 7.5)
    for row, (key, title) in enumerate(SHOWN.items()):
        approach = APPROACHES[key]()
        plan = approach.plan(13, lambda n: 0, phase=len(approach.starts) - 1)
        _chain(figure, row, title, plan, shown)
    return {"approaches": figure}


def estimates() -> dict[str, Any]:
    """The estimates of MAXIM's three steps."""
    figures: dict[str, Any] = {}
    deblurrer = load("maxim-gopro", iterations=3)
    for name in ("coffee-3", "rocket-0"):
        blurred, sharp = simulate_pair(_photograph(name), name, SETTINGS)
        results = {f"step {n}": np.asarray(e) for n, e in enumerate(deblurrer.progress(blurred), 1)}
        part = furthest_part(blurred, sharp)
        figures[f"estimates-{name.split('-')[0]}"] = _compared(blurred, sharp, results, part)
    return figures


def iterations() -> dict[str, Any]:
    """A part of the most blurred exposure of a photograph after each iteration of the paper's network."""
    deblurrer = load("mtrnn-mixed", iterations=4)
    rows: list[list[Panel]] = []
    for photograph in ("astronaut", "coffee"):
        blurred, sharp = _most_blurred(photograph)
        part = furthest_part(blurred, sharp)
        shown = {"blurred": blurred}
        shown |= {f"iteration {n}": np.asarray(e) for n, e in enumerate(deblurrer.progress(blurred), 1)}
        panels = [
            Panel(picture[part], f"{name}, {psnr(picture, sharp):.2f} dB") for name, picture in shown.items()
        ]
        rows.append([*panels, Panel(sharp[part], "sharp")])
    return {"iterations": _rows(rows)}


def weights() -> dict[str, Any]:
    """The most blurred exposure of each photograph, of the cat the least blurred, by each quality.

    Enlarged is the part where the blurred picture is furthest from the truth, of the cat where `fast` is.
    """
    deblurrers = {quality: load(quality=quality) for quality in ("fast", "good", "best")}
    figures: dict[str, Any] = {}
    for photograph in ("astronaut", "coffee", "rocket", "chelsea"):
        cat = photograph == "chelsea"
        blurred, sharp = _most_blurred(photograph, least=cat)
        results = {quality: deblurrer(blurred) for quality, deblurrer in deblurrers.items()}
        part = furthest_part(np.asarray(results["fast"]) if cat else blurred, sharp)
        figures[f"weights-{photograph}"] = _compared(blurred, sharp, results, part)
    return figures


FIGURES: Sequence[Callable[[], dict[str, Any]]] = (levels, fig1, estimates, iterations, weights)


def main() -> None:
    """Draw the figures that were asked for, by default all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [function.__name__ for function in FIGURES]
    parser.add_argument("--only", choices=names, action="append", help="repeatable; by default all")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER, help="folder")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for function in FIGURES:
        if not options.only or function.__name__ in options.only:
            for name, figure in function().items():
                _write(options.output / f"{name}.webp", figure)


def _photograph(exposure: str) -> Any:
    """The photograph of an exposure such as `coffee-1`, prepared for the simulated camera."""
    (found,) = (p for p in public_domain_photographs() if p.name == exposure.split("-")[0])
    return prepare(found.read(), found.name, SETTINGS.longest, SETTINGS.motion)


def _most_blurred(photograph: str, *, least: bool = False) -> tuple[Pixels, Pixels]:
    """The most or the least blurred of four exposures of a photograph, and the sharp picture."""
    pairs = [
        simulate_pair(_photograph(photograph), f"{photograph}-{number}", SETTINGS) for number in range(4)
    ]
    return (max if least else min)(pairs, key=lambda pair: psnr(*pair))


def _compared(blurred: Pixels, sharp: Pixels, results: Mapping[str, Any], part: Part) -> Any:
    """The whole blurred picture, and a part of it blurred, sharp and in three results, with their PSNR."""
    above = [
        Panel(blurred, "the blurred picture", part),
        Panel(blurred[part], f"blurred, {psnr(blurred, sharp):.2f} dB"),
        Panel(sharp[part], "sharp"),
    ]
    below = [Panel(result[part], f"{name}, {psnr(result, sharp):.2f} dB") for name, result in results.items()]
    return _rows([above, below])


def _figure(width: float, height: float) -> Any:
    """An empty figure, sizes in inches."""
    return require("matplotlib.figure", "reproduce", "drawing").Figure(figsize=(width, height), dpi=100)


def _rows(rows: Sequence[Sequence[Panel]]) -> Any:
    """Rows of pictures, each as high as the others."""
    columns = max(len(row) for row in rows)
    figure = _figure(2.5 * columns, 2.8 * len(rows))
    top = 1 - 0.3 / (2.8 * len(rows))
    figure.subplots_adjust(left=0.004, right=0.996, bottom=0.01, top=top, wspace=0.03)
    for axes, panel in zip(
        figure.subplots(len(rows), columns, squeeze=False).flat,
        (panel for row in rows for panel in row),
        strict=True,
    ):
        axes.imshow(panel.picture)
        axes.set(xticks=[], yticks=[])
        axes.set_title(panel.title, fontsize=13)
        if panel.frame:
            axes.add_patch(_outline(panel.frame))
    return figure


def _chain(figure: Any, row: int, title: str, plan: Plan, shown: dict[int, Pixels]) -> None:
    """The input and the goals of one approach, with an arrow for each iteration."""
    width, height = figure.get_size_inches()
    side, gap, top = 1.05, 0.36, height - 0.05 - row * height / len(SHOWN)
    figure.text(0.1 / width, top / height, title, fontsize=14, weight="bold", va="top")
    several = len({goal.network for goal in plan}) > 1
    left = 0.1
    for goal in (None, *plan):
        scale = goal.scale if goal else 1
        size = side / scale
        if goal:
            middle = (top - 0.28 - side / 2) / height
            figure.add_artist(_arrow((left + 0.04) / width, (left + gap - 0.04) / width, middle))
            left += gap
        place = (left / width, (top - 0.28 - side / 2 - size / 2) / height, size / width, size / height)
        axes = figure.add_axes(place)
        picture = shown[goal.level if goal else 13]
        axes.imshow(picture[::scale, ::scale])
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(_caption(goal, several), fontsize=12, labelpad=2)
        left += max(size, 0.6)


def _caption(goal: Goal | None, several: bool) -> str:
    """The temporal level of a goal, with its scale or its network where these change."""
    if goal is None:
        return "input, TL13"
    more = f"network {goal.network + 1}" if several else f"at 1/{goal.scale}" if goal.scale > 1 else ""
    return f"TL{goal.level}\n{more}"


def _arrow(start: float, end: float, height: float) -> Any:
    patches = require("matplotlib.patches", "reproduce", "drawing")
    return patches.FancyArrowPatch(
        (start, height), (end, height), arrowstyle="-|>", mutation_scale=14, color="black"
    )


def _outline(part: Part) -> Any:
    rows, columns = part
    patches = require("matplotlib.patches", "reproduce", "drawing")
    corner, side = (columns.start, rows.start), rows.stop - rows.start
    return patches.Rectangle(corner, side, side, fill=False, edgecolor="yellow")


def _write(path: Path, figure: Any) -> None:
    """Write a figure as WebP."""
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor="white")
    with Image.open(file) as picture:
        picture.convert("RGB").save(path, quality=82, method=6)
    print(f"{path} {path.stat().st_size // 1000} kB")  # noqa: T201


if __name__ == "__main__":
    main()
