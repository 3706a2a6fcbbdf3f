"""Folders of blurred pictures and their ground truth."""

from pathlib import Path
from typing import NamedTuple

from mtdeblur.errors import UserError
from mtdeblur.media.pictures import SUFFIXES


class Pair(NamedTuple):
    """A blurred picture and its ground truth; the name is `STEM`, or `SEQUENCE/STEM`."""

    name: str
    blur: Path
    sharp: Path


def find_pairs(dataset: Path, maximum: int | None = None) -> list[Pair]:
    """List the pairs of a data set, sorted by name.

    Known layouts: `blur/` and `sharp/` with pictures of the same stem (suffixes may differ); folders of such
    pairs, one a sequence; and GoPro's, where the sequences lie in `test/`. Hidden files, and those without a
    picture's suffix, are passed over.

    Args:
        dataset: the folder.
        maximum: take no more than this many, spread evenly over the data set.

    Raises:
        UserError: if the folder fits none of the layouts, a picture has no partner, or two share a stem.
    """
    if not dataset.is_dir():
        raise UserError(f"there is no folder {dataset}")
    pairs: list[Pair] = []
    for sequence in _sequences(dataset):
        prefix = "" if sequence == dataset else f"{sequence.name}/"
        pairs += _pairs_of(sequence, prefix)
    if maximum is not None and len(pairs) > maximum:
        pairs = [pairs[index * len(pairs) // maximum] for index in range(maximum)]
    return pairs


def _sequences(dataset: Path) -> list[Path]:
    if _has_sides(dataset):
        return [dataset]
    for parent in (dataset, dataset / "test"):
        if parent.is_dir():
            sequences = sorted(
                folder for folder in parent.iterdir() if folder.is_dir() and _has_sides(folder)
            )
            if sequences:
                return sequences
    raise UserError(
        f"{dataset} holds no pairs: expected blur/NAME.png with sharp/NAME.png in it (or .jpg, .tif, .webp), "
        "or such pairs of folders in SEQUENCE/ or test/SEQUENCE/"
    )


def _has_sides(folder: Path) -> bool:
    return (folder / "blur").is_dir() and (folder / "sharp").is_dir()


def _pairs_of(folder: Path, prefix: str) -> list[Pair]:
    blur, sharp = (_by_stem(folder / side) for side in ("blur", "sharp"))
    for stem in sorted(blur.keys() ^ sharp.keys()):
        there, missing = (blur, "sharp") if stem in blur else (sharp, "blur")
        raise UserError(
            f"{there[stem]} has no partner: expected {folder / missing / stem} with any picture suffix"
        )
    if not blur:
        raise UserError(f"{folder / 'blur'} and {folder / 'sharp'} hold no pictures")
    return [Pair(f"{prefix}{stem}", blur[stem], sharp[stem]) for stem in sorted(blur)]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise UserError(f"{found[path.stem]} and {path} share a stem, so their partner is not clear")
        found[path.stem] = path
    return found
