"""Files and folders → documents. A file has several documents, a folder several files; both in order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from inferencesched.cli.nodes import documents_in
from inferencesched.documents import Document
from inferencesched.errors import ConfigError, Problem

__all__ = ["paths_argument", "read", "read_all"]

paths_argument = click.argument(
    "paths",
    metavar="FILE|DIR...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
)

_SUFFIXES = {".json", ".yaml", ".yml"}
_LARGEST = 8 * 1024 * 1024  # bytes of one file


def read(*paths: Path) -> list[Document]:
    """Return the documents in these files and folders.

    Raises:
        ConfigError: something cannot be read; every such thing is listed.
    """
    problems: list[Problem] = []
    documents = read_all(paths, problems)
    if problems:
        raise ConfigError(problems)
    return documents


def read_all(paths: Iterable[Path], problems: list[Problem]) -> list[Document]:
    """Return the documents that can be read, and append a problem for everything that cannot.

    Of a folder, the ``.yaml``, ``.yml`` and ``.json`` files in it are read, by name; a path ``-`` is standard input.
    """
    documents: list[Document] = []
    for path in paths:
        files = _files_in(path, problems) if path.is_dir() else [path]
        for file in files:
            text = _text(file, problems)
            if text is not None:
                documents += documents_in(text, str(file), problems)
    return documents


def _files_in(folder: Path, problems: list[Problem]) -> list[Path]:
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    except OSError as error:
        files = []
        problems.append(Problem("", f"cannot be read: {error.strerror}", str(folder)))
    else:
        if not files:
            problems.append(Problem("", "the folder has no .yaml, .yml or .json file", str(folder)))
    return files


def _text(file: Path, problems: list[Problem]) -> str | None:
    try:
        with click.open_file(str(file), "rb") as stream:
            data = stream.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            problems.append(Problem("", f"larger than {_LARGEST // 1024**2} MiB", str(file)))
            return None
        text: str = data.decode("utf-8-sig")
    except OSError as error:
        problems.append(Problem("", f"cannot be read: {error.strerror}", str(file)))
    except UnicodeDecodeError as error:
        problems.append(Problem("", f"not UTF-8 at byte {error.start}", str(file)))
    else:
        # Tabs may indent JSON and not YAML; inside a JSON string they cannot stand.
        return text.replace("\t", " ") if file.suffix == ".json" else text
    return None
