"""Damaged files: seeded changes to whole files of every format."""

import json
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from whole_files import whole_files

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def mutated(whole: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A file with one to four changes, or only another byte or number behind its first 12 bytes.

    Check sums of PNG are made right in half of the files. In half of those with JSON (safetensors and the
    metadata of exports), values in it are replaced, and it stays valid.
    """
    start = 8 if whole[8:9] == b"{" else 0
    if whole[start : start + 1] == b"{" and chance.random() < 0.5:
        return _with_other_values(whole, start, chance)
    data = bytearray(whole)
    if chance.random() < 0.5:
        chance.choice((_bytes, _number))(data, others, chance)
        data[:12] = whole[:12]
    else:
        for _ in range(chance.randint(1, 4)):
            chance.choice(_CHANGES)(data, others, chance)
    if data.startswith(b"\x89PNG") and chance.random() < 0.5:
        _with_check_sums(data)
    return bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    """A position, often near the start, where headers are."""
    return chance.randrange(max(1, min(len(data), chance.choice((64, 600, len(data))))))


def _bytes(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    for _index in range(chance.choice((1, 1, 2, 12))):
        if data:
            data[_place(data, chance)] = chance.randrange(256)


def _number(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    size = chance.choice((1, 2, 4, 8))
    at, value = _place(data, chance), chance.choice(EXTREMES) & (256**size - 1)
    data[at : at + size] = value.to_bytes(size, chance.choice(("big", "little")))


def _cut(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    if chance.random() < 0.4:
        del data[chance.randrange(len(data) + 1) :]


def _removed(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.randint(1, 40)]


def _repeated(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    at = _place(data, chance)
    data[at:at] = data[at : at + chance.randint(1, 200)] * chance.randint(1, 5)


def _inserted(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    at = _place(data, chance)
    data[at:at] = chance.randbytes(chance.randint(1, 40))


def _spliced(data: bytearray, others: list[bytes], chance: random.Random) -> None:
    other = chance.choice(others)
    at = chance.randrange(len(other))
    data[_place(data, chance) :] = other[at:]


_CHANGES = (_bytes, _bytes, _number, _number, _cut, _removed, _repeated, _inserted, _spliced)


_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    1,
    -1,
    2**31,
    2**63,
    10**30,
    1e308,
    0.5,
    "",
    "1",
    "a b",
    "class",
    "../a",
    [],
    {},
    [[]],
)
"""What values in JSON are replaced by."""


def _with_other_values(whole: bytes, start: int, chance: random.Random) -> bytes:
    """A file in whose JSON one or two values are other ones; its length is written before it, if it was."""
    length = int.from_bytes(whole[:8], "little") if start else len(whole)
    content: Any = json.loads(whole[start : start + length])
    for _ in range(chance.randint(1, 2)):
        _replace(content, chance)
    text = json.dumps(content).encode()
    head = len(text).to_bytes(8, "little") if start else b""
    return head + text + whole[start + length :]


def _replace(content: Any, chance: random.Random) -> None:
    """Replace, remove or repeat a value at any depth; JSON in strings is entered, too."""
    holder: Any = content  # a dict or a list
    keys: list[Any] = list(holder.keys()) if isinstance(content, dict) else list(range(len(holder)))
    if not keys:
        return
    key: Any = chance.choice(keys)
    if "__metadata__" in keys and chance.random() < 0.7:  # of safetensors, beside many tensors
        key = "__metadata__"
    value: Any = holder[key]
    inner = _parsed(value)
    if isinstance(value, dict | list) and chance.random() < 0.8:
        _replace(value, chance)
    elif isinstance(inner, dict | list) and chance.random() < 0.8:
        _replace(inner, chance)
        holder[key] = json.dumps(inner)
    elif chance.random() < 0.2:
        del holder[key]
    else:
        others: list[Any] = [*_VALUES, holder[key], holder[chance.choice(keys)]]
        holder[key] = chance.choice(others)


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _with_check_sums(data: bytearray) -> None:
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            return
        struct.pack_into(">I", data, end, zlib.crc32(data[position + 4 : end]))
        position = end + 4


def damaged(kind: str, number: int, seed: int) -> Iterator[bytes]:
    """That many damaged files of a format; the same for the same seed."""
    whole = whole_files(kind)
    for index in range(number):
        chance = random.Random(f"{seed} {kind} {index}")
        yield mutated(chance.choice(whole), whole, chance)
