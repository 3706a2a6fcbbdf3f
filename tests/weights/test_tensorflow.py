"""TensorFlow's checkpoints: whatever is written is read, and whatever is damaged gets one line."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtdeblur.errors import UserError
from mtdeblur.evaluation.provenance import identify_weights
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.foreign import checkpoint_files
from mtdeblur.weights.store import advised_steps, load_network
from mtdeblur.weights.tensorflow import crc32c, read_checkpoint

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool]
SOME = {"net/a/weights": torch.arange(6.0).view(2, 3), "net/a/biases": torch.ones(2), "step": torch.tensor(7)}

tensors = st.builds(
    lambda shape, dtype, seed: (
        torch.rand(shape, generator=torch.Generator().manual_seed(seed)).mul(100).to(dtype)
    ),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from(DTYPES),
    st.integers(0, 99),
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300) | st.from_regex(
    r"g_net/(enc|dec)[12]/(weights|biases)", fullmatch=True
)


@settings(deadline=None)
@given(
    st.dictionaries(names, tensors, max_size=12),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_whatever_is_written_is_read(write_checkpoint, tmp_path_factory, written, size, interval, shards):
    prefix = tmp_path_factory.mktemp("checkpoint") / "model.ckpt-9"
    write_checkpoint(prefix, written, size=size, interval=interval, shards=shards)
    found = read_checkpoint(prefix)
    assert found.keys() == written.keys()
    for name, tensor in written.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@given(st.binary(max_size=400))
def test_the_checksum_is_that_of_the_definition(plain_checksum, data):
    assert crc32c(data) == plain_checksum(data)


def test_the_checksum_of_the_standard_s_example():
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("of", ["index", "data-00000-of-00001"])
@settings(deadline=None)
@given(st.data())
def test_a_changed_byte_or_a_cut_never_gives_other_tensors(write_checkpoint, tmp_path_factory, of, data):
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder / "model", SOME)
    file = folder / f"model.{of}"
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    file.write_bytes(content)
    try:
        found = read_checkpoint(folder)
    except ValueError:
        return
    assert found.keys() == SOME.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in SOME.items())


def test_a_checkpoint_goes_by_its_folder_its_index_or_what_its_files_begin_with(write_checkpoint, tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", SOME, shards=2)
    (tmp_path / "model.ckpt.meta").write_bytes(b"the graph")
    (tmp_path / "checkpoint").write_text("which is the latest")
    files = [f"model.ckpt.{end}" for end in ("data-00000-of-00002", "data-00001-of-00002", "index")]
    (tmp_path / "all").write_bytes(b"".join((tmp_path / file).read_bytes() for file in files))
    for name in (".", "model.ckpt.index", "model.ckpt"):
        path = find_weights(str(tmp_path / name))
        assert [file.name for file in checkpoint_files(path)] == files
        assert read_checkpoint(path).keys() == SOME.keys()
        assert advised_steps(path) is None
        assert identify_weights(str(path))[1] == identify_weights(str(tmp_path / "all"))[1]
    with pytest.raises(UserError, match="there are no weights"):
        find_weights(str(tmp_path / "model"))


def test_tensors_of_another_program_are_answered_with_the_known_layouts(write_checkpoint, tmp_path):
    write_checkpoint(tmp_path / "model", SOME)
    with pytest.raises(UserError, match="their layout is none of those known"):
        load_network(tmp_path / "model")


DAMAGE = {
    "an index that is none": ("index", lambda content: b"a list of pictures" * 9),
    "a short index": ("index", lambda content: content[:-1]),
    "a cut index": ("index", lambda content: content[40:]),
    "a changed index": ("index", lambda content: content[:12] + b"?" + content[13:]),
    "short data": ("data-00000-of-00001", lambda content: content[:-1]),
    "changed data": ("data-00000-of-00001", lambda content: b"?" + content[1:]),
}
CHANGES = {
    "no header": {b"": None},
    "the other byte order": {b"": bytes.fromhex("08011001")},
    "an unknown type": {b"step": bytes.fromhex("0807")},
    "a tensor in parts": {b"step": bytes.fromhex("08013a00")},
    "a tensor without its numbers": {b"step": bytes.fromhex("0801")},
    "a tensor of another shard": {b"step": bytes.fromhex("080118012804")},
    "no entry": {b"step": bytes.fromhex("0b")},
    "an entry cut short": {b"step": bytes.fromhex("0881")},
    "a name that is no text": {b"\xff": bytes.fromhex("0801")},
}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("an index that is none", r"cannot read model\.index: it does not end as"),
        ("a short index", r"cannot read model\.index: it does not end as"),
        ("a cut index", r"cannot read model\.index: it is "),
        ("a changed index", r"cannot read model\.index: it is damaged: a checksum"),
        ("short data", r"the data is truncated: step"),
        ("changed data", r"the data is damaged: the checksum of net/a/weights"),
        ("no header", r"model\.index is damaged"),
        (
            "the other byte order",
            r"cannot read model\.index: its numbers are big-endian",
        ),
        ("an unknown type", r"step has .* type 7"),
        ("a tensor in parts", r"step is stored in several parts"),
        ("a tensor without its numbers", r"index .* about step"),
        ("a tensor of another shard", r"index .* about step"),
        ("no entry", r"cannot read model\.index: an entry has a field of kind 3"),
        ("an entry cut short", r"model\.index is damaged"),
        ("a name that is no text", r"cannot read model\.index: .*utf-8"),
        ("a missing shard", r"there is no model\.data-00001-of-00002"),
        ("compressed", r"cannot read model\.index: it is compressed"),
        ("two checkpoints", r"2 checkpoints; .*such as .*other\.index"),
    ],
)
def test_what_cannot_be_read_gets_one_line(write_checkpoint, tmp_path, broken, message):
    options = {"a missing shard": {"shards": 2}, "compressed": {"compression": 1}}.get(broken, {})
    write_checkpoint(tmp_path / "model", SOME, changes=CHANGES.get(broken), **options)
    if broken in DAMAGE:
        end, change = DAMAGE[broken]
        file = tmp_path / f"model.{end}"
        file.write_bytes(change(file.read_bytes()))
    elif broken == "a missing shard":
        (tmp_path / "model.data-00001-of-00002").unlink()
    elif broken == "two checkpoints":
        write_checkpoint(tmp_path / "other", SOME)
    with pytest.raises(UserError, match=message) as caught:
        load_network(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
