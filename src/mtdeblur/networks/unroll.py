"""The one loop that carries out the steps of a plan, one after the other (Fig. 1)."""

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
    """How one iteration is carried out.

    Attributes:
        scale: at 1/scale of full resolution.
        network: by which member of the model.
    """

    scale: int = 1
    network: int = 0


def default_steps(model: nn.Module) -> tuple[Step, ...]:
    """The steps of a model's own approach at test time, see `Contract.iterations` and `Contract.scales`."""
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
    """Yield the estimate of every step; at the first, the estimate is the blurred image itself.

    Where steps have several scales, the picture is padded first, once, so that it can be halved as often as
    that takes: all scales then lie on one grid.

    Args:
        networks: one network, or the members of a model, see `mtdeblur.networks.contract`.
        blurred: I0, (B, 3, H, W) in [0, 1], float.
        steps: one or more; a number stands for so many at full resolution by the first network.

    Yields:
        (B, 3, H / scale, W / scale), sizes rounded up, not clamped.

    Raises:
        ValueError: if there are no steps.
    """
    plan = [Step()] * steps if isinstance(steps, int) else steps
    if not plan:
        raise ValueError(f"the number of iterations must be at least 1, not {len(plan)}")
    some = networks if isinstance(networks, Sequence) else [networks]
    height, width = blurred.shape[-2:]
    blurred = pad_to_multiple(blurred, multiple_of_scales(some, plan))
    estimate: Tensor = blurred
    state: State = None
    for step in plan:
        estimate, state = carry_out(some[step.network], step.scale, blurred, estimate, state)
        yield estimate[..., : -(-height // step.scale), : -(-width // step.scale)]


def multiple_of_scales(networks: Sequence[ProgressiveNetwork], steps: Iterable[Step]) -> int:
    """The multiple to which a picture is padded so that it can be halved as often as the steps' scales take.

    1 where all steps are at full resolution: networks pad to their own multiple themselves.
    """
    coarsest = max(step.scale for step in steps)
    return 1 if coarsest == 1 else coarsest * max(network.contract.multiple for network in networks)


def carry_out(
    network: ProgressiveNetwork, scale: int, blurred: Tensor, estimate: Tensor, state: State
) -> tuple[Tensor, State]:
    """One iteration at 1/scale: blurred image, estimate and state are resized bilinearly first, Eq. (2).

    Args:
        network: what carries it out.
        scale: 1 is full resolution.
        blurred: I0 at full resolution, (B, 3, H, W) in [0, 1], float.
        estimate: the estimate so far, at any resolution.
        state: what the iteration before gave back, at its resolution.

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
    return network(blurred, resize(estimate, *sides, corners=contract.corners), state)


def resize(image: Tensor, height: int, width: int, *, corners: bool = False) -> Tensor:
    """Resize bilinearly, without antialiasing; the image itself where nothing changes.

    Args:
        image: (B, C, H, W), float.
        height: of the result, in pixels.
        width: of the result, in pixels.
        corners: take row i of h from row i H / h, as TensorFlow 1 did; otherwise pixel areas are aligned, and
            it is row (i + 1/2) H / h - 1/2.
    """
    if image.shape[-2:] == (height, width):
        return image
    if corners:  # with one more row and column, alike, from end to end
        more = functional.pad(image, (0, 1, 0, 1), mode="replicate")
        larger = functional.interpolate(more, (height + 1, width + 1), mode="bilinear", align_corners=True)
        return larger[..., :height, :width]
    return functional.interpolate(image, (height, width), mode="bilinear", align_corners=False)
