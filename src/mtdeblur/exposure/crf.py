"""Camera response functions: g of Eq. (1), from the light on a sensor to the stored value.

Stored values and light are float tensors of any shape, on any device. Stored values are in [0, 1]; curves
that are not defined outside clamp them.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mtdeblur.errors import UserError


class CRF(Protocol):
    """A monotone curve and its inverse; both keep shape, dtype and device."""

    @property
    def name(self) -> str:
        """Name of the curve in reports."""
        ...

    def encode(self, linear: Tensor) -> Tensor:
        """Light to stored values, g."""
        ...

    def decode(self, stored: Tensor) -> Tensor:
        """Stored values to light, the inverse of g."""
        ...


class IdentityCRF:
    """Averaging of the stored values themselves, as for GoPro's `blur/` (often called linear)."""

    name = "identity"

    def encode(self, linear: Tensor) -> Tensor:
        """The light itself."""
        return linear

    def decode(self, stored: Tensor) -> Tensor:
        """The stored values themselves."""
        return stored


class GammaCRF:
    """Light as the stored value to the power of gamma; 2.2 is that of GoPro's `blur_gamma/`.

    Args:
        gamma: exponent, above 0.

    Raises:
        ValueError: if gamma is not above 0.
    """

    def __init__(self, gamma: float = 2.2) -> None:
        if not gamma > 0:
            raise ValueError(f"gamma must be above 0, not {gamma}")
        self.gamma = gamma
        self.name = f"gamma {gamma:g}"

    def encode(self, linear: Tensor) -> Tensor:
        """Light to the power of 1/gamma; negative light counts as 0."""
        return linear.clamp_min(0) ** (1 / self.gamma)

    def decode(self, stored: Tensor) -> Tensor:
        """Stored values to the power of gamma; negative ones count as 0."""
        return stored.clamp_min(0) ** self.gamma


class TabulatedCRF:
    """A curve through given points, linear between them and constant outside.

    Where the curve is flat (a saturated sensor), `decode` returns the least light with that stored value.

    Args:
        linear: light of each point, in any unit, finite, strictly increasing.
        stored: stored value of each point, in [0, 1], never decreasing and not all equal.
        name: of the curve in reports.

    Raises:
        ValueError: if the points are not such a curve.
    """

    def __init__(
        self, linear: Sequence[float] | Tensor, stored: Sequence[float] | Tensor, name: str = "tabulated"
    ) -> None:
        self.name = name
        self._linear = torch.as_tensor(linear, dtype=torch.float64).cpu()
        self._stored = torch.as_tensor(stored, dtype=torch.float64).cpu()
        if self._linear.dim() != 1 or self._linear.shape != self._stored.shape or len(self._linear) < 2:
            raise ValueError("a tabulated curve needs two columns of the same length, at least 2 points")
        if not (self._linear.isfinite().all() and (self._linear.diff() > 0).all()):
            raise ValueError("the light of a tabulated curve must increase from point to point")
        if not ((self._stored >= 0) & (self._stored <= 1)).all():
            raise ValueError("the stored values of a tabulated curve must be in [0, 1]")
        if not ((self._stored.diff() >= 0).all() and self._stored[0] < self._stored[-1]):
            raise ValueError(
                "the stored values of a tabulated curve must never decrease, nor all be the same"
            )

    def encode(self, linear: Tensor) -> Tensor:
        """Light to stored values."""
        return _interpolate(linear, self._linear, self._stored)

    def decode(self, stored: Tensor) -> Tensor:
        """Stored values to light."""
        return _interpolate(stored, self._stored, self._linear)


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    xs, ys = xs.to(x), ys.to(x)
    x = x.clamp(xs[0], xs[-1])
    # The first point not below x, which is the lower end where the inverse is flat.
    upper = torch.searchsorted(xs, x.contiguous()).clamp(1, len(xs) - 1)
    x0, x1, y0, y1 = xs[upper - 1], xs[upper], ys[upper - 1], ys[upper]
    # x1 == x0 happens only at the very first points, and there x - x0 is 0.
    share = (x - x0) / (x1 - x0).clamp_min(torch.finfo(x.dtype).tiny)
    return torch.lerp(y0, y1, share)


IDENTITY: CRF = IdentityCRF()
GAMMA: CRF = GammaCRF(2.2)


def crf_named(name: str) -> CRF:
    """The curve "identity" or "gamma" (2.2), or the tabulated curve of a file.

    Raises:
        UserError: as `read_crf` does.
    """
    return {"identity": IDENTITY, "gamma": GAMMA}.get(name) or read_crf(name)


def read_crf(path: str | Path) -> TabulatedCRF:
    """Read a tabulated curve from a text or CSV file.

    Each line contains the light and the stored value in [0, 1], separated by a comma, a semicolon or spaces.
    Empty lines, text after `#` and one header line are ignored. Points may be in any order.

    Args:
        path: the file.

    Raises:
        UserError: if the file cannot be read or contains no such curve.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the camera response function {path}: {error}") from error
    points: list[tuple[float, float]] = []
    headings = False
    for number, line in enumerate(lines, 1):
        fields = line.split("#")[0].replace(",", " ").replace(";", " ").split()
        if not fields:
            continue
        try:
            light, value = (float(field) for field in fields)
        except ValueError:
            if points or headings:
                raise UserError(
                    f"{path}, line {number}: expected two numbers, light and stored value"
                ) from None
            headings = True
            continue
        if not (math.isfinite(light) and math.isfinite(value)):
            raise _bad_line(path, number)
        points.append((light, value))
    points.sort()
    try:
        return TabulatedCRF([light for light, _ in points], [value for _, value in points], name=path.stem)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _bad_line(path: Path, number: int) -> UserError:
    return UserError(f"{path}, line {number}: expected two finite numbers, light and stored value")
