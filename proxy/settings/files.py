"""Reading small files for the settings. Errors never repeat a path's content."""

import os
from pathlib import Path


def read_text(file: Path, bytes_max: int) -> str:
    """The file's text. Raises ValueError saying why it cannot be used."""
    try:
        with file.open("rb") as stream:
            data = stream.read(bytes_max + 1)
    except OSError as error:
        raise ValueError(f"cannot read the file: {os.strerror(error.errno or 0)}") from None
    if len(data) > bytes_max:
        raise ValueError(f"the file is larger than {bytes_max} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8 text") from None


def why_unreadable(file: Path) -> str | None:
    """Why the file cannot be read; None when it can."""
    try:
        with file.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        return f"cannot read the file: {os.strerror(error.errno or 0)}"
    return None
