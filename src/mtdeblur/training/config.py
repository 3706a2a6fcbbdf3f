"""Settings of a training run, in checked sections; `mtdeblur.training.config_file` reads them from YAML."""

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
    """A part of the configuration; unknown keys are refused and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _checked(kind: type, options: dict[str, Any]) -> Any:
    """A dataclass with these options, checked as strictly as a section.

    Raises:
        ValidationError: if an option does not exist or has a wrong type or value.
    """
    section = create_model("Options", __base__=Section, options=(kind, ...))
    checked: Any = section.model_validate_json(json.dumps({"options": options}))
    return checked.options


class NetworkConfig(Section):
    """Which network, and with which options of its own config dataclass."""

    name: str = "mtrnn"
    options: dict[str, Any] = {}
    later: dict[str, Any] = {}
    """Options in which the second and further networks differ, for approaches that have several."""
    weights: Path | None = None
    """Weights to start from; otherwise fresh ones."""
    backbone: Path | None = None
    """ImageNet weights of MobileNetV2 in torchvision's layout, for the backbone of deblurgan_v2; without them
    it starts at random."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name not in NETWORKS:
            raise ValueError(f"there is no network {self.name!r}; there are {', '.join(sorted(NETWORKS))}")
        if self.weights and self.backbone:
            raise ValueError("give either weights or backbone, not both")
        self.checked_options()
        return self

    def checked_options(self, number: int = 0) -> dict[str, Any]:
        """Every option of the network with that number, those that are not given at their defaults.

        Raises:
            ValidationError: if an option does not exist or has a wrong type.
        """
        given = self.options | self.later if number else self.options
        return asdict(_checked(NETWORKS[self.name].config, given))


class ApproachConfig(Section):
    """The plan of goals (Fig. 1 and Section 4.1), and which of them are trained."""

    name: str = "multi_temporal"
    """One of `mtdeblur.approaches.APPROACHES`."""
    levels: tuple[int, ...] = (7, 9, 11, 13)
    """Temporal levels of the inputs, one drawn per batch."""
    step: int = 2
    """Temporal step TS; for multi_temporal and multi_scale_temporal."""
    extra: tuple[int, int] = (1, 3)
    """Fewest and most further iterations that aim at TL1, drawn per batch; for the same."""
    iterations: Positive | None = None
    """A fixed number of iterations in place of extra; by default 1 for one_stage, 3 for stacked."""
    maximum: Positive = MAXIMUM_ITERATIONS
    """Every plan is cut here (before it is crossed with the scales); for the same as extra."""
    options: dict[str, Any] = {}
    """Further options of the approach's own class."""
    sharing: bool = True
    """Whether iterations share their weights; without, each has a network of its own (Section 6)."""
    through: Positive = 1
    """How many iterations are back-propagated through together; the paper's are trained one by one."""
    trained: Literal["each", "last", "drawn"] = "each"
    """Which iterations have a loss. each: all, as in the paper. last: the last of those that `through` takes
    together. drawn: one drawn per batch, after those before it have run without a gradient, so that every
    step of the optimiser sees a fresh batch."""
    one_stage_first: Share = 0.0
    """Share of the batches, those at the beginning, that are trained with one iteration that aims at TL1."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name not in APPROACHES:
            raise ValueError(f"there is no approach {name!r}; there are {', '.join(sorted(APPROACHES))}")
        return name

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.levels or any(n < 3 or n % 2 == 0 or n > FRAMES for n in self.levels):
            raise ValueError(f"levels must be odd numbers from 3 to {FRAMES}, at least one")
        for key in _SHARED:
            users = [name for name, kind in APPROACHES.items() if key in _options(kind)]
            if self.name not in users and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is for {', '.join(users)}, not {self.name}: leave {key} out")
        if self.iterations and self.extra != type(self).model_fields["extra"].default:
            raise ValueError("extra is for plans without a fixed number of iterations: leave one of them out")
        if self.trained == "last" and self.through == 1:
            raise ValueError(
                "trained: last needs iterations that are back-propagated through together (through)"
            )
        if self.trained == "drawn" and self.through > 1:
            raise ValueError("trained: drawn is for iterations trained one by one: leave through out")
        base = self._base()
        if len(base.starts) > 1 and (self.through > 1 or not self.sharing or self.trained == "drawn"):
            raise ValueError(
                f"{self.name} trains its networks one after the other: leave through, sharing and trained out"
            )
        whole = {(goal.scale, goal.network) for plan, _ in plans(base, self.levels) for goal in plan}
        if self.one_stage_first and (whole != {(1, 0)} or not self.sharing):
            raise ValueError("one_stage_first is for one network at full size: multi_temporal or one_stage")
        return self

    @property
    def networks(self) -> int:
        """How many networks the approach needs."""
        return 1 + max(goal.network for plan, _ in plans(self.build(), self.levels) for goal in plan)

    @property
    def temporal(self) -> bool:
        """Whether goals lie at temporal levels above TL1."""
        return any(goal.level > 1 for plan, _ in plans(self.build(), self.levels) for goal in plan)

    def build(self) -> Approach:
        """The approach with its variants."""
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


_SHARED = ("step", "extra", "iterations", "maximum")  # options that have a key of their own


def _options(kind: type[Approach]) -> set[str]:
    return {option.name for option in fields(cast("Any", kind))}


class DataConfig(Section):
    """What is trained on; paths are relative to the working directory."""

    pack: Path | None = None
    """A training pack, see `mtdeblur pack`."""
    photos: tuple[Path, ...] = ()
    """Folders of sharp photographs, in place of a pack: one is made of them in the run's folder."""
    dataset: Path | None = None
    """A data set on disk, in place of a pack: ladders of a temporal data set, or pairs. Its pictures are used
    as they are: what is said below on how exposures are made has no effect."""
    cache: Path | None = None
    """Folder on a fast disk that keeps pictures decoded, for this run and others: 3 bytes a pixel, and many
    times faster to read. Without it, up to 2 GiB of them are kept in memory."""
    patch: Annotated[int, Field(ge=16)] = 256
    batch: Positive = 16
    """Patches of a batch over all processes. The paper does not state it: 16 is assumed."""
    reuse: Positive = 1
    """How many times an exposure is cropped, flipped and turned before another takes its place."""
    pool: Positive = 8
    """Exposures that each place of the batch holds at a time."""
    clips: Share = 0.25
    """Share of the exposures made from the pack's real high-speed frames, where it has some."""
    pairs: Share = 0.25
    """Share of the batches that hold the pack's real pairs, where it has some. Their levels between the
    blurred and the sharp picture do not exist, so every iteration on them aims at TL1."""
    gamma: Share = 0.5
    """Share of the exposures averaged in gamma-2.2 linear light, the rest as stored (as GoPro's blur/)."""
    enlarge: tuple[Factor, Factor] = (1.0, 2.0)
    """Smallest and largest factor by which photographs are enlarged: a camera's frames are softer."""
    highlights: Share = 0.0
    """Share of the photographs whose highlights are brighter than white, up to three stops: the sensor clips
    them after the exposure, so that they smear into bright trails."""
    motion: Motion = Motion()
    sensor: Sensor = Sensor()

    def exposures(self) -> Exposures:
        """How exposures are made."""
        return Exposures(
            self.motion, self.sensor, self.clips, self.gamma, self.enlarge, self.pairs, self.highlights
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("pack", "photos", "dataset") if getattr(self, name)]
        if not given:
            raise ValueError(
                "there is nothing to train on; give sharp photographs (--photos FOLDER or data.photos), "
                "a training pack (--pack FILE or data.pack) or a data set (--dataset FOLDER or data.dataset)"
            )
        if len(given) > 1:
            raise ValueError(f"give one of {' and '.join(given)}, not more")
        if self.enlarge[0] > self.enlarge[1]:
            raise ValueError("enlarge must be the smallest and the largest factor, in that order")
        return self


class AdversarialConfig(Section):
    """DeblurGAN-v2's losses, see `mtdeblur.training.adversarial`."""

    weight: Annotated[float, Field(gt=0)] = 0.001
    """Of the adversarial loss beside the content loss, lambda."""
    vgg19: Path | None = None
    """ImageNet weights of VGG19 in torchvision's layout, for the perceptual part of the content loss; without
    them it is left out."""


class OptimiserConfig(Section):
    """Optimiser and schedule; both recipes of `RECIPES` fill in what is not given."""

    name: Literal["adam", "adamw"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
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
    ema: Decay | None = None
    """Decay per batch of the exponential moving average of the weights, which is then what is validated."""
    loss: Literal["l1", "log_l1"] = "l1"
    """Of each iteration: the paper's L1, or its logarithm for each sample, so that mild blur counts too."""
    frequency: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the distance in frequency space beside that of pixels, see `losses.frequency_l1`."""
    adversarial: AdversarialConfig | None = None
    """In place of that loss: content and adversarial loss, with discriminators that learn alongside."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """float32 lets GPUs multiply in TF32; bfloat16 keeps the weights and their steps in float32."""
    zero_last: bool = False
    """Start the network's last convolution at zero where training then starts at the identity."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.schedule == "cosine" and self.final > self.learning_rate:
            raise ValueError(f"final ({self.final}) is above learning_rate ({self.learning_rate})")
        if self.name == "adam" and self.weight_decay:
            raise ValueError("weight_decay is for adamw")
        for name in ("loss", "frequency"):
            if self.adversarial and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is for training without adversarial")
        return self


class ValidationConfig(Section):
    """When and how the network is measured while it trains; the end of a run is measured as well."""

    every: Positive = 1000
    """Batches between two validations."""
    iterations: Positive = 6
    photos: Annotated[int, Field(ge=0)] = 12
    """Held-out photographs in use."""


class TrainingConfig(Section):
    """A whole run, from a file (`mtdeblur.training.config_file`) or made in Python."""

    recipe: Literal["paper", "modern"] = "paper"
    """Which of `RECIPES` gave the optimiser what the file left open."""
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
        whole = OptimiserConfig(**RECIPES[self.recipe] | given)
        object.__setattr__(self, "optimiser", whole)  # what the recipe says where nothing is given
        if self.optimiser.adversarial and self.approach.through > 1:
            raise ValueError("optimiser.adversarial learns after every iteration: approach.through is 1")
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
