"""Whether PyTorch has oneDNN's fused operations, which are not in its public interface.

They save a pass over a map on CPUs. Where they are missing, callers compute the same by public operations.
"""

from functools import cache

import torch

ALLOWED = True
"""False: never use them."""


def has_fused(dtype: torch.dtype) -> bool:
    """Whether the fused operations may be used on maps of that dtype."""
    return ALLOWED and _work(dtype)


@cache
def _work(dtype: torch.dtype) -> bool:
    x, weight, bias = (torch.zeros(size, dtype=dtype) for size in ((1, 2, 2, 2), (2, 2, 1, 1), 2))
    geometry = ([0, 0], [1, 1], [1, 1], 1)
    operations = torch.ops.mkldnn
    try:
        for operation, approximation in (("none", ""), ("gelu", "tanh"), ("gelu", "none")):
            operations._linear_pointwise(x[0, 0], x[0, 0], bias, operation, [], approximation)
        operations._convolution_pointwise(x, weight, bias, *geometry, "leaky_relu", [0.1], "")
        operations._convolution_pointwise_.binary(
            x.clone(), x, weight, bias, *geometry, "add", 1.0, None, [], None
        )
    except (AttributeError, RuntimeError):
        return False
    return True
