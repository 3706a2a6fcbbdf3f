"""Put trained weights into the package: the file, its catalogue entry, and what was measured of it.

    python tools/release_weights.py runs/NAME/best.safetensors --iterations 3 --dataset GoPro=FOLDER ...

Prints the measured PSNR of every iteration as Markdown, for the model card, which is written by hand.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from mtdeblur.data.disk.pairs import find_pairs
from mtdeblur.evaluation.protocol import averages, measure_all
from mtdeblur.files.atomic import write_text
from mtdeblur.inference.deblurrer import load
from mtdeblur.weights.catalogue import FILES, HERE
from mtdeblur.weights.store import load_network, read_header, save_network


def release(
    weights: Annotated[Path, typer.Argument(help="Weights file of a training run.")],
    iterations: Annotated[int, typer.Option(min=1, help="How many iterations serve these weights best.")],
    name: Annotated[str, typer.Option(help="Entry of the catalogue.")] = "mtnaf-small",
    dataset: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of pairs to measure.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="Weights that the run started from, to be mixed in (see --share).")
    ] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the run's own weights in the mix.")] = 1.0,
    further: Annotated[int, typer.Option(min=0, help="Iterations measured beyond the best.")] = 2,
) -> None:
    """Copy the weights into the package and record their checksum and quality."""
    header = read_header(weights)
    file = FILES / f"{name}.safetensors"
    network = load_network(weights)
    notes = header.notes
    if start is not None:
        mix(network, load_network(start), share)
        notes = notes | {"mixed": f"{share:g} of these, {1 - share:g} of {start.name}"}
    save_network(file, network, notes=notes, iterations=iterations, compact=True)
    deblurrer = load(file, iterations=iterations + further, precision="float32")
    quality: list[dict[str, Any]] = []
    for item in dataset or []:
        title, _, folder = item.partition("=")
        pairs = find_pairs(Path(folder))
        measured = measure_all(pairs, deblurrer.progress)
        means = averages(measured)
        quality.append(
            {
                "dataset": f"{title} ({len(pairs)} pairs)",
                "iterations": iterations,
                "psnr": round(means[iterations].psnr, 3),
                "psnr_blurred": round(means[0].psnr, 3),
            }
        )
        gains = " | ".join(f"{row.psnr - means[0].psnr:+.2f}" for row in means[1:])
        typer.echo(
            f"| {title}, {len(pairs)} pairs | {means[0].psnr:.2f} / {means[0].ssim['gaussian']:.3f} | "
            f"{means[iterations].psnr:.2f} / {means[iterations].ssim['gaussian']:.3f} | {gains} |"
        )
    path = HERE / "catalogue.json"
    catalogue = json.loads(path.read_text())
    entry = catalogue.setdefault(name, {"licence": "MIT", "training_data": []})
    entry |= {
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "network": header.network,
        "quality": quality,
    }
    write_text(path, json.dumps(catalogue, indent=2) + "\n")


def mix(network: nn.Module, start: nn.Module, share: float) -> None:
    """Interpolate between a network and the one its training started from (Wortsman et al., CVPR 2022).

    Between the two the loss is low as well, and what fine-tuning costs elsewhere costs less there.

    Args:
        network: fine-tuned; its parameters are replaced.
        start: of the same shape.
        share: of the network's own parameters, 0 to 1.
    """
    before = start.state_dict()
    network.load_state_dict(
        {key: share * value + (1 - share) * before[key] for key, value in network.state_dict().items()}
    )


if __name__ == "__main__":
    typer.run(release)
