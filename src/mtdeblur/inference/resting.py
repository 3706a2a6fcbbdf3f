"""Early stopping of networks that tile exactly: a step runs only where what it sees still changes.

The picture is divided into cells as large as the network's multiple. A cell takes part in the next step if
any cell within the halo, or itself, changed by the threshold or more in the last one; the others rest and
keep their estimate and state. So on both sides of the edge of a resting part, as far as the halo, the last
step changed less than the threshold: there is no seam to see. Rest ends when a change comes near again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mtdeblur.inference.tiling import Span, run_tile
from mtdeblur.networks.contract import Contract, ProgressiveNetwork, State, any_size
from mtdeblur.networks.unroll import Step


class Resting(tuple[Tensor, ...]):
    """State of a `RestingNetwork`: the maps of the network's state, and last the change of every cell.

    The change is the root mean square over the cell, (B, 1, H / multiple, W / multiple).
    """

    def __new__(cls, *maps: Tensor) -> "Resting":
        """Make a state from its maps, as a named tuple does."""
        return super().__new__(cls, maps)


class Box(NamedTuple):
    """A rectangle of cells: rows [top, bottom), columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int


class RestingNetwork:
    """A progressive network whose steps run only where what they see still changes.

    The first step runs everywhere, the others over rectangles around the cells that take part, with a halo.
    Where all take part these are the tiles of `TiledNetwork`, or the whole picture.
    """

    def __init__(self, network: ProgressiveNetwork, threshold: float, tile: int | None = None) -> None:
        """Wrap a network.

        Args:
            network: the network.
            threshold: root mean square of a cell's change, for values in [0, 1]; 0: nothing ever rests.
            tile: height and width of the tiles without their halo, in pixels, rounded up to the network's
                multiple; None for the whole picture.

        Raises:
            ValueError: if the network has a global operation, or its estimate is smaller than the picture.
        """
        inner = network.contract
        if inner.global_operation is not None or inner.estimate_scale != 1:
            reason = inner.global_operation or "a smaller estimate"
            raise ValueError(f"parts of the picture cannot rest, because the network has {reason}")
        self.network, self.threshold = network, threshold
        self.tile = None if tile is None else -(-tile // inner.multiple)  # in cells
        self.contract: Contract = replace(inner, state_scales=(*inner.state_scales, inner.multiple))

    @any_size
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration; arguments and errors are those of the network, and the state is a `Resting`."""
        cell, halo = self.contract.multiple, self.contract.halo
        height, width = blurred.shape[-2:]
        maps, whole = None, list[Tensor]()
        running = torch.ones(height // cell, width // cell, dtype=torch.bool)
        if state is not None:
            *parts, change = state
            maps = Resting(*parts) if parts else None
            whole = [part.clone() for part in (estimate, *(maps or ()))]
            near = functional.max_pool2d(change, 2 * (halo // cell) + 1, stride=1, padding=halo // cell)
            running = (near >= self.threshold).any(dim=0)[0].cpu()
        for box in self._boxes(running):
            rows = _span(box.top * cell, box.bottom * cell, height, halo)
            columns = _span(box.left * cell, box.right * cell, width, halo)
            run_tile(self.network, rows, columns, (blurred, estimate, maps), whole)
        squares = (whole[0] - estimate).square().mean(dim=1, keepdim=True)
        return whole[0], Resting(*whole[1:], functional.avg_pool2d(squares, cell).sqrt())

    def _boxes(self, running: Tensor) -> Iterator[Box]:
        """Rectangles that cover the running cells, at least one a tile that has any."""
        height, width = running.shape
        side = self.tile or max(height, width)
        for top in range(0, height, side):
            for left in range(0, width, side):
                tile = Box(top, min(top + side, height), left, min(left + side, width))
                yield from cover(running, tile, self.contract.halo // self.contract.multiple)


def can_rest(networks: Sequence[ProgressiveNetwork], steps: Iterable[Step]) -> bool:
    """Whether parts of a picture can rest: exact tiles, and all steps at full resolution."""
    used = [(networks[step.network].contract, step.scale) for step in steps]
    return all(
        contract.global_operation is None and contract.estimate_scale == scale == 1
        for contract, scale in used
    )


def cover(cells: Tensor, within: Box, reach: int) -> list[Box]:
    """Few rectangles that cover the marked cells of a rectangle and are cheap to run with their halos.

    The smallest rectangle is halved as long as that leaves less to run.

    Args:
        cells: (rows, columns), bool.
        within: the rectangle.
        reach: width of the halo in cells.
    """
    part = cells[within.top : within.bottom, within.left : within.right]
    marked = part.nonzero()
    if len(marked) == 0:
        return []
    top, left = (int(place) for place in marked.amin(dim=0))
    bottom, right = (int(place) + 1 for place in marked.amax(dim=0))
    box = Box(within.top + top, within.top + bottom, within.left + left, within.left + right)
    if max(bottom - top, right - left) <= max(1, 2 * reach):  # halves would cost more
        return [box]
    if bottom - top > right - left:
        middle = (box.top + box.bottom) // 2
        halves = [box._replace(bottom=middle), box._replace(top=middle)]
    else:
        middle = (box.left + box.right) // 2
        halves = [box._replace(right=middle), box._replace(left=middle)]
    parts = [smaller for half in halves for smaller in cover(cells, half, reach)]
    return parts if sum(_cost(part, reach) for part in parts) < _cost(box, reach) else [box]


def _cost(box: Box, reach: int) -> int:
    """Cells of a rectangle and its halo."""
    return (box.bottom - box.top + 2 * reach) * (box.right - box.left + 2 * reach)


def _span(start: int, stop: int, length: int, halo: int) -> Span:
    return Span(start, stop, max(start - halo, 0), min(stop + halo, length))
