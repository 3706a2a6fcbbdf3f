"""The command `mtdeblur networks`."""

SIZES = ((256, 256), (720, 1280))
"""Picture sizes for which costs are listed, height and width."""


def networks() -> None:
    """List every network: size, cost, receptive field, licence, shipped weights.

    GMAC: 1e9 multiply-accumulates, of all steps for one picture.
    A star marks a network converted to multi-temporal, here with six iterations.
    """
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
