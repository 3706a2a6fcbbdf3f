"""Search for the pairs and ladders of data sets by the layouts of `LAYOUTS`; no picture is decoded."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mtdeblur.data.disk.layouts import LAYOUTS, SPLITS, Layout, Sides
from mtdeblur.data.disk.leftovers import Report, summary, warn
from mtdeblur.data.disk.manifest import stored_levels
from mtdeblur.data.disk.splits import HOLD_OUT
from mtdeblur.errors import UserError
from mtdeblur.files.atomic import read_whole
from mtdeblur.media.formats import SUFFIXES


class Pair(NamedTuple):
    """A blurred picture and its ground truth; the name is `STEM`, or `SEQUENCE/STEM`."""

    name: str
    blur: Path
    sharp: Path


def find_pairs(
    folder: Path,
    layout: str | None = None,
    split: str = "test",
    *,
    maximum: int | None = None,
    optional: bool = False,
    report: Report = warn,
) -> list[Pair]:
    """The pairs of a data set, sorted by name.

    Pictures of a pair have the same stem; suffixes may differ. Hidden files and files without a picture's
    suffix are ignored. Test pairs are never in the training split. A plain folder of pairs has no splits:
    all its pairs are test pairs; every tenth by name is used for validation and the others for training. A
    picture without a partner, or with several, is reported and left out.

    Args:
        folder: the data set.
        layout: a name of `LAYOUTS`, in any case; None detects it.
        split: `train`, `valid` or `test`.
        maximum: maximum number of pairs, spread evenly over the data set.
        optional: return an empty list if there are no such pairs.
        report: receives the pictures left out.

    Raises:
        UserError: if the folder does not fit the layout, or no picture in it has a partner.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    names = list(LAYOUTS) if layout is None else [_layout_name(layout)]
    faults: list[str] = []
    for name in names:
        found = _pairs_of(folder, LAYOUTS[name], split)
        if found.pairs:
            if found.faults:
                report(found.faults)
            return found.pairs if maximum is None else _pick_evenly(found.pairs, maximum)
        faults = faults or found.faults
    if faults:
        raise UserError(summary(faults))
    if optional:
        return []
    if other := _other_splits(folder, names, split):
        raise UserError(other)
    if layout is not None:
        expected = LAYOUTS[names[0]].expected(split) or f"nothing: the data set has no {split} pictures"
        raise UserError(f"{folder} does not have the layout of {names[0]} ({split}): expected {expected}")
    raise UserError(
        f"{folder} contains no pairs: expected blur/NAME.png with sharp/NAME.png (or .jpg, .tif, .webp) in "
        f"it, in SEQUENCE/ or in {split}/SEQUENCE/, or the layout of {', '.join(list(LAYOUTS)[:-1])} (name a "
        "layout to see the files it expects)"
    )


def _other_splits(folder: Path, names: Iterable[str], split: str) -> str | None:
    """What a folder of a known layout has in place of the pairs of a split; None without any pairs."""
    for name in names:
        found = [other for other in SPLITS if _pairs_of(folder, LAYOUTS[name], other).pairs]
        if found:
            expected = LAYOUTS[name].expected(split) or f"nothing: the data set has no {split} pictures"
            return (
                f"{folder} has the layout of {name}, with pairs for {' and '.join(found)}, but no {split} "
                f"pairs: expected {expected}"
            )
    return None


def _pick_evenly(pairs: list[Pair], maximum: int) -> list[Pair]:
    """At most `maximum` pairs, spread evenly."""
    if len(pairs) <= maximum:
        return pairs
    return [pairs[index * len(pairs) // maximum] for index in range(maximum)]


def gopro_level(sequence: str) -> int | None:
    """Temporal level of a GoPro sequence's blurred pictures, from its name: 11 for `GOPR0384_11_00`.

    Returns:
        None if it is not a GoPro name, or the number of averaged frames is even.
    """
    match = re.fullmatch(r"GOPR\d{4}_(\d\d)_\d\d", sequence)
    level = int(match[1]) if match else 0
    return level if level % 2 else None


class Ladder(NamedTuple):
    """The pictures of one exposure: one file name in the folders of its stored levels.

    Attributes:
        file: name of the file.
        folders: level to folder, levels increasing from TL1, the sharp mid-frame; shared by the exposures of
            a sequence.
    """

    file: str
    folders: Mapping[int, Path]

    def path(self, level: int) -> Path:
        """The picture of a stored level."""
        return self.folders[level] / self.file

    def goals(self, level: int) -> list[int]:
        """All odd levels from 1 to `level` if all of them are stored, otherwise TL1 alone."""
        below = list(range(1, level + 1, 2))
        return below if all(n in self.folders for n in below) else [1]


def find_ladders(pairs: Iterable[Pair]) -> tuple[list[Ladder], list[Pair]]:
    """The exposures of pairs with stored levels: in `TL3/`, `TL5/` ... beside `blur/` and `sharp/`.

    TL1 is the picture in `sharp/`. If each exposure of a sequence lacks exactly one level, that level is the
    picture in `blur/`. A sequence without any `TLn/` may be GoPro's own: its name then contains the level of
    `blur/`. The pictures of an exposure have the same file name.

    Args:
        pairs: of a data set.

    Returns:
        The ladders, and the pairs without stored levels, both in the order of the pairs.
    """
    ladders: list[Ladder] = []
    others: list[Pair] = []
    levels_of: dict[Path, list[tuple[int, Path, frozenset[str]]]] = {}
    shared: dict[tuple[Path, ...], Mapping[int, Path]] = {}
    for pair in pairs:
        blur, file = pair.blur.parent, pair.blur.name
        if blur not in levels_of:
            levels_of[blur] = list(_levels_beside(blur))
        stored = {level: folder for level, folder, files in levels_of[blur] if file in files}
        missing = [level for level, _, _ in levels_of[blur] if level not in stored]
        if stored and len(missing) == 1 and not _stored_twice(levels_of[blur]):
            stored = dict(sorted({**stored, missing[0]: blur}.items()))
        if stored and file == pair.sharp.name:
            folders = {1: pair.sharp.parent, **stored}
            ladders.append(Ladder(file, shared.setdefault(tuple(folders.values()), folders)))
        else:
            others.append(pair)
    return ladders, others


def manifest_ladders(folder: Path, split: str = "train") -> list[Ladder]:
    """The exposures of a temporal data set, from its manifest.

    Args:
        folder: the data set.
        split: `train`, `valid` or `test`.

    Raises:
        UserError: if the manifest cannot be read.
    """
    stored: dict[tuple[str, str], dict[int, str]] = {}
    for level, path in stored_levels(folder, split):
        home, side, file = path.rsplit("/", 2)
        stored.setdefault((home, file), {})[level] = sys.intern(side)
    shared: dict[tuple[str, tuple[tuple[int, str], ...]], Mapping[int, Path]] = {}
    ladders: list[Ladder] = []
    for (home, file), sides in sorted(stored.items()):
        levels = tuple(sorted(sides.items()))
        if (home, levels) not in shared:
            shared[home, levels] = {level: folder / home / side for level, side in levels}
        ladders.append(Ladder(file, shared[home, levels]))
    return ladders


def _levels_beside(blur: Path) -> Iterator[tuple[int, Path, frozenset[str]]]:
    """Levels of a sequence above TL1, increasing, each with its folder and the names of its files."""
    numbers = {int(home.name[2:]): home for home in blur.parent.glob("TL*") if home.name[2:].isdigit()}
    numbers.pop(1, None)
    if not numbers and blur.name == "blur" and (level := gopro_level(blur.parent.name)):
        numbers[level] = blur
    for level in sorted(numbers):
        yield level, numbers[level], frozenset(file.name for file in numbers[level].iterdir())


def _stored_twice(levels: Iterable[tuple[int, Path, frozenset[str]]]) -> bool:
    """Whether an exposure has a file in every level's folder, so that `blur/` repeats one of them."""
    return bool(frozenset[str].intersection(*(files for _, _, files in levels)))


def _layout_name(name: str) -> str:
    aliases = {known.lower(): known for known in LAYOUTS} | {"t-gopro": "GoPro", "dvd": "Su"}
    if name.lower() not in aliases:
        raise UserError(f"unknown layout {name!r}; choose one of T-GoPro, DVD, {', '.join(LAYOUTS)}")
    return aliases[name.lower()]


class _Found(NamedTuple):
    """Pairs, and a line for each picture left out."""

    pairs: list[Pair]
    faults: list[str]


class _Lone(NamedTuple):
    """A picture without a partner; `name` is the name its pair would have."""

    name: str
    file: Path
    why: str


def _pairs_of(folder: Path, layout: Layout, split: str) -> _Found:
    """The pairs of a split by its layout, sorted; none if the folder does not fit the layout."""
    pairs: list[Pair] = []
    lone: list[_Lone] = []
    for sides in layout.sides.get(split, ()):
        more_pairs, more_lone = _match(folder, sides)
        pairs += more_pairs
        lone += more_lone
    undivided: list[Pair] = []
    for sides in layout.undivided:
        more_pairs, more_lone = _match(folder, sides)
        undivided += more_pairs
        lone += more_lone
    pairs += _share_of(sorted(undivided), folder, layout, split, bool(pairs))
    if split in layout.sequences:
        sequences = layout.sequences[split]
        pairs = [pair for pair in pairs if pair.name.split("/")[0] in sequences]
        lone = [one for one in lone if one.name.split("/")[0] in sequences]
    paired = {file for pair in pairs for file in (pair.blur, pair.sharp)} if lone else ()
    faults = {one.file: f"{one.file} {one.why}; it is left out" for one in lone if one.file not in paired}
    missing: list[str] = []
    if split in layout.lists:
        listed, missing = _listed(folder, layout.lists[split])
        pairs += listed
    if split == "train" and pairs:
        held_out = {pair.blur for pair in _pairs_of(folder, layout, "test").pairs}
        held_out -= {pair.blur for pair in undivided}
        pairs = [pair for pair in pairs if pair.blur not in held_out]
    return _Found(sorted(pairs), [*faults.values(), *missing])


def _share_of(undivided: list[Pair], folder: Path, layout: Layout, split: str, others: bool) -> list[Pair]:
    """The undivided pairs that belong to a split; `others`: whether the split has pairs of its own."""
    if split == "test":
        return undivided
    if split == "valid":
        return [] if others else undivided[HOLD_OUT - 1 :: HOLD_OUT]
    if any(_match(folder, sides)[0] for sides in layout.sides.get("valid", ())):
        return undivided
    return [pair for number, pair in enumerate(undivided, 1) if number % HOLD_OUT]


def _match(folder: Path, sides: Sides) -> tuple[list[Pair], list[_Lone]]:
    """The pairs that match a pattern, and the pictures without a partner; both empty if nothing matches."""
    blurred = _by_stem(folder, sides.blur)
    sharp = _by_stem(folder, sides.sharp) if blurred else {}
    pairs: list[Pair] = []
    lone: list[_Lone] = []
    if not sharp:
        return pairs, lone

    def leave_out(named: _Named, why: str) -> None:
        lone.extend(_Lone("/".join(named.words.values()), file, why) for file in named.files)

    partners: set[str] = set()
    for named in blurred.values():
        partner = sides.sharp.format(**named.words)
        partners.add(partner)
        if partner not in sharp:
            leave_out(named, f"has no partner: expected {folder / partner} with any picture suffix")
        elif len(named.files) == 1 and len(sharp[partner].files) == 1:
            pairs.append(Pair("/".join(named.words.values()), named.files[0], sharp[partner].files[0]))
        else:
            for side, other in ((named, sharp[partner]), (sharp[partner], named)):
                if len(side.files) > 1:
                    leave_out(side, "shares its stem with another picture, so its partner is not clear")
                else:
                    leave_out(side, f"has several partners ({', '.join(file.name for file in other.files)})")
    for stem in sorted(() if sides.shared else sharp.keys() - partners):
        partner = folder / sides.blur.format(**sharp[stem].words)
        leave_out(sharp[stem], f"has no partner: expected {partner} with any picture suffix")
    return pairs, lone


class _Named(NamedTuple):
    """The pictures of one stem, usually one, and the values of the pattern's wildcards."""

    files: tuple[Path, ...]
    words: dict[str, str]


def _by_stem(folder: Path, side: str) -> dict[str, _Named]:
    """Map each relative stem that matches a pattern to its pictures and wildcard values."""
    pattern = re.compile("".join(_as_pattern(part) for part in re.split(r"({\w+})", side)))
    found: dict[str, _Named] = {}
    for file in sorted(folder.glob(re.sub(r"{\w+}", "*", side) + ".*")):
        stem = file.relative_to(folder).with_suffix("").as_posix()
        match = pattern.fullmatch(stem)
        if match is not None and file.suffix.lower() in SUFFIXES:
            before = found[stem].files if stem in found else ()
            found[stem] = _Named((*before, file), match.groupdict())
    return found


def _as_pattern(part: str) -> str:
    """A pattern's part as a regular expression: wildcards match no hidden names, {sequence} no split."""
    if not part.startswith("{"):
        return re.escape(part)
    no_split = r"(?!(?:train|valid|val|test)/)" if part == "{sequence}" else ""
    return rf"{no_split}(?P<{part[1:-1]}>[^/.][^/]*)"


def _listed(folder: Path, name: str) -> tuple[list[Pair], list[str]]:
    """The pairs in a data set's list, with paths relative to the data set, and the faults of other lines."""
    try:
        lines = os.fsdecode(read_whole(folder / name)).removeprefix("\ufeff").splitlines()
    except FileNotFoundError:
        return [], []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list of pairs {folder / name}: {error}") from error
    pairs: list[Pair] = []
    missing: list[str] = []
    for line in filter(str.strip, lines):
        sharp, blurred, *_ = [*line.split(), ""]
        absent = [path for path in (sharp, blurred) if not (folder / path).is_file()]
        if not blurred:
            missing.append(f"{folder / name} names one picture, not two, in the line {line.strip()!r}")
        elif absent:
            missing.append(f"{folder / name} lists {absent[0]!r}, but there is no such picture in {folder}")
        else:
            pairs.append(Pair(Path(blurred).with_suffix("").as_posix(), folder / blurred, folder / sharp))
    return pairs, missing
