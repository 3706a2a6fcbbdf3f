"""Before/after sheets: pictures side by side, whole and in crops at fixed positions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtdeblur.errors import UserError
from mtdeblur.media import libvips
from mtdeblur.media.formats import list_pictures
from mtdeblur.media.pictures import Picture, read_picture, read_pixels
from mtdeblur.media.samples import to_8_bits, to_integers

CROPS = {
    "centre": (0.5, 0.5),
    "upper left": (0.25, 0.25),
    "upper right": (0.25, 0.75),
    "lower left": (0.75, 0.25),
    "lower right": (0.75, 0.75),
}
"""Name of each crop to its centre, as fractions of height and width."""
_GAP = 8  # pixels between cells
_LINE = 14  # height of a line of text, in pixels

Pixels = NDArray[np.uint8]
Method = Callable[[NDArray[Any]], NDArray[Any]]


class Column(NamedTuple):
    """One version of a picture: before, after by some weights, or the output of another program.

    Attributes:
        label: above the column.
        pixels: (H, W, 3) uint8, upright.
    """

    label: str
    pixels: Pixels


class Item(NamedTuple):
    """One picture of a folder.

    Attributes:
        source: its file.
        target: the sheet to write.
        beside: outputs of other programs for it.
    """

    source: Path
    target: Path
    beside: tuple[Path, ...]


def plan(folder: Path, output: Path, beside: Sequence[Path] = ()) -> list[Item]:
    """Plan the sheets of a folder's pictures, and find the outputs of other programs for them.

    The output of another program for `sub/NAME.jpg` has the same path, with any suffix, in one of the folders
    `beside`, or is directly in that folder as `NAME` or `NAME-ANYTHING`. Pictures in these folders get no
    sheets of their own.

    Args:
        folder: pictures, sub-folders included.
        output: folder of the sheets, outside `folder`.
        beside: folders of other programs' outputs.

    Raises:
        UserError: if there are no pictures, or the output folder is inside `folder`.
    """
    if output.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"the sheets would be among the pictures of {folder}; choose another folder")
    others = {place: list_pictures(place) for place in beside}
    outputs = {path.resolve() for paths in others.values() for path in paths}
    sources = [path for path in list_pictures(folder) if path.resolve() not in outputs]
    return [
        Item(
            source,
            output / source.relative_to(folder).with_name(f"{source.name}.png"),
            tuple(
                path
                for place, paths in others.items()
                for path in paths
                if _belongs(path.relative_to(place), source.relative_to(folder))
            ),
        )
        for source in sources
    ]


def _belongs(other: Path, source: Path) -> bool:
    """Whether a file is another program's output for a picture; both paths relative to their folders."""
    if other.with_suffix("") == source.with_suffix(""):
        return True
    return other.parent == Path() and (other.stem == source.stem or other.stem.startswith(f"{source.stem}-"))


def make_sheet(item: Item, methods: Mapping[str, Method], side: int) -> tuple[Picture, list[str]]:
    """The sheet of one picture: before, after each method, and the outputs of other programs.

    Args:
        item: from `plan`.
        methods: label to function from picture, (H, W, 3) uint8 or uint16, to picture of its shape and dtype.
        side: as for `sheet`.

    Returns:
        The sheet, with the picture's colour profile, and a notice for each output that is left out because
        its size differs.

    Raises:
        UserError: if a file cannot be read.
    """
    before = read_picture(item.source).upright()
    pixels = to_integers(before.pixels)
    columns = [Column("before", to_8_bits(pixels))]
    columns += [Column(label, to_8_bits(method(pixels))) for label, method in methods.items()]
    notices: list[str] = []
    for path in item.beside:
        other = to_8_bits(read_pixels(path))
        if other.shape == pixels.shape:
            columns.append(Column(f"{path.parent.name}\n{path.stem}", other))
        else:
            notices.append(f"{path} is left out: its size differs from that of {item.source}")
    return Picture(sheet(columns, side), icc=None if before.grey else before.icc), notices


def sheet(columns: Sequence[Column], side: int = 400) -> Pixels:
    """Columns side by side: the whole picture scaled down, then crops at full resolution.

    Args:
        columns: of the same height and width.
        side: width of a column, and height and width of a crop, in pixels; crops do not exceed the picture.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: if there are no columns, or their sizes differ.
    """
    shapes = {column.pixels.shape for column in columns}
    if len(shapes) != 1:
        raise ValueError(f"a sheet needs columns of one size, not {sorted(shapes)}")
    height, width = columns[0].pixels.shape[:2]
    rows = [_row([_caption(column.label, side) for column in columns], side)]
    rows.append(_caption(f"whole, {width} x {height} pixels", side))
    rows.append(_row([libvips.shrink(column.pixels, side) for column in columns], side))
    for name, place in CROPS.items():
        top, left = (
            max(0, min(round(share * length - side / 2), length - side))
            for share, length in zip(place, (height, width), strict=True)
        )
        rows.append(_caption(f"{name}, from pixel {left}, {top}", side))
        crops = [column.pixels[top : top + side, left : left + side] for column in columns]
        rows.append(_row(crops, side))
    across = max(row.shape[1] for row in rows)
    gap = np.full((_GAP, across, 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (_paste(row, row.shape[0], across), gap)])


def _row(cells: Iterable[Pixels], side: int) -> Pixels:
    """Cells (h, w, 3), w at most `side`, side by side."""
    cells = list(cells)
    height = max(len(cell) for cell in cells)
    return np.concatenate([_paste(cell, height, side + _GAP) for cell in cells], axis=1)


def _paste(cell: Pixels, height: int, width: int) -> Pixels:
    """A cell in the upper left corner of a white field, cropped to it."""
    field = np.full((height, width, 3), 255, np.uint8)
    part = cell[:height, :width]
    field[: len(part), : part.shape[1]] = part
    return field


def _caption(text: str, width: int) -> Pixels:
    """Black text on white, (height, width, 3); lines that are too long are cropped."""
    ink = np.pad(libvips.text(text, _LINE), ((_GAP // 2, 0), (_GAP // 2, 0)))[..., None].repeat(3, axis=2)
    return _paste(255 - ink, max(_LINE + _GAP, len(ink)), width)
