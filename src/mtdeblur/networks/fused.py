"""Linear layers with the operation behind them, for inference on a CPU; fused where PyTorch can."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.inference_layers import Dense, exact
from mtdeblur.networks.onednn import has_fused


def dense(rows: Tensor, layer: Dense) -> Tensor:
    """Rows (P, in) to (P, out); the fused operation does not write the bias first."""
    if not has_fused(rows.dtype):
        return layer(rows)
    return torch.ops.mkldnn._linear_pointwise(rows, layer.weight, layer.bias, "none", [], "")


def convolve_leaky(x: Tensor, layer: Dense, slope: float, stride: int = 1) -> Tensor:
    """Convolution of (B, C, H, W) that keeps H / stride, then LeakyReLU."""
    padding = layer.weight.shape[-1] // 2
    if not has_fused(x.dtype):
        y = functional.conv2d(x, layer.weight, layer.bias, stride, padding)
        return functional.leaky_relu_(y, slope)
    geometry = ([padding] * 2, [stride] * 2, [1, 1], 1)
    return torch.ops.mkldnn._convolution_pointwise(
        x, layer.weight, layer.bias, *geometry, "leaky_relu", [slope], ""
    )


def add_convolution(target: Tensor, x: Tensor, layer: Dense) -> Tensor:
    """Add the convolution of (B, C, H, W) to a map of the same size in place; return it."""
    padding = layer.weight.shape[-1] // 2
    if not has_fused(x.dtype):
        return target.add_(functional.conv2d(x, layer.weight, layer.bias, 1, padding))
    geometry = ([padding] * 2, [1, 1], [1, 1], 1)
    return torch.ops.mkldnn._convolution_pointwise_.binary(
        target, x, layer.weight, layer.bias, *geometry, "add", 1.0, None, [], None
    )


def pointwise(convolution: nn.Conv2d) -> Dense:
    """A 1x1 convolution as a dense layer, float64."""
    layer = exact(convolution)
    return Dense(layer.weight.flatten(1), layer.bias)
