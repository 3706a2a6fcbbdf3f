"""Image-to-image networks as progressive ones: the paper's conversion to multi-temporal (Table 3).

An image-to-image network is an ordinary module that turns (B, C, H, W) in [0, 1] into (B, 3, H, W), in a file
of its own. Nothing in it is written for the conversion; it keeps to three things:

- its options are a dataclass that extends `ImageToImageConfig`, and are kept as `network.config`;
- its first layers take `config.in_channels` channels: 3, or 6 where it is converted. The first three are
  always what a skip from input to output adds to (the blurred input I0 where it is converted: ResL to I0, as
  in Eq. 3), the last three are always the best estimate so far;
- `network.contract` states its facts. Heights and widths that it is given are multiples of
  `contract.multiple`: padding, cropping and checking are the adapter's.

Its line in the registry is like any other's: `create_network("nafnet")` gives it plain, in its own one-stage
approach, and `create_network("nafnet", converted=True)` converted, each wrapped in a `ProgressiveAdapter`.
Since `converted` is an option among the network's others, training configurations, weights files and tables
know it without further ado.
"""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from mtdeblur.networks.contract import Contract, State, check_inputs, pad_to_multiple


@dataclass(frozen=True)
class ImageToImageConfig:
    """What the options of every image-to-image network have in common.

    Attributes:
        converted: to multi-temporal: the network sees the blurred input beside the estimate.
    """

    converted: bool = False

    @property
    def in_channels(self) -> int:
        """What the network's first layers take in: the estimate, or concat(I0, estimate)."""
        return 6 if self.converted else 3


class ProgressiveAdapter(nn.Module):
    """An image-to-image network carrying out one iteration, without recurrent feature maps.

    A plain network sees the estimate alone, which at the first iteration is the blurred input: one iteration
    is its own approach, and further ones deblur its own output again. A converted one sees
    concat(I0, estimate).

    Args:
        network: image to image, as the module's text has it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def config(self) -> ImageToImageConfig:
        """The options of the network inside."""
        return cast("ImageToImageConfig", self.network.config)

    @property
    def contract(self) -> Contract:
        """The facts of the network inside; a plain one is run once by default."""
        contract = cast("Contract", self.network.contract)
        return contract if self.config.converted else replace(contract, iterations=1)

    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration.

        Args:
            blurred: I0, (B, 3, H, W) in [0, 1], float.
            estimate: the estimate so far, same shape; I0 itself at the first iteration.
            state: always None.

        Returns:
            The new estimate (B, 3, H, W), not clamped, and None.

        Raises:
            ValueError: if the shapes do not fit.
        """
        check_inputs(blurred, estimate)
        height, width = blurred.shape[-2:]
        image = (
            torch.cat([blurred, estimate], dim=1) if self.config.converted else estimate  # Eq. (5)
        )  # (B, 6 or 3, ..)
        output = self.network(pad_to_multiple(image, self.contract.multiple))
        return output[..., :height, :width], None
