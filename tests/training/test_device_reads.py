"""A device is never waited for while a run trains: the program counts what it asks of it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from mtdeblur.data.feeding.pack import Pack
from mtdeblur.training.algorithm import IncrementalTemporalTraining
from mtdeblur.training.batches import open_stream
from mtdeblur.training.checkpoints import WeightAverage
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.run import train

READS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "unique", "masked_select")
"""Operations whose result the program must know before it can ask for the next one."""


class Asked(TorchDispatchMode):
    """Counts operations by name, and those that read anything but what lies on the processor."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()
        self.on_processor: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.counts[str(func)] += 1
        known = any(args[0] is value for value in self.on_processor) if args else False
        self.reads[name] += name in READS and not known
        result = func(*args, **(kwargs or {}))
        if known:
            self.on_processor.append(result)
        return result


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """A pack with photographs, a clip and pairs."""
    random = np.random.default_rng(0)
    folder = tmp_path / "pack"
    names = [f"train/photos/{number}.png" for number in range(3)]
    names += [f"train/clips/clip/{number:02}.png" for number in range(13)]
    names += [f"train/pairs/{side}/{number}.png" for side in ("blur", "sharp") for number in range(2)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (72, 72, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize("shares", [{"clips": 0.0, "pairs": 0.0}, {"clips": 0.25, "pairs": 0.5}])
def test_the_operations_of_a_batch_do_not_depend_on_its_size(
    everything: Path, configure: Callable[..., TrainingConfig], shares: dict[str, float]
) -> None:
    counts: list[list[Counter[str]]] = []
    for size in (8, 24):
        config = configure(data={"pack": str(everything), "batch": size, **shares})
        stream = open_stream(config, Pack(everything))
        for number in range(4):
            stream.batch(number)
        counts.append([])
        for number in range(4, 10):
            with Asked() as asked:
                stream.batch(number)
            assert asked.reads.total() == 0
            counts[-1].append(asked.counts)
    assert counts[0] == counts[1]


def test_nothing_is_read_back_over_ten_batches(
    everything: Path,
    configure: Callable[..., TrainingConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But for the number of averaged batches, which is kept on the processor."""
    asked, step = Asked(), IncrementalTemporalTraining.training_step

    def watched(module: IncrementalTemporalTraining, batch: Any, index: int) -> Any:
        if batch.number == 5:
            averages = [part for part in module.trainer.callbacks if isinstance(part, WeightAverage)]
            asked.on_processor.extend(part._average_model.n_averaged for part in averages)
            asked.__enter__()
        if batch.number == 15:
            asked.__exit__(None, None, None)
        return step(module, batch, index)

    monkeypatch.setattr(IncrementalTemporalTraining, "training_step", watched)
    config = configure(
        recipe="modern",
        data={"pack": str(everything), "clips": 0.25, "pairs": 0.5},
        optimiser={"batches": 20, "warmup": 2},
        validation={"every": 1000},
    )
    train(config, tmp_path / "run", device="cpu")
    assert asked.counts["aten.convolution.default"] > 0
    assert asked.reads.total() == 0
