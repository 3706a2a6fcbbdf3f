"""What runs are trained and measured on: a pack, and test sets of pairs, real ones or stand-ins."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mtdeblur.data.pack import Pack, build_pack, decode
from mtdeblur.errors import UserError
from mtdeblur.evaluation.pairs import Pair, find_pairs
from mtdeblur.evaluation.simulated import (
    Photograph,
    Simulation,
    public_domain_photographs,
    write_pairs,
)
from mtdeblur.experiments.catalogue import StandIn, TestMaking
from mtdeblur.exposure.crf import GAMMA, IDENTITY
from mtdeblur.exposure.levels import temporal_ladder
from mtdeblur.exposure.simulate import FRAMES, Motion, Sensor
from mtdeblur.media.pictures import Picture, list_pictures, write_picture

HELD_OUT = "coffee"
"""The one of scikit-image's public-domain photographs that is tested on where no data is given."""
RUNS_OF_A_CLIP = 16
"""How many runs of 13 frames of each high-speed clip are trained on: they are kept decoded in memory."""


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
    """What there is to train and measure on.

    Attributes:
        pack: what is trained on.
        key: changes when the pack does.
        training: what it is, for the reader.
        sets: test set to its parts, each measured once though sets share it.
        stamps: test set to what its cells are stamped with, in the reader's words; empty for real ones.
    """

    pack: Path
    key: str
    training: str
    sets: Mapping[str, tuple[TestSet, ...]]
    stamps: Mapping[str, str]


def prepare(
    given: Sequence[str], wanted: Mapping[str, StandIn], making: TestMaking, folder: Path
) -> Material:
    """Make what is missing of the pack and of the test sets; what is there is used again.

    Args:
        given: `NAME=FOLDER` for a test set of pairs; or what to train on and to make stand-ins of: a training
            pack, a folder of photographs, or of high-speed frames in `train/CLIP/` and `test/CLIP/`, as in
            GOPRO_Large_all. Without the latter, photographs that come with scikit-image serve.
        wanted: the test sets needed, with their stand-ins.
        making: how stand-ins are made.
        folder: where to make them.

    Raises:
        UserError: if something given cannot be used, or there is nothing to make a stand-in of.
    """
    real, source = _split(given, wanted)
    pack, training = _pack(source, folder)
    key = _pack_key(pack)
    clips = _clips(source, "test") if source else []
    studio = _Studio(clips, [] if clips else _held_out(Pack(pack)), making, folder, key)
    sets: dict[str, tuple[TestSet, ...]] = {}
    for name, how in wanted.items():
        if name in real:
            sets[name] = (_real(real[name]),)
        elif clips or studio.photographs:
            sets[name] = tuple(studio.stand_in(level, how) for level in how.levels)
        else:
            raise UserError(f"{pack} holds no photographs out; give the test set with --data {name}=FOLDER")
    made = "made of high-speed frames" if clips else "simulated"
    return Material(pack, key, training, sets, {name: "" if name in real else made for name in sets})


def _split(given: Sequence[str], wanted: Mapping[str, object]) -> tuple[dict[str, Path], Path | None]:
    """The test sets among what was given, and what to train on."""
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
        raise UserError(f"--data takes one thing to train on, not {' and '.join(others)}")
    return real, Path(others[0]) if others else None


def _real(folder: Path) -> TestSet:
    pairs = tuple(find_pairs(folder))
    listed = [(str(file.resolve()), file.stat().st_size) for pair in pairs for file in pair[1:]]
    return TestSet(_hash(listed), pairs)


def _pack(source: Path | None, folder: Path) -> tuple[Path, str]:
    """The training pack, and what it is."""
    if source is None:
        return _public_domain_pack(folder / "public-domain"), "photographs that come with scikit-image"
    if not source.exists():
        raise UserError(f"there is no {source} to train on")
    if source.is_file() or any((source / "train" / kind).is_dir() for kind in ("photos", "clips")):
        return source.resolve(), f"the pack {source}"
    clips = _clips(source, "train")
    listed = [(str(file), file.stat().st_size) for file in list_pictures(source)]
    pack = folder / f"{source.resolve().name}-{_hash(listed)}.zip"
    if not pack.exists():
        if clips:
            build_pack(pack, clips=clips, quality=98, runs=RUNS_OF_A_CLIP)
        else:
            build_pack(pack, photos=[source])
    return pack.resolve(), f"{'high-speed frames' if clips else 'photographs'} in {source}"


def _public_domain_pack(pack: Path) -> Path:
    for photograph in public_domain_photographs():
        part = "valid" if photograph.name == HELD_OUT else "train"
        file = pack / part / "photos" / f"{photograph.name}.png"
        if not file.exists():
            write_picture(file, Picture(photograph.read()))
    return pack.resolve()


def _clips(source: Path, part: str) -> list[Path]:
    """Folders of high-speed frames in `source/part/`."""
    if not (source / part).is_dir():
        return []
    return sorted(clip for clip in (source / part).iterdir() if clip.is_dir() and _is_clip(clip))


def _is_clip(folder: Path) -> bool:
    with suppress(UserError):
        return len(list_pictures(folder, recursive=False)) >= FRAMES
    return False


def _held_out(pack: Pack) -> list[Photograph]:
    return [
        Photograph(Path(entry.name).stem, lambda entry=entry: decode(entry)) for entry in pack.valid_photos
    ]


class _Studio(NamedTuple):
    """Makes pairs of held-out photographs, or of held-out high-speed frames where there are such."""

    clips: Sequence[Path]
    photographs: Sequence[Photograph]
    making: TestMaking
    folder: Path
    key: str

    def stand_in(self, level: int, how: StandIn) -> TestSet:
        """The pairs of one level; they appear when all are there."""
        sources = [str(clip.resolve()) for clip in self.clips] or self.key
        made = f"TL{level}-{_hash([sources, self.making.model_dump(), how.seed, how.goal, how.gamma])}"
        target, part = self.folder / made, self.folder / f"{made}.part"
        if not target.exists():
            shutil.rmtree(part, ignore_errors=True)
            (self._expose if self.clips else self._simulate)(part, level, how)
            part.rename(target)
        return TestSet(made, tuple(find_pairs(target)))

    def _simulate(self, folder: Path, level: int, how: StandIn) -> None:
        simulation = Simulation(
            level,
            how.seed,
            self.making.longest,
            GAMMA if how.gamma else IDENTITY,
            Motion(length=self.making.length, still=0.0),
            Sensor(noisy=0.0, compressed=0.0),
            how.goal,
        )
        for error in write_pairs(self.photographs, folder, self.making.exposures, simulation):
            if error is not None:
                raise error

    def _expose(self, folder: Path, level: int, how: StandIn) -> None:
        """Of each clip so many exposures, spread evenly."""
        for clip in self.clips:
            files = list_pictures(clip, recursive=False)
            for start in np.linspace(0, len(files) - FRAMES, self.making.exposures).astype(int):
                frames = np.stack([decode(file) for file in files[start : start + FRAMES]])
                stored = torch.as_tensor(frames).movedim(-1, 1).float() / 255  # (13, 3, H, W)
                ladder = temporal_ladder(stored, (how.goal, level), GAMMA if how.gamma else IDENTITY)
                for side, image in (("sharp", ladder[how.goal]), ("blur", ladder[level])):
                    pixels = image.mul(255).round().byte().movedim(0, -1).contiguous().numpy()
                    write_picture(folder / side / f"{clip.name}-{start:06d}.png", Picture(pixels))


def _pack_key(pack: Path) -> str:
    """Of the pictures in a pack: by their checksums in an archive, their sizes in a folder."""
    if pack.is_dir():
        files = sorted(file for file in pack.rglob("*") if file.is_file())
        return _hash([(str(file.relative_to(pack)), file.stat().st_size) for file in files])
    with zipfile.ZipFile(pack) as archive:
        return _hash([(entry.filename, entry.CRC) for entry in archive.infolist()])


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
