"""Colour encodings that are given by numbers instead of an ICC profile."""

from typing import NamedTuple

Primaries = tuple[float, ...]

SRGB: Primaries = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_CODED_PRIMARIES: dict[int, Primaries] = {  # ITU-T H.273
    1: SRGB,
    5: (0.3127, 0.3290, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.3127, 0.3290, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (0.3127, 0.3290, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
_CODED_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_PQ, _HLG = 16, 18
_USUAL = 2.2  # the gamma of older files that say sRGB this way


_LEAST_AREA = 0.02  # sRGB's is 0.22


class Colour(NamedTuple):
    """An encoding of colours.

    Attributes:
        primaries: x and y of white, red, green and blue.
        gamma: exponent from value to light; None for sRGB's curve, or one like it.
        code: its primaries and curve by their numbers in ITU-T H.273, or None.
    """

    primaries: Primaries = SRGB
    gamma: float | None = None
    code: tuple[int, int] | None = None

    @property
    def is_plausible(self) -> bool:
        """Whether white is within the triangle of its primaries, and its gamma a usual one.

        Others are no encoding of colours, and have no profile.
        """
        if not all(0 < value < 1 for value in self.primaries):
            return False
        white, *corners = (self.primaries[start : start + 2] for start in range(0, 8, 2))
        area = _area(*corners)
        if abs(area) < _LEAST_AREA:
            return False
        shares = (_area(white, corners[at - 1], corners[at]) / area for at in range(3))
        return min(shares) > 0.01 and (self.gamma is None or 0.2 < self.gamma < 5)

    @property
    def is_hdr(self) -> bool:
        """Whether it is PQ or HLG, which no ICC profile describes."""
        return self.code is not None and self.code[1] in (_PQ, _HLG)

    @property
    def is_srgb(self) -> bool:
        """Whether programs may take it for sRGB."""
        near = max(abs(mine - usual) for mine, usual in zip(self.primaries, SRGB, strict=True)) < 0.005
        usual = self.gamma is None or abs(self.gamma - _USUAL) < 0.03
        return near and usual and not self.is_hdr


def coded(primaries: int, curve: int) -> Colour:
    """The encoding with these numbers in ITU-T H.273; unknown ones are sRGB's."""
    return Colour(_CODED_PRIMARIES.get(primaries, SRGB), _CODED_GAMMAS.get(curve), (primaries, curve))


def _area(first: Primaries, second: Primaries, third: Primaries) -> float:
    """Twice the area of a triangle, negative if its corners are in clockwise order."""
    across, up = second[0] - first[0], second[1] - first[1]
    return across * (third[1] - first[1]) - up * (third[0] - first[0])
