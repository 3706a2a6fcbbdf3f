"""Layouts of other programs' weights, one file for each program; `mtdeblur.weights.foreign` lists them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor


class Translation(NamedTuple):
    """Weights of another program, translated to a network of this one.

    Attributes:
        network: name of the registered network.
        options: of that network.
        state: state dict for `create_network(network, **options)`. For a network in an adapter, names begin
            with `network.`
    """

    network: str
    options: dict[str, Any]
    state: dict[str, Tensor]


class Layout(NamedTuple):
    """One program's layout.

    Attributes:
        name: for errors, with the usual file names.
        mark: name of a parameter that no other layout has.
        translate: from that program's unwrapped state dict to ours; raises ValueError or LookupError if the
            state dict is invalid.
    """

    name: str
    mark: str
    translate: Callable[[Mapping[str, Tensor]], Translation]
