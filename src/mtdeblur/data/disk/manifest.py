# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The files of a temporal data set, and its manifest.

::

    DATASET/SPLIT/CLIP/blur/NAME.png     the blurred pictures, each at its exposure's input level
    DATASET/SPLIT/CLIP/sharp/NAME.png    TL1 of the same exposures: the sharp mid-frames
    DATASET/SPLIT/CLIP/TLn/NAME.png      the other levels of the same exposures
    DATASET/manifest.parquet             one row a picture

No picture is stored twice: TL1 is only in `sharp`, and the input level of an exposure is only in `blur`.
Links could fill these gaps on some file systems, but not in archives and object stores. The manifest gives
the path of every picture.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mtdeblur.errors import UserError, require
from mtdeblur.files.atomic import atomic_path, plain_name, reason, write_atomically
from mtdeblur.media.pictures import Picture, encode_picture

MANIFEST = "manifest.parquet"
JOURNAL = ".journal"
"""Name of the journal during a build."""
_METADATA = b"mtdeblur"
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One picture.

    Attributes:
        split: train, valid or test.
        clip: name of the exposure's clip or photograph.
        name: of the exposure within its clip.
        level: temporal level of this picture; 1 is sharp.
        input_level: temporal level of the exposure's blurred picture.
        path: of the picture, relative to the data set, with slashes.
        source: path or address of the frames or the photograph.
        first_frame: number of the first averaged frame (`Frame.number`); if it is interpolated, that of the
            captured frame before it.
        last_frame: number of the last averaged frame; if it is interpolated, that of the captured frame
            after it.
        crf: name of the camera response function.
        width: in pixels.
        height: in pixels.
        bits: of each sample, 8 or 16.
        bytes: size of the file.
        sha256: of the file.
        interpolated: factor by which interpolated frames multiplied the frame rate before the average; 0
            without interpolation. Older manifests do not have this column.
    """

    split: str
    clip: str
    name: str
    level: int
    input_level: int
    path: str
    source: str
    first_frame: int
    last_frame: int
    crf: str
    width: int
    height: int
    bits: int
    bytes: int
    sha256: str
    interpolated: int = 0


def picture_path(split: str, clip: str, name: str, level: int, input_level: int) -> str:
    """Relative path of a level of an exposure in the layout above."""
    folder = "sharp" if level == 1 else "blur" if level == input_level else f"TL{level}"
    return f"{split}/{clip}/{folder}/{name}.png"


def write_level(dataset: Path, pixels: NDArray[Any], path: str | None = None, **facts: Any) -> Row:
    """Write one picture of a data set atomically.

    Args:
        dataset: its folder.
        pixels: (H, W, 3) RGB, uint8 or uint16.
        path: relative path; by default that of `picture_path`.
        facts: the fields of `Row` that do not depend on the pixels: split, clip, name, level, input_level,
            source, first_frame, last_frame, crf and optionally interpolated.

    Raises:
        UserError: if it cannot be written.
    """
    path = path or picture_path(*(facts[key] for key in ("split", "clip", "name", "level", "input_level")))
    encoded = encode_picture(Picture(pixels), "png")
    write_atomically(dataset / path, encoded)
    height, width = pixels.shape[:2]
    facts["source"] = plain_name(facts["source"])
    return Row(
        **facts,
        path=path,
        width=width,
        height=height,
        bits=8 * pixels.dtype.itemsize,
        bytes=len(encoded),
        sha256=hashlib.sha256(encoded).hexdigest(),
    )


def write_manifest(dataset: Path, rows: Iterable[Row], facts: Mapping[str, Any]) -> None:
    """Write the manifest, sorted by path; the bytes depend on the arguments alone.

    Args:
        dataset: the folder.
        rows: one a picture.
        facts: how the data set was built, of JSON's types.

    Raises:
        UserError: if it cannot be written, or pyarrow is not installed.
    """
    pyarrow, parquet = _import_pyarrow()
    columns = zip(*(astuple(row) for row in sorted(rows, key=lambda row: row.path)), strict=True)
    types: dict[Any, Any] = {int: pyarrow.int64(), str: pyarrow.string()}
    schema = pyarrow.schema(
        [(field.name, types[field.type]) for field in fields(Row)], metadata={_METADATA: json.dumps(facts)}
    )
    table = pyarrow.Table.from_arrays([pyarrow.array(column) for column in columns], schema=schema)
    with atomic_path(dataset / MANIFEST) as temporary:
        parquet.write_table(table, temporary)


def read_manifest(dataset: Path) -> tuple[list[Row], Record]:
    """The rows of a data set's manifest, sorted by path, and the facts of `write_manifest`.

    Raises:
        UserError: if the manifest is missing or cannot be read, or pyarrow is not installed.
    """
    pyarrow, parquet = _import_pyarrow()
    path = dataset / MANIFEST
    if not path.is_file():
        unfinished = (dataset / JOURNAL).exists()
        why = "is not finished: repeat the command that builds it" if unfinished else f"has no {MANIFEST}"
        raise UserError(f"the data set {dataset} {why}")
    try:
        table = parquet.read_table(path)
        return [Row(**row) for row in table.to_pylist()], json.loads(table.schema.metadata[_METADATA])
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} is no manifest of a temporal data set") from error


def stored_levels(dataset: Path, split: str) -> Iterator[tuple[int, str]]:
    """Level and path of every picture of a split, sorted by path, read in batches to save memory.

    Raises:
        UserError: as `read_manifest` does.
    """
    pyarrow, parquet = _import_pyarrow()
    try:
        with parquet.ParquetFile(dataset / MANIFEST) as file:
            for rows in file.iter_batches(columns=["split", "level", "path"]):
                for row in rows.to_pylist():
                    if row["split"] == split:
                        yield row["level"], row["path"]
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise UserError(f"{dataset / MANIFEST} is no manifest of a temporal data set") from error


def check_dataset(dataset: Path) -> tuple[int, Iterator[str | None]]:
    """Compare a data set with its manifest.

    Returns:
        Number of files to check, and for each file None or its fault: missing, altered or extra.

    Raises:
        UserError: as `read_manifest` does.
    """
    rows, _ = read_manifest(dataset)
    known = {MANIFEST, *(row.path for row in rows)}
    files = (path for path in dataset.rglob("*") if not path.is_dir())
    extra = sorted(name for file in files if (name := file.relative_to(dataset).as_posix()) not in known)

    def outcomes() -> Iterator[str | None]:
        yield from (f"extra: {name}" for name in extra)
        with ThreadPoolExecutor() as pool:  # hashing and reading release the GIL
            yield from pool.map(partial(_fault_of, dataset), rows)

    return len(extra) + len(rows), outcomes()


def _fault_of(dataset: Path, row: Row) -> str | None:
    try:
        with (dataset / row.path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"missing: {row.path}"
    except OSError as error:
        return f"cannot be read: {row.path} ({reason(error)})"
    return None if digest == row.sha256 else f"altered: {row.path}"


def require_pyarrow() -> None:
    """Check before a build that its manifest can be written.

    Raises:
        UserError: if pyarrow is not installed.
    """
    _import_pyarrow()


def _import_pyarrow() -> tuple[Any, Any]:
    what = "a data set's manifest"
    return require("pyarrow", "data", what), require("pyarrow.parquet", "data", what)
