"""What other exceptions become for the user: one line, or advice what to install."""

import sys

import pytest

from mtdeblur.errors import UserError, one_line, require


def test_an_error_becomes_one_line_of_limited_length():
    assert one_line(ValueError("first\n  second\tthird")) == "first second third"
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("x" * 20), 10) == "xxxxxxx..."
    assert one_line(ValueError("x" * 10), 10) == "x" * 10


def test_a_package_that_is_there_is_given():
    assert require("json", "data").loads("1") == 1


@pytest.mark.parametrize(
    ("extra", "advice"), [("data", r"pip install 'mtdeblur\[data\]'"), ("", "pip install abacus_of_gold")]
)
def test_a_missing_package_is_named_with_what_needs_it(extra, advice):
    with pytest.raises(UserError, match=f"^counting needs abacus_of_gold: {advice}$"):
        require("abacus_of_gold", extra, "counting")


def test_a_package_that_cannot_be_loaded_is_named_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "rusty.py").write_text("raise ImportError('libx.so:\\nno such file', name='rusty')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"needs rusty, which cannot be loaded \(libx.so: no such file\)"):
        require("rusty", "data")


def test_what_our_own_module_misses_is_named_and_our_own_mistakes_are_not_hidden(monkeypatch):
    with pytest.raises(ModuleNotFoundError, match="mtdeblur"):
        require("mtdeblur.no_such_module", "train")
    monkeypatch.delitem(sys.modules, "mtdeblur.experiments.drawing", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    for name in [name for name in sys.modules if name.startswith("mtdeblur.experiments")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"reproducing needs yaml: pip install 'mtdeblur\[reproduce\]'"):
        require("mtdeblur.experiments.catalogue", "reproduce", "reproducing")
