"""Photographs for the command `mtdeblur deblur`."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import typer

from mtdeblur.cli.interruption import WHOLE, Interrupted, exit_code
from mtdeblur.cli.progress import say, show_progress
from mtdeblur.errors import UserError, counted
from mtdeblur.inference.batch import Observer, Outcome, sizes
from mtdeblur.inference.deblurrer import Deblurrer
from mtdeblur.inference.finish import Rectangle
from mtdeblur.inference.folder import Means, deblur_batch
from mtdeblur.inference.planning import Plan
from mtdeblur.inference.report import Report
from mtdeblur.inference.unchanged import Unchanged

_NAMED = 5  # failures that the summary names


def deblur_photographs(
    work: Plan, deblurrer: Deblurrer | Unchanged, means: Means, report: Path | None
) -> None:
    """Do what is planned, with progress on standard error, a summary and a report.

    Args:
        work: the plan.
        deblurrer: the deblurrer.
        means: what does the work.
        report: file of the report, if wanted.

    Raises:
        UserError: if the report or the journal cannot be written, or there is no cluster.
        Interrupted: after Ctrl-C or SIGTERM.
        typer.Exit: with code 1 if anything failed.
    """
    decisive = work.ledger.settings if work.ledger else dict[str, Any]()
    told = Report(report, work, {**means.recipe.given(), **decisive})
    outcomes, end = list[Outcome](), "stopped"
    try:
        with show_progress(len(work.jobs), means.processes or 2) as observer:
            region = means.finish.region
            within = (region.box,) if isinstance(region, Rectangle) else ()
            observer.chose(deblurrer.describe(sizes(work.jobs), *within))
            _say_what_is_left_out(work, observer)
            with closing(deblur_batch(work, deblurrer, observer, means)) as run:
                for outcome in run:
                    outcomes.append(outcome)
                    told.add(outcome)
        end = "stopped" if any(outcome.disk for outcome in outcomes) else "complete"
    except KeyboardInterrupt as interruption:
        end = "interrupted"
        raise Interrupted(f"{WHOLE}{_hint(work, outcomes)}", exit_code(interruption)) from interruption
    except UserError as error:
        raise UserError(f"{error}{_hint(work, outcomes)}") from error
    finally:
        written = _write(told, end)
    if end == "stopped":
        raise UserError(f"the rest is not tried{_hint(work, outcomes)}")
    failed = [outcome for outcome in outcomes if outcome.reason]
    if failed and len(work.jobs) > 1:
        say(f"mtdeblur: {_summary(failed, len(work.jobs))}")
    if failed or not written:
        raise typer.Exit(1)


def _write(told: Report, end: str) -> bool:
    """Write the report, or say why that is impossible."""
    try:
        told.write(end)
    except UserError as error:
        say(f"mtdeblur: {error}")
        return False
    return True


def _say_what_is_left_out(work: Plan, observer: Observer) -> None:
    for line in filter(None, [found.passed_over() for found in work.found]):
        observer.chose(line)
    if work.finished:
        observer.chose(f"{counted(len(work.finished), 'photograph')} finished by an interrupted run")
    if work.skipped:
        observer.chose(f"skipped {counted(len(work.skipped), 'photograph')} with existing results")
    for job in work.changed:
        observer.noticed(f"{job.source} has changed since it was deblurred, and is deblurred again")


def _hint(work: Plan, outcomes: Sequence[Outcome]) -> str:
    """How to resume."""
    left = len(work.jobs) - sum(not outcome.reason for outcome in outcomes)
    if work.ledger is None:
        return ""
    done = len(work.finished) + len(work.jobs) - left
    return f"; {done} done; repeat the command to resume with {counted(left, 'photograph')} left"


def _summary(failed: Sequence[Outcome], jobs: int) -> str:
    names = ", ".join(str(outcome.job.source) for outcome in failed[:_NAMED])
    more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    return (
        f"{len(failed)} of {counted(jobs, 'photograph')} failed: {names}{more}; to try only these again, use "
        "--skip-existing"
    )
