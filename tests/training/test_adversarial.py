"""DeblurGAN-v2's losses against their formulas written out, some with discriminators easy to follow."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mtdeblur.errors import UserError
from mtdeblur.training.adversarial import POOL, AdversarialLoss, Discriminator, Pool, RelativisticLoss
from mtdeblur.training.perceptual import ContentLoss, load_vgg19, vgg19_features


class MeanColour(nn.Module):
    """Judges an image by its mean, times a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.0))

    def forward(self, image):
        return self.factor * image.mean(dim=(1, 2, 3)).view(-1, 1, 1, 1)


def images(*means):
    return torch.stack([torch.full((3, 4, 4), float(mean)) for mean in means])


def test_the_relativistic_losses_are_those_of_the_formula():
    loss = RelativisticLoss(MeanColour())
    real, fake = np.array([0.5, 0.75]), np.array([-0.25, 0.25])
    found = loss.discriminator_loss(images(*fake), images(*real))
    by_hand = (np.mean((real - fake.mean() - 1) ** 2) + np.mean((fake - real.mean() + 1) ** 2)) / 2
    assert found.item() == pytest.approx(by_hand)
    found = loss.generator_loss(images(*fake))
    assert found.item() == pytest.approx(np.mean((fake - real.mean() - 1) ** 2) / 2)


def test_the_means_are_over_the_last_fifty_outputs():
    loss = RelativisticLoss(MeanColour())
    seen = np.linspace(-1, 1, 60)
    for value in seen:
        loss.discriminator_loss(images(0), images(value))
    expected = np.mean((0 - seen[-POOL:].mean() - 1) ** 2) / 2
    assert loss.generator_loss(images(0)).item() == pytest.approx(expected, rel=1e-5)


def test_a_pool_forgets_the_oldest_and_averages_what_there_is():
    pool = Pool(3)
    pool.add(torch.tensor([1.0]).view(1, 1, 1, 1))
    assert pool.mean().item() == 1
    pool.add(torch.tensor([[2.0, 4.0], [8.0, 8.0]]).view(2, 1, 1, 2))
    assert pool.mean().item() == pytest.approx((1 + 3 + 8) / 3)
    pool.add(torch.tensor([6.0, 10.0]).view(2, 1, 1, 1))
    assert pool.mean().item() == pytest.approx((8 + 6 + 10) / 3)


def conv(cin, cout):
    return 16 * cin * cout + cout


@pytest.mark.parametrize(
    ("depth", "widths"), [(3, (3, 64, 128, 256, 512, 1)), (5, (3, 64, 128, 256, 512, 512, 512, 1))]
)
def test_a_patch_discriminator_has_the_published_layers(depth, widths):
    judge = Discriminator(depth)
    expected = sum(conv(a, b) for a, b in pairwise(widths))
    assert sum(p.numel() for p in judge.parameters()) == expected
    assert [c.stride[0] for c in judge if isinstance(c, nn.Conv2d)] == [2] * depth + [1, 1]
    size = 64
    for _ in range(depth):
        size = size // 2 + 1  # kernel 4, stride 2, padding 2
    with torch.no_grad():
        assert judge(torch.zeros(2, 3, 64, 64)).shape == (2, 1, size + 2, size + 2)


def adversarial(weight=0.001):
    torch.manual_seed(3)
    return AdversarialLoss(ContentLoss(None), weight, width=8)


def test_the_discriminators_learn_to_tell_estimates_from_photographs():
    loss = adversarial()
    sharp = torch.rand(2, 3, 32, 32)
    blurred = functional.avg_pool2d(sharp, 5, stride=1, padding=2)
    first, last = [], []
    for step in range(12):
        loss(blurred, sharp, 1e-3)
        with torch.no_grad():
            gap = sum(
                (
                    judge.discriminator(2 * sharp - 1).mean() - judge.discriminator(2 * blurred - 1).mean()
                ).item()
                for judge in loss.discriminators
            )
        (first if step < 3 else last).append(gap)
    assert np.mean(last[-3:]) > np.mean(first) + 0.2


def test_the_networks_loss_reaches_the_estimate_and_nothing_else():
    loss = adversarial(weight=1.0)
    sharp = torch.rand(1, 3, 32, 32)
    estimate = torch.rand(1, 3, 32, 32, requires_grad=True)
    before = {name: p.clone() for name, p in loss.named_parameters()}
    found = loss(estimate, sharp, 1e-4)
    learned = {name: p.clone() for name, p in loss.named_parameters()}
    assert all(not torch.equal(learned[name], before[name]) for name in before if name.endswith("weight"))
    loss.optimiser.zero_grad()
    found.backward()
    assert estimate.grad is not None
    assert estimate.grad.abs().max() > 0
    assert all(p.grad is None for p in loss.parameters())
    plain = ContentLoss(None)(estimate, sharp)
    judged = [judge.generator_loss(2 * estimate - 1).item() for judge in loss.discriminators]
    assert found.item() == pytest.approx(plain.item() + np.mean(judged), rel=1e-5)


def test_a_resumed_loss_goes_on_as_if_it_had_never_been_interrupted():
    pairs = [(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)) for _ in range(4)]
    whole = adversarial()
    uninterrupted = [whole(*pair, 1e-3).item() for pair in pairs]
    first = adversarial()
    for pair in pairs[:2]:
        first(*pair, 1e-3)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = AdversarialLoss(ContentLoss(None), width=8)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [second(*pair, 1e-3).item() for pair in pairs[2:]] == uninterrupted[2:]


def test_the_pixels_errors_are_weighed_as_imagenet_normalised():
    deviation = np.array([0.229, 0.224, 0.225])
    estimate, sharp = torch.rand(2, 2, 3, 8, 8, dtype=torch.float64).unbind()
    errors = (estimate - sharp).numpy().transpose(0, 2, 3, 1) / deviation
    assert ContentLoss(None)(estimate, sharp).item() == pytest.approx(0.5 * np.mean(errors**2))


def test_the_features_are_those_of_conv3_3(tmp_path):
    torch.manual_seed(1)
    given = {f"features.{key}": value for key, value in vgg19_features().state_dict().items()}
    assert sum(value.numel() for value in given.values()) == 1_735_488  # VGG19's first seven convolutions
    torch.save(given | {"classifier.0.weight": torch.zeros(2)}, tmp_path / "vgg19.pth")
    vgg19 = load_vgg19(tmp_path / "vgg19.pth")
    x = torch.rand(1, 3, 16, 24)
    expected = x
    for number in (0, 2, 5, 7, 10, 12, 14):
        if number in (5, 10):
            expected = functional.max_pool2d(expected, 2)
        expected = functional.conv2d(
            expected, given[f"features.{number}.weight"], given[f"features.{number}.bias"], padding=1
        )
        expected = expected if number == 14 else expected.relu()
    torch.testing.assert_close(vgg19(x), expected)
    sharp = torch.rand(1, 3, 16, 24)
    loss = ContentLoss(vgg19)
    normalised = [(image - loss.mean) / loss.deviation for image in (x, sharp)]
    features = (vgg19(normalised[0]) - vgg19(normalised[1])).square().mean()
    assert loss(x, sharp).item() == pytest.approx(
        (ContentLoss(None)(x, sharp) + 0.006 * features).item(), rel=1e-5
    )


@pytest.mark.parametrize(
    "content", [{"features.0.weight": torch.zeros(1)}, {"other": torch.zeros(1)}, [1, 2]]
)
def test_a_file_of_something_else_is_refused_in_one_line(tmp_path, content):
    torch.save(content, tmp_path / "vgg19.pth")
    with pytest.raises(UserError, match=r"vgg19\.pth.*(VGG19|state dict)") as caught:
        load_vgg19(tmp_path / "vgg19.pth")
    assert "\n" not in str(caught.value)


def test_a_missing_or_damaged_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no weights file"):
        load_vgg19(tmp_path / "vgg19.pth")
    for name in ("vgg19.pth", "vgg19.safetensors"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(UserError, match="cannot load weights from"):
            load_vgg19(tmp_path / name)
