"""Models on the Hugging Face Hub: the download, of safetensors alone."""

import re
from pathlib import Path
from typing import Any

from mtdeblur.errors import UserError, one_line, require
from mtdeblur.weights.tensors import is_safetensors

HUB = "hf:"
"""Prefix of the names of models on the Hub."""
WEIGHTS = "model.safetensors"
"""File of the weights in a model's repository or folder."""

_FILES = [WEIGHTS, "config.json", "LICENSE", "NOTICE"]
_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def fetch(source: str, token: str | bool | None = None) -> Path:
    """Download a model, or find it in the cache of `huggingface_hub`.

    Args:
        source: `hf:OWNER/NAME`, or `hf:OWNER/NAME@REVISION` for a branch, tag or commit; `hf:` may be left
            out.
        token: as for `huggingface_hub`.

    Returns:
        The folder with `WEIGHTS` and, if the model has them, its description and licence. Nothing else is
        downloaded.

    Raises:
        UserError: if huggingface_hub is not installed, there is no such model, it has no safetensors, or it
            cannot be downloaded.
    """
    address = _REPOSITORY.fullmatch(source.removeprefix(HUB))
    if address is None:
        raise UserError(
            f"{source!r} is no model on the Hugging Face Hub: write hf:OWNER/NAME, or with @REVISION"
        )
    repo, revision = address.groups()
    hub: Any = require("huggingface_hub", "hub", what=f"downloading {repo}")
    errors: Any = require("huggingface_hub.errors", "hub", what=f"downloading {repo}")
    try:
        folder = hub.snapshot_download(repo, revision=revision, allow_patterns=_FILES, token=token)
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"there is no model {repo} on the Hugging Face Hub, or it needs a token: hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"the model {repo} has no revision {revision}") from error
    except Exception as error:  # those of huggingface_hub and of the HTTP library that it happens to use
        raise UserError(f"cannot download the model {repo}: {one_line(error)}") from error
    path = Path(folder, WEIGHTS)
    if not path.is_file() or not is_safetensors(path):
        raise UserError(f"the model {repo} has no {WEIGHTS}, and mtdeblur loads nothing else from the Hub")
    return path.parent
