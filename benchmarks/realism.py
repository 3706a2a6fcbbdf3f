"""How real blur differs from blur that is simulated on the sharp side of the same pairs.

    python benchmarks/realism.py PAIRS

PAIRS holds blur/ and sharp/, averages of frames of a high-speed camera whose names say how many: GoPro's
GOPRxxxx_NN_yy, or NAME_n_avg-NN. Each pair is cut into crops. Of each sharp crop, with what stands around it,
the simulated camera makes a blurred one at the nearest temporal level, so that both blurred crops show the
same, and their statistics differ by the blur alone. Flat crops are left out. Printed for each statistic: its
5 %, 50 % and 95 % quantiles, real and simulated, and the Kolmogorov-Smirnov distance of the two distributions
(0: alike, 1: apart).
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from mtdeblur.data.disk.pairs import find_pairs
from mtdeblur.evaluation.provenance import commit
from mtdeblur.exposure.crf import CRF, GAMMA, IDENTITY
from mtdeblur.exposure.sensor import Sensor, record
from mtdeblur.exposure.simulate import FRAMES, Motion, margin, simulate_ladder
from mtdeblur.media.pictures import read_pixels
from mtdeblur.metrics.arrays import psnr

Grey = NDArray[np.float64]
Values = dict[str, list[float]]
CROP = 128
FLAT = 3.0
"""Crops whose sharp side has a root mean square gradient below this many grey levels are left out."""
OCTAVES = {"1/2 to 1/4": (1 / 4, 1 / 2), "1/4 to 1/8": (1 / 8, 1 / 4), "1/8 to 1/16": (1 / 16, 1 / 8)}
"""Bands of spatial frequency, in cycles a pixel."""


def grey(pixels: NDArray[Any]) -> Grey:
    """(H, W, 3) uint8 to (H, W) luma in grey levels, ITU-R BT.601."""
    return pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def gradient_energy(picture: Grey) -> float:
    """Mean squared difference of neighbouring pixels."""
    return float(np.mean(np.diff(picture, axis=0) ** 2) + np.mean(np.diff(picture, axis=1) ** 2))


def power(picture: Grey) -> tuple[Grey, Grey, Grey]:
    """Power spectrum under a Hann window, with each value's frequency in cycles a pixel and its angle."""
    window = np.hanning(len(picture))
    spectrum = np.abs(np.fft.fft2((picture - picture.mean()) * np.outer(window, window))) ** 2
    frequency = np.fft.fftfreq(len(picture))
    y, x = np.meshgrid(frequency, frequency, indexing="ij")
    return spectrum, np.hypot(x, y), np.arctan2(y, x) % np.pi


def statistics(blurred: NDArray[Any], sharp: NDArray[Any]) -> dict[str, float]:
    """What is compared, of one crop."""
    b, s = grey(blurred), grey(sharp)
    kept = gradient_energy(b) / gradient_energy(s)
    result = {"PSNR, dB": psnr(blurred, sharp), "gradient energy kept": kept}
    (spectrum_b, frequency, angle), (spectrum_s, _, _) = power(b), power(s)
    for name, (low, high) in OCTAVES.items():
        band = (frequency >= low) & (frequency < high)
        result[f"power kept, {name} cycles/pixel"] = spectrum_b[band].sum() / spectrum_s[band].sum()
    band = (frequency >= 1 / 16) & (frequency < 1 / 4)
    sectors = [band & (angle // (np.pi / 8) == sector) for sector in range(8)]
    shares = [spectrum_b[sector].sum() / spectrum_s[sector].sum() for sector in sectors]
    result["directionality, decades"] = float(np.log10(max(shares) / min(shares)))
    half = CROP // 2
    quarters = [np.s_[top : top + half, left : left + half] for top in (0, half) for left in (0, half)]
    local = [np.log10((gradient_energy(b[part]) + 1) / (gradient_energy(s[part]) + 1)) for part in quarters]
    result["unevenness, decades"] = float(np.std(local))
    differences = np.abs(np.diff(b, axis=1))
    result["gradient sparsity"] = float(np.sqrt(np.mean(differences**2)) / np.mean(differences))
    result["brighter by, grey levels"] = float(b.mean() - s.mean())
    result["noise of the blurred, grey levels"] = noise(b)
    return result


def noise(picture: Grey) -> float:
    """Standard deviation of the noise by Immerkaer's mask (1996), in the flattest tenth of 8x8 blocks."""
    p = picture
    across = p[:, :-2] - 2 * p[:, 1:-1] + p[:, 2:]
    both = np.abs(across[:-2] - 2 * across[1:-1] + across[2:])
    rows, columns = (length // 8 for length in both.shape)
    blocks = both[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).mean(axis=(1, 3))
    return float(np.quantile(blocks, 0.1) * np.sqrt(np.pi / 2) / 6)


def level_of(name: str) -> int:
    """The temporal level next to the number of frames that a name speaks of."""
    found = re.search(r"n_avg-(\d+)", name) or re.search(r"GOPR\d+_(\d+)_", name)
    if not found:
        raise typer.BadParameter(f"{name} does not say how many frames were averaged")
    return min(FRAMES, int(found[1]) // 2 * 2 + 1)


class Crop(NamedTuple):
    """A crop of a pair that is not flat.

    Attributes:
        sequence: which the pair is of, with the level.
        level: temporal level of the blurred side.
        blurred: (CROP, CROP, 3) uint8.
        around: (CROP + 2 margins, same, 3) uint8: the sharp side with what stands around, mirrored at edges.
    """

    sequence: str
    level: int
    blurred: NDArray[Any]
    around: NDArray[Any]


def crops(folder: Path, edge: int) -> Iterator[Crop]:
    """The crops of all pairs of a folder, side by side."""
    for pair in find_pairs(folder):
        blurred, sharp = (read_pixels(path) for path in (pair.blur, pair.sharp))
        wide = np.pad(sharp, ((edge, edge), (edge, edge), (0, 0)), mode="symmetric")
        level = level_of(pair.name)
        for top in range(0, len(sharp) - CROP + 1, CROP):
            for left in range(0, len(sharp[0]) - CROP + 1, CROP):
                around = wide[top : top + CROP + 2 * edge, left : left + CROP + 2 * edge]
                if gradient_energy(grey(around[edge : edge + CROP, edge : edge + CROP])) >= FLAT**2:
                    part = blurred[top : top + CROP, left : left + CROP]
                    yield Crop(f"{pair.name.split('_')[0]} TL{level}", level, part, around)


def simulate(crop: Crop, how: Motion, sensor: Sensor, crf: CRF, seed: int) -> list[NDArray[Any]]:
    """Blurred and sharp (CROP, CROP, 3) uint8 by the simulated camera."""
    photograph = torch.from_numpy(crop.around.transpose(2, 0, 1).copy())[None].float() / 255
    ladder = simulate_ladder(photograph, CROP, {1, crop.level}, how, crf, [seed])
    sides = record(ladder[crop.level], sensor, [seed]), ladder[1]
    return [side[0].mul(255).round().byte().permute(1, 2, 0).numpy() for side in sides]


def show(title: str, real: Values, simulated: Values) -> None:
    """Print one table."""
    print(f"\n{title}: {len(next(iter(real.values())))} crops\n")
    print("| statistic | real 5 / 50 / 95 % | simulated 5 / 50 / 95 % | distance |")
    print("| --- | --- | --- | --- |")
    for name, values in real.items():
        cells = (
            " / ".join(f"{value:.3g}" for value in np.quantile(some, (0.05, 0.5, 0.95)))
            for some in (values, simulated[name])
        )
        distance = ks_2samp(values, simulated[name]).statistic
        print(f"| {name} | {' | '.join(cells)} | {distance:.2f} |")


def main(
    pairs: Annotated[Path, typer.Argument(help="Folder with blur/ and sharp/.")],
    length: Annotated[float, typer.Option(help="Longest path over TL13, in pixels.")] = Motion.length,
    still: Annotated[float, typer.Option(help="Share of still samples.")] = Motion.still,
    rotation: Annotated[float, typer.Option(help="Standard deviation over TL13, degrees.")] = Motion.rotation,
    depth: Annotated[float, typer.Option(help="Parallax, as a share.")] = Motion.depth,
    layers: Annotated[float, typer.Option(help="Share with a moving layer.")] = Motion.layers,
    interpolation: Annotated[str, typer.Option(help="bilinear or bicubic.")] = Motion.interpolation,
    gamma: Annotated[bool, typer.Option("--gamma", help="Average in gamma-2.2 light.")] = False,
    quality: Annotated[
        int | None, typer.Option(help="JPEG quality of the simulated side; none if not given.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Take every so many crops only.")] = 1,
    by_sequence: Annotated[
        bool, typer.Option("--by-sequence", help="A table for each sequence too.")
    ] = False,
) -> None:
    """Measure and print."""
    how = Motion(length, still, rotation, Motion.zoom, depth, layers, cast(Any, interpolation))
    sensor = Sensor(noisy=0, compressed=quality is not None, quality=(quality or 100, quality or 100))
    crf = GAMMA if gamma else IDENTITY
    print(f"commit {commit()}; {how}; {crf.name}; JPEG quality {quality}")
    real: dict[str, Values] = defaultdict(lambda: defaultdict(list))
    simulated: dict[str, Values] = defaultdict(lambda: defaultdict(list))
    for seed, crop in enumerate(islice(crops(pairs, margin(how)), 0, None, every)):
        edge = margin(how)
        sharp = crop.around[edge : edge + CROP, edge : edge + CROP]
        for kind, sides in (
            (real, (crop.blurred, sharp)),
            (simulated, simulate(crop, how, sensor, crf, seed)),
        ):
            for name, value in statistics(*sides).items():
                for group in ("all", crop.sequence):
                    kind[group][name].append(value)
    for group in ("all", *sorted(real.keys() - {"all"})) if by_sequence else ("all",):
        show(group, real[group], simulated[group])


if __name__ == "__main__":
    typer.run(main)
