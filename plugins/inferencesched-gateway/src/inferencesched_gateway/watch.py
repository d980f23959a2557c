"""Watch: have these files changed? Compared by what the file system says of them, so that atomic replacement shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["Watch"]

_Trace = tuple[str, int, int, int]


class Watch:
    """Looks at files, and at everything in folders.

    Args:
        files: what to look at; what is missing now may appear later.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self._known = self._seen = frozenset(self._traces())

    def has_changed(self) -> bool:
        """Return whether something has changed, and nothing since the last look: whoever writes has then done so."""
        seen, self._seen = self._seen, frozenset(self._traces())
        if self._seen != seen or seen == self._known:
            return False
        self._known = seen
        return True

    def _traces(self) -> Iterator[_Trace]:
        for file in self.files:
            for path in [file, *(sorted(file.iterdir()) if file.is_dir() else ())]:
                try:
                    stat = path.stat()  # through links: Kubernetes swaps a link to a whole folder
                except OSError:
                    continue
                yield str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns
