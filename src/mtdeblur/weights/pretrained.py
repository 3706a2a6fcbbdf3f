"""Folders of models as the Hugging Face Hub has them: weights, description, model card, licence."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml

from mtdeblur.errors import UserError, one_line, require
from mtdeblur.files.atomic import reason, write_atomically
from mtdeblur.weights.catalogue import find_weights
from mtdeblur.weights.description import CONFIG, ModelDescription, describe
from mtdeblur.weights.exported.manifest import is_export
from mtdeblur.weights.foreign import is_foreign, load_foreign
from mtdeblur.weights.hub import WEIGHTS
from mtdeblur.weights.store import save_network

LEGAL = ("LICENSE", "NOTICE")
_TAGS = ("image-to-image", "deblurring", "image-restoration")


def legal_files(path: Path) -> dict[str, Path]:
    """The licence and the notice beside a weights file, by their names of `LEGAL`."""
    start = "" if path.name == WEIGHTS else f"{path.stem}."
    found = {name: path.with_name(f"{start}{name}") for name in LEGAL}
    return {name: file for name, file in found.items() if file.is_file()}


def save_pretrained(weights: str | Path, folder: str | Path, repo: str = "OWNER/NAME") -> Path:
    """Write weights as a folder that `mtdeblur.load` and `Deblurrer.from_pretrained` take.

    The folder gets `model.safetensors`, `config.json` (see `ModelDescription`), `README.md`, the model card,
    and the licence and the notice that lie beside the weights. A model card that is there is kept.

    Args:
        weights: as for `mtdeblur.load`, but not an export.
        folder: is made if it does not exist; other files of these names are replaced.
        repo: the model's name on the Hub, for the model card.

    Returns:
        The folder.

    Raises:
        UserError: if there are no such weights, or the folder cannot be written.
    """
    path, folder = find_weights(weights), Path(folder).expanduser()
    if is_export(path):
        raise UserError(f"{path} is an export, which has no tensors: give the weights that it was made from")
    description = describe(weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_foreign(path):
            save_network(folder / WEIGHTS, load_foreign(path), dtype=torch.float32)
        elif path.resolve() != (folder / WEIGHTS).resolve():
            write_atomically(folder / WEIGHTS, path.read_bytes())
        for name, file in legal_files(path).items():
            if file.parent.resolve() != folder.resolve():
                shutil.copyfile(file, folder / name)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {reason(error)}") from error
    write_atomically(folder / CONFIG, (description.model_dump_json(indent=2) + "\n").encode())
    card = folder / "README.md"
    if not card.exists():
        write_atomically(card, model_card(description, repo, _own_card(path)).encode())
    return folder


def push_to_hub(
    weights: str | Path,
    repo: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    message: str = "Upload a model of mtdeblur",
) -> str:
    """Upload the folder of `save_pretrained` to the Hugging Face Hub, in one commit.

    Args:
        weights: as for `save_pretrained`.
        repo: `OWNER/NAME`; it is made if it does not exist.
        private: of a new repository; None for the owner's default.
        token: as for `huggingface_hub`; None for that of `hf auth login`.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        UserError: as `save_pretrained` does, or if huggingface_hub is not installed or the upload fails.
    """
    hub: Any = require("huggingface_hub", "hub", what="uploading a model")
    with TemporaryDirectory() as folder:
        save_pretrained(weights, folder, repo)
        api = hub.HfApi(token=token, library_name="mtdeblur")
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
        except Exception as error:  # those of huggingface_hub and of the HTTP library that it happens to use
            raise UserError(f"cannot upload the model {repo}: {one_line(error)}") from error
    return str(commit.commit_url)


def model_card(description: ModelDescription, repo: str = "OWNER/NAME", own: str = "") -> str:
    """A model card in Markdown, with the Hub's front matter.

    Args:
        description: of the model.
        repo: its name on the Hub.
        own: a card that the weights have already, without front matter; it comes last.
    """
    licence = _hub_licence(description.licence)
    front: dict[str, Any] = {"license": licence} if licence else {}
    if licence == "other":
        front["license_name"] = description.licence
    front |= {
        "library_name": description.library_name,
        "pipeline_tag": "image-to-image",
        "tags": [*_TAGS, description.architecture],
    }
    facts = {
        "Purpose": description.purpose,
        "Network": f"{description.architecture}, {description.approach}",
        "Original": description.original,
        "Parameters": f"{description.parameters:,}",
        "Steps": description.iterations,
        "Licence of the weights": description.licence or "not stated",
        "Training data": "; ".join(description.training_data),
    }
    rows = "".join(f"| {name} | {value} |\n" for name, value in facts.items() if value)
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n"
        f"# {description.name}\n\n"
        f"A model of mtdeblur for {description.purpose}.\n\n"
        f"| | |\n| --- | --- |\n{rows}\n"
        "```python\n"
        "import mtdeblur\n"
        "from PIL import Image\n\n"
        f'deblurrer = mtdeblur.Deblurrer.from_pretrained("{repo}")\n'
        'deblurrer(Image.open("blurred.jpg")).save("sharper.png")\n'
        "```\n\n"
        f"On the command line: `mtdeblur deblur PHOTO --weights hf:{repo}`.\n"
        + own.removeprefix(f"# {description.name}\n")
    )


def _hub_licence(licence: str | None) -> str | None:
    """The Hub's identifier of a licence: SPDX in lower case, or "other" for words."""
    if licence is None or " " in licence:
        return None if licence is None else "other"
    return licence.lower()


def _own_card(path: Path) -> str:
    """The card beside a weights file, without front matter; empty if it has none."""
    card = path.with_suffix(".md")
    if path.name == WEIGHTS or not card.is_file():
        return ""
    return card.read_text(encoding="utf-8")
