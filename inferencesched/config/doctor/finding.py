"""What a rule yields, and what it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import attrs

from inferencesched.config.assembly import Config
from inferencesched.resources import Manifests

__all__ = ["Finding", "Patient", "Rule"]


@attrs.frozen
class Finding:
    """One thing that will hurt.

    Attributes:
        name: of the rule; stable, to be looked up by.
        severity: ``danger`` loses or misplaces requests, ``warning`` costs performance or does not do what it says,
            ``hint`` is worth knowing.
        where: the plugin, profile or resource.
        what: what is the case.
        why: what happens then.
        advice: what to do.
    """

    name: str
    severity: Literal["danger", "warning", "hint"]
    where: str
    what: str
    why: str
    advice: str


@attrs.frozen
class Patient:
    """What rules look at: a configuration in force, the resources next to it, and how many endpoints there will be."""

    config: Config
    manifests: Manifests
    endpoints: int


Rule = Callable[[Patient], Iterator[Finding]]
