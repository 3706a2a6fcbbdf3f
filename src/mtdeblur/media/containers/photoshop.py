"""Image resources of Photoshop, in which JPEG (APP13) and TIFF files keep IPTC records, paths and more."""

import struct

_MARK = b"8BIM"
_IPTC, _THUMBNAILS = 0x0404, (0x0409, 0x040C)


def split(resources: bytes) -> tuple[bytes | None, bytes]:
    """IPTC records and the other resources, without thumbnails; malformed ends are dropped."""
    iptc, others, position = None, bytearray(), 0
    while resources[position : position + 4] == _MARK and position + 7 <= len(resources):
        (kind,) = struct.unpack_from(">H", resources, position + 4)
        name = 1 + resources[position + 6]
        start = position + 6 + name + name % 2 + 4
        size = int.from_bytes(resources[start - 4 : start])
        end = start + size + size % 2
        if start + size > len(resources):
            break
        if kind == _IPTC:
            iptc = resources[start : start + size]
        elif kind not in _THUMBNAILS:
            others += resources[position:end]
        position = end
    return iptc, bytes(others)


def joined(iptc: bytes | None, others: bytes | None) -> bytes:
    """Resources with IPTC records."""
    if not iptc:
        return others or b""
    record = _MARK + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    return record + (others or b"")
