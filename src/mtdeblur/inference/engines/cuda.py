"""CUDA graphs: the kernels of a step are recorded once for each size and replayed without Python's overhead.

Not measured yet. `torch.compile` is not used: it takes tens of seconds before the first picture.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtdeblur.networks.contract import ProgressiveNetwork, State, any_size, same_state

KEPT = 4
"""Number of recordings that a network keeps; each has its own memory."""
Work = Callable[[], Sequence[Tensor]]


class Recording(NamedTuple):
    """A recorded step.

    Attributes:
        inputs: the tensors that it reads: blurred picture, estimate and maps.
        outputs: the tensors that it writes: estimate and maps.
        replay: runs it.
        after: the state of the first run, for its type.
    """

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    replay: Callable[[], None]
    after: State


def record(work: Work) -> tuple[Sequence[Tensor], Callable[[], None]]:
    """Record kernels in a CUDA graph, after a run that sets up libraries.

    Args:
        work: reads and writes only memory of the device, and synchronises nothing.

    Returns:
        The outputs of `work`, and a function that computes them anew.
    """
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        work()
    torch.cuda.current_stream().wait_stream(aside)
    graph: Any = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = work()
    return outputs, graph.replay


class RecordedNetwork:
    """A progressive network whose steps are recorded, one for each size, when they are first needed.

    A step that cannot be recorded runs as usual.

    Args:
        network: on a CUDA device.
        record: records work, see the function `record`.
    """

    def __init__(
        self,
        network: ProgressiveNetwork,
        record: Callable[[Work], tuple[Sequence[Tensor], Callable[[], None]]] = record,
    ) -> None:
        self.contract = network.contract
        self.one_size = True
        self._network, self._record = network, record
        self._recordings: OrderedDict[tuple[Any, ...], Recording | None] = OrderedDict()

    @torch.inference_mode()
    @any_size
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration; arguments, result and errors are those of the network."""
        given = [blurred, estimate, *(state or ())]
        key = (state is None, *(part.shape for part in given), *(part.dtype for part in given))
        if key not in self._recordings:
            self._recordings[key] = self._make(given, state)
            if len(self._recordings) > KEPT:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(key)
        recording = self._recordings[key]
        if recording is None:
            return self._network(blurred, estimate, state)
        for target, part in zip(recording.inputs, given, strict=True):
            target.copy_(part)
        recording.replay()
        outputs = [part.clone() for part in recording.outputs]  # the next replay overwrites them
        return outputs[0], same_state(recording.after, outputs[1:])

    def _make(self, given: Sequence[Tensor], state: State) -> Recording | None:
        inputs = [part.clone() for part in given]
        before = same_state(state, inputs[2:])
        _, after = self._network(inputs[0], inputs[1], before)  # its errors are the caller's

        def work() -> Sequence[Tensor]:
            output, maps = self._network(inputs[0], inputs[1], before)
            return [output, *(maps or ())]

        try:
            outputs, replay = self._record(work)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # it copies from the processor's memory, for instance
            return None
        return Recording(
            inputs, outputs, replay, same_state(after, [part[..., :1, :1].clone() for part in after or ()])
        )
