"""DeblurGAN-v2's generator: what takes part of it, and its pyramid restated level by level."""

import torch
from torch.nn import functional

from mtdeblur.networks.mobilenet import InvertedResidual, mobilenet_v2_features
from mtdeblur.networks.registry import create_network


def test_three_layers_of_the_backbone_never_run_and_need_no_gradient():
    generator = create_network("deblurgan_v2").network
    idle = {name for name, parameter in generator.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[1] for name in idle} == {"16", "17", "18"}
    assert all(name.startswith("features.") for name in idle)
    assert sum(p.numel() for name, p in generator.named_parameters() if name in idle) == 1_206_080
    assert sum(p.numel() for p in generator.parameters() if p.requires_grad) == 2_106_627
    ran = []
    for number, layer in enumerate(generator.features):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    generator(torch.rand(2, 3, 32, 32))
    assert ran == list(range(16))


def test_the_backbone_has_mobilenet_s_size_strides_and_channels():
    features = mobilenet_v2_features(3)
    assert sum(p.numel() for p in features.parameters()) == 2_223_872  # 3,504,872 less the classifier
    x, shapes = torch.rand(1, 3, 64, 64), []
    with torch.no_grad():
        for layer in features.eval():
            x = layer(x)
            shapes.append(tuple(x.shape[1:3]))
    channels = (32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320, 1280)
    sides = (32, 32, 16, 16, 8, 8, 8, 4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2)
    assert shapes == list(zip(channels, sides, strict=True))


def test_an_inverted_residual_adds_its_input_only_where_the_shape_stays():
    for channels, stride, adds in ((8, 1, True), (8, 2, False), (6, 1, False)):
        block = InvertedResidual(8, channels, stride, 6).eval()
        torch.nn.init.zeros_(block.conv[-1].weight)
        torch.nn.init.zeros_(block.conv[-1].bias)
        x = torch.rand(1, 8, 4, 4)
        assert torch.equal(block(x), x) == adds


def normalised(x):
    """Instance normalisation by the formula."""
    spread = x.var(dim=(2, 3), keepdim=True, unbiased=False)
    return (x - x.mean(dim=(2, 3), keepdim=True)) / (spread + 1e-5).sqrt()


@torch.no_grad()
def test_the_pyramid_and_its_heads_are_wired_as_published():
    torch.manual_seed(5)
    network = create_network("deblurgan_v2", width=16).double().eval()
    g = network.network
    image = torch.rand(2, 3, 64, 96, dtype=torch.float64)

    def up(x, times=2):
        return x.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)

    def block(layers, x):
        return normalised(layers[0](x)).relu()

    def head(layers, x):
        return layers[2](layers[0](x).relu()).relu()

    x, encoded = 2 * image - 1, []
    for number, layer in enumerate(g.features[:16]):
        x = layer(x)
        if number in (1, 3, 6, 10, 15):
            encoded.append(x)
    map0, *laterals = [lateral(x) for lateral, x in zip(g.laterals, encoded, strict=True)]
    map4 = laterals[3]
    map3 = block(g.top_down[2], laterals[2] + up(map4))
    map2 = block(g.top_down[1], laterals[1] + up(map3))
    map1 = block(g.top_down[0], laterals[0] + up(map2))
    joined = torch.cat(
        [
            up(head(g.heads[3], map4), 8),
            up(head(g.heads[2], map3), 4),
            up(head(g.heads[1], map2), 2),
            head(g.heads[0], map1),
        ],
        dim=1,
    )
    x = up(block(g.smooth1, joined)) + map0
    final = g.tail(up(block(g.smooth2, x)))
    expected = (torch.tanh(final) + 2 * image - 1).clamp(-1, 1) / 2 + 0.5
    torch.testing.assert_close(network(image, image)[0], expected, rtol=0, atol=1e-9)


@torch.no_grad()
def test_the_residual_goes_to_the_blurred_image_also_where_it_is_converted():
    network = create_network("deblurgan_v2", width=16, converted=True).eval()
    for parameter in network.network.tail.parameters():
        torch.nn.init.zeros_(parameter)
    blurred, estimate = torch.rand(2, 1, 3, 32, 32)
    assert torch.equal(network(blurred, estimate)[0], blurred)
    assert functional.mse_loss(blurred, estimate) > 0
