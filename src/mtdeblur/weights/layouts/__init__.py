"""Layouts of other programs' weights, one file a program; `mtdeblur.weights.foreign` lists them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor


class Translation(NamedTuple):
    """Weights of another program in this one's terms.

    Attributes:
        network: name of the registered network.
        options: of that network.
        state: what `create_network(network, **options)` has for a state dict. For a network in its adapter,
            names begin with `network.`
    """

    network: str
    options: dict[str, Any]
    state: dict[str, Tensor]


class Layout(NamedTuple):
    """One program's layout.

    Attributes:
        name: what errors call it, with the files that it is found in.
        mark: name of a parameter by which it is recognised; no other layout has it.
        translate: from that program's state dict, without the wrappings that `mtdeblur.weights.foreign` takes
            off, to ours; raises ValueError or LookupError if the state dict is not as it should be.
    """

    name: str
    mark: str
    translate: Callable[[Mapping[str, Tensor]], Translation]
