"""Writers of what TensorFlow stores, from the descriptions of the formats and without what reads them."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

NUMBERS = {  # TensorFlow's
    torch.float32: 1,
    torch.float64: 2,
    torch.int32: 3,
    torch.uint8: 4,
    torch.int16: 5,
    torch.int8: 6,
    torch.int64: 9,
    torch.bool: 10,
    torch.bfloat16: 14,
    torch.float16: 19,
}


def checksum(data: bytes) -> int:
    """CRC-32C, bit by bit."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    plain = checksum(data)
    return ((((plain >> 15) | (plain << 17)) + 0xA282EAD8) % 2**32).to_bytes(4, "little")


def varint(number: int) -> bytes:
    groups = []
    while number >= 128:
        groups.append(number % 128 + 128)
        number //= 128
    return bytes([*groups, number])


def numeral(field: int, value: int) -> bytes:
    return varint(field * 8) + varint(value)


def part(field: int, value: bytes) -> bytes:
    return varint(field * 8 + 2) + varint(len(value)) + value


def entry(tensor: Tensor, shard: int, offset: int, data: bytes) -> bytes:
    shape = b"".join(part(2, numeral(1, side) + part(2, b"a side's name")) for side in tensor.shape)
    places = numeral(3, shard) + numeral(4, offset) + numeral(5, len(data))
    return numeral(1, NUMBERS[tensor.dtype]) + part(2, shape) + places + varint(6 * 8 + 5) + masked(data)


def block(pairs: Iterable[tuple[bytes, bytes]], interval: int, compression: int = 0) -> bytes:
    content, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(pairs):
        shared = 0
        if number % interval == 0:
            restarts.append(len(content))
        else:
            while shared < min(len(before), len(key)) and before[shared] == key[shared]:
                shared += 1
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    for place in restarts or [0]:
        content += place.to_bytes(4, "little")
    content += len(restarts or [0]).to_bytes(4, "little") + bytes([compression])
    return content + masked(content)


def table(values: Mapping[bytes, bytes], *, size: int = 4, interval: int = 3, compression: int = 0) -> bytes:
    """A table with so many keys to a block."""
    keys = sorted(values)
    content, handles = b"", []
    for first in range(0, len(keys), size):
        chosen = keys[first : first + size]
        piece = block([(key, values[key]) for key in chosen], interval, compression)
        handles.append((chosen[-1], varint(len(content)) + varint(len(piece) - 5)))
        content += piece
    footer = b""
    for pairs in ([], handles):
        piece = block(pairs, 1)
        footer += varint(len(content)) + varint(len(piece) - 5)
        content += piece
    return content + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def write(
    prefix: Path,
    tensors: Mapping[str, Tensor],
    *,
    shards: int = 1,
    changes: Mapping[bytes, bytes | None] | None = None,
    **options: int,
) -> None:
    """Write a checkpoint; tensors go to the shards in turn, `changes` are made in the table."""
    data = [b""] * shards
    values = {b"": numeral(1, shards) + part(3, numeral(1, 1))}
    for number, (name, tensor) in enumerate(tensors.items()):
        raw = bytes(tensor.flatten().view(torch.uint8).tolist()) if tensor.numel() else b""
        shard = number % shards
        values[name.encode()] = entry(tensor, shard, len(data[shard]), raw)
        data[shard] += raw
    changed = {key: value for key, value in (values | dict(changes or {})).items() if value is not None}
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(changed, **options))
    for number, content in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{number:05}-of-{shards:05}").write_bytes(content)


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., None]:
    return write


@pytest.fixture(scope="session")
def plain_checksum() -> Callable[[bytes], int]:
    return checksum


def write_tfjs(folder: Path, nodes: list[dict], tensors: Mapping[str, Tensor], *, shard: int = 1000) -> None:
    """Write a graph model of TensorFlow.js, its constants in shards of so many bytes."""
    raw = b"".join(bytes(tensor.flatten().view(torch.uint8).tolist()) for tensor in tensors.values())
    pieces = [raw[start : start + shard] for start in range(0, len(raw), shard)]
    paths = [f"group1-shard{number}of{len(pieces)}.bin" for number in range(1, len(pieces) + 1)]
    for path, piece in zip(paths, pieces, strict=True):
        (folder / path).write_bytes(piece)
    weights = [
        {"name": name, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in tensors.items()
    ]
    constants = [{"name": name, "op": "Const", "inputs": []} for name in tensors]
    model = {
        "format": "graph-model",
        "modelTopology": {"node": constants + nodes, "library": {}, "versions": {"producer": 1}},
        "weightsManifest": [{"paths": paths, "weights": weights}],
    }
    (folder / "model.json").write_text(json.dumps(model))


@pytest.fixture(scope="session")
def write_model() -> Callable[..., None]:
    return write_tfjs
