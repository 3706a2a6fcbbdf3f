"""Layers for fast inference on a CPU: merged dense layers, cheap normalisation, work in strips.

Maps are (H, W, C). A strip is a part of a map that stays in a core's cache through several operations.
"""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.multi_axis import EPS, SLOPE
from mtdeblur.networks.onednn import has_fused

STRIP = 300_000
"""Values per strip; a strip and its intermediate results fit into the second-level cache of one core."""
FEW = 64
"""Up to this many channels PyTorch's layer normalisation is slower than `normalise`."""


class Dense(NamedTuple):
    """A dense layer, a convolution or a normalisation: weight (out, in, ...) and bias (out)."""

    weight: Tensor
    bias: Tensor

    def to(self, dtype: torch.dtype) -> "Dense":
        """Convert to a dtype, convolutions to channels-last."""
        layout = torch.channels_last if self.weight.dim() == 4 else torch.contiguous_format
        return Dense(self.weight.to(dtype).contiguous(memory_format=layout), self.bias.to(dtype))

    def halves(self) -> tuple["Dense", "Dense"]:
        """Split into two layers, for the first and the second half of the outputs."""
        weights, biases = self.weight.chunk(2), self.bias.chunk(2)
        return Dense(weights[0], biases[0]), Dense(weights[1], biases[1])

    def after(self, layer: "Dense", *, transposed: bool = False) -> "Dense":
        """Merge a dense or (transposed) convolution layer with this dense layer behind it."""
        rule = "po,iokl->ipkl" if transposed else "po,oi...->pi..."
        weight = torch.einsum(rule, self.weight, layer.weight)
        return Dense(weight, self.bias + self.weight @ layer.bias)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return functional.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        """Dense layer (N, in) to (N, out), then GELU; one fused operation if oneDNN supports it.

        In bfloat16 by the error function, which oneDNN computes in less time than the tanh approximation.
        They differ by at most 5e-4, as bfloat16's numbers do next to 0.1.
        """
        if not has_fused(x.dtype):
            return functional.gelu(self(x), approximate="tanh")
        approximation = "none" if x.dtype == torch.bfloat16 else "tanh"
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], approximation)

    def convolve(self, x: Tensor, stride: int = 1) -> Tensor:
        """(H, W, in) to (H / stride, W / stride, out), with zero padding."""
        return convolve(x, self.weight, self.bias, stride, (self.weight.shape[-1] - 1) // 2)

    def convolve_leaky(self, x: Tensor) -> Tensor:
        """Convolution of a padded map (H + 2, W + 2, in) to (H, W, out), then LeakyReLU."""
        if not has_fused(x.dtype):
            return functional.leaky_relu_(convolve(x, self.weight, self.bias, 1, 0), SLOPE)
        picture = x[None].permute(0, 3, 1, 2)
        y = torch.ops.mkldnn._convolution_pointwise(
            picture, self.weight, self.bias, [0, 0], [1, 1], [1, 1], 1, "leaky_relu", [SLOPE], ""
        )
        return y[0].permute(1, 2, 0)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int = 1
) -> Tensor:
    """Convolution of (H, W, in); oneDNN recognises the permuted view as channels-last."""
    y = functional.conv2d(x[None].permute(0, 3, 1, 2), weight, bias, stride, padding, groups=groups)
    return y[0].permute(1, 2, 0)


def exact(layer: nn.Module) -> Dense:
    """Weight and bias of a trained layer, float64."""
    linear = cast("nn.Linear", layer)
    return Dense(linear.weight.detach().double(), linear.bias.detach().double())


def without_bias(weight: Tensor) -> Dense:
    """Dense layer with weights (out, in) and zero bias."""
    return Dense(weight, torch.zeros_like(weight[:, 0]))


def behind(norm: nn.LayerNorm, layer: nn.Linear) -> Dense:
    """Dense layer merged with the scale and the bias of the normalisation before it, float64."""
    return exact(layer).after(Dense(torch.diag(exact(norm).weight), exact(norm).bias))


def divisible(norm: nn.LayerNorm) -> Dense:
    """Scale and bias of a normalisation; a scale of zero becomes one that makes no difference."""
    scale, bias = exact(norm)
    return Dense(torch.where(scale.abs() < 1e-6, 1e-6, scale), bias)


def normalise(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Layer normalisation over the channels of (..., C), without scale and bias.

    With few channels PyTorch spends most of its time on what it does once a pixel. Here a matrix product
    subtracts the mean, in bfloat16 with sums in float32, and two operations scale all pixels.
    """
    channels = x.shape[-1]
    if channels > FEW:
        y = functional.layer_norm(x, x.shape[-1:], eps=EPS)
        return y if out is None else out.copy_(y)
    centred = x @ _centring(channels, x.dtype)
    norms = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
    scale = cast("Tensor", norms).float().square_().mul_(1 / channels).add_(EPS).rsqrt_().to(x.dtype)
    return torch.mul(centred, scale, out=centred if out is None else out)


@cache
def _centring(channels: int, dtype: torch.dtype) -> Tensor:
    """Matrix that subtracts the mean; exact in bfloat16 for powers of two."""
    return (torch.eye(channels, dtype=torch.float64) - 1 / channels).to(dtype)


Part = TypeVar("Part")


def in_parallel(work: Callable[[Part], object], parts: Iterable[Part]) -> None:
    """Call `work` for each part, on as many threads as PyTorch may use, each with one core.

    So a strip stays in the cache of one core, and threads do not wait for each other at each operation.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        deque(map(work, parts), maxlen=0)
        return

    def inferring(part: Part) -> None:
        with torch.inference_mode():  # a thread has its own mode
            work(part)

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        deque(pool.map(inferring, parts), maxlen=0)
    torch.set_num_threads(threads)  # also the default of threads that start later


def pieces(rows: int, values: int) -> int:
    """Number of strips for a map with that many rows and values."""
    return min(rows, max(-(-values // STRIP), torch.get_num_threads()))


def by_rows(work: Callable[..., object], *maps: Tensor) -> None:
    """Call `work` with the strips of maps (H, W, ...) of equal height, flattened to pixels (N, ...)."""
    number = pieces(len(maps[0]), max(part.numel() for part in maps))
    strips = zip(*(part.chunk(number) for part in maps), strict=True)
    in_parallel(lambda strip: work(*strip), strips)
