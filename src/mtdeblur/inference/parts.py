"""The choice of the parts in which a picture is deblurred."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mtdeblur.inference import bands
from mtdeblur.inference.memory import Need
from mtdeblur.inference.stopping import Settle, every_step
from mtdeblur.networks.contract import Contract, ProgressiveNetwork
from mtdeblur.networks.unroll import Step

SIDES = (64, 96, 128, 192, 256, 384, 512, 640, 768, 896, 1024)
"""Sides of tiles to choose from, in pixels; larger ones are no faster on a CPU."""
SMALLEST_WINDOW = 128
SPOOLED = 1.25
"""Cost of keeping rows in files, relative to the work."""
_IMAGE = 12  # bytes a pixel of three float32 channels
_GRAPHS = (
    200 * 2**20
)  # bytes of the graphs that another runtime compiles for tiles at borders, with their weights


class Parts(NamedTuple):
    """A way to deblur a picture.

    Attributes:
        kind: the whole picture at once; exact tiles, iteration by iteration; exact bands of tiles, all
            iterations in a pipeline; or blended windows.
        rows: height of a tile without halo, or largest side of a window, in pixels.
        columns: width of a tile without halo, in pixels.
        spooled: whether bands keep their rows in temporary files.
    """

    kind: Literal["whole", "tiles", "bands", "windows"]
    rows: int = 0
    columns: int = 0
    spooled: bool = False

    def smaller(self, model: "Model") -> "Parts | None":
        """Parts that need less memory; None if there are none."""
        contract = model.contract
        if self.kind == "whole":
            return model.parts(SIDES[-1])
        smallest = SMALLEST_WINDOW if self.kind == "windows" else SIDES[0]
        if self.rows <= smallest and self.columns <= smallest:
            return None
        rows, columns = (max(smallest, side // 2) for side in self[1:3])
        if self.kind == "windows":
            rows = -(-rows // contract.multiple) * contract.multiple
            return None if rows >= self.rows else self._replace(rows=rows)
        return self._replace(rows=rows, columns=columns)

    def __str__(self) -> str:
        """For a notice to the user."""
        if self.kind == "whole":
            return "the whole picture at once"
        if self.kind == "bands":
            return f"tiles of {self.rows} x {self.columns} pixels"
        return f"{'blended windows' if self.kind == 'windows' else 'tiles'} of {self.rows} pixels"


class Model(NamedTuple):
    """A model, its steps, and its need of memory.

    Attributes:
        networks: its members.
        steps: that may run.
        settle: with a global operation, decides which steps run in a window or a whole picture.
    """

    networks: Sequence[ProgressiveNetwork]
    steps: Sequence[Step]
    settle: Settle = every_step

    @property
    def contract(self) -> Contract:
        """Properties of the networks."""
        return self.networks[self.steps[0].network].contract

    def parts(self, side: int) -> Parts:
        """Parts of a given side in pixels."""
        if self.contract.global_operation is not None:
            return Parts("windows", -(-side // self.contract.multiple) * self.contract.multiple)
        return Parts("bands" if bands.allowed(self.networks, self.steps) else "tiles", side, side)

    def bytes(self, parts: Parts, height: int, width: int, need: Need, results: int) -> float:
        """Estimated memory for a picture, without the arrays of its samples.

        Args:
            parts: the way to deblur it.
            height: of the picture, in pixels.
            width: of the picture, in pixels.
            need: of the model.
            results: number of estimates that are wanted.
        """
        halo = max(self.networks[step.network].contract.halo for step in self.steps)
        tile = min(parts.rows + 2 * halo, height) * min(parts.columns + 2 * halo, width)
        if parts.kind == "whole":
            return height * width * (need.step + _IMAGE)
        if parts.kind == "windows":
            side = min(parts.rows, height), min(parts.rows, width)
            return side[0] * side[1] * need.step + 3 * _IMAGE * results * parts.rows * width
        if parts.kind == "tiles":
            return tile * need.step + height * width * (2 * need.held + 2 * _IMAGE)
        compiled = any(getattr(network, "one_size", False) for network in self.networks)
        ahead = parts.rows if compiled else 0  # an iteration runs in bands of full height
        rows = (2 * halo + ahead) * (len(self.steps) - 1) + 2 * (parts.rows + halo)
        held = 0 if parts.spooled else rows * width * need.held
        return tile * need.step + held + (_GRAPHS if compiled else 0)

    def fitting(self, height: int, width: int, need: Need, results: int, memory: int) -> Parts:
        """The parts with the least work that fit into so many bytes, or else the smallest."""
        kind = self.parts(SIDES[-1]).kind
        halo = max(self.networks[step.network].contract.halo for step in self.steps)
        if kind == "windows":
            side = self.contract.window or SIDES[-1]
            parts = self.parts(side)
            while self.bytes(parts, height, width, need, results) > memory:
                smaller = parts.smaller(self)
                if smaller is None:
                    break
                parts = smaller
            return parts
        sides = [(rows, columns) for rows in SIDES for columns in SIDES if kind == "bands" or rows == columns]
        choices = [
            Parts(kind, *side, spooled)
            for spooled in (False, True)[: 1 + (kind == "bands")]
            for side in sides
        ]
        fits = [parts for parts in choices if self.bytes(parts, height, width, need, results) <= memory]
        if not fits:
            return min(choices, key=lambda parts: self.bytes(parts, height, width, need, results))
        return min(fits, key=lambda parts: (work(parts, halo) * (SPOOLED if parts.spooled else 1), parts))


def work(parts: Parts, halo: int) -> float:
    """How many pixels are computed for one pixel of the picture."""
    if parts.kind in ("whole", "windows"):
        return 1.0
    return (1 + 2 * halo / parts.rows) * (1 + 2 * halo / parts.columns)
