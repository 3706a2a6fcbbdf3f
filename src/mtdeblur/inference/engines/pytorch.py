"""The engine PyTorch: a network on one device, in one precision, channels-last."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from mtdeblur.inference.engines.cuda import RecordedNetwork
from mtdeblur.networks.contract import ProgressiveNetwork, State, inference_form, members

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchEngine:
    """A progressive network for inference, on one device, in one precision, channels-last.

    In bfloat16, parameters and features are bfloat16, but images are float32 and the residual is added to I0
    in float32, so that only the residual is rounded.

    Args:
        network: prepared by `prepare`.

    Attributes:
        engine: "pytorch", or what runs the network of an export.
    """

    def __init__(self, network: ProgressiveNetwork) -> None:
        self.contract = network.contract
        self.engine: str = getattr(network, "engine", "pytorch")
        self._network = network

    @torch.inference_mode()
    def __call__(self, blurred: Tensor, estimate: Tensor, state: State = None) -> tuple[Tensor, State]:
        """One iteration, without gradients; (B, 3, H, W) float32 on the network's device in and out."""
        return self._network(blurred, estimate, state)


def prepare(
    model: nn.Module, needed: Collection[int], device: torch.device, precision: str
) -> list[ProgressiveNetwork]:
    """Prepare a model for inference: device, precision and channels-last layout.

    Args:
        model: one of the registry, or several; modified in place.
        needed: numbers of the members that will run; the others are unchanged.
        device: of the computation.
        precision: one of `contract.precisions`.

    Returns:
        The members; on a CPU, their inference forms where these exist. On a CUDA GPU their steps are
        recorded once for each size and replayed, see `mtdeblur.inference.engines.cuda`.
    """
    parts = list(members(model.eval()))
    for number in needed:
        form = inference_form(parts[number], DTYPES[precision]) if device.type == "cpu" else None
        if form is None:
            part: Any = parts[number]
            module: Any = part if isinstance(part, nn.Module) else model
            module.to(device, DTYPES[precision], memory_format=torch.channels_last)
        else:
            parts[number] = form
    engines = [TorchEngine(part) for part in parts]
    return [RecordedNetwork(engine) for engine in engines] if device.type == "cuda" else list(engines)
