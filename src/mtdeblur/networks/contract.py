"""What a progressive network is, and the facts that callers need to know about one.

A progressive network carries out one iteration::

    estimate, state = network(blurred, estimate, state)

`blurred` (I0 in Eq. 3) and `estimate` are (B, 3, H, W) float tensors in [0, 1], of any height and width from
1 pixel up. `state` is None at the first iteration, then whatever named tuple of tensors the network gave back
(or None for a network that keeps no state). The output estimate is not clamped. A network computes in the
dtype of its parameters, but the estimate keeps the images' own: with bfloat16 parameters and float32 images
only the residual is rounded to bfloat16.

A model with weights of their own for each scale or iteration (stacking version, some multi-scale networks) is
one module that offers several such networks, its `members`; the steps of a plan name them by number. Members
may hand one another a state: each gives maps of the same kind, and one that cannot begin without them says so
by a ValueError where the state is None.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn


class RecurrentMaps(NamedTuple):
    """Recurrent feature maps of Eq. (3): F1 (B, C1, H1, W1) at the finer scale, F2 (B, C2, H2, W2) below."""

    f1: Tensor
    f2: Tensor


State = tuple[Tensor, ...] | None
"""A named tuple of maps (B, C, h, w) of the network's own, such as `RecurrentMaps`, or None."""


@dataclass(frozen=True)
class Contract:
    """Facts about a network that inference, evaluation and training build on.

    Attributes:
        multiple: the network works on heights and widths that are multiples of this; it pads others itself,
            by repeating the last row and column, and crops its output.
        halo: within one iteration an output pixel, or state value, depends on no input pixel further away
            than this many pixels (Chebyshev distance); a multiple of `multiple`. 0 with a global operation.
        state_scales: for each map of the state, by how much smaller than the padded picture it is.
        iterations: default number of iterations at test time, at full resolution.
        scales: in their place, for a network whose own approach is multi-scale, the scale of each step, such
            as (4, 2, 1); each step is carried out by a member of its own where there are several.
        estimate_scale: by how much smaller than the blurred image the estimate is that it takes; 1 where a
            coarser estimate is brought to the blurred image's size first, 2 where the network doubles it.
        corners: pictures and maps are brought to another scale as TensorFlow 1 did it, see
            `mtdeblur.networks.unroll.resize`.
        precisions: dtypes it runs in without visible loss (torch names, "float32" first).
        global_operation: what takes in the whole picture at once, such as pooling, or None; exact tiling
            refuses a network that has one and gives this as the reason.
        window: with a global operation, the side in pixels of the windows over which the network does best, a
            multiple of `multiple`: mostly about the size of the patches that it is trained on. None where the
            whole picture is as good.
        original: paper and licence of the program that the network is written after, if any; the licence
            covers its released weights too.
        tail: the convolution that writes the residual: with zeros in it, an iteration gives back an image
            that it is given. None where the output is added to nothing.
        backbone: layers that the ImageNet weights of torchvision's `mobilenet_v2.features` fit, or None.
    """

    multiple: int
    halo: int
    state_scales: tuple[int, ...]
    iterations: int = 6
    scales: tuple[int, ...] = ()
    estimate_scale: int = 1
    corners: bool = False
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    global_operation: str | None = None
    window: int | None = None
    original: str | None = None
    tail: nn.Conv2d | None = field(default=None, compare=False, repr=False)
    backbone: nn.Sequential | None = field(default=None, compare=False, repr=False)


class ProgressiveNetwork(Protocol):
    """Anything callable as one iteration, with its contract."""

    @property
    def contract(self) -> Contract:
        """The network's facts."""
        ...

    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration; see the module's text for shapes and ranges."""
        ...


def coarse_to_fine(scales: int) -> tuple[int, ...]:
    """So many scales for `Contract.scales`, each twice as fine as the one before: (4, 2, 1) for three."""
    return tuple(2**number for number in reversed(range(scales)))


def members(model: nn.Module) -> Sequence[ProgressiveNetwork]:
    """The progressive networks of a model that steps name by number: its own members, or itself alone."""
    return getattr(model, "members", (cast(ProgressiveNetwork, model),))


class Several(nn.Module):
    """Networks with weights of their own, one for each number (stacking version, Fig. 1b).

    Args:
        networks: one or more, all of one kind.
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
        """The first one's facts."""
        return self.members[0].contract


def same_state(state: State, maps: Iterable[Tensor]) -> State:
    """These maps as a state of the same kind; None if there is none."""
    kind: Any = type(state)
    return None if state is None else kind(*maps)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width are multiples of `multiple`.

    Args:
        image: (B, C, H, W), any range, H and W at least 1.
        multiple: 1 or more.

    Returns:
        (B, C, H', W') with H' and W' the next multiples; `image` itself where nothing is missing.
    """
    down, right = -image.shape[-2] % multiple, -image.shape[-1] % multiple
    if not (down or right):
        return image
    return nn.functional.pad(image, (0, right, 0, down), mode="replicate")


def inference_form(network: ProgressiveNetwork, dtype: torch.dtype) -> ProgressiveNetwork | None:
    """What a network offers for inference on a processor: faster, and equal to it but for rounding.

    Args:
        network: trained, float32, on the CPU; one that offers a form has a method `for_inference`.
        dtype: to compute in.
    """
    derive = getattr(network, "for_inference", None)
    return None if derive is None else derive(dtype)


def check_inputs(blurred: Tensor, estimate: Tensor, estimate_scale: int = 1) -> None:
    """Refuse inputs that are not a blurred image (B, 3, H, W), float, with an estimate of its size.

    Args:
        blurred: I0.
        estimate: the estimate so far.
        estimate_scale: see `Contract.estimate_scale`; sizes are rounded up.

    Raises:
        ValueError: naming the shapes or the dtype found.
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
