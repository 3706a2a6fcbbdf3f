"""Provenance of a table's figures, for the reader."""

import json
from collections.abc import Sequence

from mtdeblur.experiments.catalogue import Budget, Experiment, base
from mtdeblur.experiments.entries import Entry
from mtdeblur.experiments.material import Material
from mtdeblur.metrics.quality import PSNR_CONVENTION, SSIM_CONVENTIONS


def provenance(
    whole: Experiment, entries: Sequence[Entry], budget: str, settings: Budget, material: Material
) -> dict[str, str]:
    """Facts by name.

    Args:
        whole: the table with all its rows.
        entries: the rows shown, trained and measured.
        budget: its name.
        settings: of the budget.
        material: training data and test sets.
    """
    accounts = {account for entry in entries for subject in entry.subjects for account in subject.accounts}
    timing = settings.run_time
    sets = "; ".join(
        f"{name}: {sum(len(part.pairs) for part in parts)} pairs, {material.stamps[name] or 'real'}"
        for name, parts in material.sets.items()
    )
    facts = {"budget": budget, "test sets": sets}
    if any(entry.runs for entry in entries):
        facts |= _training(entries, budget, settings, material)
    if given := [f"{entry.row.name}: {entry.given.account}" for entry in entries if entry.given]:
        facts["weights given"] = "; ".join(given)
    shown = {entry.row.name for entry in entries}
    if left := [row.name for row in whole.rows if row.name not in shown]:
        facts["rows left out"] = "; ".join(left)
    return facts | {
        "measured with": "; ".join(sorted(accounts)),
        "run time": f"one {timing.width}x{timing.height} picture, after warm-up, median of {timing.repeats}",
        "PSNR": PSNR_CONVENTION,
        "SSIM": SSIM_CONVENTIONS[whole.ssim],
    }


def _training(entries: Sequence[Entry], budget: str, settings: Budget, material: Material) -> dict[str, str]:
    """Facts about the training of the trained rows."""
    rows = {entry.row.name: entry.runs for entry in entries if entry.runs}
    accounts = [run.account() for runs in rows.values() for run in runs]
    seeds = len(next(iter(rows.values())))
    return {
        "budget": f"{budget}, which changes {json.dumps([settings.training, settings.networks])}",
        "trained on": material.training,
        "runs": "; ".join(
            f"{name}: {', '.join(run.folder.name for run in runs)}" for name, runs in rows.items()
        ),
        "runs of a row": f"{seeds}, seeds from 0; ± is the standard deviation over them",
        "trained with": "; ".join(
            sorted({f"{one['devices']} x {one['device']}, commit {one['commit']}" for one in accounts})
        ),
        "assumed, because the paper does not say": "; ".join(base().assumed),
    }
