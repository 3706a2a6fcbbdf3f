"""mtdeblur: progressive image deblurring by the multi-temporal approach (Park et al., ECCV 2020).

The public names load on first use, so that ``import mtdeblur`` and ``mtdeblur --help`` stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "Deblurrer",
    "ModelDescription",
    "UserError",
    "__version__",
    "create_network",
    "describe",
    "load",
]

if TYPE_CHECKING:
    from mtdeblur.errors import UserError
    from mtdeblur.inference.comparison import Comparison
    from mtdeblur.inference.deblurrer import Deblurrer, load
    from mtdeblur.networks.registry import create_network
    from mtdeblur.weights.description import ModelDescription, describe

_HOMES = {
    "Comparison": "mtdeblur.inference.comparison",
    "Deblurrer": "mtdeblur.inference.deblurrer",
    "ModelDescription": "mtdeblur.weights.description",
    "UserError": "mtdeblur.errors",
    "create_network": "mtdeblur.networks.registry",
    "describe": "mtdeblur.weights.description",
    "load": "mtdeblur.inference.deblurrer",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
