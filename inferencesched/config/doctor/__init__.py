"""What will hurt although it is valid: rules that look at a configuration in force and at the resources around it.

A rule is a function that yields findings. It knows what it looks for, why that hurts, and what to do instead; it never
changes anything. Rules stand in pages by subject, `profiles` and `surroundings`.
"""

from __future__ import annotations

from inferencesched.config.assembly import Config
from inferencesched.config.doctor.finding import Finding, Patient, Rule
from inferencesched.config.doctor.profiles import PROFILE_RULES
from inferencesched.config.doctor.surroundings import SURROUNDINGS_RULES
from inferencesched.resources import Manifests

__all__ = ["RULES", "Finding", "diagnose"]

RULES: tuple[Rule, ...] = (*PROFILE_RULES, *SURROUNDINGS_RULES)

_ORDER = ("danger", "warning", "hint")
_USUAL_ENDPOINTS = 16


def diagnose(config: Config, manifests: Manifests | None = None, *, endpoints: int | None = None) -> list[Finding]:
    """Return what will hurt, the worst first.

    Args:
        manifests: the resources next to the configuration; without them, rules about resources find nothing.
        endpoints: how many there are to be; those of an endpoints file by default, or else 16.
    """
    manifests = Manifests() if manifests is None else manifests
    patient = Patient(config, manifests, endpoints or len(manifests.endpoints) or _USUAL_ENDPOINTS)
    findings = [finding for rule in RULES for finding in rule(patient)]
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))
