"""The configuration: what it takes, what it refuses and in which words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtdeblur.errors import UserError
from mtdeblur.training.config import TrainingConfig
from mtdeblur.training.config_file import (
    CONFIGS,
    find_config,
    fingerprint,
    first_difference,
    parse_config,
    parse_settings,
    read_config,
    write_config,
)
from mtdeblur.weights.catalogue import find_weights


def read(folder: Path, text: str, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    file = folder / "run.yaml"
    file.write_text(text)
    return read_config(file, overrides)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("speed: 3", "speed", "Extra inputs"),
        ("optimiser: {rate: 3}", "optimiser.rate", "Extra inputs"),
        ("data: {pack: x, motion: {lenght: 3}}", "data.motion.lenght", "Unexpected"),
        ("network: {name: mtnaf, options: {widht: 3}}", "network.options.widht", "Unexpected"),
        ("network: {name: mtnaf, options: {width: wide}}", "network.options.width", "integer"),
        ("network: {name: mtnaf, options: {blocks: [1, 2]}}", "network.options.blocks.2", "required"),
        ("network: {name: mtnaf, options: {kernels: [3, 3, 4]}}", "network.options", "kernels must be odd"),
        ("network: {options: {kernel: 4}}", "network.options", "kernel odd"),
        (
            "network: {name: unet}",
            "network",
            "deblurgan_v2, deepdeblur, dmphn, maxim, mtnaf, mtrnn, nafnet, pss_nsc",
        ),
        ("network: mtnaf", "network", "object"),
        ("data: {pack: x, batch: '16'}", "data.batch", "integer"),
        ("data: {pack: x, batch: true}", "data.batch", "integer"),
        ("data: {pack: x, batch: 2.5}", "data.batch", "integer"),
        ("data: {pack: x, batch: 0}", "data.batch", "greater than or equal to 1"),
        ("data: {pack: x, patch: 8}", "data.patch", "16"),
        ("data: {pack: x, clips: 1.5}", "data.clips", "less than or equal to 1"),
        ("data: {pack: 5}", "data.pack", "valid string"),
        ("data: {pack: x, motion: {length: .nan}}", "data.motion.length", "finite"),
        ("data: {pack: x, photos: [y]}", "data", "pack and photos"),
        ("data: 3", "data", "object"),
        ("recipe: [paper]", "recipe", "'paper' or 'modern'"),
        ("recipe: fast", "recipe", "'paper' or 'modern'"),
        ("seed: -1", "seed", "greater"),
        ("seed: 1.0", "seed", "integer"),
        ("approach: {name: two_stage}", "approach.name", "one_stage"),
        ("approach: {name: multi_scale, iterations: 2}", "approach", "remove iterations"),
        ("approach: {name: stacked, sharing: false}", "approach", "one after the other"),
        ("approach: {levels: [7, 8]}", "approach", "odd"),
        ("approach: {levels: [15]}", "approach", "3 to 13"),
        ("approach: {levels: []}", "approach", "at least one"),
        ("approach: {levels: 7}", "approach.levels", "array"),
        ("approach: {step: 3}", "approach", "even"),
        ("approach: {extra: [3, 1]}", "approach", "in that order"),
        ("approach: {name: one_stage, step: 4}", "approach", "step is for multi_temporal"),
        ("approach: {name: one_stage, extra: [0, 1]}", "approach", "extra is for multi_temporal"),
        ("approach: {iterations: 7, extra: [2, 3]}", "approach", "remove extra or iterations"),
        ("approach: {trained: last}", "approach", "through"),
        ("approach: {trained: drawn, through: 2}", "approach", "remove through"),
        ("approach: {name: stacked, trained: drawn}", "approach", "one after the other"),
        (
            "approach: {name: multi_scale, one_stage_first: 0.5}",
            "approach",
            "one_stage_first needs one network",
        ),
        ("approach: {iterations: 8}", "approach", "above the maximum of 7"),
        ("optimiser: {learning_rate: 0}", "optimiser.learning_rate", "greater than 0"),
        ("optimiser: {betas: [0.9, 1.0]}", "optimiser.betas.1", "less than 1"),
        ("optimiser: {schedule: cosine, final: 1}", "optimiser", "above learning_rate"),
        ("optimiser: {weight_decay: 0.1}", "optimiser", "adamw"),
        ("optimiser: {precision: float16}", "optimiser.precision", "bfloat16"),
        ("optimiser: 1", "optimiser", "object"),
        ("validation: {every: 0}", "validation.every", "greater"),
        ("checkpoint_minutes: 0", "checkpoint_minutes", "greater"),
    ],
)
def test_refusals_name_the_file_and_the_key(tmp_path: Path, text: str, key: str, reason: str) -> None:
    with pytest.raises(UserError) as refusal:
        read(tmp_path, text if "data:" in text else f"{text}\ndata: {{pack: x}}")
    message = str(refusal.value)
    assert message.startswith(f"{tmp_path / 'run.yaml'}: {key}: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["recipe: modern", "data:", "data: {}", "data: {photos: []}"])
def test_without_data_it_says_how_to_give_some(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"data: nothing to train on; .*--photos FOLDER.*--pack FILE"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "must contain keys and values"),
        (b"- 1\n- 2", "must contain keys and values"),
        (b"recipe: [", "not valid YAML"),
        (b"seed: 1\nseed: 2", "'seed' is given twice"),
        (b"? [1]\n: 2", "not valid YAML"),
        (b"2020-01-01: 2", "plain keys"),
        (b"data: &x [*x]", "plain keys"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
    ],
)
def test_what_is_no_configuration_at_all(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=reason) as refusal:
        read_config(file)
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_config(tmp_path / "nothing.yaml")
    with pytest.raises(UserError, match="Is a directory"):
        read_config(tmp_path)


def test_more_than_one_mistake_is_counted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\(and 1 more\)"):
        read(tmp_path, "data: {pack: x, batch: 0}\nseed: -1")


@pytest.mark.parametrize("text", ["recipe: paper", "data:", "data: {batch: 4}", "data: {photos: [y]}"])
def test_overrides_replace_and_make_their_parents(tmp_path: Path, text: str) -> None:
    config = read(tmp_path, text, {"data.pack": Path("a.zip"), "data.photos": ()})
    assert (config.data.pack, config.data.photos) == (Path("a.zip"), ())


def test_an_override_under_something_else_is_refused_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data: Input should be an object"):
        read(tmp_path, "data: 3", {"data.pack": Path("a.zip")})


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_packaged_configuration_is_found_by_its_name(file: Path) -> None:
    assert find_config(file.stem) == file


def test_a_path_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("own.yaml", "folder/modern", "./modern", str(tmp_path / "modern.yml")):
        assert find_config(name) == Path(name)
    Path("plain").touch()
    assert find_config("plain") == Path("plain")


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(UserError, match=r"'fast'.*modern, paper, release-base") as refusal:
        find_config("fast")
    assert "\n" not in str(refusal.value)


def test_settings_are_yaml_and_the_last_wins() -> None:
    texts = [
        "optimiser.learning_rate=1e-3",
        "approach.levels=[7, 9]",
        "network.name=mtnaf",
        "seed=1",
        "seed=2",
    ]
    settings = parse_settings([*texts, "optimiser.clip=", "data.pack=a=b.zip"])
    assert settings == {
        "optimiser.learning_rate": 1e-3,
        "approach.levels": [7, 9],
        "network.name": "mtnaf",
        "seed": 2,
        "optimiser.clip": None,
        "data.pack": "a=b.zip",
    }
    config = read_config(find_config("modern"), settings)
    assert (config.optimiser.learning_rate, config.approach.levels, config.seed) == (1e-3, (7, 9), 2)


@pytest.mark.parametrize("text", ["batches", "=3", ".seed=1", "data..patch=64", "optimiser. batches=3", ""])
def test_a_setting_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="KEY=VALUE") as refusal:
        parse_settings([text])
    assert text in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [("optimiser.rate=3", "optimiser.rate"), ("data.patch=wide", "data.patch"), ("seed=[1", "seed")],
)
def test_an_error_of_a_setting_names_its_key(text: str, key: str) -> None:
    with pytest.raises(UserError, match=rf"{key}: ") as refusal:
        read_config(find_config("modern"), {"data.pack": Path("x.zip")} | parse_settings([text]))
    assert "\n" not in str(refusal.value)


def test_shipped_weights_are_named(tmp_path: Path) -> None:
    text = "data: {pack: x}\nnetwork: {name: mtnaf, weights: mtnaf-small}"
    config = read(tmp_path, text)
    assert config.network.weights == find_weights("mtnaf-small")
    assert fingerprint(config) == fingerprint(read(tmp_path, text.replace("mtnaf-small", "own.safetensors")))


def test_the_paper_s_recipe() -> None:
    optimiser = parse_config({"data": {"pack": "x"}}).optimiser
    assert (optimiser.name, optimiser.learning_rate, optimiser.betas) == ("adam", 2e-4, (0.9, 0.999))
    assert (optimiser.eps, optimiser.weight_decay, optimiser.batches) == (1e-8, 0, 92_000)
    assert (optimiser.schedule, optimiser.halve_every, optimiser.warmup) == ("halve", 46_000, 0)
    assert (optimiser.clip, optimiser.ema, optimiser.precision) == (None, None, "float32")
    assert not optimiser.zero_last


def test_the_modern_recipe_gives_way_to_what_is_given() -> None:
    values = {"recipe": "modern", "data": {"pack": "x"}, "optimiser": {"ema": None, "clip": 2.0}}
    optimiser = parse_config(values).optimiser
    assert (optimiser.name, optimiser.schedule, optimiser.precision) == ("adamw", "cosine", "bfloat16")
    assert optimiser.zero_last
    assert (optimiser.ema, optimiser.clip) == (None, 2.0)


def test_numbers_in_scientific_notation(tmp_path: Path) -> None:
    text = "data: {pack: x}\noptimiser: {learning_rate: 1e-3, eps: 1E-9, clip: 2}"
    optimiser = read(tmp_path, text).optimiser
    assert (optimiser.learning_rate, optimiser.eps, optimiser.clip) == (1e-3, 1e-9, 2.0)


def test_written_and_read_again(configure: Callable[..., TrainingConfig], tmp_path: Path) -> None:
    for config in (
        configure(),
        configure(
            recipe="modern", data={"sensor": {"quality": [50, 90]}, "pack": None, "photos": ["a", "b"]}
        ),
        configure(approach={"name": "one_stage", "levels": [13], "extra": [1, 3]}),
    ):
        assert read(tmp_path, write_config(config)) == config


def test_what_may_change_when_a_run_is_resumed(configure: Callable[..., TrainingConfig]) -> None:
    longer = configure(optimiser={"batches": 99}, validation={"every": 5}, checkpoint_minutes=1)
    assert first_difference(configure(), longer) is None
    for key, changes in {
        "seed": {"seed": 1},
        "network.options.width": {"network": {"options": {"width": 16, "blocks": [1, 1, 1, 1, 1]}}},
        "network.name": {"network": {"name": "mtrnn", "options": {}}},
        "approach.levels": {"approach": {"levels": [7, 13]}},
        "data.motion.length": {"data": {"motion": {"length": 7.0}}},
        "data.pack": {"data": {"pack": "other.zip"}},
        "optimiser.learning_rate": {"optimiser": {"learning_rate": 0.1, "batches": 99}},
    }.items():
        assert first_difference(configure(), configure(**changes)) == key


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_packaged_configurations(file: Path) -> None:
    config = read_config(file, {"data.pack": Path("pack.zip")})
    assert config.network.checked_options()
    with pytest.raises(UserError, match="nothing to train on"):
        read_config(file)


def test_there_is_a_configuration_for_each_recipe() -> None:
    recipes = {read_config(file, {"data.pack": Path("p")}).recipe for file in CONFIGS.glob("*.yaml")}
    assert recipes == {"paper", "modern"}


def test_the_fingerprint_is_that_of_what_makes_a_run_another(
    configure: Callable[..., TrainingConfig],
) -> None:
    plain = fingerprint(configure())
    assert plain == fingerprint(
        configure(
            data={"pack": "elsewhere.zip"},
            network={"weights": "start.safetensors"},
            optimiser={"batches": 99},
            validation={"every": 7},
            checkpoint_minutes=9.0,
        )
    )
    others = [
        {"seed": 9},
        {"data": {"patch": 32}},
        {"optimiser": {"warmup": 3}},
        {"approach": {"levels": [7]}},
    ]
    assert len({plain, *(fingerprint(configure(**other)) for other in others)}) == 5
