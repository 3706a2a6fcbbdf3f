"""Whole files of every format that strangers may give the program: pictures, videos, weights, packs."""

import io
import json
import re
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mtdeblur.media.facts import Coding, Resolution
from mtdeblur.media.picture import Picture
from mtdeblur.media.pictures import encode_picture
from mtdeblur.media.primaries import Colour

PICTURES = ("jpeg", "png", "tiff", "webp", "avif", "gif", "bmp", "pnm", "heic", "jxl")
VIDEOS = ("mp4", "mkv", "avi")
WEIGHTS = ("safetensors", "pth", "export")
PACKS = ("pack",)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a xmlns:h="http://ns.adobe.com/hdr-gain-map/1.0/" h:v="1"/>'
    b"</x:xmpmeta>"
)
IPTC = b"\x1c\x02\x19\x00\x03cat\x1c\x02\x78\x00\x04cats"


def whole_files(kind: str) -> list[bytes]:
    """Whole files of a format.

    Pictures are grey and colour, deep, with alpha, animated, with all metadata; videos have sound, subtitles
    and chapters; weights are of small networks; a pack has photographs, a clip and pairs.
    """
    if kind in VIDEOS:
        return _videos(kind)
    return _OTHERS[kind]() if kind in _OTHERS else _pictures_of(kind)


def _pictures_of(container: str) -> list[bytes]:
    if container == "gif":
        return [_by_pillow("GIF"), _by_pillow("GIF", save_all=True, append_images=[_image(1)], duration=50)]
    if container == "heic":
        return _heic()
    pictures = _pictures()
    if container not in ("png", "tiff", "avif"):
        pictures = [picture for picture in pictures if picture.pixels.dtype == np.uint8]
    if container != "tiff":
        pictures = [picture for picture in pictures if picture.pixels.dtype != np.float32]
    files = [encode_picture(picture, container) for picture in pictures]
    more = {"png": "PNG", "webp": "WEBP", "tiff": "TIFF", "avif": "AVIF"}.get(container)
    if more:
        files.append(_by_pillow(more, save_all=True, append_images=[_image(1)]))
    if container == "jpeg":
        files += [
            _by_pillow("JPEG", progressive=True, quality=60),
            _by_pillow("MPO", save_all=True, append_images=[_image(1)]),
        ]
        files.append(_by_pillow("JPEG", convert="CMYK"))
    if container == "bmp":
        files += [_by_pillow("BMP", convert=mode) for mode in ("1", "P")]
    if container == "pnm":
        files += [b"P3 2 2 7\n" + b"1 2 3 " * 4, b"P1 # bits\n9 2\n" + b"10" * 9, b"P4\n9 2\n" + bytes(4)]
    return files


def _pictures() -> list[Picture]:
    pixels = np.asarray(_image(0))
    exif = b"MM\0*\0\0\0\x08\0\2\1\x0f\0\2\0\0\0\5\0\0\0\x26\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0Acme\0\0"
    tagged = Picture(
        pixels,
        pixels[..., 0],
        exif=exif,
        xmp=XMP,
        iptc=IPTC,
        resolution=Resolution(300, 300),
        colour=Colour(gamma=1.0),
    )
    deep = replace(
        tagged, pixels=pixels.astype(np.uint16) * 257, alpha=pixels[..., 0].astype(np.uint16) * 257
    )
    return [
        Picture(pixels),
        tagged,
        Picture(np.repeat(pixels[..., :1], 3, axis=2), grey=True),
        deep,
        replace(tagged, coding=Coding("webp", lossless=True)),
        replace(tagged, coding=Coding("tiff", premultiplied=True)),
        Picture(pixels.astype(np.float32) / 100),
    ]


def _image(seed: int) -> Any:
    from PIL import Image

    rows, columns = np.mgrid[:40, :56]
    waves = [np.sin(rows / 7 + columns / (9 + 3 * channel) + seed) for channel in range(3)]
    return Image.fromarray(((np.stack(waves, -1) * 0.4 + 0.5) * 255).astype(np.uint8))


def _by_pillow(kind: str, convert: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    _image(0).convert(convert).save(file, kind, **options)
    return file.getvalue()


def _heic() -> list[bytes]:
    heif = import_module("pillow_heif")
    files: list[bytes] = []
    for mode, dtype in (("RGB", np.uint8), ("RGB;16", np.uint16), ("RGBA", np.uint8)):
        channels = len(mode.split(";")[0])
        samples = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 56, channels), dtype)
        file = io.BytesIO()
        whole = heif.from_bytes(mode=mode, size=(56, 40), data=samples.tobytes())
        whole.info["exif"] = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
        whole.save(file)
        files.append(file.getvalue())
    return files


def _written(name: str, write: Callable[..., object], *arguments: Any, **options: Any) -> bytes:
    """What a function writes into a file of that name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(path, *arguments, **options)
        return path.read_bytes()


def _videos(container: str) -> list[bytes]:
    from clips import write_clip

    frequent = {"g": "4", "bf": "1"}
    h264, vp9 = "libx264", {"deadline": "realtime", "cpu-used": "8"}
    clips: dict[str, list[dict[str, Any]]] = {
        "mp4": [
            {"codec": h264, "options": frequent, "irregular": True, "sound": "aac", "subtitles": "mov_text"},
            {"codec": "mpeg4", "sound": "aac"},
        ],
        "mkv": [
            {
                "codec": h264,
                "options": frequent,
                "sound": "flac",
                "subtitles": "subrip",
                "attachment": b"f",
            },
            {"codec": "libvpx-vp9", "options": vp9, "sound": "libopus"},
            {"codec": "ffv1", "pixel_format": "yuv422p10le", "irregular": True},
        ],
        "avi": [
            {"codec": "mjpeg", "pixel_format": "yuvj420p", "sound": "pcm_s16le"},
            {"codec": "mpeg4", "options": {"g": "4"}, "sound": "libmp3lame"},
        ],
    }
    return [_written(f"a.{container}", write_clip, **clip) for clip in clips[container]]


def _networks() -> list[Any]:
    import torch

    from mtdeblur.networks.registry import create_network

    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    small = {"width": 4, "blocks": (1, 1, 1, 1, 1)}
    return [create_network("mtnaf", **small), create_network("mtrnn", width=4)]


def _safetensors() -> list[bytes]:
    from safetensors.torch import save

    from mtdeblur.weights.layouts.mtrnn import to_authors
    from mtdeblur.weights.store import save_network

    ours, mtrnn = _networks()
    theirs = {name: value.contiguous() for name, value in to_authors(mtrnn.state_dict()).items()}
    files = [_written("a", save_network, network, iterations=3) for network in (ours, mtrnn)]
    return [_with_sorted_header(file) for file in (*files, save(theirs))]


def _with_sorted_header(file: bytes) -> bytes:
    """A safetensors file whose header is in order, which is otherwise random."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[end:]


def _pytorch() -> list[bytes]:
    import torch

    from mtdeblur.weights.layouts.mtrnn import to_authors

    state = to_authors(_networks()[1].state_dict())
    values = list(state.values())
    whole = torch.cat([value.flatten() for value in values])  # one storage has one place in the file
    ends = np.cumsum([value.numel() for value in values])
    parts = [
        whole[end - value.numel() : end].view(value.shape) for end, value in zip(ends, values, strict=True)
    ]
    state = dict(zip(state, parts, strict=True))
    files: list[bytes] = []
    for content, zipped in ((state, True), ({"params": state, "epoch": 3}, True), (state, False)):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        files.append(_with_plain_keys(file.getvalue()))
    return files


def _with_plain_keys(file: bytes) -> bytes:
    """A file of PyTorch's old format with numbers as keys of its storages, which are otherwise addresses."""
    numbers: dict[bytes, bytes] = {}

    def number(found: re.Match[bytes]) -> bytes:
        return numbers.setdefault(found[0], str(len(numbers)).zfill(len(found[0])).encode())

    return re.sub(rb"(?<=X[\x08-\x14]\0\0\0)\d{8,20}", number, file)


def _manifests() -> list[bytes]:
    """The metadata of exports."""
    from mtdeblur.weights.exported.manifest import Manifest

    contract = _networks()[1].contract
    names = [fact.name for fact in fields(contract) if fact.name not in ("tail", "backbone")]
    facts = {name: getattr(contract, name) for name in names}
    member = {"contract": facts, "first": None, "next": None, "state": ["one", "two"], "bytes_a_pixel": 9.5}
    difference = {"height": 9, "width": 8, "iterations": 2, "max_abs": 1e-6, "psnr": 99.0}
    content = {
        "program": "0.1.0",
        "target": "onnx",
        "packages": {"onnx": "1.19"},
        "network": "mtrnn",
        "options": [{"width": 4}],
        "source": {"name": "tiny", "sha256": "0" * 64, "licence": "MIT", "training_data": ["GoPro"]},
        "steps": [[1, 0], [1, 0]],
        "members": [member],
        "measured": [difference],
        "files": {},
    }
    whole = Manifest.model_validate_json(json.dumps(content))
    return [whole.model_dump_json(indent=indent).encode() for indent in (None, 1)]


def _packs() -> list[bytes]:
    picture = _by_pillow("JPEG")
    names = [f"train/clips/a/{number:02}.jpg" for number in range(13)]
    names += ["train/photos/a.jpg", "valid/photos/b.jpg"]
    names += [f"{part}/pairs/{side}/a.jpg" for part in ("train", "valid") for side in ("blur", "sharp")]
    files: list[bytes] = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), picture, method)
        files.append(file.getvalue())
    return files


_OTHERS = {"safetensors": _safetensors, "pth": _pytorch, "export": _manifests, "pack": _packs}
