# pyright: reportUnknownMemberType=false
"""Frames of a video as RGB pixels, and changes of the pixels as changes of the frames.

A change is added to the frame in the frame's own format: where pixels stay as they are, so do the samples,
colours outside RGB and unequal chroma included.
"""

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mtdeblur.media.clip import Clip

if TYPE_CHECKING:
    import av.video.frame
    import av.video.plane

Pixels = NDArray[Any]

_LIMITED, _FULL = 1, 2
_BT709, _BT601, _BT2020 = 1, 5, 9  # swscale's numbers of matrices
_MATRICES = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: _BT2020, 10: _BT2020}
_HD = 720  # lines from which a video without a tag is taken for BT.709


class Converter:
    """Converts the frames of a clip to the pixel format of the result, to RGB, and back.

    Attributes:
        clip: the video, whose tags decide the matrix and the range.
        pixel_format: of the result.
    """

    def __init__(self, clip: Clip, pixel_format: str) -> None:
        from av.video.format import VideoFormat
        from av.video.reformatter import Interpolation, VideoReformatter

        self.clip, self.pixel_format = clip, pixel_format
        self._to_format, self._to_rgb, self._from_rgb = (VideoReformatter() for _ in range(3))
        format = VideoFormat(pixel_format)
        self._bits = format.components[0].bits
        self._dtype = np.dtype(np.uint8 if self._bits <= 8 else "<u2")
        self._rgb = "rgb24" if self._bits <= 8 else "rgb48le"
        guess = _BT709 if clip.height >= _HD else _BT601
        self._matrix = _MATRICES.get(clip.colours.matrix, guess)
        full = clip.colours.range == _FULL or clip.pixel_format.startswith("yuvj") or format.is_rgb
        self._range = _FULL if full else _LIMITED
        exact = Interpolation.ACCURATE_RND | Interpolation.BITEXACT
        chroma = Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
        self._settings = {"interpolation": Interpolation.BICUBIC | exact | chroma, "threads": 1}

    def frame(self, decoded: "av.video.frame.VideoFrame") -> "av.video.frame.VideoFrame":
        """A decoded frame in size and format of the result; the same object if it has them already."""
        tags = {"src_colorspace": self._matrix, "dst_colorspace": self._matrix}
        ranges = {"src_color_range": self._range, "dst_color_range": self._range}
        return self._to_format.reformat(
            decoded,
            self.clip.width,
            self.clip.height,
            self.pixel_format,
            **tags,
            **ranges,
            **self._settings,
        )

    def pixels(self, frame: "av.video.frame.VideoFrame") -> Pixels:
        """The pixels of a frame of the result's format: (H, W, 3) RGB, full range.

        uint8, or uint16 above 8 bits a sample, where libswscale's white is up to 0.4 % below 65535.
        """
        return self._pixels_in(self._rgb_of(frame)).copy()

    def changed(self, frame: "av.video.frame.VideoFrame", estimate: Pixels) -> "av.video.frame.VideoFrame":
        """A new frame: `frame`, of the result's format, with the change from its pixels to an estimate.

        It keeps the frame's timestamp and side data, such as captions.

        Args:
            frame: of the result's size and format.
            estimate: of the shape and dtype of `pixels`.
        """
        rgb = self._rgb_of(frame)
        if rgb is frame:
            from av.video.frame import VideoFrame

            changed = VideoFrame.from_ndarray(estimate, self._rgb)
            changed.pts, changed.time_base = frame.pts, frame.time_base
            return changed
        before = self._coded(rgb)
        self._pixels_in(rgb)[:] = estimate
        after = self._coded(rgb)
        for base, old, new in zip(frame.planes, before.planes, after.planes, strict=True):
            kept, past, target = (self._rows(plane) for plane in (base, old, new))
            columns = min(rows.shape[1] for rows in (kept, past, target))  # the lines end in padding
            change = target[:, :columns].astype(np.int32) - past[:, :columns]
            target[:, :columns] = (kept[:, :columns] + change).clip(0, (1 << self._bits) - 1)
        return after

    def _rgb_of(self, frame: "av.video.frame.VideoFrame") -> "av.video.frame.VideoFrame":
        return self._to_rgb.reformat(
            frame,
            format=self._rgb,
            src_colorspace=self._matrix,
            src_color_range=self._range,
            dst_color_range=_FULL,
            **self._settings,
        )

    def _coded(self, rgb: "av.video.frame.VideoFrame") -> "av.video.frame.VideoFrame":
        return self._from_rgb.reformat(
            rgb,
            format=self.pixel_format,
            dst_colorspace=self._matrix,
            src_color_range=_FULL,
            dst_color_range=self._range,
            **self._settings,
        )

    def _pixels_in(self, rgb: "av.video.frame.VideoFrame") -> Pixels:
        """A view of an RGB frame's pixels."""
        rows = self._rows(rgb.planes[0])[:, : 3 * rgb.width]
        return rows.reshape(rgb.height, rgb.width, 3)

    def _rows(self, plane: "av.video.plane.VideoPlane") -> Pixels:
        """A view of a plane's lines with their padding."""
        samples: Pixels = np.frombuffer(cast("Any", plane), self._dtype)
        return samples.reshape(plane.height, -1)
