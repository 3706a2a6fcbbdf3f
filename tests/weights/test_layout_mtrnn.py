import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu

from mtdeblur.errors import UserError
from mtdeblur.networks.mtrnn import MTRNN, MTRNNConfig
from mtdeblur.networks.unroll import unroll
from mtdeblur.weights.layouts.mtrnn import from_authors, to_authors
from mtdeblur.weights.store import load_network


def released_shapes(width: int = 32) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the trainable parameters in the released program's state dict."""
    c = width
    convolutions = {
        "conv1_1.0": (c, 6, 3, 3),
        "conv2_1.0": (2 * c, c, 3, 3),
        "conv2_c.0": (2 * c, 4 * c, 1, 1),
        "conv3_1.0": (4 * c, 2 * c, 3, 3),
        "conv3_c.0": (4 * c, 8 * c, 1, 1),
        "conv5_1.0": (4 * c, 2 * c, 4, 4),  # transposed: input channels first
        "conv5_c.0": (2 * c, 4 * c, 1, 1),
        "conv6_1.0": (2 * c, c, 4, 4),
        "conv6_c.0": (c, 2 * c, 1, 1),
        "img_prd.0": (3, c, 3, 3),
    }
    stems = {1: (2, 3, 4), 2: (2, 3, 4), 3: (2, 3, 4), 4: (1, 2, 3), 5: (2, 3, 4), 6: (2, 3, 4)}
    for stage, channels in zip(stems, (c, 2 * c, 4 * c, 4 * c, 2 * c, c), strict=True):
        for number in stems[stage]:
            for layer in (0, 2):
                convolutions[f"conv{stage}_{number}.stem.{layer}"] = (channels, channels, 3, 3)
    biases = {"conv5_1.0": 2 * c, "conv6_1.0": c}
    shapes = {f"{name}.weight": shape for name, shape in convolutions.items()}
    return shapes | {f"{name}.bias": (biases.get(name, shape[0]),) for name, shape in convolutions.items()}


MEAN = torch.tensor([0.4488, 0.4371, 0.4040], dtype=torch.float64) * 255


def authors_state(width: int = 32, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A random checkpoint in their layout, its gain near one so that signals neither die nor explode."""
    generator = torch.Generator().manual_seed(5)
    state = {}
    for name, shape in released_shapes(width).items():
        spread = 0.4 / (shape[1] * shape[2] * shape[3]) ** 0.5 if len(shape) == 4 else 5.0
        state[name] = (torch.randn(shape, generator=generator, dtype=torch.float64) * spread).to(dtype)
    for module, sign in (("sub_mean", -1), ("add_mean", 1)):
        state[f"{module}.weight"] = torch.eye(3, dtype=dtype).view(3, 3, 1, 1)
        state[f"{module}.bias"] = (sign * MEAN).to(dtype)
    return state


def authors_step(
    p: dict[str, Tensor], blurred: Tensor, estimate: Tensor, f1: Tensor | None, f2: Tensor | None
):
    """Their iteration restated on 0..255, from the description of the layers alone."""

    def conv(x, name, stride=1):
        weight = p[f"{name}.weight"]
        return conv2d(x, weight, p[f"{name}.bias"], stride=stride, padding=weight.shape[-1] // 2)

    def up(x, name):
        return leaky_relu(conv_transpose2d(x, p[f"{name}.weight"], p[f"{name}.bias"], 2, 1), 0.1)

    def stage(x, number, first=2):
        for i in range(first, first + 3):
            x = x + conv(leaky_relu(conv(x, f"conv{number}_{i}.stem.0"), 0.1), f"conv{number}_{i}.stem.2")
        return x

    mean = MEAN.view(1, 3, 1, 1)
    e1 = stage(conv(torch.cat([blurred - mean, estimate - mean], 1), "conv1_1.0"), 1)
    x = leaky_relu(conv(e1, "conv2_1.0", 2), 0.1)
    e2 = stage(conv(torch.cat([x, x if f1 is None else f1], 1), "conv2_c.0"), 2)
    x = leaky_relu(conv(e2, "conv3_1.0", 2), 0.1)
    x = stage(conv(torch.cat([x, x if f2 is None else f2], 1), "conv3_c.0"), 3)
    f2 = stage(x, 4, first=1)
    f1 = stage(conv(torch.cat([up(f2, "conv5_1.0"), e2], 1), "conv5_c.0"), 5)
    x = stage(conv(torch.cat([up(f1, "conv6_1.0"), e1], 1), "conv6_c.0"), 6)
    return conv(x, "img_prd.0") + (blurred - mean) + mean, f1, f2


def test_our_network_gives_what_their_program_gives_at_every_iteration():
    theirs = authors_state(dtype=torch.float64)
    network = MTRNN().double()
    network.load_state_dict(from_authors(theirs))
    blurred = torch.rand(1, 3, 24, 36, dtype=torch.float64)
    estimate, f1, f2 = 255 * blurred, None, None
    for ours in unroll(network, blurred, 4):
        estimate, f1, f2 = authors_step(theirs, 255 * blurred, estimate, f1, f2)
        torch.testing.assert_close(255 * ours, estimate, rtol=0, atol=1e-8)
        assert 1 < (estimate - 255 * blurred).abs().mean() < 1000  # the comparison is of something


def test_in_float32_the_difference_stays_far_below_a_grey_level():
    theirs = authors_state()
    network = MTRNN()
    network.load_state_dict(from_authors(theirs))
    blurred = torch.rand(1, 3, 24, 36)
    estimate, f1, f2 = 255 * blurred.double(), None, None
    for ours in unroll(network, blurred, 4):
        parameters = {name: value.double() for name, value in theirs.items()}
        estimate, f1, f2 = authors_step(parameters, 255 * blurred.double(), estimate, f1, f2)
        torch.testing.assert_close(255 * ours.double(), estimate, rtol=0, atol=5e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back_is_the_identity_bit_for_bit(dtype):
    theirs = authors_state(8, dtype)
    back = to_authors(from_authors(theirs))
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        if name.startswith(("sub_mean", "add_mean")):
            torch.testing.assert_close(back[name], value.float())
        else:
            assert torch.equal(back[name], value), name
            assert back[name].dtype == dtype


def test_our_state_dict_survives_the_trip_through_theirs():
    network = MTRNN(MTRNNConfig(width=4))
    state = network.state_dict()
    back = from_authors(to_authors(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    assert {n: tuple(v.shape) for n, v in to_authors(state).items() if "mean" not in n} == released_shapes(4)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("recurrent", [True, False])
def test_their_checkpoint_file_loads_with_its_width_and_recurrence(tmp_path, prefix, recurrent):
    state = authors_state(8)
    if not recurrent:
        state = {n: v for n, v in state.items() if not n.startswith(("conv2_c", "conv3_c"))}
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "model_best.pt")
    network = load_network(tmp_path / "model_best.pt")
    assert network.config == MTRNNConfig(width=8, recurrent=recurrent)
    assert torch.equal(network.head.weight, state["conv1_1.0.weight"])
    assert not network.training


class Malicious:
    def __reduce__(self):
        return print, ("this must never run",)


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {n: v for n, v in state.items() if n != name}


BROKEN = {
    "missing": None,
    "empty": b"",
    "text": b"not a checkpoint\n" * 20,
    "list": [1, 2],
    "foreign names": {"conv.weight": torch.zeros(3)},
    "number for a name": {1: torch.zeros(3)},
    "no tensors": {"conv1_1.0.weight": "text"},
    "nothing": {},
    "a parameter missing": without(authors_state(4), "conv4_2.stem.0.bias"),
    "the first missing": without(authors_state(4), "conv1_1.0.weight"),
    "another shape": authors_state(4) | {"img_prd.0.weight": torch.zeros(1, 4, 3, 3)},
    "another mean": authors_state(4) | {"sub_mean.bias": torch.zeros(3)},
    "code": {"conv1_1.0.weight": Malicious()},
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_of_anything_else_gets_one_line_that_names_it(what, tmp_path, capsys):
    path, content = tmp_path / "model_best.pt", BROKEN[what]
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "never run" not in capsys.readouterr().out


def test_names_that_are_not_mt_rnn_s_are_refused():
    with pytest.raises(ValueError, match=r"conv9\.weight"):
        from_authors({"conv9.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"depthwise\.weight"):
        to_authors(nn.ModuleDict({"depthwise": nn.Linear(1, 1)}).state_dict())
