"""Random numbers for a batch of samples: each sample's from its own seed, or all from one generator."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Draws(ABC):
    """Random numbers of B samples, drawn in order.

    Attributes:
        device: where they are wanted.
    """

    device: torch.device

    @abstractmethod
    def __len__(self) -> int:
        """B."""

    @abstractmethod
    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in [0, 1)."""

    @abstractmethod
    def normal(self, *shape: int) -> Tensor:
        """(B, *shape), standard normal."""

    @abstractmethod
    def chosen(self, share: float) -> list[int]:
        """Numbers of the samples that belong to a share of all; known without waiting for the device."""

    def index(self, samples: Sequence[int]) -> Tensor:
        """Numbers of samples as an index on the device."""
        return torch.tensor(samples, dtype=torch.int64).to(self.device, non_blocking=True)

    def below(self, count: Tensor | int) -> Tensor:
        """(B,) whole numbers from 0 to below the count, which is one or (B,)."""
        return (self.uniform().double() * count).long()


class SampleDraws(Draws):
    """Each sample's from its own seed, drawn on the CPU: a sample is alike anywhere, in any company.

    Args:
        seeds: one a sample.
        device: where the numbers are wanted.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        """B."""
        return len(self._generators)

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in [0, 1)."""
        return self._uniform(*shape).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape), standard normal."""
        drawn = [torch.randn(shape, generator=generator) for generator in self._generators]
        return torch.stack(drawn).to(self.device)

    def chosen(self, share: float) -> list[int]:
        """Each sample with the share as its probability."""
        return [sample for sample, chance in enumerate(self._uniform()) if float(chance) < share]

    def _uniform(self, *shape: int) -> Tensor:
        return torch.stack([torch.rand(shape, generator=generator) for generator in self._generators])


class BatchDraws(Draws):
    """All from one generator on the device: a fixed number of operations, whatever the batch's size.

    What is drawn depends on the key, the kind of device and the size of the whole batch; a process that has a
    part of it draws for all and keeps its own.

    Args:
        key: numbers that say which draws these are, each 0 or more.
        whole: samples in the whole batch.
        part: which of them are wanted; all by default.
        device: where the numbers are drawn.
    """

    def __init__(
        self,
        key: Sequence[int],
        whole: int,
        part: range | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device, self.whole = torch.device(device), whole
        self.part = range(whole) if part is None else part
        self._host = np.random.default_rng(tuple(key))
        seed = int(self._host.integers(2**63))
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def __len__(self) -> int:
        """B."""
        return len(self.part)

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in [0, 1)."""
        drawn = torch.rand((self.whole, *shape), generator=self._generator, device=self.device)
        return drawn[self.part.start : self.part.stop]

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape), standard normal."""
        drawn = torch.randn((self.whole, *shape), generator=self._generator, device=self.device)
        return drawn[self.part.start : self.part.stop]

    def chosen(self, share: float) -> list[int]:
        """So many of the whole batch that the share is met from batch to batch, on average."""
        count = int(share * self.whole + self._host.random())
        of_all = self._host.permutation(self.whole)[:count].tolist()
        return sorted(sample - self.part.start for sample in of_all if sample in self.part)
