"""Early stopping over blended windows: each step must earn its place in each window.

Of a step's change of the blurred window, as much is kept as motion blur explains it, see
`mtdeblur.inference.reblur`: nothing up to a first share, all from a second share on, and a part in between.
Once a step brings less than a threshold, the window is done.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mtdeblur.inference.reblur import explained
from mtdeblur.weights.catalogue import Stopping

Settle = Callable[[Iterator[Tensor], Tensor], Iterator[Tensor]]
"""Makes as many others of a window's estimates and its blurred picture: early stopping."""


def every_step(estimates: Iterator[Tensor], blurred: Tensor) -> Iterator[Tensor]:
    """The estimates of all steps, without early stopping."""
    return estimates


def settled(
    estimates: Iterator[Tensor],
    blurred: Tensor,
    *,
    stopping: Stopping,
    number: int,
    explain: Callable[[Tensor, Tensor], float] = explained,
) -> Iterator[Tensor]:
    """Yield what is kept of each of a window's estimates.

    Args:
        estimates: of the steps, (B, 3, H, W), not clamped; not drawn any more once all pictures are done.
        blurred: I0, (B, 3, H, W) in [0, 1], float.
        stopping: the thresholds.
        number: of steps.
        explain: gives the share of a change that motion blur explains, from 0 to 1, for the blurred picture
            and an estimate, (3, H, W).

    Yields:
        As many estimates as there are steps; after the last step that ran, the same one again.
    """
    kept, running = blurred, True
    for _ in range(number):
        if running:
            before, kept = kept, next(estimates)
            if stopping.share is not None:
                pairs = zip(blurred, kept.clamp(0, 1), strict=True)
                shares = [worth(explain(*pair), *stopping.share) for pair in pairs]
                kept = torch.lerp(blurred, kept, blurred.new_tensor(shares).view(-1, 1, 1, 1))
            running = _change(before, kept) >= stopping.change
        yield kept


def worth(explained: float, nothing: float, everything: float) -> float:
    """The part of a change to keep, from 0 to 1, for the share that motion blur explains; see `Stopping`."""
    return min(1.0, max(0.0, (explained - nothing) / (everything - nothing)))


def _change(before: Tensor, after: Tensor) -> float:
    """Root mean square of the change of the picture that changed most."""
    return float((after - before).square().mean(dim=(1, 2, 3)).max().sqrt())
