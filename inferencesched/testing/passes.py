"""Receipts for those who read them: of a profile that found an endpoint, and of one that did not."""

from __future__ import annotations

import random

import attrs
import numpy as np

from inferencesched.decision import Pass
from inferencesched.endpoints import BoolArray, EndpointBatch, FloatArray
from inferencesched.profile import Profile
from inferencesched.request import Request
from inferencesched.testing.builders import make_batch

__all__ = ["receipt"]


@attrs.frozen
class _First:
    """Picks the first endpoint: to who reads the receipt it does not matter which."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> list[int]:
        return list(range(min(n, len(endpoints))))


@attrs.frozen
class _Nobody:
    """Keeps no endpoint: the profile fails."""

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        return np.zeros(len(endpoints), np.bool_)


def receipt(profile: str, request: Request, *, failed: bool = False) -> Pass:
    """Return the receipt of a profile's run over three endpoints, of which it found one, or none."""
    batch = make_batch(
        labels=[{"llm-d.ai/role": role} for role in ("decode", "prefill", "both")],
        prompt_tokens=[1040, 1040, 1040],
        prefix_matched_tokens=[0, 512, 1024],
        prefix_total_tokens=[1024, 1024, 1024],
        uncached_request_tokens=[1040, 528, 16],
    )
    run = Profile(profile, filters=[_Nobody()] if failed else [], picker=_First()).run
    return run(request, batch, random.Random(0), n=2)
