"""The losses of DeblurGAN-v2 (Kupyn et al., ICCV 2019): content, and two relativistic discriminators."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.perceptual import ContentLoss, load_vgg19

WIDTH = 64
"""Channels of a discriminator's first convolution, as published."""
POOL = 50
"""Number of past outputs in a discriminator's running mean."""


class AdversarialLoss(nn.Module):
    """Content loss plus `weight` times the mean adversarial loss of two discriminators.

    One discriminator judges patches, the other about the whole crop ("double GAN"). They have an Adam
    optimiser of their own. `state_dict` contains its state and the pools, so that a run can be resumed.

    Args:
        content: compares an estimate with the ground truth.
        weight: lambda, of the adversarial loss; 0.001 in the authors' program.
        betas: of the discriminators' Adam.
        width: channels of the discriminators' first convolution; up to 8 times as many in the others.
    """

    def __init__(
        self,
        content: ContentLoss,
        weight: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        width: int = WIDTH,
    ) -> None:
        super().__init__()
        self.content = content
        self.weight = weight
        self.discriminators = nn.ModuleList(RelativisticLoss(Discriminator(depth, width)) for depth in (3, 5))
        self.optimiser = torch.optim.Adam(self.discriminators.parameters(), betas=betas)

    def forward(self, estimate: Tensor, sharp: Tensor, rate: float) -> Tensor:
        """Train the discriminators on one batch, then compute the network's loss.

        Args:
            estimate: the network's output, (B, 3, H, W) in [0, 1], float.
            sharp: the ground truth, same shape.
            rate: learning rate of the discriminators in this step.

        Returns:
            The network's loss, a scalar with a gradient with respect to the estimate only.
        """
        fake, real = 2 * estimate - 1, 2 * sharp - 1  # DeblurGAN's range, [-1, 1]
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        self.discriminators.requires_grad_(True)
        with torch.enable_grad():
            loss = self._mean([judge.discriminator_loss(fake.detach(), real) for judge in self._judges])
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
        self.optimiser.step()  # pyright: ignore[reportUnknownMemberType]
        self.discriminators.requires_grad_(False)
        adversarial = self._mean([judge.generator_loss(fake) for judge in self._judges])
        return self.content(estimate, sharp) + self.weight * adversarial

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's state."""
        return self.optimiser.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the optimiser's state."""
        self.optimiser.load_state_dict(state)

    @property
    def _judges(self) -> list["RelativisticLoss"]:
        return [judge for judge in self.discriminators if isinstance(judge, RelativisticLoss)]

    @staticmethod
    def _mean(losses: list[Tensor]) -> Tensor:
        return torch.stack(losses).mean()


class RelativisticLoss(nn.Module):
    """Relativistic average least-squares loss, RaGAN-LS: is an image more real than others on average?

    With D the discriminator's output map and constant means over the last 50 outputs of each kind:

    - discriminator: ((D(real) - mean D(fake) - 1)^2 + (D(fake) - mean D(real) + 1)^2) / 2;
    - network: with real and fake exchanged; only (D(fake) - mean D(real) - 1)^2 / 2 depends on it.

    Args:
        discriminator: maps images (B, 3, H, W) in [-1, 1] to scores (B, 1, h, w).
    """

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.real = Pool(POOL)
        self.fake = Pool(POOL)

    def discriminator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """The discriminator's loss, a scalar; `fake` and `real` are (B, 3, H, W) in [-1, 1]."""
        judged_fake, judged_real = self.discriminator(fake), self.discriminator(real)  # (B, 1, h, w)
        self.fake.add(judged_fake)
        self.real.add(judged_real)
        to_real = (judged_real - self.fake.mean() - 1).square().mean()
        to_fake = (judged_fake - self.real.mean() + 1).square().mean()
        return (to_real + to_fake) / 2

    def generator_loss(self, fake: Tensor) -> Tensor:
        """The network's loss, a scalar; `fake` is (B, 3, H, W) in [-1, 1]."""
        return (self.discriminator(fake) - self.real.mean() - 1).square().mean() / 2


class Pool(nn.Module):
    """A discriminator's mean outputs for the most recent images.

    Args:
        size: number of images.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.full((size,), torch.nan))  # nan: not filled yet
        self.means: Tensor

    def add(self, outputs: Tensor) -> None:
        """Add the outputs (B, 1, h, w) for a batch of images; the oldest are dropped."""
        new = outputs.detach().mean(dim=(1, 2, 3)).to(self.means.dtype)
        self.means = torch.cat([self.means, new])[-len(self.means) :]

    def mean(self) -> Tensor:
        """Mean over all images in the pool, a scalar; the pool must not be empty."""
        return self.means.nanmean()


class Discriminator(nn.Sequential):
    """PatchGAN: a map of scores, one for each receptive field.

    Args:
        depth: number of convolutions with stride 2: 3 for patches, 5 for about a whole crop.
        width: channels of the first convolution; doubled at each, up to 8 times as many.
    """

    def __init__(self, depth: int, width: int = WIDTH) -> None:
        widths = [width * min(2**level, 8) for level in range(depth + 1)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=2), nn.LeakyReLU(0.2)]
        for level, (before, after) in enumerate(pairwise(widths), 1):
            layers += [
                nn.Conv2d(before, after, 4, stride=2 if level < depth else 1, padding=2),
                nn.InstanceNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, padding=2))


def build_adversarial(config: TrainingConfig) -> AdversarialLoss | None:
    """The configured adversarial loss, or None; the seed determines the discriminators' weights.

    Raises:
        UserError: if the VGG19 weights cannot be read.
    """
    settings = config.optimiser.adversarial
    if settings is None:
        return None
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(config.seed)  # pyright: ignore[reportUnknownMemberType]
        content = ContentLoss(None if settings.vgg19 is None else load_vgg19(settings.vgg19))
        return AdversarialLoss(content, settings.weight, config.optimiser.betas, WIDTH)
