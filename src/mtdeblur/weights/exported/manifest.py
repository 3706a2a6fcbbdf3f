"""The manifest of an export, `export.json`: its files, where they come from and how they were checked."""

import hashlib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from mtdeblur.errors import UserError, one_line
from mtdeblur.networks.contract import Contract
from mtdeblur.networks.unroll import MOST_STEPS, Step

NAME = "export.json"
FORMAT = "mtdeblur-export-1"

Target = Literal["onnx", "openvino", "torch"]
FileName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_STRICT = ConfigDict(extra="forbid", frozen=True)
_FACTS: dict[str, Any] = {
    fact.name: (fact.type, ... if fact.default is MISSING else fact.default)
    for fact in fields(Contract)
    if fact.name not in ("tail", "backbone")
}
Facts: type[BaseModel] = create_model("Facts", __config__=_STRICT, **_FACTS)
"""The fields of a `Contract` without its layers."""


class Member(BaseModel):
    """A network of the model.

    Attributes:
        contract: facts of the network.
        first: file of its step without a state, as in a first step; None if not exported.
        next: file of its step after a step that returned a state; None if not exported.
        state: names of the maps of its state.
        bytes_a_pixel: memory of a step, as PyTorch needs it; runtimes need about as much.
    """

    model_config = _STRICT

    contract: Facts  # pyright: ignore[reportInvalidTypeForm, reportUnknownVariableType]
    first: FileName | None = None
    next: FileName | None = None
    state: tuple[str, ...] = ()
    bytes_a_pixel: float = 0.0

    def facts(self) -> Contract:
        """The contract."""
        facts: dict[str, Any] = self.model_dump(include={"contract"})["contract"]
        return Contract(**facts)


class Source(BaseModel):
    """The weights that were exported.

    Attributes:
        name: of the weights.
        sha256: of their file; of several files, of their contents joined in the order of their names.
        licence: of the weights, if known: an SPDX identifier, or the original program's in words.
        training_data: one item a source, if known.
    """

    model_config = _STRICT

    name: str
    sha256: Hash
    licence: str | None = None
    training_data: tuple[str, ...] = ()


class Difference(BaseModel):
    """The measured difference between the export in its runtime and PyTorch in float32.

    Attributes:
        file: the unrolled graph, or None for the steps.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        iterations: number of steps; the figures are those of the worst step.
        max_abs: largest absolute difference of a value; a picture's range is 0 to 1.
        psnr: in dB; None if there is no difference.
    """

    model_config = _STRICT

    file: FileName | None = None
    height: int
    width: int
    iterations: int
    max_abs: float
    psnr: float | None


class Manifest(BaseModel):
    """The content of `export.json`.

    Attributes:
        format: mark of the format.
        program: version of mtdeblur.
        target: format of the graphs.
        packages: versions of the packages that wrote and ran them.
        network: name of the registered network.
        options: of each network of the model; usually one.
        source: the weights.
        steps: the steps at test time, each a scale and the number of a member.
        members: the networks of the model.
        unrolled: file of the graph of all steps, from the picture to all estimates, or None.
        measured: the differences measured before the export was kept.
        files: SHA-256 of each file.
    """

    model_config = _STRICT

    format: Literal["mtdeblur-export-1"] = FORMAT
    program: str
    target: Target
    packages: dict[str, str]
    network: str
    options: tuple[dict[str, Any], ...]
    source: Source
    steps: tuple[Step, ...] = Field(min_length=1)
    members: tuple[Member, ...] = Field(min_length=1)
    unrolled: FileName | None = None
    measured: tuple[Difference, ...] = ()
    files: dict[FileName, Hash] = {}

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        """Check that every step has a scale and names a member."""
        facts, several = self.members[0].facts(), len(self.members) > 1
        own = [Step(scale, number if several else 0) for number, scale in enumerate(facts.scales)]
        for scale, network in (*self.steps, *own):
            if scale < 1 or not 0 <= network < len(self.members):
                raise ValueError(f"there is no step of member {network} at scale {scale}")
        if not 1 <= max(facts.iterations, len(self.steps)) <= MOST_STEPS:
            raise ValueError(f"{max(facts.iterations, len(self.steps))} are too many steps")
        return self


def is_export(path: Path) -> bool:
    """Whether a path is a folder with a manifest."""
    return (path / NAME).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an export.

    Raises:
        UserError: if it is missing or damaged, or of another version's format.
    """
    try:
        return Manifest.model_validate_json((folder / NAME).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "steps"
        raise UserError(f"cannot read the export {folder}: {NAME}: {place}: {first['msg']}") from None
    except OSError as error:
        raise UserError(f"cannot read the export {folder}: {one_line(error)}") from None


def parts(folder: Path) -> list[Path]:
    """The files of an export, sorted by name."""
    return sorted([folder / NAME, *(folder / name for name in read_manifest(folder).files)])


def check_files(folder: Path, manifest: Manifest) -> None:
    """Check that the files are those that were exported.

    Raises:
        UserError: if a file is missing or has other content.
    """
    for name, expected in manifest.files.items():
        try:
            found = sha256([folder / name])
        except OSError as error:
            raise UserError(f"cannot read the export {folder}: {one_line(error)}") from None
        if found != expected:
            raise UserError(
                f"the export {folder} is damaged: {name} is not the file that was exported; export it again"
            )


def sha256(files: list[Path]) -> str:
    """SHA-256 of the joined contents of files.

    Raises:
        OSError: if one cannot be read.
    """
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
