"""What deblurring does to pictures that it should leave alone: sharp, noisy, compressed, defocused, dark.

    python benchmarks/harm.py FOLDER --weights maxim-gopro --iterations 3

Sharp photographs, every tenth of the folder's by their names, are put in as they are; PSNR says how far they
come out from what went in. One public-domain picture (scikit-image's coffee) is worn in several ways, and
PSNR says the same of it. There is a figure for each step.
"""

import io
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from skimage.filters import gaussian

import mtdeblur
from mtdeblur.media import libvips
from mtdeblur.media.formats import list_pictures
from mtdeblur.media.pictures import read_pixels
from mtdeblur.metrics.arrays import psnr

Pixels = NDArray[Any]


def _noisy(levels: float) -> Callable[[Pixels], Pixels]:
    noise = np.random.default_rng(0).normal(0, levels, data.coffee().shape)
    return lambda picture: np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def _compressed(quality: int) -> Callable[[Pixels], Pixels]:
    def compress(picture: Pixels) -> Pixels:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "jpeg", quality=quality)
        return libvips.decode(file.getvalue(), "jpeg").samples

    return compress


WAYS: dict[str, Callable[[Pixels], Pixels]] = {
    "as it is": lambda picture: picture,
    "noise of 10 grey levels": _noisy(10),
    "noise of 25 grey levels": _noisy(25),
    "JPEG of quality 30": _compressed(30),
    "JPEG of quality 10": _compressed(10),
    "Gaussian blur, sigma 3": lambda picture: np.rint(
        gaussian(picture, 3, channel_axis=2, preserve_range=True)
    ).astype(np.uint8),
    "darkened to 12 %": lambda picture: np.rint(picture * 0.12).astype(np.uint8),
}


def main(
    folder: Annotated[Path | None, typer.Argument(help="Sharp photographs.")] = None,
    weights: Annotated[str | None, typer.Option(help="The default weights if not given.")] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="What the weights advise if not given.")
    ] = None,
) -> None:
    """Print the figures."""
    deblurrer = mtdeblur.load(weights, iterations=iterations)

    def measured(picture: Pixels) -> list[float]:
        return [psnr(estimate, picture) for estimate in deblurrer.progress(picture)]

    def shown(values: list[float]) -> str:
        return " / ".join(f"{value:.1f}" for value in values)

    print(f"{deblurrer.name}, {deblurrer.precision}: PSNR to the input in dB, after each step")
    for way, wear in WAYS.items():
        print(f"coffee, {way}: {shown(measured(wear(data.coffee())))}", flush=True)
    if folder is not None:
        rows = [measured(read_pixels(path)) for path in list_pictures(folder)[::10]]
        columns = list(zip(*rows, strict=True))
        print(f"{len(rows)} sharp photographs, mean: {shown([fmean(column) for column in columns])}")
        print(f"{len(rows)} sharp photographs, worst: {shown([min(column) for column in columns])}")


if __name__ == "__main__":
    typer.run(main)
