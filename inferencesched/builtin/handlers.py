"""Profile handlers: which profiles run for a request, and which of them answers?

Those that split one request over several endpoints have a page of their own, `inferencesched.builtin.disaggregation`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import ClassVar

import attrs

from inferencesched.decision import Pass
from inferencesched.interfaces import Conclusion
from inferencesched.request import Request
from inferencesched.vocabulary import RANK_HEADER

__all__ = ["DataParallelProfileHandler", "HeaderProfileHandler", "SingleProfileHandler"]


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
            return Conclusion(None, message=f"{self.type} expects one profile, {len(passes)} ran")
        (only,) = passes
        return _plainly(only)


@lru_cache(maxsize=64)
def _plainly(profile: str) -> Conclusion:
    """Return the conclusion that says nothing but the profile's name: one value for all requests."""
    return Conclusion(profile, headers=MappingProxyType({}))


def _name_or_default(given: str) -> str:
    return given or "EPP-Profile"


def _profile_or_default(given: str) -> str:
    return given or "decode"


@attrs.frozen
class HeaderProfileHandler:
    """Run the one profile that a header of the request names, for a coordinator that asks once for each stage.

    Args:
        header_name: the header.
        default_profile: what runs when the header is absent or blank.

    Formula: a single profile always runs; else the one named, by its exact name; none of that name → no answer.
    Source: Endpoint Picker ``header-profile-handler``; upstream answers 429 to a name it does not know, we 503.
    """

    type: ClassVar[str] = "header-profile-handler"

    header_name: str = attrs.field(default="EPP-Profile", converter=_name_or_default)
    default_profile: str = attrs.field(default="decode", converter=_profile_or_default)

    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        """Return the profile that is asked for, if there is one of that name."""
        if passes or len(profiles) == 1:
            return () if passes else tuple(profiles)
        named = self._named(request)
        return (named,) if named in profiles else ()

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        """Return the outcome of the profile that ran."""
        for name in passes:
            return Conclusion(name)
        return Conclusion(None, message=f"header {self.header_name} asks for a profile that is not configured")

    def _named(self, request: Request) -> str:
        return request.headers.get(self.header_name.lower(), "").strip() or self.default_profile


@attrs.frozen
class DataParallelProfileHandler(SingleProfileHandler):
    """Run the one profile there is, over the ranks of data-parallel servers that share one port.

    The request is sent to the shared port (`Decision.address`), and the header ``x-data-parallel-host-port`` names the
    rank; what a client sends under that name is not forwarded. The lease, and all accounting, is the rank's.

    Args:
        primary_port: the shared port, 1–65535; 0 sends to the rank itself.

    Formula: address = host of the pick : primaryPort; header = the pick's own address.
    Source: Endpoint Picker ``data-parallel-profile-handler`` (deprecated there: gateways can address ranks by now).
    """

    type: ClassVar[str] = "data-parallel-profile-handler"

    primary_port: int = attrs.field(default=8000, validator=[attrs.validators.ge(0), attrs.validators.le(65_535)])

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        """Return the single profile's outcome, to be reached through the shared port."""
        return attrs.evolve(
            super().conclude(request, passes), primary_port=self.primary_port or None, owned_headers=(RANK_HEADER,)
        )
