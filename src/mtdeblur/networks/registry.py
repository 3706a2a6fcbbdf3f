"""Registry of networks by name; a new network is a file and one line here."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, cast

from torch import nn

from mtdeblur.networks.contract import Contract, Several
from mtdeblur.networks.convert import ImageToImageConfig, ProgressiveAdapter
from mtdeblur.networks.deblurgan_v2 import DeblurGANv2, DeblurGANv2Config
from mtdeblur.networks.deepdeblur import DeepDeblur, DeepDeblurConfig
from mtdeblur.networks.dmphn import DMPHN, DMPHNConfig
from mtdeblur.networks.maxim import MAXIM, MAXIMConfig
from mtdeblur.networks.mtnaf import MTNAF, MTNAFConfig
from mtdeblur.networks.mtrnn import MTRNN, MTRNNConfig
from mtdeblur.networks.nafnet import NAFNet, NAFNetConfig
from mtdeblur.networks.pss_nsc import PSSNSC, PSSNSCConfig
from mtdeblur.networks.scale_recurrent import ScaleRecurrent, ScaleRecurrentConfig


class Entry(NamedTuple):
    """A network and its options.

    Attributes:
        network: class of the network: progressive, or image to image. The options of the latter extend
            `ImageToImageConfig`, and `create_network` wraps it in `ProgressiveAdapter`.
        config: dataclass of its options.
        small: options of a small network of the same structure, for fast tests.
    """

    network: type[nn.Module]
    config: type[Any]
    small: Mapping[str, Any]


NETWORKS: dict[str, Entry] = {
    "deblurgan_v2": Entry(DeblurGANv2, DeblurGANv2Config, {"width": 8}),
    "deepdeblur": Entry(DeepDeblur, DeepDeblurConfig, {"width": 4, "blocks": 2}),
    "dmphn": Entry(DMPHN, DMPHNConfig, {"width": 4}),
    "maxim": Entry(MAXIM, MAXIMConfig, {"width": 16, "tokens": (4, 4, 2, 2)}),
    "mtnaf": Entry(MTNAF, MTNAFConfig, {"width": 4, "blocks": (1, 2, 3, 1, 2)}),
    "mtrnn": Entry(MTRNN, MTRNNConfig, {"width": 4}),
    "nafnet": Entry(NAFNet, NAFNetConfig, {"width": 4, "encoder": (1, 2), "decoder": (2, 1)}),
    "pss_nsc": Entry(PSSNSC, PSSNSCConfig, {"width": 4}),
    "scale_recurrent": Entry(ScaleRecurrent, ScaleRecurrentConfig, {"width": 4}),
}


_CONVERSION = {"converted": True, "scales": 1, "stages": 1}
"""Options that convert a network to multi-temporal, if it has them."""


def create_network(name: str, **options: Any) -> nn.Module:
    """Build a progressive network with random weights.

    Args:
        name: a key of `NETWORKS`.
        **options: fields of the network's config dataclass.

    Raises:
        ValueError: if the network or an option does not exist, or an option is invalid.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; choose one of {', '.join(sorted(NETWORKS))}")
    entry = NETWORKS[name]
    known = sorted(entry.config.__dataclass_fields__)
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"network {name!r} takes the options {', '.join(known)}, not {', '.join(unknown)}")
    config = entry.config(**options)
    network = entry.network(config)
    return ProgressiveAdapter(network) if isinstance(config, ImageToImageConfig) else network


def conversion(name: str) -> dict[str, Any] | None:
    """The options that convert a network to multi-temporal, as in the starred rows of Table 3.

    An image-to-image network, or the first stage of a network with stages, gets three more input
    channels. A network with weights for each scale keeps the finest; one with weight sharing over scales
    is only run at full resolution.

    Args:
        name: a key of `NETWORKS`.

    Returns:
        The options; None for a network that is already multi-temporal.
    """
    known = NETWORKS[name].config.__dataclass_fields__
    options = {option: value for option, value in _CONVERSION.items() if option in known}
    if options:
        return options
    return {} if cast("Contract", create_network(name, **NETWORKS[name].small).contract).scales else None


def network_options(network: nn.Module) -> tuple[str, dict[str, Any]]:
    """Name and options for `create_network` to build a network of the same shape.

    Raises:
        ValueError: if the network is not registered.
    """
    if isinstance(network, ProgressiveAdapter):
        network = network.network
    for name, entry in NETWORKS.items():
        if type(network) is entry.network:
            return name, asdict(network.config)  # pyright: ignore[reportArgumentType, reportCallIssue]
    raise ValueError(f"{type(network).__name__} is not in the registry")


def model_options(model: nn.Module) -> tuple[str, list[dict[str, Any]]]:
    """Name of a model's network, and the options of each network if it is `Several`, see `network_options`.

    Raises:
        ValueError: if the network is not registered.
    """
    networks = list(model.networks) if isinstance(model, Several) else [model]
    described = [network_options(network) for network in networks]
    return described[0][0], [options for _, options in described]


def architecture(model: nn.Module) -> str:
    """Name of a model's network in the registry; that of its class if it is not registered."""
    try:
        return model_options(model)[0]
    except ValueError:
        return type(model).__name__
