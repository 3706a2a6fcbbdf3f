"""Other programs' weights: what is recognised, and what is said of the rest."""

import pytest
import torch

from mtdeblur.errors import UserError
from mtdeblur.evaluation.provenance import identify_weights
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.foreign import LAYOUTS, checkpoint_files
from mtdeblur.weights.store import load_network


class Malicious:
    def __reduce__(self):
        return print, ("this must never run",)


def test_an_unknown_layout_is_answered_with_the_known_ones(tmp_path):
    torch.save({"params": {"conv.weight": torch.zeros(1)}}, tmp_path / "net.pth")
    with pytest.raises(UserError) as caught:
        load_network(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)
    for layout in LAYOUTS:
        assert layout.name in str(caught.value)


def test_marks_are_distinct():
    assert len({layout.mark for layout in LAYOUTS}) == len(LAYOUTS)


@pytest.mark.parametrize("content", ["nothing", "pictures", "code"])
@pytest.mark.fault("weights that run code")
def test_a_folder_of_anything_else_gets_one_line(tmp_path, content, capsys):
    if content == "pictures":
        (tmp_path / "a.png").write_bytes(b"picture")
    if content == "code":
        torch.save({"layer1.weight": Malicious()}, tmp_path / "encoder_lv1.pkl")
    with pytest.raises(UserError) as caught:
        load_network(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "never run" not in capsys.readouterr().out


def test_a_folder_counts_as_weights_and_has_one_checksum(tmp_path):
    for name in ("b.pkl", "a.PTH", "c.txt"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "d.pkl").mkdir()
    assert [file.name for file in checkpoint_files(tmp_path)] == ["a.PTH", "b.pkl"]
    assert find_weights(str(tmp_path)) == tmp_path
    name, checksum = identify_weights(str(tmp_path))
    (tmp_path / "both").write_bytes(b"a.PTHb.pkl")
    assert name == str(tmp_path)
    assert checksum == identify_weights(str(tmp_path / "both"))[1]
