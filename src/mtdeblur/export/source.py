"""Where exported weights come from: their hash, licence and notices."""

import shutil
from pathlib import Path

from mtdeblur.errors import UserError
from mtdeblur.files.atomic import reason
from mtdeblur.weights.catalogue import DEFAULT, catalogue, offered
from mtdeblur.weights.description import published
from mtdeblur.weights.exported.manifest import Manifest, Source, sha256
from mtdeblur.weights.foreign import checkpoint_files
from mtdeblur.weights.pretrained import legal_files


def describe(weights: str | Path | None, path: Path, original: str | None) -> Source:
    """Describe weights.

    Args:
        weights: as given by the user.
        path: of the file or folder.
        original: see `Contract.original`.

    Raises:
        UserError: if a file cannot be read.
    """
    try:
        digest = sha256(checkpoint_files(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    for name, entry in catalogue().items():
        if entry.sha256 == digest:  # also under another name
            return Source(name=name, sha256=digest, licence=entry.licence, training_data=entry.training_data)
    known = published(path)
    name = known.name or (offered(DEFAULT)[0] if weights is None else Path(weights).name)
    licence = known.licence or original
    return Source(name=name, sha256=digest, licence=licence, training_data=known.training_data)


def copy_licences(path: Path, folder: Path, manifest: Manifest) -> None:
    """Copy the licence and the notice beside a weights file; the notice also tells of the export."""
    for name, file in legal_files(path).items():
        shutil.copyfile(file, folder / name)
    notice = folder / "NOTICE"
    if notice.is_file():
        change = (
            f"\nFurther changes: mtdeblur {manifest.program} converted the parameters to float32 and stored "
            f"them in computation graphs for the target {manifest.target}.\n"
        )
        notice.write_text(notice.read_text(encoding="utf-8") + change, encoding="utf-8")
