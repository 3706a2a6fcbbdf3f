"""The catalogue of weights: `catalogue.json` describes the file of each name.

To add weights, add a file (or a hub address) and an entry there; the code needs no change.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtdeblur.errors import UserError, one_line, require
from mtdeblur.weights.foreign import checkpoint_files, is_foreign
from mtdeblur.weights.hub import HUB, WEIGHTS, fetch

Quality = Literal["fast", "good", "best"]
"""Choices of weights and steps by quality."""
QUALITIES: tuple[Quality, ...] = get_args(Quality)
DEFAULT: Quality = "good"

HERE = Path(__file__).parent
FILES = HERE / "files"


class HubFile(BaseModel):
    """A file of a repository on the Hugging Face hub, at a fixed revision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    file: str
    revision: str


class Measurement(BaseModel):
    """One measured figure, in dB of PSNR over RGB, averaged over the pictures of a set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    iterations: int = Field(ge=1)
    psnr: float
    psnr_blurred: float


class Stopping(BaseModel):
    """Thresholds of early stopping, calibrated for each weights file by `benchmarks/stopping.py`.

    The defaults are those of weights without a calibration; they stop late.

    Attributes:
        change: root mean square of a step's change of a part of the picture, for values in [0, 1]; below it,
            the part is done. 0: never.
        share: for networks that run over windows, how much of a change motion blur must explain: up to the
            first share nothing of the change is kept, from the second on all of it, and in between a part,
            see `mtdeblur.inference.stopping`. None: every change is kept whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    change: float = Field(default=0.001, ge=0)
    share: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "Stopping":
        if self.share is not None and not 0 <= self.share[0] < self.share[1] <= 1:
            raise ValueError(f"the shares must rise from 0 to 1, not {self.share}")
        return self


class Weights(BaseModel):
    """An entry of the catalogue.

    Attributes:
        file: the file's name inside the package, or None.
        hub: its hub address, or None; exactly one of the two is given.
        sha256: of the file, in hexadecimal.
        network: name of the registered network.
        licence: of the weights, an SPDX identifier.
        training_data: one item a source.
        quality: measured figures.
        stopping: thresholds of early stopping, which is then the default; None if they are not calibrated.
        offers: qualities that select these weights, with their numbers of steps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str | None = None
    hub: HubFile | None = None
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    network: str
    licence: str
    training_data: tuple[str, ...]
    quality: tuple[Measurement, ...] = ()
    stopping: Stopping | None = None
    offers: dict[Quality, int] = {}

    @model_validator(mode="after")
    def _one_place(self) -> "Weights":
        if (self.file is None) == (self.hub is None):
            raise ValueError("give either a file or a hub address")
        return self


@cache
def catalogue() -> dict[str, Weights]:
    """All entries by name.

    Raises:
        ValueError: if the catalogue is malformed.
    """
    raw: dict[str, Any] = json.loads((HERE / "catalogue.json").read_text(encoding="utf-8"))
    entries = {name: Weights.model_validate(entry) for name, entry in raw.items()}
    for quality in QUALITIES:
        if sum(quality in entry.offers for entry in entries.values()) != 1:
            raise ValueError(f"exactly one entry of the catalogue offers the quality {quality!r}")
    return entries


def offered(quality: Quality = DEFAULT) -> tuple[str, int]:
    """Name of the weights of a quality, and their number of steps."""
    return next(
        (name, entry.offers[quality]) for name, entry in catalogue().items() if quality in entry.offers
    )


def find_weights(source: str | Path | None = None) -> Path:
    """The weights file or folder of a name or path, downloaded if necessary.

    Args:
        source: a name of the catalogue, the path of a file or folder, the path prefix of a TensorFlow
            checkpoint, `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION` for a model on the Hugging Face Hub, or
            None for the default weights.

    Raises:
        UserError: if there is no such name or file, it cannot be downloaded, or its checksum differs from the
            catalogue's.
    """
    entries = catalogue()
    if source is None:
        source, _ = offered()
    if isinstance(source, str) and source in entries:
        return _fetch(source, entries[source])
    path = fetch(str(source)) if str(source).startswith(HUB) else Path(source).expanduser()
    inside = path / WEIGHTS
    if inside.is_file() and not is_foreign(inside):  # the folder of `mtdeblur.weights.pretrained`
        return inside
    if not path.exists() and not checkpoint_files(path):
        raise UserError(
            f"there are no weights {str(source)!r}: give a file, a folder, hf:OWNER/NAME, or one of "
            f"{', '.join(entries)}"
        )
    return path


def _fetch(name: str, entry: Weights) -> Path:
    path = _download(name, entry.hub) if entry.hub else FILES / str(entry.file)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read the weights {name!r}: {error}") from None
    if digest != entry.sha256:
        raise UserError(f"{path} is not the weights file {name!r}: its sha256 is {digest}")
    return path


def _download(name: str, place: HubFile) -> Path:
    hub = require("huggingface_hub", "hub", what=f"downloading the weights {name!r}")
    try:
        return Path(hub.hf_hub_download(place.repo, place.file, revision=place.revision))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot download the weights {name!r} from {place.repo}: {one_line(error)}"
        ) from None
