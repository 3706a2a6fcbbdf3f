"""Removal of what an XMP packet says about parts of a file that are not carried over."""

from collections.abc import Callable
from typing import NamedTuple
from xml.dom import minidom
from xml.parsers.expat import ExpatError

_GAIN_MAP = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.apple.com/pixeldatainfo/1.0/",
)
_APPENDED = (  # lists of the pictures and videos behind the first picture, and their items
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/container/item/",
    "http://ns.google.com/photos/dd/1.0/container/",
    "http://ns.google.com/photos/dd/1.0/item/",
)
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_VIDEO = ("MotionPhoto", "MicroVideo")
_BASIC = "http://ns.adobe.com/xap/1.0/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_NAMES = "http://www.w3.org/2000/xmlns/"


class Cleaned(NamedTuple):
    """A packet without some properties, and whether it spoke of a gain map or of a video."""

    packet: bytes
    gain_map: bool
    video: bool


def without_appended(packet: bytes) -> Cleaned:
    """The packet without what it says about gain maps, videos and pictures appended to the file.

    A packet that says nothing of them, or cannot be parsed, is unchanged.
    """
    gain_map, video = b'"GainMap"' in packet or b"'GainMap'" in packet, False

    def appended(space: str, name: str) -> bool:
        nonlocal gain_map, video
        gain_map |= space in _GAIN_MAP
        of_video = space == _CAMERA and name.startswith(_VIDEO)
        video |= of_video
        return of_video or space in _GAIN_MAP + _APPENDED

    if any(space.encode() in packet for space in (*_GAIN_MAP, *_APPENDED, _CAMERA)):
        packet = _without(packet, appended)
    return Cleaned(packet, gain_map, video)


def without_thumbnails(packet: bytes | None) -> bytes | None:
    """The packet without pictures of the photograph as it was before."""
    if packet is None or b"Thumbnails" not in packet:
        return packet
    return _without(packet, lambda space, name: space == _BASIC and name == "Thumbnails")


def without_extension(packet: bytes) -> bytes:
    """The packet without its reference to an extended packet, which only JPEG has."""
    if b"HasExtendedXMP" not in packet:
        return packet
    return _without(packet, lambda space, name: space == _NOTE)


def _without(packet: bytes, unwanted: Callable[[str, str], bool]) -> bytes:
    """The packet without properties of some namespaces and names; unchanged if it cannot be parsed."""
    try:
        document = minidom.parseString(packet.rstrip(b"\0"))
    except (ExpatError, ValueError, LookupError, RecursionError):
        return packet
    try:
        if not _prune(document, unwanted):
            return packet
        return b"".join(node.toxml().encode("utf-8", "replace") for node in document.childNodes)
    except RecursionError:
        return packet


def _prune(node: minidom.Document | minidom.Element, unwanted: Callable[[str, str], bool]) -> bool:
    """Remove properties, and say whether there were any."""
    changed = False
    for child in list(node.childNodes):
        if not isinstance(child, minidom.Element):
            continue
        if unwanted(child.namespaceURI or "", child.localName or ""):
            node.removeChild(child)
            changed = True
            continue
        for attribute in list(child.attributes.values()):
            declares = attribute.namespaceURI == _NAMES and attribute.value in _GAIN_MAP + _APPENDED
            if declares or unwanted(attribute.namespaceURI or "", attribute.localName or ""):
                child.removeAttributeNode(attribute)
                changed = True
        changed |= _prune(child, unwanted)
    return changed
