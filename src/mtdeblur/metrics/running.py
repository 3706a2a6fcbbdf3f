"""The measures of `quality` as metrics of torchmetrics, for training loops of PyTorch and Lightning.

It needs torchmetrics, which the extra `train` installs with Lightning.
"""

from typing import Any

from torch import Tensor
from torchmetrics import MeanMetric

from mtdeblur.metrics.quality import SSIM_CONVENTIONS, psnr, ssim


class _MeanOverPictures(MeanMetric):
    """The mean of a measure over all pictures of all batches and processes; NaN shows in it.

    States are float32, as usual in torchmetrics; `set_dtype(torch.float64)` keeps more digits.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(nan_strategy="disable", **kwargs)

    def _add(self, values: Tensor) -> None:
        super().update(values.to(self.dtype).to(self.device))


class PSNR(_MeanOverPictures):
    """Mean over the pictures of the peak signal-to-noise ratio in dB, see `quality.psnr`.

    torchmetrics' own `PeakSignalNoiseRatio` averages the squared error over all pictures first, which gives
    another number.

    Args:
        **kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True

    def update(self, estimate: Tensor, sharp: Tensor) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Add a batch.

        Args:
            estimate: (B, 3, H, W), uint8, uint16 or float in [0, 1]; floats beyond are clipped. Rounded as it
                will be stored, if the result is to be that of `mtdeblur evaluate`.
            sharp: ground truth of the same shape.

        Raises:
            ValueError: if the shapes differ or a dtype is none of these.
        """
        self._add(psnr(estimate.detach(), sharp.detach()))


class SSIM(_MeanOverPictures):
    """Mean over the pictures of the structural similarity by one convention, see `quality.ssim`.

    torchmetrics' own `StructuralSimilarityIndexMeasure` has none of these conventions: it has the window of
    "gaussian", but also measures borders that it fills by reflection.

    Args:
        convention: a name of `quality.SSIM_CONVENTIONS`.
        **kwargs: of `torchmetrics.Metric`.

    Raises:
        ValueError: if the convention is unknown.
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(self, convention: str = "gaussian", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if convention not in SSIM_CONVENTIONS:
            raise ValueError(f"unknown SSIM convention {convention!r}; known: {', '.join(SSIM_CONVENTIONS)}")
        self.convention = convention

    def update(self, estimate: Tensor, sharp: Tensor) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Add a batch; as for `PSNR.update`, at least 11 pixels high and wide."""
        self._add(ssim(estimate.detach(), sharp.detach(), self.convention))
