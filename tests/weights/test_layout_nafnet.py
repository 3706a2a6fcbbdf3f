"""NAFNet's released layout, against a restatement of its program by its own names."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pixel_shuffle

from mtdeblur.errors import UserError
from mtdeblur.weights.store import load_network

WIDTH, ENCODER, MIDDLE, DECODER = 4, (1, 2, 1), 2, (2, 1, 1)


def released_state() -> dict[str, Tensor]:
    """A random checkpoint in their layout."""
    shapes: dict[str, tuple[int, ...]] = {"intro.weight": (WIDTH, 3, 3, 3), "intro.bias": (WIDTH,)}
    shapes |= {"ending.weight": (3, WIDTH, 3, 3), "ending.bias": (3,)}
    stages = {f"encoders.{i}": (WIDTH << i, n) for i, n in enumerate(ENCODER)}
    stages["middle_blks"] = (WIDTH << len(ENCODER), MIDDLE)
    stages |= {f"decoders.{i}": (WIDTH << (len(ENCODER) - 1 - i), n) for i, n in enumerate(DECODER)}
    for i in range(len(ENCODER)):
        c = WIDTH << i
        shapes |= {f"downs.{i}.weight": (2 * c, c, 2, 2), f"downs.{i}.bias": (2 * c,)}
        shapes[f"ups.{len(ENCODER) - 1 - i}.0.weight"] = (4 * c, 2 * c, 1, 1)
    for stage, (c, blocks) in stages.items():
        for block in (f"{stage}.{number}" for number in range(blocks)):
            shapes |= {f"{block}.{scale}": (1, c, 1, 1) for scale in ("beta", "gamma")}
            convolutions = {
                "conv1": (2 * c, c, 1, 1),
                "conv2": (2 * c, 1, 3, 3),
                "conv3": (c, c, 1, 1),
                "sca.1": (c, c, 1, 1),
                "conv4": (2 * c, c, 1, 1),
                "conv5": (c, c, 1, 1),
                "norm1": (c,),
                "norm2": (c,),
            }
            for name, shape in convolutions.items():
                shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": (shape[0],)}
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()}


def restated(p: dict[str, Tensor], image: Tensor) -> Tensor:
    """Their program: U-Net of blocks with simple gates and simplified channel attention."""

    def conv(x, name, **options):
        return conv2d(x, p[f"{name}.weight"], p.get(f"{name}.bias"), **options)

    def norm(x, name):
        mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
        weight, bias = (p[f"{name}.{kind}"].view(1, -1, 1, 1) for kind in ("weight", "bias"))
        return weight * (x - mean) / (variance + 1e-6).sqrt() + bias

    def gate(x):
        half = x.shape[1] // 2
        return x[:, :half] * x[:, half:]

    def block(x, name):
        y = conv(norm(x, f"{name}.norm1"), f"{name}.conv1")
        y = gate(conv(y, f"{name}.conv2", padding=1, groups=y.shape[1]))
        y = y * conv(y.mean((2, 3), keepdim=True), f"{name}.sca.1")
        x = x + conv(y, f"{name}.conv3") * p[f"{name}.beta"]
        y = gate(conv(norm(x, f"{name}.norm2"), f"{name}.conv4"))
        return x + conv(y, f"{name}.conv5") * p[f"{name}.gamma"]

    def stage(x, name, blocks):
        for number in range(blocks):
            x = block(x, f"{name}.{number}")
        return x

    x = conv(image, "intro", padding=1)
    skips = []
    for i, blocks in enumerate(ENCODER):
        skips.append(stage(x, f"encoders.{i}", blocks))
        x = conv(skips[-1], f"downs.{i}", stride=2)
    x = stage(x, "middle_blks", MIDDLE)
    for i, blocks in enumerate(DECODER):
        x = stage(pixel_shuffle(conv(x, f"ups.{i}.0"), 2) + skips.pop(), f"decoders.{i}", blocks)
    return conv(x, "ending", padding=1) + image


@pytest.mark.parametrize("wrapping", ["params", "params_ema", "state_dict", None])
def test_a_released_file_gives_what_its_program_gives(tmp_path, wrapping):
    theirs = released_state()
    torch.save({wrapping: theirs} if wrapping else theirs, tmp_path / "net.pth")
    network = load_network(tmp_path / "net.pth").double()
    image = torch.rand(1, 3, 16, 24, dtype=torch.float64)
    expected = restated({name: value.double() for name, value in theirs.items()}, image)
    with torch.no_grad():
        output, _ = network(image, image)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    assert (output - image).abs().mean() > 0.1  # the comparison is of something


def test_the_averaged_weights_are_preferred(tmp_path):
    theirs = released_state()
    other = {name: value + 1 for name, value in theirs.items()}
    torch.save({"params": other, "params_ema": theirs}, tmp_path / "net.pth")
    loaded = load_network(tmp_path / "net.pth").state_dict()
    assert torch.equal(loaded["network.intro.weight"], theirs["intro.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state | {"tail.weight": torch.zeros(1)}, r"tail\.weight is no parameter of NAFNet"),
        (lambda state: state | {"encoders.0.0.conv6.bias": torch.zeros(1)}, r"conv6\.bias is no parameter"),
        (lambda state: {n: v for n, v in state.items() if n != "ending.bias"}, r"network\.ending\.bias"),
        (lambda state: state | {"ending.bias": torch.zeros(4)}, r"network\.ending\.bias"),
    ],
    ids=["unknown name", "unknown part", "missing", "another shape"],
)
def test_a_file_that_does_not_fit_gets_one_line(tmp_path, change, message):
    path = tmp_path / "net.pth"
    torch.save({"params": change(released_state())}, path)
    with pytest.raises(UserError, match=message) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
