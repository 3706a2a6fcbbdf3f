"""Conversion of image-to-image networks to multi-temporal (Table 3 of the paper).

An image-to-image network is an ordinary module that maps (B, C, H, W) in [0, 1] to (B, 3, H, W), in a
file of its own. It needs three things:

- `network.config`, its options: a dataclass that extends `ImageToImageConfig`;
- first layers with `config.in_channels` input channels: 3, or 6 if converted. The first three are the
  base of a skip connection from input to output (if converted, the blurred input I0: ResL to I0, as in
  Eq. (3)), the last three the best estimate so far;
- `network.contract`. Input heights and widths are multiples of `contract.multiple`: the adapter pads,
  crops and checks.

It needs one line in the registry: `create_network("nafnet")` builds the plain network, in its own
one-stage approach, `create_network("nafnet", converted=True)` the converted one, each in a
`ProgressiveAdapter`. `converted` is an ordinary option, so it also works in training configurations,
weights files and tables.
"""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from mtdeblur.networks.contract import Contract, State, any_size


@dataclass(frozen=True)
class ImageToImageConfig:
    """Common options of image-to-image networks.

    Attributes:
        converted: convert to multi-temporal: the input is the blurred image and the estimate.
    """

    converted: bool = False

    @property
    def in_channels(self) -> int:
        """Input channels: 3 for the estimate, 6 for concat(I0, estimate)."""
        return 6 if self.converted else 3


class ProgressiveAdapter(nn.Module):
    """An image-to-image network as a progressive one, without recurrent feature maps.

    A plain network's input is the estimate, at the first iteration the blurred image: one iteration is
    its own approach, and further ones deblur its output again. A converted network's input is concat(I0,
    estimate).

    Args:
        network: an image-to-image network, see the module's docstring.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def config(self) -> ImageToImageConfig:
        """Options of the wrapped network."""
        return cast("ImageToImageConfig", self.network.config)

    @property
    def contract(self) -> Contract:
        """Contract of the wrapped network; a plain one runs one iteration by default."""
        contract = cast("Contract", self.network.contract)
        return contract if self.config.converted else replace(contract, iterations=1)

    @any_size
    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration.

        Args:
            blurred: I0, (B, 3, H, W) in [0, 1], float.
            estimate: the estimate so far, same shape; I0 itself at the first iteration.
            state: always None.

        Returns:
            The new estimate (B, 3, H, W), not clamped, and None.

        Raises:
            ValueError: if the shapes do not match.
        """
        image = torch.cat([blurred, estimate], dim=1) if self.config.converted else estimate  # Eq. (5)
        return self.network(image), None
