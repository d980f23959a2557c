"""The command line. `main` is the click group; without the `cli` extra it says what to install.

Importing this package never fails for want of the extra, so that entry points and documentation tools can.
"""

from __future__ import annotations

__all__ = ["main"]

try:
    from inferencesched.cli.group import main
except ModuleNotFoundError as error:
    if error.name not in {"click", "rich"}:
        raise
    _missing = error.name

    def main() -> None:  # type: ignore[misc]
        """Say what to install, and end with exit code 1."""
        raise SystemExit(
            f"inferencesched: the command line needs '{_missing}', which is not installed.\n"
            "Install it with: pip install 'inferencesched[cli]'"
        )
