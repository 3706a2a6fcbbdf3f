import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtdeblur.errors import UserError
from mtdeblur.exposure.crf import GAMMA, IDENTITY, GammaCRF, TabulatedCRF, read_crf

LIGHT = (0.0, 0.1, 0.35, 0.8, 1.0)
STORED = (0.0, 0.3, 0.6, 0.95, 1.0)


def test_gamma_is_the_power_2_2():
    stored = torch.linspace(0, 1, 256, dtype=torch.float64)
    np.testing.assert_allclose(GAMMA.decode(stored).numpy(), np.linspace(0, 1, 256) ** 2.2, rtol=1e-14)
    np.testing.assert_allclose(GAMMA.encode(stored).numpy(), np.linspace(0, 1, 256) ** (1 / 2.2), rtol=1e-14)


@pytest.mark.parametrize(
    "crf", [IDENTITY, GAMMA, GammaCRF(1.8), TabulatedCRF(LIGHT, STORED)], ids=lambda c: c.name
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_encode_undoes_decode(crf, dtype):
    stored = torch.rand(2, 3, 5, 7, dtype=dtype, generator=torch.Generator().manual_seed(0))
    again = crf.encode(crf.decode(stored))
    assert again.dtype == dtype
    assert again.shape == stored.shape
    torch.testing.assert_close(again, stored, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-12)


@given(st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=20))
def test_a_tabulated_curve_is_linear_interpolation(values):
    x = np.array(values)
    crf = TabulatedCRF(LIGHT, STORED)
    np.testing.assert_allclose(
        crf.encode(torch.from_numpy(x)).numpy(), np.interp(x, LIGHT, STORED), atol=1e-12
    )
    np.testing.assert_allclose(
        crf.decode(torch.from_numpy(x)).numpy(), np.interp(x, STORED, LIGHT), atol=1e-12
    )


def test_flat_stretches_decode_to_the_least_light():
    crf = TabulatedCRF((0.0, 0.1, 0.5, 0.6, 0.9, 1.0), (0.2, 0.2, 0.7, 0.7, 1.0, 1.0))
    stored = torch.tensor([0.2, 0.7, 1.0], dtype=torch.float64)
    np.testing.assert_allclose(crf.decode(stored).numpy(), [0.0, 0.5, 0.9], atol=1e-12)
    np.testing.assert_allclose(crf.encode(crf.decode(stored)).numpy(), stored.numpy(), atol=1e-12)


def test_negative_values_never_become_nan():
    x = torch.tensor([-0.5, 0.0, 1.5])
    for crf in (IDENTITY, GAMMA, TabulatedCRF(LIGHT, STORED)):
        assert crf.encode(x).isfinite().all()
        assert crf.decode(x).isfinite().all()


@pytest.mark.parametrize(
    ("linear", "stored", "message"),
    [
        ([0, 0.5, 0.5], [0, 0.5, 1], "light"),
        ([0, 0.5, 1], [0, 0.6, 0.5], "never decrease"),
        ([0, 1], [0.5, 0.5], "all be the same"),
        ([0, 1], [0, 255], r"\[0, 1\]"),
        ([0, 1], [0, float("nan")], r"\[0, 1\]"),
        ([0, float("inf")], [0, 1], "light"),
        ([0], [0], "at least 2"),
        ([0, 1], [0, 0.5, 1], "same length"),
    ],
)
def test_what_is_not_a_curve_is_refused(linear, stored, message):
    with pytest.raises(ValueError, match=message):
        TabulatedCRF(linear, stored)


def test_gamma_must_be_positive():
    with pytest.raises(ValueError, match="above 0"):
        GammaCRF(0)


@pytest.mark.parametrize("divider", [",", "; ", " ", "\t"])
def test_a_curve_is_read_from_a_file(tmp_path, divider):
    rows = [f"{light}{divider}{stored}" for light, stored in reversed(list(zip(LIGHT, STORED, strict=True)))]
    path = tmp_path / "camera.csv"
    path.write_text("\n".join(["# measured", f"light{divider}stored", *rows, "", ""]))
    crf = read_crf(path)
    assert crf.name == "camera"
    x = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(crf.encode(x), TabulatedCRF(LIGHT, STORED).encode(x))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least 2"),
        ("light,stored\n", "at least 2"),
        ("0,0\n0.5\n1,1\n", "line 2"),
        ("0,0\nhalf,0.5\n", "line 2"),
        ("0,0\n1,nan\n", "line 2"),
        ("a,b\nc,d\n0,0\n", "line 2"),
        ("0,1\n1,0\n", "never decrease"),
    ],
)
def test_a_bad_file_gets_one_line_that_names_it(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_crf(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        read_crf(tmp_path / "nowhere.csv")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff\x00\x80")
    with pytest.raises(UserError, match="binary"):
        read_crf(tmp_path / "binary")
