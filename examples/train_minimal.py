"""Incremental temporal training in one short file, without Lightning.

    python examples/train_minimal.py --batches 200 -o minimal.safetensors [PHOTO...]

`mtdeblur train` is the complete version: validation, resuming, data sets, several GPUs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtdeblur.approaches import MultiTemporal
from mtdeblur.data.disk.photographs import find_photographs, public_domain_photographs
from mtdeblur.exposure.crf import GammaCRF
from mtdeblur.exposure.simulate import Motion, margin, simulate_ladder
from mtdeblur.media.samples import to_8_bits
from mtdeblur.networks.contract import State, same_state
from mtdeblur.networks.registry import create_network
from mtdeblur.weights.store import save_network


def crops(
    photographs: Sequence[NDArray[np.uint8]], count: int, side: int, rng: np.random.Generator
) -> Tensor:
    """(count, 3, side, side) in [0, 1], float: a random part of a random photograph each."""
    parts: list[NDArray[np.uint8]] = []
    for _ in range(count):
        pixels = photographs[int(rng.integers(len(photographs)))]
        top, left = rng.integers((pixels.shape[0] - side + 1, pixels.shape[1] - side + 1)).tolist()
        parts.append(pixels[top : top + side, left : left + side])
    return torch.tensor(np.stack(parts)).permute(0, 3, 1, 2) / 255  # (count, 3, side, side)


def train(
    network: nn.Module,
    photographs: Sequence[NDArray[np.uint8]],
    *,
    batches: int,
    batch: int = 8,
    patch: int = 128,
    motion: Motion | None = None,
) -> list[float]:
    """Train a progressive network; returns the L1 loss after the last iteration of each batch.

    Args:
        network: of the registry.
        photographs: sharp, (H, W, 3) uint8, at least `patch + 2 * margin(motion)` on each side.
        batches: how many.
        batch: patches in a batch.
        patch: height and width of a patch.
        motion: of the simulated camera.
    """
    rng, motion = np.random.default_rng(0), motion or Motion()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-4)
    losses: list[float] = []
    for _ in range(batches):
        # A simulated exposure of each crop, as TL1 (sharp), TL3 ... up to the level of the blurred input.
        level = int(rng.choice([7, 9, 11, 13]))
        sharp = crops(photographs, batch, patch + 2 * margin(motion), rng)
        seeds: list[int] = rng.integers(2**31, size=batch).tolist()
        ladder = simulate_ladder(sharp, patch, range(1, level + 1, 2), motion, GammaCRF(), seeds)
        blurred = estimate = ladder[level]
        state: State = None
        loss = torch.tensor(0.0)
        plan = MultiTemporal().plan(level, lambda n: int(rng.integers(n)))  # TL13 -> TL11, TL9 ... TL1, TL1
        for goal in plan:
            estimate, state = network(blurred, estimate, state)
            loss = (estimate - ladder[goal.level]).abs().mean()
            optimiser.zero_grad()
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
            # A step for each iteration; no gradient flows from one to the next.
            optimiser.step()  # pyright: ignore[reportUnknownMemberType]
            estimate, state = estimate.detach(), same_state(state, (part.detach() for part in state or ()))
        losses.append(loss.item())
    return losses


def main() -> None:
    """Read the photographs, train, save the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path, help="sharp photographs; else those of scikit-image")
    parser.add_argument("--network", default="mtnaf", help="see mtdeblur networks")
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8, help="patches in a batch")
    parser.add_argument("--patch", type=int, default=128, help="height and width of a patch")
    parser.add_argument("-o", "--output", type=Path, default=Path("minimal.safetensors"))
    given = parser.parse_args()
    found = find_photographs(given.photos) if given.photos else public_domain_photographs()
    network = create_network(given.network)
    pictures = [to_8_bits(photograph.read()) for photograph in found]
    losses = train(network, pictures, batches=given.batches, batch=given.batch, patch=given.patch)
    save_network(given.output, network)
    first, last = np.mean(losses[:20]), np.mean(losses[-20:])
    print(f"{given.output}: mean L1 loss {first:.4f} in the first 20 batches, {last:.4f} in the last 20")


if __name__ == "__main__":
    main()
