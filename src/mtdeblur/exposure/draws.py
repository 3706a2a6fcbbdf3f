"""Random numbers for a batch of samples, from one seed a sample or from one generator."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Draws(ABC):
    """Random numbers of B samples, drawn in order.

    Attributes:
        device: of the numbers.
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
        """Indices of a random share of the samples, chosen on the CPU without synchronisation."""

    def index(self, samples: Sequence[int]) -> Tensor:
        """Indices of samples as a tensor on the device."""
        return torch.tensor(samples, dtype=torch.int64).to(self.device, non_blocking=True)

    def below(self, count: Tensor | int) -> Tensor:
        """(B,) random integers from 0 to below the count, a scalar or (B,)."""
        return (self.uniform().double() * count).long()


class SampleDraws(Draws):
    """Random numbers from one seed a sample, drawn on the CPU: independent of batch and device.

    Args:
        seeds: one a sample.
        device: of the numbers.
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
        """Each sample, with the share as its probability."""
        return [sample for sample, chance in enumerate(self._uniform()) if float(chance) < share]

    def _uniform(self, *shape: int) -> Tensor:
        return torch.stack([torch.rand(shape, generator=generator) for generator in self._generators])


class BatchDraws(Draws):
    """Random numbers from one generator on the device, in a constant number of operations.

    The numbers depend on the key, the kind of device and the size of the whole batch; a process with a part
    of the batch draws for all samples and keeps its own.

    Args:
        key: seed of one or more numbers, each 0 or more.
        whole: samples in the whole batch.
        part: the samples of this process; all by default.
        device: of the generator and the numbers.
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
        """A number of samples of the whole batch whose mean over batches is the share."""
        count = int(share * self.whole + self._host.random())
        chosen = self._host.permutation(self.whole)[:count].tolist()
        return sorted(sample - self.part.start for sample in chosen if sample in self.part)
