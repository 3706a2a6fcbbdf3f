"""Netpbm files (PBM, PGM, PPM): read with the depth they have, which Pillow reduces to 8 bits for colour."""

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtdeblur.errors import UserError
from mtdeblur.media.formats import check_size
from mtdeblur.media.libvips import Decoded

_GAP = rb"(?:\s|#[^\n\r]*[\n\r])+"
_HEADER = re.compile(rb"P([1-6])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})")
_MAXIMUM = re.compile(_GAP + rb"(\d{1,5})")


class Header(NamedTuple):
    """Kind (1 to 6), height and width, value of white, and where the samples begin."""

    kind: int
    shape: tuple[int, int]
    white: int
    start: int


def read_header(encoded: bytes) -> Header:
    """The header of a file.

    Raises:
        UserError: if it is malformed.
    """
    found = _HEADER.match(encoded)
    if found is None:
        raise UserError("the PNM file is damaged or incomplete (its header)")
    kind, width, height = (int(value) for value in found.groups())
    end, white = found.end(), 1
    if kind not in (1, 4):
        maximum = _MAXIMUM.match(encoded, end)
        white = int(maximum[1]) if maximum else 0
        if maximum is None or not 0 < white < 65536:
            raise UserError("the PNM file is damaged or incomplete (its maximum)")
        end = maximum.end()
    return Header(kind, (height, width), white, end + 1)


def decode(encoded: bytes) -> Decoded:
    """Decode the first picture of a file.

    Raises:
        UserError: the reason without a file name, if it is malformed, incomplete or too large.
    """
    header = read_header(encoded)
    height, width = header.shape
    check_size(width, height)
    channels = 3 if header.kind in (3, 6) else 1
    values = _values(encoded, header, height * width * channels)
    if header.kind in (1, 4):
        values = 1 - values
    shape = height, width, channels
    if values.max(initial=0) > header.white:
        raise UserError(f"the PNM file is damaged (a sample is above its maximum {header.white})")
    top = 255 if header.white < 256 else 65535
    if header.white != top:
        values = (values.astype(np.uint32) * top + header.white // 2) // header.white
    return Decoded(values.astype(np.uint8 if top == 255 else np.uint16).reshape(shape), {})


def _values(encoded: bytes, header: Header, count: int) -> NDArray[Any]:
    """The samples as they are stored, in order."""
    height, width = header.shape
    if header.kind in (2, 3):
        words = encoded[header.start - 1 :].split(maxsplit=count)[:count]
        values = np.array([int(word) for word in words if len(word) <= 5], np.uint32)
    elif header.kind == 1:
        digits = np.frombuffer(encoded, np.uint8, offset=header.start - 1)
        values = (digits[(digits == 48) | (digits == 49)] - 48)[:count]
    elif header.kind == 4:
        row = -(-width // 8)
        packed = np.frombuffer(encoded[header.start : header.start + row * height], np.uint8)
        whole = packed[: len(packed) // row * row].reshape(-1, row)
        values = np.unpackbits(whole, axis=1)[:, :width].reshape(-1)
    else:
        dtype = np.dtype(">u2" if header.white > 255 else "u1")
        part = encoded[header.start : header.start + count * dtype.itemsize]
        values = np.frombuffer(part[: len(part) // dtype.itemsize * dtype.itemsize], dtype)
    if len(values) < count:
        raise UserError("the PNM file is damaged or incomplete (too few samples)")
    return values


def encode(samples: NDArray[Any]) -> bytes:
    """A binary file of (H, W, 1) or (H, W, 3) samples, uint8 or uint16."""
    height, width, channels = samples.shape
    kind, white = (5 if channels == 1 else 6), np.iinfo(samples.dtype).max
    stored = samples.astype(samples.dtype.newbyteorder(">"))
    return f"P{kind}\n{width} {height}\n{white}\n".encode() + stored.tobytes()
