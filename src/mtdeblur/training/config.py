"""Validated settings of a training run; `mtdeblur.training.config_file` reads them from YAML."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator

from mtdeblur.approaches import (
    APPROACHES,
    MAXIMUM_ITERATIONS,
    Approach,
    DrawnIteration,
    OneStageFirst,
    SeparateWeights,
    TruncatedBackPropagation,
    plans,
)
from mtdeblur.data.feeding.stream import Exposures
from mtdeblur.exposure.sensor import Sensor
from mtdeblur.exposure.simulate import FRAMES, Motion
from mtdeblur.networks.registry import NETWORKS

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Factor = Annotated[float, Field(ge=1, le=8)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A section of the configuration; unknown keys and implicit type conversions are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _checked(kind: type, options: dict[str, Any]) -> Any:
    """Create a dataclass from options, validated as strictly as a section.

    Raises:
        ValidationError: if an option does not exist or has a wrong type or value.
    """
    section = create_model("Options", __base__=Section, options=(kind, ...))
    checked: Any = section.model_validate_json(json.dumps({"options": options}))
    return checked.options


class NetworkConfig(Section):
    """The network and the options of its config dataclass."""

    name: str = "mtrnn"
    options: dict[str, Any] = {}
    later: dict[str, Any] = {}
    """Options that differ in the second and further networks, for approaches with several networks."""
    weights: Path | None = None
    """Initial weights; None initialises them at random."""
    backbone: Path | None = None
    """ImageNet weights of MobileNetV2 in torchvision's layout, for the backbone of deblurgan_v2; None
    initialises it at random."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name not in NETWORKS:
            raise ValueError(f"unknown network {self.name!r}; choose one of {', '.join(sorted(NETWORKS))}")
        if self.weights and self.backbone:
            raise ValueError("give either weights or backbone, not both")
        self.checked_options()
        return self

    def checked_options(self, number: int = 0) -> dict[str, Any]:
        """All options of the network with a number, including defaults.

        Raises:
            ValidationError: if an option does not exist or has a wrong type.
        """
        options = self.options | self.later if number else self.options
        return asdict(_checked(NETWORKS[self.name].config, options))


class ApproachConfig(Section):
    """The plan of goals (Fig. 1 and Section 4.1), and which of them are trained."""

    name: str = "multi_temporal"
    """One of `mtdeblur.approaches.APPROACHES`."""
    levels: tuple[int, ...] = (7, 9, 11, 13)
    """Temporal levels of the inputs, one drawn per batch."""
    step: int = 2
    """Temporal step TS, of multi_temporal and multi_scale_temporal."""
    extra: tuple[int, int] = (1, 3)
    """Further iterations at TL1, minimum and maximum, drawn per batch; same approaches as step."""
    iterations: Positive | None = None
    """A fixed number of iterations in place of extra; by default 1 for one_stage, 3 for stacked."""
    maximum: Positive = MAXIMUM_ITERATIONS
    """Maximum length of a plan (per scale, if there are several); same approaches as step."""
    options: dict[str, Any] = {}
    """Further options of the approach's class."""
    sharing: bool = True
    """Weight sharing over iterations; false gives each iteration a network of its own (Section 6)."""
    through: Positive = 1
    """Number of iterations per truncated back-propagation; 1 in the paper."""
    trained: Literal["each", "last", "drawn"] = "each"
    """Which iterations have a loss. each: all, as in the paper. last: the last of each `through`
    iterations. drawn: one drawn per batch, after those before it have run without a gradient, so that
    every optimiser step uses a fresh batch."""
    one_stage_first: Share = 0.0
    """Share of the batches, at the beginning, trained with one iteration at TL1."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name not in APPROACHES:
            raise ValueError(f"unknown approach {name!r}; choose one of {', '.join(sorted(APPROACHES))}")
        return name

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.levels or any(n < 3 or n % 2 == 0 or n > FRAMES for n in self.levels):
            raise ValueError(f"levels must be odd numbers from 3 to {FRAMES}, at least one")
        for key in _SHARED:
            users = [name for name, kind in APPROACHES.items() if key in _options(kind)]
            if self.name not in users and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is for {', '.join(users)}, not {self.name}: remove {key}")
        if self.iterations and self.extra != type(self).model_fields["extra"].default:
            raise ValueError(
                "extra does not apply to a fixed number of iterations: remove extra or iterations"
            )
        if self.trained == "last" and self.through == 1:
            raise ValueError("trained: last needs through of 2 or more")
        if self.trained == "drawn" and self.through > 1:
            raise ValueError("trained: drawn does not work with through: remove through")
        base = self._base()
        if len(base.starts) > 1 and (self.through > 1 or not self.sharing or self.trained == "drawn"):
            raise ValueError(
                f"{self.name} trains its networks one after the other: remove through, sharing and trained"
            )
        steps = {(goal.scale, goal.network) for plan, _ in plans(base, self.levels) for goal in plan}
        if self.one_stage_first and (steps != {(1, 0)} or not self.sharing):
            raise ValueError(
                "one_stage_first needs one network at full resolution: choose multi_temporal or one_stage"
            )
        return self

    @property
    def networks(self) -> int:
        """Number of networks that the approach needs."""
        return 1 + max(goal.network for plan, _ in plans(self.build(), self.levels) for goal in plan)

    @property
    def temporal(self) -> bool:
        """Whether any goal is at a temporal level above TL1."""
        return any(goal.level > 1 for plan, _ in plans(self.build(), self.levels) for goal in plan)

    def build(self) -> Approach:
        """The configured approach."""
        approach = self._base()
        if not self.sharing:
            approach = SeparateWeights(approach, max(len(plan) for plan, _ in plans(approach, self.levels)))
        if self.through > 1:
            approach = TruncatedBackPropagation(approach, self.through, last=self.trained == "last")
        if self.trained == "drawn":
            approach = DrawnIteration(approach)
        return OneStageFirst(approach, self.one_stage_first) if self.one_stage_first else approach

    def _base(self) -> Approach:
        kind = APPROACHES[self.name]
        values = {key: getattr(self, key) for key in _SHARED if key in _options(kind)}
        shared = {key: value for key, value in values.items() if value is not None}
        return _checked(kind, shared | self.options) if self.options else kind(**shared)


_SHARED = ("step", "extra", "iterations", "maximum")  # options with a key in this section


def _options(kind: type[Approach]) -> set[str]:
    return {option.name for option in fields(cast("Any", kind))}


class DataConfig(Section):
    """The training data; paths are relative to the working directory."""

    pack: Path | None = None
    """A training pack, see `mtdeblur pack`."""
    photos: tuple[Path, ...] = ()
    """Folders of sharp photographs, in place of a pack; the run packs them in its folder."""
    dataset: Path | None = None
    """A data set on disk, in place of a pack: ladders of a temporal data set, or pairs. Its pictures are
    used as they are; the settings below for making exposures have no effect."""
    cache: Path | None = None
    """Folder on a fast disk for decoded pictures, shared by runs: 3 bytes a pixel, and many times faster
    to read. If None, up to 2 GiB of them are kept in memory."""
    patch: Annotated[int, Field(ge=16)] = 256
    batch: Positive = 16
    """Batch size, over all processes. The paper does not state it: 16 is assumed."""
    reuse: Positive = 1
    """Number of random crops, flips and rotations of an exposure before it is replaced."""
    pool: Positive = 8
    """Exposures held in memory for each place of the batch."""
    clips: Share = 0.25
    """Share of the exposures made from the pack's real high-speed frames, if it has any."""
    pairs: Share = 0.25
    """Share of the batches made of the pack's real pairs, if it has any. Pairs have no levels between
    the blurred and the sharp picture: every iteration on them aims at TL1."""
    gamma: Share = 0.5
    """Share of the exposures averaged in gamma-2.2 linear light; the rest as stored (GoPro's blur/)."""
    enlarge: tuple[Factor, Factor] = (1.0, 2.0)
    """Smallest and largest enlargement of photographs, because a camera's frames are softer."""
    highlights: Share = 0.0
    """Share of the photographs with highlights brighter than white, up to three stops: the sensor clips
    them after the exposure, so they smear into bright trails."""
    motion: Motion = Motion()
    sensor: Sensor = Sensor()

    def exposures(self) -> Exposures:
        """Settings of the exposures."""
        return Exposures(
            self.motion, self.sensor, self.clips, self.gamma, self.enlarge, self.pairs, self.highlights
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("pack", "photos", "dataset") if getattr(self, name)]
        if not given:
            raise ValueError(
                "nothing to train on; give sharp photographs (--photos FOLDER or data.photos), a training "
                "pack (--pack FILE or data.pack) or a data set (--dataset FOLDER or data.dataset)"
            )
        if len(given) > 1:
            raise ValueError(f"give only one of {' and '.join(given)}")
        if self.enlarge[0] > self.enlarge[1]:
            raise ValueError("enlarge must be the smallest and the largest factor, in that order")
        return self


class AdversarialConfig(Section):
    """DeblurGAN-v2's losses, see `mtdeblur.training.adversarial`."""

    weight: Annotated[float, Field(gt=0)] = 0.001
    """Lambda, the weight of the adversarial loss relative to the content loss."""
    vgg19: Path | None = None
    """ImageNet weights of VGG19 in torchvision's layout, for the perceptual part of the content loss;
    None leaves it out."""


class OptimiserConfig(Section):
    """Optimiser and learning-rate schedule; `RECIPES` supply the missing values."""

    name: Literal["adam", "adamw"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batches: Positive = 92_000
    """Length of the run. The paper's "iteration" is assumed to be a batch."""
    schedule: Literal["halve", "cosine"] = "halve"
    halve_every: Positive = 46_000
    warmup: Annotated[int, Field(ge=0)] = 0
    """Warm-up of the learning rate, in batches."""
    final: Annotated[float, Field(ge=0)] = 1e-6
    """Learning rate at the end of the cosine."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Gradient clipping: the maximum norm."""
    ema: Decay | None = None
    """Decay per batch of the exponential moving average of the weights, which is then validated."""
    loss: Literal["l1", "log_l1"] = "l1"
    """Loss of each iteration: the paper's L1, or the logarithm of each sample's L1, which gives more
    weight to mild blur."""
    frequency: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the frequency loss relative to the pixel loss, see `losses.frequency_l1`."""
    adversarial: AdversarialConfig | None = None
    """Content and adversarial loss in place of that loss."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """float32 allows TF32 on GPUs; bfloat16 keeps weights and optimiser state in float32."""
    zero_last: bool = False
    """Initialise the network's last convolution to zero if it writes a residual, so that training starts
    at the identity."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.schedule == "cosine" and self.final > self.learning_rate:
            raise ValueError(f"final ({self.final}) is above learning_rate ({self.learning_rate})")
        if self.name == "adam" and self.weight_decay:
            raise ValueError("weight_decay is for adamw: set name to adamw or remove weight_decay")
        for name in ("loss", "frequency"):
            if self.adversarial and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} does not work with adversarial: remove one of them")
        return self


class ValidationConfig(Section):
    """Validation during training; a run is also validated at its end."""

    every: Positive = 1000
    """Batches between two validations."""
    iterations: Positive = 6
    photos: Annotated[int, Field(ge=0)] = 12
    """Maximum number of held-out photographs."""


class TrainingConfig(Section):
    """Configuration of a run, from a file (`mtdeblur.training.config_file`) or created in Python."""

    recipe: Literal["paper", "modern"] = "paper"
    """The one of `RECIPES` with the default values of the optimiser section."""
    seed: Annotated[int, Field(ge=0)] = 0
    network: NetworkConfig = NetworkConfig()
    approach: ApproachConfig = ApproachConfig()
    data: DataConfig
    optimiser: OptimiserConfig = OptimiserConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 5.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {name: getattr(self.optimiser, name) for name in self.optimiser.model_fields_set}
        complete = OptimiserConfig(**RECIPES[self.recipe] | given)
        object.__setattr__(self, "optimiser", complete)  # the model is frozen
        if self.optimiser.adversarial and self.approach.through > 1:
            raise ValueError("optimiser.adversarial needs approach.through of 1")
        return self


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
