"""The command `mtdeblur networks`."""

from typing import Annotated

import typer

from mtdeblur.cli.options import flag

SIZES = ((256, 256), (720, 1280))
"""Picture sizes for which costs are listed, height and width."""


def networks(
    weights: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WEIGHTS", help="Describe these weights instead: a name, a path or hf:OWNER/NAME."
        ),
    ] = None,
    as_json: Annotated[
        bool, flag("--json", help="Print descriptions of networks and shipped weights for other programs.")
    ] = False,
) -> None:
    """List every network: size, cost, receptive field, licence, shipped weights.

    GMAC: 1e9 multiply-accumulates, of all steps for one picture.
    A star marks a network converted to multi-temporal, here with six iterations.
    """
    if as_json:
        _print_json(weights or [])
    elif weights:
        _print_weights(weights)
    else:
        _print_networks()


def _print_json(weights: list[str]) -> None:
    """Print the descriptions of networks and of weights, or only those of some weights."""
    import json

    from mtdeblur.networks.cost import survey
    from mtdeblur.weights.catalogue import catalogue
    from mtdeblur.weights.description import describe, describe_network

    described = {"weights": [describe(source).model_dump(mode="json") for source in weights or catalogue()]}
    if not weights:
        listed = [describe_network(each.name, each.model, each.steps) for each in survey()]
        described = {"networks": [each.model_dump(mode="json") for each in listed]} | described
    typer.echo(json.dumps(described, indent=2, ensure_ascii=False))


def _print_weights(weights: list[str]) -> None:
    """Print a table of facts for each of some weights."""
    from rich.console import Console
    from rich.table import Table

    from mtdeblur.weights.description import describe

    for source in weights:
        facts = describe(source).model_dump(exclude={"name", "library_name", "options"})
        table = Table("", "", title=source, show_header=False)
        for name, fact in facts.items():
            shown = "; ".join(map(str, fact)) if name == "training_data" else str(fact)
            table.add_row(name.replace("_", " "), "-" if fact in (None, ()) else shown)
        Console().print(table)


def _print_networks() -> None:
    from rich.console import Console
    from rich.table import Table

    from mtdeblur.networks.cost import multiply_accumulates, parameters, survey
    from mtdeblur.weights.catalogue import catalogue

    costs = Table(title="Networks")
    for heading in ("network", "approach"):
        costs.add_column(heading)
    sizes = [f"GMAC\n{width}x{height}" for height, width in SIZES]
    for heading in ("parameters", "steps", *sizes, "halo"):
        costs.add_column(heading, justify="right")
    notes = Table(title="Notes")
    for heading in ("network", "original and its licence", "prevents exact tiles", "shipped weights"):
        notes.add_column(heading, overflow="fold")
    for listing in survey():
        contract = listing.contract
        costs.add_row(
            listing.name + "*" * listing.converted,
            listing.approach,
            f"{parameters(listing.model):,}",
            str(len(listing.steps)),
            *(f"{count / 1e9:,.1f}" for count in multiply_accumulates(listing.model, listing.steps, *SIZES)),
            "picture" if contract.global_operation else str(contract.halo),
        )
        if not listing.converted:
            shipped = [name for name, entry in catalogue().items() if entry.network == listing.name]
            original, obstacle = contract.original or "this project", contract.global_operation or ""
            notes.add_row(listing.name, original, obstacle, ", ".join(shipped))
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=100)
    console.print(costs)
    console.print(notes)
