"""ZIP archives, which may be damaged."""

import struct
import zipfile

DAMAGED = (zipfile.BadZipFile, struct.error, EOFError, ValueError, RuntimeError)
"""What `zipfile` raises for a damaged archive, besides OSError."""
