"""NAFNet (Chen et al., ECCV 2022): one-stage deblurring; not in the paper's tables."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from mtdeblur.networks.contract import Contract
from mtdeblur.networks.convert import ImageToImageConfig
from mtdeblur.networks.gated import GatedBlock


@dataclass(frozen=True)
class NAFNetConfig(ImageToImageConfig):
    """Options; the default is width 32, with 17,111,907 parameters.

    Attributes:
        width: channels at the finest scale; doubled at each coarser one.
        encoder: number of blocks of each encoder stage, finest first.
        middle: number of blocks at the coarsest scale.
        decoder: number of blocks of each decoder stage, coarsest first; as many stages as the encoder.
    """

    width: int = 32
    encoder: tuple[int, ...] = (1, 1, 1, 28)
    middle: int = 1
    decoder: tuple[int, ...] = (1, 1, 1, 1)

    def __post_init__(self) -> None:
        """Raise ValueError for invalid options."""
        if len(self.encoder) != len(self.decoder):
            raise ValueError(
                f"encoder and decoder must have the same number of stages, not {len(self.encoder)} and "
                f"{len(self.decoder)}"
            )


class NAFNet(nn.Module):
    """U-Net of gated depthwise blocks with channel attention; the output is the input plus a residual.

    The attention averages over the whole picture, or over each inference window. The authors' 32.87 dB
    on GoPro was measured with windows of 384 pixels, 1.5 times the side of the training patches.
    """

    def __init__(self, config: NAFNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or NAFNetConfig()
        stages = len(self.config.encoder)
        widths = [self.config.width << stage for stage in range(stages)]  # finest first
        coarsest = self.config.width << stages
        self.intro = nn.Conv2d(self.config.in_channels, self.config.width, 3, padding=1)
        self.encoders = nn.ModuleList(_stack(c, n) for c, n in zip(widths, self.config.encoder, strict=True))
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in widths)
        self.middle = _stack(coarsest, self.config.middle)
        self.ups = nn.ModuleList(nn.Conv2d(2 * c, 4 * c, 1, bias=False) for c in reversed(widths))
        self.decoders = nn.ModuleList(
            _stack(c, n) for c, n in zip(reversed(widths), self.config.decoder, strict=True)
        )
        self.ending = nn.Conv2d(self.config.width, 3, 3, padding=1)

    @property
    def contract(self) -> Contract:
        """Properties of this network."""
        return Contract(
            multiple=1 << len(self.config.encoder),
            halo=0,
            state_scales=(),
            global_operation="channel attention, which averages over the whole picture",
            window=384,
            original="Chen et al., ECCV 2022; MIT",
            tail=self.ending,
        )

    def forward(self, image: Tensor) -> Tensor:
        """Deblur in one step.

        Args:
            image: (B, in_channels, H, W) in [0, 1], float; H and W multiples of `contract.multiple`.

        Returns:
            (B, 3, H, W): the first three channels plus the residual, not clamped.
        """
        x = self.intro(image.to(self.intro.weight.dtype))  # (B, c, H, W)
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(x))
            x = down(skips[-1])  # twice the channels at half the size
        x = self.middle(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(functional.pixel_shuffle(up(x), 2) + skips.pop())
        return image[:, :3] + self.ending(x)


def _stack(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(GatedBlock(channels, attention=True) for _ in range(blocks)))
