"""How fast ladders of 256x256 patches come off the disk, by how pictures are stored, and what each way costs.

    python benchmarks/loading.py [FRAMES] [--folder FOLDER]

FRAMES is a folder of 14 or more high-speed frames; without it, 20 noisy frames of a moving photograph are
made. A ladder is the seven levels TL1, TL3 ... TL13 of one exposure, cropped alike. Every way gives the same
crops in the same order, on one thread, and is timed in processor time, so that other work on the machine
disturbs little. The ways that need a library which is not installed are left out.
"""

import argparse
import importlib.util
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mtdeblur.data.disk.decode import decode
from mtdeblur.data.feeding.cache import Decoded
from mtdeblur.data.feeding.stored import Dataset
from mtdeblur.data.feeding.stream import Exposures, LadderStream
from mtdeblur.evaluation.provenance import commit, processor_name
from mtdeblur.exposure.crf import GAMMA, IDENTITY
from mtdeblur.exposure.levels import temporal_ladder
from mtdeblur.exposure.sensor import Sensor
from mtdeblur.exposure.simulate import FRAMES, Motion

PATCH = 256
LEVELS = range(1, FRAMES + 1, 2)
SECONDS = 3.0
Corner = tuple[int, int]


@dataclass
class Way:
    """A way to store exposures: how to read a ladder's crop, where its files are, and how exact it is."""

    name: str
    read: Callable[[int, Corner], Any]
    files: list[Path]
    error: int = 0


def made_frames(total: int = 20) -> np.ndarray:
    """Frames (T, 720, 1280, 3) of a photograph under a moving camera, with the noise of a sensor."""
    from skimage import data

    rng = np.random.default_rng(0)
    photograph = np.asarray(Image.fromarray(data.coffee()).resize((1400, 900), Image.Resampling.LANCZOS))
    path = np.cumsum(rng.normal(0, 3, (total, 2)), axis=0)
    tops, lefts = np.clip(path.round().astype(int) + np.array((90, 60)), 0, (180, 120)).T
    frames = np.stack([photograph[t : t + 720, x : x + 1280] for t, x in zip(tops, lefts, strict=True)])
    return np.clip(frames + rng.normal(0, 1.5, frames.shape), 0, 255).round().astype(np.uint8)


def levels_of(frames: np.ndarray) -> np.ndarray:
    """Levels (7, H, W, 3) of one exposure, in gamma-2.2 light."""
    ladder = temporal_ladder(torch.from_numpy(frames).movedim(-1, 1).float() / 255, LEVELS, GAMMA)
    return torch.stack(list(ladder.values())).mul(255).round().byte().movedim(1, -1).numpy()


def write_dataset(frames: np.ndarray, root: Path) -> np.ndarray:
    """The exposures of consecutive mid-frames as a temporal data set of PNG; their levels (N, 7, H, W, 3)."""
    exposures = np.stack([levels_of(frames[i : i + FRAMES]) for i in range(len(frames) - FRAMES + 1)])
    for number, exposure in enumerate(exposures):
        for n, picture in zip(LEVELS, exposure, strict=True):
            for side in {1: ["sharp"], FRAMES: ["TL13", "blur"]}.get(n, [f"TL{n}"]):
                file = root / f"train/clip/{side}/{number:06d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(file)
    return exposures


def picture_ways(exposures: np.ndarray, root: Path, folder: Path) -> Iterator[Way]:
    """Ways with one file a picture."""
    ladders = Dataset(root).ladders
    names = [[ladder.path(n) for n in LEVELS] for ladder in ladders]

    def cut(pictures: list[np.ndarray], corner: Corner) -> np.ndarray:
        top, left = corner
        return np.stack([picture[top : top + PATCH, left : left + PATCH] for picture in pictures])

    def way(name: str, files: list[list[Path]], read: Callable[[Path], np.ndarray]) -> Way:
        error = max(
            int(np.abs(read(file).astype(int) - level).max())
            for file, level in zip(files[0], exposures[0], strict=True)
        )
        return Way(
            name, lambda i, corner: cut([read(file) for file in files[i]], corner), list(chain(*files)), error
        )

    def saved(kind: str, save: Callable[[Path, np.ndarray], object]) -> list[list[Path]]:
        files = [[folder / kind / f"{i}-{n}.{kind}" for n in LEVELS] for i in range(len(exposures))]
        (folder / kind).mkdir()
        for row, exposure in zip(files, exposures, strict=True):
            for file, picture in zip(row, exposure, strict=True):
                save(file, picture)
        return files

    yield way("7 levels, PNG (the plain path)", names, decode)
    for quality in (98, 100):
        kind = "jpg" if quality == 98 else "jpeg"
        files = saved(
            kind, lambda file, x, q=quality: Image.fromarray(x).save(file, quality=q, subsampling=0)
        )
        yield way(f"7 levels, JPEG {quality} 4:4:4", files, decode)
    yield way("7 levels, .npy mapped", saved("npy", np.save), lambda file: np.load(file, mmap_mode="r"))
    if importlib.util.find_spec("blosc2"):
        import blosc2

        blosc2.set_nthreads(1)
        files = saved(
            "b2nd",
            lambda file, x: blosc2.asarray(
                x,
                urlpath=str(file),
                chunks=(128, 128, 3),
                cparams={"codec": blosc2.Codec.ZSTD, "clevel": 1, "filters": [blosc2.Filter.SHUFFLE]},
            ),
        )
        yield Way(
            "7 levels, Blosc2 zstd, 128x128 chunks",
            lambda i, c: [
                blosc2.open(str(file), mode="r")[c[0] : c[0] + PATCH, c[1] : c[1] + PATCH]
                for file in files[i]
            ],
            list(chain(*files)),
        )
    tiles = [folder / "tiles" / f"{i}-{n}.png" for i in range(len(exposures)) for n in LEVELS]
    (folder / "tiles").mkdir()
    for file, picture in zip(tiles, exposures.reshape(-1, *exposures.shape[2:]), strict=True):
        Image.fromarray(picture[:384, :384]).save(file)
    yield Way(
        "7 levels, PNG tiles of 384x384 (crops within a tile)",
        lambda i, c: cut([decode(file) for file in tiles[7 * i : 7 * i + 7]], (c[0] % 129, c[1] % 129)),
        tiles,
    )


def clip_ways(frames: np.ndarray, exposures: np.ndarray, folder: Path) -> Iterator[Way]:
    """Ways with one file an exposure, or with the frames once for all exposures."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    files = [folder / f"{i}.safetensors" for i in range(len(exposures))]
    for file, exposure in zip(files, exposures, strict=True):
        save_file({"levels": exposure}, file)

    def from_safetensors(i: int, corner: Corner) -> np.ndarray:
        with safe_open(files[i], "np") as stored:
            return stored.get_slice("levels")[:, corner[0] : corner[0] + PATCH, corner[1] : corner[1] + PATCH]

    yield Way("7 levels, one safetensors an exposure", from_safetensors, files)
    if importlib.util.find_spec("zarr"):
        import zarr

        for compressor in (None, zarr.codecs.BloscCodec(cname="zstd", clevel=1)):
            store = folder / f"zarr-{compressor is not None}"
            array = zarr.create_array(
                str(store),
                shape=exposures.shape,
                dtype="uint8",
                chunks=(1, 7, 128, 128, 3),
                compressors=compressor,
            )
            array[:] = exposures
            yield Way(
                f"7 levels, Zarr {'zstd' if compressor else 'uncompressed'}, 128x128 chunks",
                lambda i, c, array=array: array[i, :, c[0] : c[0] + PATCH, c[1] : c[1] + PATCH],
                [file for file in store.rglob("*") if file.is_file()],
            )
    file = folder / "frames.npy"
    np.save(file, frames)
    mapped = np.load(file, mmap_mode="r")

    def averaged(i: int, corner: Corner, crf: Any) -> object:
        part = mapped[i : i + FRAMES, corner[0] : corner[0] + PATCH, corner[1] : corner[1] + PATCH]
        tensor = torch.from_numpy(np.ascontiguousarray(part)).movedim(-1, 1).float().div_(255)
        return temporal_ladder(tensor, LEVELS, crf)

    for crf in (IDENTITY, GAMMA):
        name = f"13 frames, .npy mapped, averaged on this processor ({crf.name})"
        yield Way(name, lambda i, c, crf=crf: averaged(i, c, crf), [file])


def corners(total: int, shape: tuple[int, ...]) -> Iterator[tuple[int, Corner]]:
    """Which exposure is read next, and where."""
    rng = np.random.default_rng(0)
    while True:
        corner = int(rng.integers(shape[0] - PATCH + 1)), int(rng.integers(shape[1] - PATCH + 1))
        yield int(rng.integers(total)), corner


def rate(work: Callable[[], object]) -> float:
    """Calls a second of processor time, after one to warm up."""
    work()
    done, started, wall = 0, time.process_time(), time.monotonic()
    while done < 3 or time.monotonic() - wall < SECONDS:
        work()
        done += 1
    return done / (time.process_time() - started)


def forget(files: list[Path]) -> None:
    """Ask the system to drop files from its cache."""
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold_rate(way: Way, total: int, shape: tuple[int, ...], rounds: int = 3) -> float:
    """Ladders a second of real time when nothing read is in the system's cache."""
    draw, spent = corners(total, shape), 0.0
    for _ in range(rounds):
        forget(way.files)
        for i in range(total):
            corner = next(draw)[1]
            started = time.monotonic()
            way.read(i, corner)
            spent += time.monotonic() - started
    return rounds * total / spent


def stream_rate(root: Path, cache: Decoded) -> float:
    """Ladders a second of processor time as training gets them: batches of floats, flipped and turned."""
    data = Dataset(root)
    clean = Exposures(Motion(), Sensor(noise=0, noisy=0, compressed=0), 0, 0)
    stream = LadderStream(data, clean, levels=(FRAMES,), patch=PATCH, batch=4, decoded=cache)
    assert stream.order is not None
    for number in range(len(stream.order)):  # what is decoded once is not what is measured
        stream.batch(number)
    numbers = count()
    return 4 * rate(lambda: stream.batch(next(numbers)))


def report(frames: np.ndarray, folder: Path) -> None:
    """Measure every way and print the table."""
    root = folder / "dataset"
    exposures = write_dataset(frames, root)
    total, shape = len(exposures), frames.shape[1:3]
    ways = [*picture_ways(exposures, root, folder), *clip_ways(frames, exposures, folder)]
    print("| stored as | ladders/s | times plain | cold, ladders/s | MB a level | largest error |")
    print("| --- | --- | --- | --- | --- | --- |")
    plain = 0.0
    for way in ways:
        draw = corners(total, shape)
        ladders = rate(lambda draw=draw, way=way: way.read(*next(draw)))
        plain = plain or ladders
        size = sum(file.stat().st_size for file in way.files) / (7 * total) / 1e6
        cold = cold_rate(way, total, shape)
        print(
            f"| {way.name} | {ladders:.1f} | {ladders / plain:.1f} | {cold:.1f} | {size:.2f} | {way.error} |",
            flush=True,
        )
    print("\nAs training gets them (LadderStream, float32, flipped and turned):\n")
    print("| pictures | ladders/s | times plain |\n| --- | --- | --- |")
    decoding = stream_rate(root, Decoded(memory=0))
    for name, cache in (
        ("decoded each time", Decoded(memory=0)),
        ("kept in memory", Decoded()),
        ("data.cache, mapped", Decoded(folder / "cache")),
    ):
        ladders = decoding if cache.memory == 0 else stream_rate(root, cache)
        print(f"| {name} | {ladders:.1f} | {ladders / decoding:.1f} |", flush=True)


def main() -> None:
    """Parse the command line, print what is measured on, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("frames", type=Path, nargs="?", help="folder of high-speed frames")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.frames:
        frames = np.stack([decode(file) for file in sorted(options.frames.glob("*.png"))])
    else:
        frames = made_frames()
    print(f"{processor_name()}, 1 thread, {platform.system()}; commit {commit()}")
    height, width = frames.shape[1:3]
    print(f"{len(frames)} frames of {width}x{height} from {options.frames or 'a photograph'}\n")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report(frames, Path(folder))


if __name__ == "__main__":
    main()
