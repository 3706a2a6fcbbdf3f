"""Metrics for training loops against scikit-image, torchmetrics' own, and two processes."""

import os
import socket

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import distributed, multiprocessing
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image import PeakSignalNoiseRatio

from mtdeblur.metrics.quality import SSIM_CONVENTIONS, psnr, ssim
from mtdeblur.metrics.running import PSNR, SSIM

BATCHES = [torch.rand(2, size, 3, 30, 27, generator=torch.Generator().manual_seed(size)) for size in (3, 1)]
BATCHES = [(0.9 * sharp + 0.1 * noise, sharp) for noise, sharp in BATCHES]


def metrics():
    return {"psnr": PSNR(), **{name: SSIM(name) for name in SSIM_CONVENTIONS}}


def of_scikit_image(name):
    values = []
    for estimates, sharps in BATCHES:
        for estimate, sharp in zip(estimates.double().numpy(), sharps.double().numpy(), strict=True):
            if name == "psnr":
                values.append(peak_signal_noise_ratio(sharp, estimate, data_range=1.0))
                continue
            options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
            options = options if name == "gaussian" else {"win_size": 7}
            values.append(structural_similarity(sharp, estimate, data_range=1.0, channel_axis=0, **options))
    return float(np.mean(values))


@pytest.mark.parametrize("name", ["psnr", "gaussian", "uniform"])
def test_the_mean_over_pictures_is_that_of_scikit_image(name):
    metric = metrics()[name].set_dtype(torch.float64)
    for batch in BATCHES:
        metric.update(*batch)
    assert float(metric.compute()) == pytest.approx(of_scikit_image(name), abs=1e-9)


@pytest.mark.parametrize("name", metrics())
def test_batches_pictures_and_float32_make_no_difference_and_reset_forgets(name):
    measure = {"psnr": psnr}.get(name, lambda *pair: ssim(*pair, name))
    expected = float(torch.cat([measure(*batch) for batch in BATCHES]).mean())
    metric = metrics()[name]
    metric.update(*BATCHES[1])
    metric.reset()
    assert float(metric(*BATCHES[0])) == pytest.approx(float(measure(*BATCHES[0]).mean()), rel=1e-6)
    metric(*BATCHES[1])
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-6)


def test_torchmetrics_own_have_other_conventions_and_its_ssim_differs_by_the_borders_alone():
    batch = tuple(part.double() for part in BATCHES[0])
    mean, everywhere = structural_similarity_index_measure(*batch, data_range=1.0, return_full_image=True)
    inside = everywhere[..., 5:-5, 5:-5].mean()
    ours = SSIM("gaussian").set_dtype(torch.float64)(*batch)
    assert float(ours) == pytest.approx(float(inside), abs=1e-9)
    assert abs(float(ours) - float(mean)) > 1e-5
    darker = (batch[0] * torch.tensor([1.0, 0.9, 0.5])[:, None, None, None], batch[1])
    assert abs(float(PSNR()(*darker)) - float(PeakSignalNoiseRatio(data_range=1.0)(*darker))) > 0.1


def test_they_work_in_a_collection_on_8_bits_and_show_a_diverged_network():
    collection = MetricCollection(metrics())
    eight = tuple((255 * part).round().to(torch.uint8) for part in BATCHES[0])
    collection.update(*eight)
    for name, value in collection.compute().items():
        measure = {"psnr": psnr}.get(name, lambda *pair, name=name: ssim(*pair, name))
        assert float(value) == pytest.approx(float(measure(*eight).mean()), rel=1e-6)
    collection.update(torch.full_like(BATCHES[0][0], torch.nan), BATCHES[0][1])
    assert all(value.isnan() for value in collection.compute().values())
    with pytest.raises(ValueError, match="gaussian, uniform, volume"):
        SSIM("matlab")


def _process(rank, port, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    collection = MetricCollection(metrics())
    collection.update(*BATCHES[rank])
    results[rank] = {name: float(value) for name, value in collection.compute().items()}
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_get_the_mean_over_the_pictures_of_both():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with multiprocessing.Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(_process, (port, results), nprocs=2)
        found = dict(results)
    alone = MetricCollection(metrics())
    for batch in BATCHES:
        alone.update(*batch)
    expected = {name: float(value) for name, value in alone.compute().items()}
    assert found[0] == found[1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Lightning, about what a test does without
def test_lightning_logs_the_mean_over_the_pictures_of_an_epoch():
    from pytorch_lightning import LightningModule, Trainer

    class Model(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.ssim = SSIM("volume")

        def validation_step(self, batch, number):
            self.ssim.update(*batch)
            self.log("ssim", self.ssim)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    loader = DataLoader(BATCHES, batch_size=None)
    (logged,) = Trainer(accelerator="cpu", devices=1, **quiet).validate(Model(), loader, verbose=False)
    expected = torch.cat([ssim(*batch, "volume") for batch in BATCHES]).mean()
    assert logged["ssim"] == pytest.approx(float(expected), rel=1e-6)
