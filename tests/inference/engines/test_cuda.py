import torch
from torch import nn

from mtdeblur.inference.engines.cuda import KEPT, RecordedNetwork
from mtdeblur.networks.registry import create_network
from mtdeblur.networks.unroll import unroll


def network() -> nn.Module:
    torch.manual_seed(3)
    made = create_network("mtnaf", width=4, blocks=(1, 0, 1, 0, 1))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made.eval()


class Recorder:
    """Stands in for CUDA graphs: a replay runs the work again and writes into the same outputs."""

    def __init__(self, refuses: bool = False) -> None:
        self.recorded, self.replayed, self.refuses = 0, 0, refuses

    def __call__(self, work):
        if self.refuses:
            raise RuntimeError("cannot copy from the CPU while recording")
        outputs = [part.clone() for part in work()]
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            for target, part in zip(outputs, work(), strict=True):
                target.copy_(part)

        return outputs, replay


def test_replayed_steps_equal_plain_ones_and_each_kind_and_size_is_recorded_once():
    recorder, plain = Recorder(), network()
    recorded = RecordedNetwork(plain, recorder)
    for seed, size in enumerate([(9, 17), (9, 17), (24, 8)]):
        blurred = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            pairs = zip(list(unroll(recorded, blurred, 3)), unroll(plain, blurred, 3), strict=True)
            for found, expected in pairs:
                assert torch.equal(found, expected)
    assert recorder.recorded == 4, "first and later steps of two sizes"
    assert recorder.replayed == 9


def test_few_recordings_are_kept():
    recorder = Recorder()
    recorded = RecordedNetwork(network(), recorder)
    for size in [*range(8, 8 + 8 * (KEPT + 1), 8), 8]:
        recorded(torch.zeros(1, 3, size, 8), torch.zeros(1, 3, size, 8))
    assert recorder.recorded == KEPT + 2, "the first size was dropped and is recorded again"


def test_a_step_that_cannot_be_recorded_runs_as_usual():
    plain = network()
    blurred = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        expected, _ = plain(blurred, blurred)
        found, _ = RecordedNetwork(plain, Recorder(refuses=True))(blurred, blurred)
    assert torch.equal(found, expected)
