"""Reading, writing and comparing YAML configurations."""

import hashlib
import json
import re
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, cast, get_args

import yaml
from pydantic import ValidationError

from mtdeblur.approaches import APPROACHES
from mtdeblur.errors import UserError, one_line
from mtdeblur.networks.registry import NETWORKS
from mtdeblur.training.config import SHARED, Section, TrainingConfig
from mtdeblur.weights.catalogue import catalogue, find_weights

CONFIGS = Path(__file__).parents[1] / "configs"
"""Folder of the configurations that ship with the package."""

MAY_CHANGE = (
    "optimiser.batches",
    "validation.every",
    "checkpoint_minutes",
    "data.cache",
    "network.weights",
)
"""Keys that may differ when a run is resumed. More batches lengthen the run: `halve` is unaffected,
`cosine` jumps to the longer schedule. The checkpoint replaces `network.weights`."""


def find_config(name: str) -> Path:
    """Path of a configuration.

    Args:
        name: name of a packaged configuration, such as `modern`, or path of a YAML file.

    Raises:
        UserError: if it is neither; the message lists the packaged ones.
    """
    packaged = {file.stem: file for file in CONFIGS.glob("*.yaml")}
    if name in packaged:
        return packaged[name]
    path = Path(name)
    if path.exists() or path.suffix or "/" in path.as_posix() or name.startswith("."):
        return path
    names = ", ".join(sorted(packaged))
    raise UserError(f"unknown configuration {name!r}; give a YAML file, or one of {names}")


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Parse overrides for `read_config` such as `optimiser.batches=1000`; the last value of a key wins.

    Args:
        texts: dotted key, `=` and a YAML value each.

    Raises:
        UserError: if a text has another form, or its value is not valid YAML.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
            raise UserError(f"--set {text}: expected KEY=VALUE, such as optimiser.batches=1000")
        try:
            settings[key] = yaml.load(value, _Loader)
        except yaml.YAMLError as error:
            raise UserError(f"--set {key}: the value is not valid YAML: {one_line(error)}") from error
    return settings


FIRST_VALUES: dict[str, Any] = json.loads(
    resources.files("mtdeblur.training").joinpath("first_values.json").read_text(encoding="utf-8")
)
"""Default of each setting in the release that introduced it, see `fingerprint`."""


def read_config(path: Path, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Read a YAML configuration; `network.weights` may be the name of shipped weights.

    Args:
        path: the file.
        overrides: dotted keys and values that replace the file's, such as `{"data.pack": Path("x")}`.

    Raises:
        UserError: if the file or a value is invalid; one line, with the dotted key.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UserError(f"cannot read the configuration {path}: {reason}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must contain keys and values, such as 'recipe: modern'")
    content = cast("dict[str, Any]", values)
    own = deepcopy(content)
    for key, value in (overrides or {}).items():
        _override(content, key.split("."), value)
    try:
        config = parse_config(content, str(path))
    except UserError:
        _blame_override(own, content, overrides or {})
        raise
    if str(config.network.weights) not in catalogue():
        return config
    _override(content, ["network", "weights"], find_weights(str(config.network.weights)))
    return parse_config(content, str(path))


def _blame_override(own: dict[str, Any], content: dict[str, Any], overrides: Iterable[str]) -> None:
    """Raise UserError if a fault in the content comes from an override, and not from the file's own."""
    before = _faults(own)
    for place, message in _faults(content):
        if (place, message) not in before and (key := _cause(place, message, overrides)):
            where = "" if place in ("", key) else f"{place}: "
            raise UserError(f"--set {key}: {where}{message}") from None


def _cause(place: str, message: str, overrides: Iterable[str]) -> str | None:
    """The override that a fault at a dotted key comes from: at, below or above it, or named; or None."""
    parts = place.split(".")
    for key in overrides:
        common = min(len(parts), key.count(".") + 1)
        if parts[:common] == key.split(".")[:common] or (not place and key in message):
            return key
    return None


def parse_config(values: dict[str, Any], source: str = "the configuration") -> TrainingConfig:
    """Validate the content of a YAML file; None is an empty section.

    Args:
        values: nested mappings, lists, strings, numbers and None; paths may be `Path`.
        source: name of the file in error messages.

    Raises:
        UserError: if a value is invalid; one line, with the dotted key.
    """
    try:
        return _validate(values)
    except ValidationError:
        (key, message), *others = _faults(values)
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(": ".join(filter(None, (source, key, f"{message}{more}")))) from None
    except (TypeError, ValueError, RecursionError) as error:  # such as a date as key, or a recursive alias
        raise UserError(f"{source} must contain plain keys and values: {error}") from None


def _validate(values: dict[str, Any]) -> TrainingConfig:
    filled = {"data": None, "optimiser": None} | values
    for name, field in TrainingConfig.model_fields.items():
        if filled.get(name, ...) is None and issubclass(cast("type", field.annotation), Section):
            filled[name] = {}
    # JSON because pydantic's strict mode then accepts a list for a tuple and a string for a path.
    return TrainingConfig.model_validate_json(json.dumps(filled, default=str))


def _faults(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Dotted key and message of everything that the validation refuses."""
    try:
        _validate(values)
    except ValidationError as error:
        return [_described(fault["loc"], fault["type"], fault["msg"], values) for fault in error.errors()]
    except (TypeError, ValueError, RecursionError):  # reported by `parse_config`
        pass
    return []


def _described(
    place: tuple[int | str, ...], kind: str, message: str, values: dict[str, Any]
) -> tuple[str, str]:
    key = ".".join(map(str, place))
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = ", ".join(_known(place[:-1], values))
        what = "setting" if kind == "extra_forbidden" else "option"
        return key, f"there is no {what} {place[-1]!r}" + (f"; there are {known}" if known else "")
    return key, " ".join(message.removeprefix("Value error, ").split())


def _known(section: tuple[int | str, ...], values: dict[str, Any]) -> list[str]:
    """The names of what a section, or the options of a network or an approach, may contain."""
    kind: Any = TrainingConfig
    for part in section:
        if part in ("options", "later") and section[0] in ("network", "approach"):
            given = cast("dict[str, Any]", values[str(section[0])])
            name = given.get("name", kind.model_fields["name"].default)
            kind = NETWORKS[name].config if section[0] == "network" else APPROACHES[name]
        else:
            annotation = kind.model_fields[part].annotation
            kind = next(iter(get_args(annotation)), annotation)  # X of X | None
    if issubclass(kind, Section):
        return list(kind.model_fields)
    shared = SHARED if section[0] == "approach" else ()
    return [option.name for option in fields(kind) if option.name not in shared]


def write_config(config: TrainingConfig) -> str:
    """Format a configuration as YAML for `read_config`."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def first_difference(before: TrainingConfig, now: TrainingConfig) -> str | None:
    """Dotted key of the first setting that differs but must not when a run is resumed, or None.

    A run whose approach has several phases cannot be lengthened.
    """
    has_phases = len(before.approach.build().starts) > 1
    if has_phases and before.optimiser.batches != now.optimiser.batches:
        return "optimiser.batches"
    return _first_difference(before.model_dump(mode="json"), now.model_dump(mode="json"), "")


def fingerprint(config: TrainingConfig) -> str:
    """Hash of a run's configuration, 16 hexadecimal digits.

    Settings that may change, data paths and initial weights are excluded, and so is a setting equal to
    its `FIRST_VALUES`. So a new setting does not change the hash of older runs; a changed default does.
    """
    values = config.model_dump(mode="json")
    paths = ("data.pack", "data.photos", "data.dataset", "network.weights", "network.backbone")
    for key in (*MAY_CHANGE, *paths):
        *parents, last = key.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        section.pop(last, None)
    network = values["network"]
    first = FIRST_VALUES["networks"].get(network["name"], {})
    for key, number in (("options", 0), ("later", 1)):
        options = config.network.checked_options(number) if network[key] or not number else {}
        network[key] = _changed(json.loads(json.dumps(options)), first)
    changed = _changed(values, FIRST_VALUES["settings"])
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:16]


def _changed(values: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """The values that differ from the first values, recursively."""
    changed: dict[str, Any] = {}
    for key, value in values.items():
        before = first.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            section = _changed(cast("dict[str, Any]", value), cast("dict[str, Any]", before))
            if section:
                changed[key] = section
        elif value != before or key not in first:
            changed[key] = value
    return changed


def _first_difference(before: Any, now: Any, key: str) -> str | None:
    if before == now or key in MAY_CHANGE:
        return None
    if not isinstance(before, dict) or not isinstance(now, dict):
        return key
    old, new = cast("dict[str, Any]", before), cast("dict[str, Any]", now)
    differences = (
        _first_difference(old.get(part), new.get(part), f"{key}.{part}".lstrip(".")) for part in old | new
    )
    return next((difference for difference in differences if difference is not None), None)


def _override(values: dict[str, Any], key: list[str], value: Any) -> None:
    """Set a nested key; a missing parent is created, one that is no mapping is left for validation."""
    if len(key) == 1:
        values[key[0]] = value
        return
    if values.get(key[0]) is None:
        values[key[0]] = {}
    if isinstance(values[key[0]], dict):
        _override(values[key[0]], key[1:], value)


class _Loader(yaml.SafeLoader):
    """YAML 1.1, except that 1e-3 is a number and duplicate keys are refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping; raise ConstructorError for a duplicate key."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if duplicate := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {duplicate!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)
