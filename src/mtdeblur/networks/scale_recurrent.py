"""Scale-recurrent network (Tao et al., CVPR 2018), Eq. (2) of the MT-RNN paper."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.blocks import (
    Halving,
    colours_apart,
    colours_together,
    doubling,
    residual_blocks,
)
from mtdeblur.networks.contract import Contract, State, any_size, coarse_to_fine

KERNEL = 5
BLOCKS = 3


@dataclass(frozen=True)
class ScaleRecurrentConfig:
    """Options that select one of the authors' models.

    Attributes:
        width: channels at the finest scale; doubled at each of the two coarser ones.
        grey: a network for grey images, applied to R, G and B separately.
        recurrent: pass the state of a convolutional LSTM from scale to scale; the authors' model is also
            grey.
        corners: resize between scales as in TensorFlow 1; the authors' weights were trained with that.
    """

    width: int = 32
    grey: bool = False
    recurrent: bool = False
    corners: bool = False


class LSTMState(NamedTuple):
    """State of the convolutional LSTM: cell c and hidden h, both (B, C, H/4, W/4)."""

    cell: Tensor
    hidden: Tensor


class ConvLSTM(nn.Module):
    """Convolutional LSTM cell; one 3x3 convolution of concat(x, h) computes the four gates."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor, state: LSTMState) -> LSTMState:
        """Compute the next state; all maps are (B, c, H, W).

        c' = c sigmoid(f + 1) + sigmoid(i) tanh(j) and h' = sigmoid(o) tanh(c').
        """
        i, j, f, o = self.gates(torch.cat([x, state.hidden], dim=1)).chunk(4, dim=1)  # (B, 2c -> 4 times c)
        cell = state.cell * torch.sigmoid(f + 1) + torch.sigmoid(i) * torch.tanh(j)
        return LSTMState(cell, torch.sigmoid(o) * torch.tanh(cell))


class ScaleRecurrent(nn.Module):
    """One iteration of the scale-recurrent network.

    It has 6,881,251 parameters in colour, 6,876,449 for grey images, and 8,056,609 with the LSTM.

    The input is the blurred image and an estimate. In its own, multi-scale approach that is the result
    of the coarser scale, which the unroll loop resizes together with the LSTM's state; in the
    multi-temporal approach it is the last estimate. The output is the image itself, not a residual.

    The network needs multiples of 4 at each scale. The authors pad the whole picture to multiples of 16,
    4 at their coarsest scale, 1/4.
    """

    def __init__(self, config: ScaleRecurrentConfig | None = None) -> None:
        super().__init__()
        self.config = config or ScaleRecurrentConfig()
        c, colours = self.config.width, 1 if self.config.grey else 3
        self.head = nn.Conv2d(2 * colours, c, KERNEL, padding=KERNEL // 2)
        self.encoder1 = residual_blocks(c, KERNEL, BLOCKS)
        self.down1 = Halving(c, 2 * c, KERNEL)
        self.encoder2 = residual_blocks(2 * c, KERNEL, BLOCKS)
        self.down2 = Halving(2 * c, 4 * c, KERNEL)
        self.encoder3 = residual_blocks(4 * c, KERNEL, BLOCKS)
        self.lstm = ConvLSTM(4 * c) if self.config.recurrent else None
        self.decoder3 = residual_blocks(4 * c, KERNEL, BLOCKS)
        self.up2 = doubling(4 * c, 2 * c)
        self.decoder2 = residual_blocks(2 * c, KERNEL, BLOCKS)
        self.up1 = doubling(2 * c, c)
        self.decoder1 = residual_blocks(c, KERNEL, BLOCKS)
        self.tail = nn.Conv2d(c, colours, KERNEL, padding=KERNEL // 2)
        _xavier_uniform(self)
        if self.lstm is not None:
            nn.init.trunc_normal_(self.lstm.gates.weight, std=1e-3)

    @property
    def contract(self) -> Contract:
        """Properties; no bfloat16, because it would round the output image itself."""
        return Contract(
            multiple=4,
            halo=188 if self.config.recurrent else 184,
            state_scales=(4, 4) if self.config.recurrent else (),
            scales=coarse_to_fine(3),
            corners=self.config.corners,
            precisions=("float32",),
            original="Tao et al., CVPR 2018; MIT",
        )

    @any_size
    def forward(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute one iteration.

        Args:
            blurred: the blurred image at this scale, (B, 3, H, W) in [0, 1], float.
            estimate: the estimate so far, same shape; the blurred image at the first iteration.
            state: None at the first iteration, then the last returned state, resized to this scale.

        Returns:
            The new estimate (B, 3, H, W), not clamped, and with an LSTM its state, (B, 4 width, H/4,
            W/4) of the picture padded to multiples of 4; if grey, R, G and B have that many channels
            each.

        Raises:
            ValueError: if the shapes do not match.
        """
        grey = self.config.grey
        # (B, 6, H, W), or if grey (3B, 2, H, W)
        inputs = colours_apart(blurred, estimate) if grey else torch.cat([blurred, estimate], dim=1)
        inputs = inputs.to(self.head.weight.dtype)
        e1 = self.encoder1(functional.relu(self.head(inputs)))  # (B, c, H, W)
        e2 = self.encoder2(functional.relu(self.down1(e1)))  # (B, 2c, H/2, W/2)
        x = self.encoder3(functional.relu(self.down2(e2)))  # (B, 4c, H/4, W/4)
        if self.lstm is not None:
            x, state = self._lstm_step(self.lstm, x, state)
        x = functional.relu(self.up2(self.decoder3(x))) + e2
        x = functional.relu(self.up1(self.decoder2(x))) + e1
        image = self.tail(self.decoder1(x)).to(blurred.dtype)
        return colours_together(image) if grey else image, state if self.lstm is not None else None

    def _lstm_step(self, lstm: ConvLSTM, x: Tensor, state: State) -> tuple[Tensor, LSTMState]:
        """Run the LSTM, from zero if there is no state; states passed on have colours as channels."""
        if state is None:
            before = LSTMState(torch.zeros_like(x), torch.zeros_like(x))
        else:
            before = LSTMState(*(colours_apart(part) if self.config.grey else part for part in state))
        after = lstm(x, before)
        passed_on = (colours_together(part) if self.config.grey else part for part in after)
        return after.hidden, LSTMState(*passed_on)


def _xavier_uniform(network: nn.Module) -> None:
    """Initialise all convolutions as in TensorFlow-slim: Xavier uniform weights, zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
