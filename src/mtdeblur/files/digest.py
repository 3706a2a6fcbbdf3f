"""Fingerprints of inputs, by which a resumed job recognises them."""

import hashlib
from pathlib import Path

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import reason


def fingerprint(path: Path) -> str:
    """The SHA-256 of a file, or of the names and contents of all files in a folder, in hexadecimal.

    Args:
        path: a file, a folder, or a prefix of files, as of a TensorFlow checkpoint.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.name}*")
        whole = hashlib.sha256()
        for file in sorted(file for file in files if file.is_file()):
            whole.update(f"{file.relative_to(path.parent)}\0{fingerprint(file)}\0".encode())
        return whole.hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
