"""The unroll loop: the steps of a plan in sequence (Fig. 1)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.contract import (
    Contract,
    ProgressiveNetwork,
    State,
    members,
    pad_to_multiple,
    same_state,
)


class Step(NamedTuple):
    """Scale and network of one iteration.

    Attributes:
        scale: the iteration runs at 1/scale of full resolution.
        network: number of the model's member that runs it.
    """

    scale: int = 1
    network: int = 0


MOST_STEPS = 1000
"""A file that advises more is damaged."""


def default_steps(model: nn.Module) -> tuple[Step, ...]:
    """Test-time steps of a model's own approach, see `Contract.iterations` and `Contract.scales`."""
    contract = cast("Contract", model.contract)
    if not contract.scales:
        return (Step(),) * contract.iterations
    several = len(members(model)) > 1
    return tuple(Step(scale, number if several else 0) for number, scale in enumerate(contract.scales))


def unroll(
    networks: ProgressiveNetwork | Sequence[ProgressiveNetwork],
    blurred: Tensor,
    steps: int | Sequence[Step],
) -> Iterator[Tensor]:
    """Yield the estimate of every step; the first step's input estimate is the blurred image.

    If the steps have several scales, the picture is padded once, so that all scales are aligned.

    Args:
        networks: one network, or the members of a model, see `mtdeblur.networks.contract`.
        blurred: I0, (B, 3, H, W) in [0, 1], float.
        steps: one or more steps, or a number of steps at full resolution with the first network.

    Yields:
        (B, 3, H / scale, W / scale), sizes rounded up, not clamped.

    Raises:
        ValueError: if there are no steps.
    """
    plan = [Step()] * steps if isinstance(steps, int) else steps
    if not plan:
        raise ValueError(f"the number of iterations must be at least 1, not {len(plan)}")
    sequence = networks if isinstance(networks, Sequence) else [networks]
    height, width = blurred.shape[-2:]
    blurred = pad_to_multiple(blurred, multiple_of_scales(sequence, plan))
    estimate: Tensor = blurred
    state: State = None
    for step in plan:
        estimate, state = carry_out(sequence[step.network], step.scale, blurred, estimate, state)
        yield estimate[..., : -(-height // step.scale), : -(-width // step.scale)]


def multiple_of_scales(networks: Sequence[ProgressiveNetwork], steps: Iterable[Step]) -> int:
    """Multiple of height and width to which a picture is padded so that all scales are aligned.

    1 if all steps are at full resolution: networks pad to their own multiple.
    """
    coarsest = max(step.scale for step in steps)
    return 1 if coarsest == 1 else coarsest * max(network.contract.multiple for network in networks)


def carry_out(
    network: ProgressiveNetwork, scale: int, blurred: Tensor, estimate: Tensor, state: State
) -> tuple[Tensor, State]:
    """Run one iteration at 1/scale, after bilinear resizing of all inputs, Eq. (2).

    Args:
        network: the network to run.
        scale: 1 is full resolution.
        blurred: I0 at full resolution, (B, 3, H, W) in [0, 1], float.
        estimate: the estimate so far, at any resolution.
        state: the previous iteration's state, at any resolution.

    Returns:
        The new estimate (B, 3, H / scale, W / scale), sizes rounded up, not clamped, and the state.
    """
    height, width = (-(-side // scale) for side in blurred.shape[-2:])
    contract = network.contract
    padded = [-(-side // contract.multiple) * contract.multiple for side in (height, width)]
    if state is not None and contract.state_scales:
        maps = (
            resize(part, padded[0] // smaller, padded[1] // smaller, corners=contract.corners)
            for part, smaller in zip(state, contract.state_scales, strict=True)
        )
        state = same_state(state, maps)
    blurred = resize(blurred, height, width, corners=contract.corners)
    sides = (-(-side // contract.estimate_scale) for side in (height, width))
    return network(blurred, resize(estimate, *sides, corners=contract.corners), state)  # Eq. (2)


def resize(image: Tensor, height: int, width: int, *, corners: bool = False) -> Tensor:
    """Resize bilinearly, without antialiasing; returns the image itself if its size is right.

    Args:
        image: (B, C, H, W), float.
        height: of the result, in pixels.
        width: of the result, in pixels.
        corners: take row i of h from row i H / h, as TensorFlow 1 does; otherwise pixel areas are
            aligned, and it is row (i + 1/2) H / h - 1/2.
    """
    if image.shape[-2:] == (height, width):
        return image
    if corners:  # align_corners with one more row and column has the same source rows
        more = functional.pad(image, (0, 1, 0, 1), mode="replicate")
        larger = functional.interpolate(more, (height + 1, width + 1), mode="bilinear", align_corners=True)
        return larger[..., :height, :width]
    return functional.interpolate(image, (height, width), mode="bilinear", align_corners=False)
