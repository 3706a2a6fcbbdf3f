"""`mtdeblur pack`."""

from pathlib import Path
from typing import Annotated

import typer


def pack(
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Sharp photographs, or folders of them.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The archive.")] = Path("pack.zip"),
    clips: Annotated[
        list[Path] | None, typer.Option("--clip", help="Video, or folder of frames, of a high-speed camera.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Folder with blur/ and sharp/ to validate on; never trained on.")
    ] = None,
    train_pairs: Annotated[
        Path | None,
        typer.Option(help="Folder with blur/ and sharp/ to train on; pairs that --pairs has are skipped."),
    ] = None,
    long_side: Annotated[
        int, typer.Option(min=64, help="Longer side in pixels to which larger photographs are reduced.")
    ] = 900,
    quality: Annotated[int, typer.Option(min=60, max=100, help="JPEG quality; pairs keep theirs.")] = 92,
    limit: Annotated[
        float | None, typer.Option(min=0.001, help="Largest size in MB; the quality is lowered to fit.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of 13 frames to keep from each clip.")] = 8,
) -> None:
    """Pack photographs, high-speed clips and pairs into one training archive."""
    from mtdeblur.data.feeding.pack import build_pack

    build_pack(
        output,
        photos=photos or [],
        clips=clips or [],
        pairs=pairs,
        train_pairs=train_pairs,
        long_side=long_side,
        quality=quality,
        limit=None if limit is None else int(limit * 1e6),
        runs=runs,
    )
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
