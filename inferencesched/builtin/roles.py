"""Role filters: which stage of an answer may an endpoint serve, by its label ``llm-d.ai/role``?

role                      decode   prefill   encode
decode                       ✓
prefill                                ✓
encode                                           ✓
prefill-decode, both         ✓         ✓
encode-prefill                         ✓         ✓
encode-prefill-decode        ✓         ✓         ✓
(no label)                   ✓
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np

from inferencesched.endpoints import BoolArray, EndpointBatch
from inferencesched.request import Request

__all__ = ["ROLE_LABEL", "DecodeFilter", "EncodeFilter", "PrefillFilter"]

ROLE_LABEL = "llm-d.ai/role"


class _RoleFilter:
    """Keep the endpoints whose role is among `roles`; those without the label, if `unlabelled`."""

    roles: ClassVar[tuple[str, ...]]
    unlabelled: ClassVar[bool] = False

    @property
    def why(self) -> str:
        """The roles in words."""
        return f"{ROLE_LABEL} in ({', '.join(self.roles)}){' or absent' if self.unlabelled else ''}"

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return which endpoints have such a role."""
        accepted = {*self.roles, None} if self.unlabelled else {*self.roles}
        return endpoints.static(
            (ROLE_LABEL, *self.roles),
            lambda everyone: np.array([e.labels.get(ROLE_LABEL) in accepted for e in everyone], np.bool_),
        )


@attrs.frozen
class DecodeFilter(_RoleFilter):
    """Keep the endpoints that decode, which those without a role do.

    Formula: ``llm-d.ai/role`` is decode, prefill-decode, both or encode-prefill-decode.
    Unknown: an endpoint without the label is kept.
    Source: Endpoint Picker ``decode-filter``.
    """

    type: ClassVar[str] = "decode-filter"
    roles: ClassVar[tuple[str, ...]] = ("decode", "prefill-decode", "both", "encode-prefill-decode")
    unlabelled: ClassVar[bool] = True


@attrs.frozen
class PrefillFilter(_RoleFilter):
    """Keep the endpoints that prefill.

    Formula: ``llm-d.ai/role`` is prefill, encode-prefill, prefill-decode, both or encode-prefill-decode.
    Unknown: an endpoint without the label is dropped.
    Source: Endpoint Picker ``prefill-filter``.
    """

    type: ClassVar[str] = "prefill-filter"
    roles: ClassVar[tuple[str, ...]] = ("prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode")


@attrs.frozen
class EncodeFilter(_RoleFilter):
    """Keep the endpoints that encode images, audio and video.

    Formula: ``llm-d.ai/role`` is encode, encode-prefill or encode-prefill-decode.
    Unknown: an endpoint without the label is dropped.
    Source: Endpoint Picker ``encode-filter``.
    """

    type: ClassVar[str] = "encode-filter"
    roles: ClassVar[tuple[str, ...]] = ("encode", "encode-prefill", "encode-prefill-decode")
