"""Videos for the command `mtdeblur deblur`."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from mtdeblur.cli.interruption import Interrupted, exit_code
from mtdeblur.cli.progress import say, show_stages
from mtdeblur.errors import UserError, counted
from mtdeblur.inference.deblurrer import Deblurrer
from mtdeblur.inference.video import VideoJob, deblur_video, plan_video


def deblur_videos(
    videos: Sequence[Path],
    output: Path | None,
    deblurrer: Deblurrer,
    settings: Mapping[str, Any],
    *,
    codec: str | None,
    crf: int | None,
    overwrite: bool,
) -> None:
    """Deblur videos in turn; one that fails is reported, and the next one starts.

    Args:
        videos: the files.
        output: file of the result of one video, or a folder; see `plan_video`.
        deblurrer: the deblurrer.
        settings: what else decides the pixels of the results.
        codec: see `plan_video`.
        crf: see `plan_video`.
        overwrite: whether to replace existing results.

    Raises:
        UserError: if there is one video and it fails, or several and the output is a file.
        typer.Exit: with code 1 if one of several failed.
    """
    if len(videos) > 1 and output is not None and not output.is_dir():
        if output.suffix:
            raise UserError(
                f"{output} is one file, but there are {len(videos)} videos; give an existing folder instead"
            )
        output.mkdir(parents=True, exist_ok=True)
    failures = 0
    for video in videos:
        try:
            job = plan_video(video, output, codec=codec, crf=crf, overwrite=overwrite)
            _deblur(deblurrer, job, settings)
        except UserError as error:
            if len(videos) == 1:
                raise
            failures += 1
            say(f"mtdeblur: {error}")
    if failures:
        raise typer.Exit(1)


def _deblur(deblurrer: Deblurrer, job: VideoJob, settings: Mapping[str, Any]) -> None:
    clip, started = job.clip, time.perf_counter()
    say(deblurrer.describe([(clip.height, clip.width)] * max(1, clip.frames)))
    try:
        with show_stages() as progress:
            frames = deblur_video(deblurrer, job, settings, progress)
    except KeyboardInterrupt as interruption:
        hint = f"repeat the command to resume (finished parts: {job.parts})"
        raise Interrupted(f"interrupted; {hint}", exit_code(interruption)) from interruption
    seconds = time.perf_counter() - started
    say(f"{clip.path} -> {job.target} ({counted(frames, 'frame')}, {seconds:.1f} s)")
