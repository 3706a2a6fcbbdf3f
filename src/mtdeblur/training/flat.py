"""A network's parameters in one flat tensor, and an optimiser of such: a step is a few operations."""

from typing import cast

import torch
from torch import Tensor, nn

from mtdeblur.training.config import OptimiserConfig

ORTHOGONAL = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration of Muon (Jordan et al., 2024)."""


class FlatNetwork:
    """A network whose parameters are views of one flat tensor, in bfloat16 beside float32 values.

    Parameters of one shape are adjacent, and 4-D ones are channels-last.

    Attributes:
        network: computes with the views.
        values: (N,), float32: the parameters that the optimiser changes.
        average: (N,), float32: their exponential moving average.
        gradients: (N,), float32.
        matrices: weights of residual blocks of one shape each: start, number, rows, columns.

    Args:
        network: on its device.
        dtype: of the parameters that the network computes with.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.network = network
        named = list(network.named_parameters())
        inner = [item for item in named if ".conv" in item[0] and item[1].dim() == 4]  # residual blocks
        names = {name for name, _ in inner}
        inner.sort(key=lambda item: tuple(item[1].shape))
        self.parameters = [*(p for _, p in inner), *(p for name, p in named if name not in names)]
        sizes = [parameter.numel() for parameter in self.parameters]
        device = self.parameters[0].device
        self.values, self.average, self.gradients = (torch.zeros(sum(sizes), device=device) for _ in range(3))
        self.working = torch.zeros(sum(sizes), device=device, dtype=dtype)
        self.inner = sum(parameter.numel() for _, parameter in inner)
        self.matrices: list[tuple[int, int, int, int]] = []
        self._gradient_views: list[Tensor] = []
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        for start, parameter in zip(starts, self.parameters, strict=True):
            if start < self.inner:
                self._group(start, parameter)
            shape = parameter.shape
            _view(self.values, start, shape).copy_(parameter.detach())
            parameter.data = _view(self.working, start, shape)
            self._gradient_views.append(_view(self.gradients, start, shape))
        self.average.copy_(self.values)
        self.working.copy_(self.values)

    def _group(self, start: int, parameter: Tensor) -> None:
        rows, columns = len(parameter), parameter[0].numel()
        if self.matrices and self.matrices[-1][2:] == (rows, columns):
            first, number, *_ = self.matrices.pop()
            self.matrices.append((first, number + 1, rows, columns))
        else:
            self.matrices.append((start, 1, rows, columns))

    def differentiate(self, loss: Tensor) -> None:
        """Write the gradients of a loss."""
        with torch.no_grad():
            found = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
            for view, gradient in zip(self._gradient_views, found, strict=True):
                view.copy_(gradient)

    def use(self, values: Tensor) -> None:
        """Compute with these values, such as the average."""
        self.working.copy_(values)

    def view_of(self, parameter: Tensor, values: Tensor) -> Tensor:
        """The part of flat values that belongs to a parameter, in its shape."""
        start = 0
        for own in self.parameters:
            if own is parameter:
                return _view(values, start, own.shape)
            start += own.numel()
        raise ValueError("the network has no such parameter")

    def copy_to(self, network: nn.Module, values: Tensor) -> None:
        """Give another network of the same kind these values."""
        with torch.no_grad():
            for own, other in zip(self.network.parameters(), network.parameters(), strict=True):
                other.copy_(self.view_of(own, values))


def _view(flat: Tensor, start: int, shape: torch.Size) -> Tensor:
    """Part of a flat tensor with a shape; channels-last with four dimensions."""
    part = flat[start : start + shape.numel()]
    if len(shape) != 4:
        return part.view(shape)
    out, channels, height, width = shape
    return part.view(out, height, width, channels).permute(0, 3, 1, 2)


class FlatOptimiser:
    """Adam of flat values, or Muon for the residual blocks' weights and Adam for the rest.

    Args:
        flat: the network.
        settings: betas, eps, clip and weight average.
        muon: whether residual blocks' weights are changed by Muon (Jordan et al., 2024): along the nearest
            orthogonal matrix to the momentum, with a root mean square of 0.2, as Adam's (Liu et al., 2025).
    """

    def __init__(self, flat: FlatNetwork, settings: OptimiserConfig, *, muon: bool = False) -> None:
        self.flat, self.settings = flat, settings
        self.rate = torch.zeros((), device=flat.values.device)
        self.norm = torch.zeros((), device=flat.values.device)
        self.first = flat.inner if muon else 0
        self.momentum = torch.zeros(self.first, device=flat.values.device)
        rest = nn.Parameter(flat.values[self.first :])
        rest.grad = flat.gradients[self.first :]
        on_cuda = flat.values.is_cuda
        self.adam = torch.optim.Adam(
            [rest],
            self.rate if on_cuda else 0.0,
            settings.betas,
            settings.eps,
            fused=True,
            capturable=on_cuda,
        )

    @torch.no_grad()
    def step(self) -> None:
        """One step; a gradient that is not finite is replaced by zero."""
        flat, clip = self.flat, self.settings.clip or float("inf")
        self.norm.copy_(flat.gradients.square().sum().sqrt())
        factor = torch.where(self.norm.isfinite(), (clip / (self.norm + 1e-12)).clamp(max=1), 0)
        flat.gradients.mul_(factor).nan_to_num_(0, 0, 0)
        self.adam.param_groups[0]["lr"] = self.rate if flat.values.is_cuda else float(self.rate)
        self.adam.step()  # pyright: ignore[reportUnknownMemberType]
        if self.first:
            self._muon()
        if self.settings.ema is not None:
            flat.average.lerp_(flat.values, 1 - self.settings.ema)
        flat.use(flat.values)

    def _muon(self) -> None:
        flat, inner = self.flat, slice(0, self.first)
        self.momentum.lerp_(flat.gradients[inner], 0.05)
        ahead = flat.gradients[inner].lerp(self.momentum, 0.95)
        for start, number, rows, columns in flat.matrices:
            part = slice(start, start + number * rows * columns)
            update = orthogonal(ahead[part].view(number, rows, columns))
            size = 0.2 * max(rows, columns) ** 0.5
            flat.values[part].sub_(self.rate * size * update.reshape(-1))

    def clear(self) -> None:
        """Forget all moments and the number of steps."""
        self.momentum.zero_()
        for state in self.adam.state.values():
            for part in cast("dict[str, Tensor]", state).values():
                part.zero_()


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices in the directions of the given (N, rows, columns); bfloat16 on GPUs."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.square().sum(dim=(1, 2), keepdim=True).sqrt() + 1e-7)
    x = x.bfloat16() if x.is_cuda else x
    a, b, c = ORTHOGONAL
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x if wide else x.mT).float()
