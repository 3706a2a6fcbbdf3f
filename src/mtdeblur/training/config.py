"""The configuration of a training run: YAML, checked key by key."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mtdeblur.approaches import MAXIMUM_ITERATIONS, Plan, multi_temporal, one_stage
from mtdeblur.data.ladders import Exposures
from mtdeblur.errors import UserError
from mtdeblur.exposure.simulate import FRAMES, Motion, Sensor

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the configuration; unknown keys are refused and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NetworkConfig(Section):
    """Which network, and with which options of its own config dataclass."""

    name: str = "mtrnn"
    options: dict[str, Any] = {}
    weights: Path | None = None
    """Weights to start from; otherwise fresh ones."""


class ApproachConfig(Section):
    """The plan of goals (Section 4.1)."""

    name: Literal["multi_temporal", "one_stage"] = "multi_temporal"
    levels: tuple[int, ...] = (7, 9, 11, 13)
    """Temporal levels of the inputs, one drawn per batch."""
    step: int = 2
    """Temporal step TS; for multi_temporal."""
    extra: tuple[int, int] = (1, 3)
    """Fewest and most further iterations that aim at TL1, drawn per batch; for multi_temporal."""
    iterations: Positive | None = None
    """A fixed number of iterations; for one_stage 1 where nothing is said."""
    maximum: Positive = MAXIMUM_ITERATIONS

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.levels or any(n < 3 or n % 2 == 0 or n > FRAMES for n in self.levels):
            raise ValueError(f"levels must be odd numbers from 3 to {FRAMES}, at least one")
        if self.step < 2 or self.step % 2:
            raise ValueError("step must be an even number from 2 up")
        if not 0 <= self.extra[0] <= self.extra[1]:
            raise ValueError("extra must be the fewest and the most further iterations, in that order")
        return self

    def plan(self, level: int, extra: int) -> Plan:
        """The goals from an input level; `extra` is this batch's number of further iterations."""
        if self.name == "one_stage":
            return one_stage(level, self.iterations or 1)
        return multi_temporal(
            level, step=self.step, extra=extra, iterations=self.iterations, maximum=self.maximum
        )


class DataConfig(Section):
    """What is trained on."""

    pack: Path | None = None
    """A training pack, see `mtdeblur pack`."""
    photos: tuple[Path, ...] = ()
    """Folders of sharp photographs, in place of a pack: one is made of them in the run's folder."""
    patch: Annotated[int, Field(ge=16)] = 256
    batch: Positive = 16
    """Patches of a batch over all processes. The paper does not state it: 16 is assumed."""
    reuse: Positive = 1
    """How many times an exposure is cropped, flipped and turned before another takes its place."""
    pool: Positive = 8
    """Exposures that each place of the batch holds at a time."""
    clips: Share = 0.25
    """Share of the exposures made from the pack's real high-speed frames, where it has some."""
    gamma: Share = 0.5
    """Share of the exposures averaged in gamma-2.2 linear light, the rest as stored (as GoPro's blur/)."""
    motion: Motion = Motion()
    sensor: Sensor = Sensor()

    def exposures(self) -> Exposures:
        """How exposures are made."""
        return Exposures(self.motion, self.sensor, self.clips, self.gamma)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.pack is None) == (not self.photos):
            raise ValueError("give either pack (a training pack) or photos (folders of photographs)")
        return self


class OptimiserConfig(Section):
    """Optimiser and schedule; both recipes of `RECIPES` fill in what is not given."""

    name: Literal["adam", "adamw"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batches: Positive = 92_000
    """Length of the run. The paper's "iteration" is read as a batch; it does not say."""
    schedule: Literal["halve", "cosine"] = "halve"
    halve_every: Positive = 46_000
    warmup: Annotated[int, Field(ge=0)] = 0
    """Batches over which the learning rate rises from zero."""
    final: Annotated[float, Field(ge=0)] = 1e-6
    """Learning rate at the end of the cosine."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the gradient."""
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay per batch of the exponential moving average of the weights, which is then what is validated."""
    precision: Literal["float32", "bfloat16"] = "float32"
    zero_last: bool = False
    """Start the network's last convolution at zero, so that training starts at the identity."""


class ValidationConfig(Section):
    """When and how the network is measured while it trains."""

    every: Positive = 1000
    """Batches between two validations."""
    iterations: Positive = 6
    photos: Annotated[int, Field(ge=0)] = 12
    """Held-out photographs in use."""


class TrainingConfig(Section):
    """A whole run."""

    recipe: Literal["paper", "modern"] = "paper"
    seed: int = 0
    network: NetworkConfig = NetworkConfig()
    approach: ApproachConfig = ApproachConfig()
    data: DataConfig
    optimiser: OptimiserConfig = OptimiserConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 5.0

    @model_validator(mode="before")
    @classmethod
    def _fill_in_recipe(cls, values: Any) -> Any:
        """Put the recipe's values where the optimiser's section says nothing."""
        if isinstance(values, dict):
            given = values.get("optimiser", {})
            recipe = RECIPES.get(values.get("recipe", "paper"), {})
            if isinstance(given, dict):
                return {**values, "optimiser": {**recipe, **given}}
        return values


RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},  # Section 5: the defaults above
    "modern": {
        "name": "adamw",
        "learning_rate": 1e-3,
        "betas": (0.9, 0.99),
        "schedule": "cosine",
        "warmup": 200,
        "clip": 0.5,
        "ema": 0.99,
        "precision": "bfloat16",
        "zero_last": True,
    },
}


def read_config(path: Path, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Read a YAML configuration.

    Args:
        path: the file.
        overrides: dotted keys and values that win over the file's, such as `{"data.pack": Path("x.zip")}`.

    Raises:
        UserError: in one line, with the path of the key at fault.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the configuration {path}: {error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold keys and values, such as 'recipe: modern'")
    for key, value in (overrides or {}).items():
        place = values
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the configuration"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: {key}: {message}{more}") from None
