"""The one loop that runs a progressive network again and again (Fig. 1d)."""

from collections.abc import Iterator

from torch import Tensor

from mtdeblur.networks.contract import ProgressiveNetwork, State


def unroll(network: ProgressiveNetwork, blurred: Tensor, iterations: int) -> Iterator[Tensor]:
    """Yield the estimate of every iteration; at the first, the estimate is the blurred image itself.

    Args:
        network: one iteration, see `mtdeblur.networks.contract`.
        blurred: I0, (B, 3, H, W) in [0, 1], float.
        iterations: how many, 1 or more.

    Yields:
        (B, 3, H, W), not clamped.

    Raises:
        ValueError: if there are no iterations.
    """
    if iterations < 1:
        raise ValueError(f"the number of iterations must be at least 1, not {iterations}")
    estimate: Tensor = blurred
    state: State = None
    for _ in range(iterations):
        estimate, state = network(blurred, estimate, state)
        yield estimate
