"""Policies as arguments: the name of a preset, or a file with an EndpointPickerConfig."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from inferencesched.cli.files import read
from inferencesched.config import is_config
from inferencesched.errors import ConfigError, Problem, near_miss
from inferencesched.sim.policies import POLICIES, Policy

__all__ = ["PolicyType"]


class PolicyType(click.ParamType[Any]):
    """Converts ``NAME|FILE`` to a name and a configuration."""

    name = "policy"
    names = tuple(POLICIES)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Policy]:
        """Return the policy's name (a file's: without its suffix) and its configuration.

        A word that is neither a preset nor a file is a usage error; what is wrong in a file is the file's fault.
        """
        if value in POLICIES:
            return value, POLICIES[value]
        path = Path(value)
        if not path.exists():
            self.fail(f"'{value}' is neither a policy nor a file{near_miss(value, POLICIES)}", param, ctx)
        ours = [document for document in read(path) if is_config(document)]
        if len(ours) != 1:
            raise ConfigError([Problem("", f"expected one EndpointPickerConfig, found {len(ours)}", str(path))])
        return path.stem, ours[0]
