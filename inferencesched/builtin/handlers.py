"""Profile handlers: which profiles run for a request, and which of them answers?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import attrs

from inferencesched.decision import Pass
from inferencesched.interfaces import Conclusion
from inferencesched.request import Request

__all__ = ["SingleProfileHandler"]


@attrs.frozen
class SingleProfileHandler:
    """Run the one profile there is; its pick is the answer.

    Formula: no answer unless exactly one profile ran and found an endpoint.
    Source: Endpoint Picker ``single-profile-handler``.
    """

    type: ClassVar[str] = "single-profile-handler"

    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        """Return every profile, once."""
        return () if passes else tuple(profiles)

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        """Return the single profile's outcome."""
        if len(passes) != 1:
            return Conclusion(None, message=f"single-profile-handler expects one profile, {len(passes)} ran")
        (only,) = passes
        return Conclusion(only)
