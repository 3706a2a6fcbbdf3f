"""What the default weights reach on real pairs, where a folder with them is named."""

import os
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from mtdeblur.data.disk.pairs import find_pairs
from mtdeblur.inference.deblurrer import load
from mtdeblur.media.pictures import read_pixels
from mtdeblur.networks.contract import members
from mtdeblur.networks.unroll import default_steps, unroll
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.store import load_network

DATA = os.environ.get("MTDEBLUR_DATA")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DATA is None, reason="MTDEBLUR_DATA names no folder of real pairs"),
]


def test_severe_blur_becomes_as_sharp_as_measured_after_one_two_and_three_steps():
    deblurrer = load("maxim-gopro", iterations=3)
    quality = []
    for pair in find_pairs(Path(str(DATA)) / "eval" / "gopro_test_official"):
        sharp = read_pixels(pair.sharp)
        estimates = deblurrer.progress(read_pixels(pair.blur))
        quality.append([peak_signal_noise_ratio(sharp, estimate) for estimate in estimates])
    means = [fmean(column) for column in zip(*quality, strict=True)]
    assert means[0] > 30.9
    assert means[1] > 32.2
    assert means[2] > 32.4


def test_every_stage_gives_the_original_graph_s_output_but_for_weights_rounded_to_12_bits():
    network = load_network(find_weights("maxim-gopro"))
    for file in (Path(str(DATA)).parent / "weights" / "reference").glob("*.npz"):
        reference = np.load(file)
        blurred = torch.from_numpy(reference["x"]).permute(0, 3, 1, 2)
        with torch.no_grad():
            estimates = list(unroll(members(network), blurred, default_steps(network)))
        for number, estimate in enumerate(estimates):
            if f"s{number}" in reference:
                expected = torch.from_numpy(reference[f"s{number}"]).permute(0, 3, 1, 2)
                torch.testing.assert_close(estimate, expected, rtol=0, atol=3e-3)
                assert (estimate - expected).abs().mean() < 3e-4
