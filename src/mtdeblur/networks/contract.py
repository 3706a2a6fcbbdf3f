"""Interface of a progressive network, and its properties that callers depend on.

A progressive network computes one iteration::

    estimate, state = network(blurred, estimate, state)

`blurred` (I0 in Eq. (3)) and `estimate` are (B, 3, H, W) float tensors in [0, 1]; height and width are at
least 1. `state` is None at the first iteration, then the named tuple of tensors that the network last
returned (None for a network without state). The output estimate is not clamped. A network computes in
the dtype of its parameters, but the estimate keeps the dtype of the images: with bfloat16 parameters and
float32 images only the residual is rounded to bfloat16.

A model with separate weights for each scale or iteration (stacking version, some multi-scale networks)
is one module with several such networks, its `members`; the steps of a plan refer to them by number.
Members may pass on a state to each other: all return the same kind of maps, and one that needs a state
raises ValueError for None.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn


class RecurrentMaps(NamedTuple):
    """Recurrent feature maps of Eq. (3): F1 (B, C1, H1, W1) and the coarser F2 (B, C2, H2, W2)."""

    f1: Tensor
    f2: Tensor


State = tuple[Tensor, ...] | None
"""A network-specific named tuple of maps (B, C, h, w), such as `RecurrentMaps`, or None."""


@dataclass(frozen=True)
class Contract:
    """Properties of a network for inference, evaluation and training.

    Attributes:
        multiple: the network computes on heights and widths that are multiples of this; others are padded
            by repeating the last row and column, and the output is cropped, see `any_size`.
        halo: radius of the receptive field of one iteration, for outputs and state, in pixels (Chebyshev
            distance); a multiple of `multiple`. 0 with a global operation.
        state_scales: for each map of the state, the padded picture's size divided by the map's.
        iterations: default number of iterations at test time, at full resolution.
        scales: in place of `iterations`, the scale of each step, such as (4, 2, 1), if the network's own
            approach is multi-scale; each step runs its own member if there are several.
        estimate_scale: size of the blurred image divided by that of the estimate input: 1 if a coarser
            estimate is resized first, 2 if the network enlarges it.
        corners: whether pictures and maps are resized as in TensorFlow 1, see
            `mtdeblur.networks.unroll.resize`.
        precisions: precisions without visible loss ("float32" first; "int8" is quantised after training).
        engines: engines in the order of their speed on a CPU, as far as measured, see
            `mtdeblur.inference.engines.choice`.
        global_operation: an operation over the whole picture, such as pooling, or None; exact tiling is
            refused with this as the reason.
        window: with a global operation, the best side of inference windows in pixels, a multiple of
            `multiple`: usually about the size of the training patches. None: the whole picture.
        devices: types of the devices that it runs on, the best first; empty: all of PyTorch's.
        size: the one height and width of padded pictures that it computes; None: any.
        original: paper and licence of the original program, if any; the licence also covers its released
            weights.
        tail: last convolution of the residual: if it is zero, an iteration returns one of its input
            images. None for an output without a skip connection from an input image.
        backbone: layers for the ImageNet weights of torchvision's `mobilenet_v2.features`, or None.
    """

    multiple: int
    halo: int
    state_scales: tuple[int, ...]
    iterations: int = 6
    scales: tuple[int, ...] = ()
    estimate_scale: int = 1
    corners: bool = False
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    engines: tuple[str, ...] = ("pytorch",)
    global_operation: str | None = None
    window: int | None = None
    devices: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    original: str | None = None
    tail: nn.Conv2d | None = field(default=None, compare=False, repr=False)
    backbone: nn.Sequential | None = field(default=None, compare=False, repr=False)


class ProgressiveNetwork(Protocol):
    """A callable that computes one iteration, with its contract."""

    @property
    def contract(self) -> Contract:
        """Properties of the network."""
        ...

    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration; see the module's docstring for shapes and ranges."""
        ...


def coarse_to_fine(scales: int) -> tuple[int, ...]:
    """Scales for `Contract.scales`, each half the one before: (4, 2, 1) for three."""
    return tuple(2**number for number in reversed(range(scales)))


def members(model: nn.Module) -> Sequence[ProgressiveNetwork]:
    """The progressive networks of a model, by number: its members, or the model itself."""
    return getattr(model, "members", (cast(ProgressiveNetwork, model),))


class Several(nn.Module):
    """Several networks without weight sharing (stacking version, Fig. 1b).

    Args:
        networks: one or more, all of one class.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    @property
    def members(self) -> Sequence[ProgressiveNetwork]:
        """The networks in order."""
        return cast("list[ProgressiveNetwork]", list(self.networks))

    @property
    def contract(self) -> Contract:
        """Properties of the first network."""
        return self.members[0].contract


def same_state(state: State, maps: Iterable[Tensor]) -> State:
    """Replace the maps of a state, keeping its type; None for no state."""
    kind: Any = type(state)
    return None if state is None else kind(*maps)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad height and width to multiples of `multiple` by repeating the last row and column.

    Args:
        image: (B, C, H, W), any range, H and W at least 1.
        multiple: 1 or more.

    Returns:
        (B, C, H', W') with H' and W' the next multiples; `image` itself if it needs no padding.
    """
    down, right = -image.shape[-2] % multiple, -image.shape[-1] % multiple
    if not (down or right):
        return image
    return nn.functional.pad(image, (0, right, 0, down), mode="replicate")


Iteration = TypeVar("Iteration", bound=Callable[..., tuple[Tensor, State]])


def any_size(iteration: Iteration) -> Iteration:
    """Decorate one iteration of a network, written for multiples of `Contract.multiple`, for all sizes.

    The inputs are checked and padded by their last row and column, and the estimate is cropped. The state
    is that of the padded picture.

    Args:
        iteration: a method (self, blurred, estimate, state=None) of an object with a `contract`.
    """

    @wraps(iteration)
    def padded(self: Any, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        contract: Contract = self.contract
        check_inputs(blurred, estimate, contract.estimate_scale)
        height, width = blurred.shape[-2:]
        blurred = pad_to_multiple(blurred, contract.multiple)
        estimate = pad_to_multiple(estimate, contract.multiple // contract.estimate_scale)
        output, state = iteration(self, blurred, estimate, state)
        return output[..., :height, :width], state

    return cast("Iteration", padded)


def inference_form(network: ProgressiveNetwork, dtype: torch.dtype) -> ProgressiveNetwork | None:
    """A network's faster form for inference on a CPU, equal up to rounding; None if there is none.

    Args:
        network: trained, float32, on the CPU; its method `for_inference`, if any, makes the form.
        dtype: dtype of the computation.
    """
    derive = getattr(network, "for_inference", None)
    return None if derive is None else derive(dtype)


def check_inputs(blurred: Tensor, estimate: Tensor, estimate_scale: int = 1) -> None:
    """Check that the inputs are a blurred image (B, 3, H, W), float, and an estimate of its size.

    Args:
        blurred: I0.
        estimate: the estimate so far.
        estimate_scale: see `Contract.estimate_scale`; sizes are rounded up.

    Raises:
        ValueError: with the actual shapes or dtype.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # pyright: ignore[reportPrivateImportUsage]
        return
    if blurred.dim() != 4 or blurred.shape[1] != 3 or 0 in blurred.shape:
        raise ValueError(f"blurred must be (B, 3, H, W) and not empty, not {tuple(blurred.shape)}")
    sides = (-(-side // estimate_scale) for side in blurred.shape[-2:])
    if estimate.shape != (*blurred.shape[:2], *sides):
        smaller = f" at 1/{estimate_scale}" if estimate_scale > 1 else ""
        raise ValueError(
            f"estimate {tuple(estimate.shape)} and blurred {tuple(blurred.shape)} differ in shape{smaller}"
        )
    if not blurred.is_floating_point():
        raise ValueError(f"blurred must be float in [0, 1], not {blurred.dtype}")
