"""DeepDeblur-PyTorch's layout, against a restatement of its program by its own names."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pixel_shuffle

from mtdeblur.errors import UserError
from mtdeblur.inference.deblurrer import load
from mtdeblur.networks.contract import members
from mtdeblur.networks.unroll import Step, default_steps, unroll
from mtdeblur.weights.store import load_network

WIDTH, BLOCKS, SCALES = 4, 2, 3


def released_state() -> dict[str, Tensor]:
    """A random checkpoint in their layout: scale 0 is the finest."""
    shapes: dict[str, tuple[int, ...]] = {}
    for scale in range(SCALES):
        body = f"body_models.{scale}.body"
        shapes[f"{body}.0"] = (WIDTH, 3 if scale == SCALES - 1 else 6, 5, 5)
        for block in range(1, BLOCKS + 1):
            shapes |= {f"{body}.{block}.body.{layer}": (WIDTH, WIDTH, 5, 5) for layer in (0, 2)}
        shapes[f"{body}.{BLOCKS + 1}"] = (3, WIDTH, 5, 5)
    shapes |= {f"conv_end_models.{scale}.uppath.0": (12, 3, 5, 5) for scale in range(1, SCALES)}
    generator = torch.Generator().manual_seed(3)
    weights = {f"{n}.weight": torch.randn(shape, generator=generator) / 9 for n, shape in shapes.items()}
    return weights | {f"{n}.bias": torch.randn(shape[0], generator=generator) for n, shape in shapes.items()}


def restated(p: dict[str, Tensor], pyramid: list[Tensor]) -> list[Tensor]:
    """Their program on 0..255, the finest scale first."""

    def conv(x, name):
        return conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], padding=2)

    outputs: list[Tensor] = []
    for scale in reversed(range(SCALES)):
        x = pyramid[scale] - 127.5
        if outputs:
            x = torch.cat(
                [x, pixel_shuffle(conv(outputs[-1], f"conv_end_models.{scale + 1}.uppath.0"), 2)], 1
            )
        body = f"body_models.{scale}.body"
        x = conv(x, f"{body}.0")
        for block in range(1, BLOCKS + 1):
            x = x + conv(conv(x, f"{body}.{block}.body.0").relu(), f"{body}.{block}.body.2")
        outputs.append(conv(x, f"{body}.{BLOCKS + 1}"))
    return [output + 127.5 for output in outputs[::-1]]


@torch.no_grad()
def test_a_released_checkpoint_gives_their_program_s_output_at_every_scale(tmp_path):
    state = released_state()
    torch.save({"G": state}, tmp_path / "model-1000.pt")
    model = load_network(tmp_path / "model-1000.pt").double()
    blurred = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    pyramid = [255 * interpolate(blurred, scale_factor=1 / s, mode="bilinear") for s in (1, 2, 4)]
    expected = restated({name: value.double() for name, value in state.items()}, pyramid)
    found = list(unroll(members(model), blurred, default_steps(model)))
    for estimate, output in zip(found[::-1], expected, strict=True):
        torch.testing.assert_close(255 * estimate, output, rtol=0, atol=1e-9)


def test_without_other_orders_it_runs_coarse_to_fine(tmp_path):
    torch.save({"G": released_state()}, tmp_path / "model-1000.pt")
    deblurrer = load(tmp_path / "model-1000.pt", device="cpu")
    assert deblurrer.steps == (Step(4, 0), Step(2, 1), Step(1, 2))
    blurred = torch.rand(1, 3, 9, 14)
    assert [tuple(estimate.shape) for estimate in deblurrer.estimates(blurred)] == [(1, 3, 9, 14)] * 3
    with pytest.raises(UserError, match=r"3 .*steps.* 6"):
        load(tmp_path / "model-1000.pt", iterations=6)


def test_a_name_that_is_not_theirs_is_refused(tmp_path):
    torch.save(released_state() | {"head.weight": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"head\.weight is no parameter of DeepDeblur"):
        load_network(tmp_path / "model.pt")
