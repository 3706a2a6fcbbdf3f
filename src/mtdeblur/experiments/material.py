"""Training data of runs, and their test sets of pairs, real ones or stand-ins."""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mtdeblur.data.disk.decode import decode
from mtdeblur.data.disk.pairs import Pair, find_pairs, manifest_ladders
from mtdeblur.data.disk.photographs import Photograph, public_domain_photographs
from mtdeblur.data.feeding.pack import Pack, build_pack
from mtdeblur.data.making.camera import Simulation
from mtdeblur.data.making.from_photographs import simulate
from mtdeblur.errors import UserError
from mtdeblur.experiments.catalogue import StandIn, TestMaking
from mtdeblur.exposure.crf import GAMMA, IDENTITY
from mtdeblur.exposure.sensor import Sensor
from mtdeblur.exposure.simulate import Motion
from mtdeblur.files.atomic import atomic_folder
from mtdeblur.media.formats import list_pictures
from mtdeblur.media.pictures import Picture, write_picture

HELD_OUT = "coffee"
"""The public-domain photograph of scikit-image that is the test picture if no data is given."""


class TestSet(NamedTuple):
    """Pairs to measure on.

    Attributes:
        key: changes when the pairs do.
        pairs: the pairs.
    """

    __test__ = False

    key: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Material:
    """Training data and test sets.

    Attributes:
        data: settings of a run's section `data`: the training data.
        key: changes with the training data.
        training: description of the training data for the reader.
        sets: test set to its parts, which sets may share; each part is measured once.
        stamps: test set to the stamp of its cells, for the reader; empty for real ones.
    """

    data: Mapping[str, str]
    key: str
    training: str
    sets: Mapping[str, tuple[TestSet, ...]]
    stamps: Mapping[str, str]


def prepare(
    given: Sequence[str], wanted: Mapping[str, StandIn], making: TestMaking, folder: Path
) -> Material:
    """Prepare the training pack and the test sets; existing ones are reused.

    Args:
        given: `NAME=FOLDER` for a test set of pairs; and one source of training data, whose held-out part
            replaces the other test sets: a temporal data set (see `mtdeblur augment`), a training pack, or
            photographs; by default scikit-image's photographs.
        wanted: the required test sets, with their stand-ins.
        making: settings of stand-ins from photographs.
        folder: of the results.

    Raises:
        UserError: if given data cannot be used, or there are no pictures for a stand-in.
    """
    real, source = _split(given, wanted)
    if source is not None and not _is_pack(source) and find_pairs(source, split="train", optional=True):
        data, training = {"dataset": str(source.resolve())}, f"the data set {source}"
        studio, stamp = _DatasetStudio(source), f"test split of {source.name}"
    else:
        pack, training = _pack(source, folder)
        data = {"pack": str(pack)}
        studio, stamp = _PhotographStudio(_held_out(Pack(pack)), making, folder, _key(pack)), "simulated"
    sets = {
        name: (_test_set(find_pairs(real[name])),) if name in real else studio.stand_in(name, stand_in)
        for name, stand_in in wanted.items()
    }
    stamps = {name: "" if name in real else stamp for name in sets}
    return Material(data, _key(Path(*data.values())), training, sets, stamps)


def _split(given: Sequence[str], wanted: Mapping[str, object]) -> tuple[dict[str, Path], Path | None]:
    """The test sets and the source of training data among the values of --data."""
    real: dict[str, Path] = {}
    others: list[str] = []
    for item in given:
        name, equals, path = item.partition("=")
        if not equals or Path(item).exists():
            others.append(item)
        elif name in wanted:
            real[name] = Path(path)
        else:
            raise UserError(f"--data {item}: the test sets needed are {', '.join(wanted)}")
    if len(others) > 1:
        raise UserError(f"--data takes one source of training data, not {' and '.join(others)}")
    return real, Path(others[0]) if others else None


def _test_set(pairs: Sequence[Pair]) -> TestSet:
    listed = [(str(file.resolve()), file.stat().st_size) for pair in pairs for file in pair[1:]]
    return TestSet(_hash(listed), tuple(pairs))


def _pack(source: Path | None, folder: Path) -> tuple[Path, str]:
    """The training pack and its description."""
    if source is None:
        return _public_domain_pack(folder / "public-domain"), "photographs that come with scikit-image"
    if _is_pack(source):
        return source.resolve(), f"the pack {source}"
    if (source / "train").is_dir():
        raise UserError(f"{source} has no pairs; make a data set of frames first: mtdeblur augment --help")
    listed = [(str(file), file.stat().st_size) for file in list_pictures(source)]
    pack = folder / f"{source.resolve().name}-{_hash(listed)}.zip"
    if not pack.exists():
        build_pack(pack, photos=[source])
    return pack.resolve(), f"photographs in {source}"


def _is_pack(source: Path) -> bool:
    return source.is_file() or any(
        (source / "train" / kind).is_dir() for kind in ("photos", "clips", "pairs")
    )


def _public_domain_pack(pack: Path) -> Path:
    for photograph in public_domain_photographs():
        part = "valid" if photograph.name == HELD_OUT else "train"
        file = pack / part / "photos" / f"{photograph.name}.png"
        if not file.exists():
            write_picture(file, Picture(photograph.read()))
    return pack.resolve()


def _held_out(pack: Pack) -> list[Photograph]:
    return [
        Photograph(Path(entry.name).stem, str(entry), partial(decode, entry)) for entry in pack.valid_photos
    ]


class _DatasetStudio(NamedTuple):
    """Takes test sets from the test split of a temporal data set."""

    folder: Path

    def stand_in(self, name: str, stand_in: StandIn) -> tuple[TestSet, ...]:
        """Its pairs for a test set of several levels; one level of all exposures for the others."""
        if stand_in.levels[1:]:
            return (_test_set(find_pairs(self.folder)),)
        level = stand_in.levels[0]
        pairs = [
            Pair(str(ladder.path(1).relative_to(self.folder)), ladder.path(level), ladder.path(stand_in.goal))
            for ladder in manifest_ladders(self.folder, "test")
            if {level, stand_in.goal} <= ladder.folders.keys()
        ]
        if not pairs:
            raise UserError(f"{self.folder} stores no TL{level} to test on; give --data {name}=FOLDER")
        return (_test_set(pairs),)


class _PhotographStudio(NamedTuple):
    """Makes test sets of held-out photographs by the simulated high-speed camera."""

    photographs: Sequence[Photograph]
    making: TestMaking
    folder: Path
    key: str

    def stand_in(self, name: str, stand_in: StandIn) -> tuple[TestSet, ...]:
        """The pairs of each level."""
        if not self.photographs:
            raise UserError(
                f"the pack has no held-out photographs; give the test set with --data {name}=FOLDER"
            )
        return tuple(self._level(level, stand_in) for level in stand_in.levels)

    def _level(self, level: int, stand_in: StandIn) -> TestSet:
        """The pairs of one level, made atomically."""
        simulation = Simulation(
            level,
            stand_in.seed,
            self.making.longest,
            GAMMA if stand_in.gamma else IDENTITY,
            Motion(length=self.making.length, still=0.0),
            Sensor(noisy=0.0, compressed=0.0),
            stand_in.goal,
        )
        settings = [stand_in.seed, stand_in.goal, stand_in.gamma]
        key = f"TL{level}-{_hash([self.key, self.making.model_dump(), *settings])}"
        target = self.folder / key
        if not target.exists():
            with atomic_folder(target) as part:
                faults = simulate(self.photographs, part, self.making.exposures, simulation, workers=1)
                if faults:
                    raise UserError("; ".join(faults.values()))
        return TestSet(key, tuple(find_pairs(target)))


def _key(data: Path) -> str:
    """Key of training data: by checksums in an archive, by names and sizes of files in a folder."""
    if data.is_dir():
        files = sorted(file for file in data.rglob("*") if file.is_file())
        return _hash([(str(file.relative_to(data)), file.stat().st_size) for file in files])
    with zipfile.ZipFile(data) as archive:
        return _hash([(entry.filename, entry.CRC) for entry in archive.infolist()])


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
