"""One request on several endpoints: decode, prefill and encode apart from each other.

    decode-first (default)    decode ─▶ encode? ─▶ prefill?        each ? is asked of its decider
    prefill-first             prefill ─▶ encode? ─▶ decode         prefill always, where there is such a profile

The answer comes from the decode endpoint; the host learns of the others from request headers, and the scheduler leases
all of them in the same moment, so that a pair is reserved whole or not at all.

A stage that is wanted and has no endpoint is an outcome with a name, never a silent change of plan: by default the
request goes on without that stage, as it does upstream, and its receipt says so (`Decision.message`); with
``stageUnavailable: reject`` it is turned away.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import attrs

from inferencesched.decision import Pass
from inferencesched.interfaces import Conclusion, Decider
from inferencesched.request import Request
from inferencesched.vocabulary import RANK_HEADER

__all__ = [
    "ENCODER_HEADER",
    "PREFILL_HEADER",
    "AlwaysDisaggMultimodalDecider",
    "AlwaysDisaggPdDecider",
    "DisaggHeadersHandler",
    "DisaggProfileHandler",
    "PdProfileHandler",
    "PrefixBasedPdDecider",
    "StageDeciders",
    "StageProfiles",
]

PREFILL_HEADER = "x-prefiller-host-port"
ENCODER_HEADER = "x-encoder-hosts-ports"


# --- deciders --------------------------------------------------------------------------------------------------------


@attrs.frozen
class AlwaysDisaggPdDecider:
    """Prefill elsewhere, always.

    Source: Endpoint Picker ``always-disagg-pd-decider``.
    """

    type: ClassVar[str] = "always-disagg-pd-decider"

    def disaggregate(self, request: Request, chosen: Pass | None, /) -> bool:
        """Return true."""
        return True


@attrs.frozen
class AlwaysDisaggMultimodalDecider:
    """Encode elsewhere whatever is not text.

    Formula: the request has media (`Request.media`).
    Source: Endpoint Picker ``always-disagg-multimodal-decider``.
    """

    type: ClassVar[str] = "always-disagg-multimodal-decider"

    def disaggregate(self, request: Request, chosen: Pass | None, /) -> bool:
        """Return whether there is anything to encode."""
        return bool(request.media)


@attrs.frozen
class PrefixBasedPdDecider:
    """Prefill elsewhere when the decode endpoint would have much of the prompt to prefill.

    Args:
        non_cached_tokens: tokens not in the decode endpoint's cache from which it pays; 0 is never.
        prompt_tokens: shorter prompts never do; 0 is no such limit.

    Formula: prompt ≥ promptTokens and prompt − cached ≥ nonCachedTokens, cached = prefix_cached_tokens where a producer
        tells tiers of memory apart, else prefix_matched_tokens.
    Unknown: a prompt or a match that is not known stays on the decode endpoint.
    Source: Endpoint Picker ``prefix-based-pd-decider``.
    """

    type: ClassVar[str] = "prefix-based-pd-decider"
    consumes: ClassVar[tuple[str, ...]] = ("prompt_tokens", "prefix_matched_tokens")

    non_cached_tokens: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    prompt_tokens: int = attrs.field(default=0, validator=attrs.validators.ge(0))

    def disaggregate(self, request: Request, chosen: Pass | None, /) -> bool:
        """Return whether enough of the prompt is not cached where it will be decoded."""
        if self.non_cached_tokens == 0 or chosen is None or not chosen.picked:
            return False
        row = chosen.picked[0]
        prompt = chosen.kept["prompt_tokens"][row]
        cached = chosen.kept["prefix_cached_tokens"][row]
        if math.isnan(cached):
            cached = chosen.kept["prefix_matched_tokens"][row]
        return bool(prompt >= self.prompt_tokens and prompt - cached >= self.non_cached_tokens)  # NaN compares false


# --- handlers --------------------------------------------------------------------------------------------------------


@attrs.frozen
class StageProfiles:
    """Which profile serves which stage.

    Args:
        decode: required, the one that answers.
        prefill: optional in the configuration.
        encode: likewise.
    """

    decode: str = "decode"
    prefill: str = "prefill"
    encode: str = "encode"


def _is_decider(_: object, __: object, value: object) -> None:
    if value is not None and not isinstance(value, Decider):
        raise ValueError(f"expected the name of a decider, got a {getattr(value, 'type', type(value).__name__)}")


_NAMED = {"plugin_ref": True}


@attrs.frozen
class StageDeciders:
    """Who says whether a stage is worth its while; a stage without one is off.

    Args:
        prefill: name of a decider.
        encode: name of a decider.
    """

    prefill: Any = attrs.field(default=None, validator=_is_decider, metadata=_NAMED)
    encode: Any = attrs.field(default=None, validator=_is_decider, metadata=_NAMED)


def _stage_order(given: str) -> str:
    """Upstream takes any mixture of hyphens, underscores and capitals, and the first stage's name alone."""
    plain = given.lower().replace("-", "").replace("_", "")
    if plain in {"", "decode", "decodefirst"}:
        return "decode-first"
    if plain in {"prefill", "prefillfirst"}:
        return "prefill-first"
    raise ValueError(f"expected decode-first or prefill-first, got '{given}'")


@attrs.frozen
class DisaggProfileHandler:
    """Run decode, and prefill and encode on endpoints of their own where that is worth it.

    Args:
        stage_order: ``decode-first`` or ``prefill-first``.
        profiles: which profile serves which stage.
        deciders: who says whether a stage is worth its while.
        stage_unavailable: what becomes of a request when a stage that is wanted has no endpoint: ``omit`` goes on
            without it and says so in the receipt, ``reject`` turns the request away (ours; upstream omits silently).
        decode_profile: deprecated, as are the following: the same, before `profiles` and `deciders` were.
        prefill_profile: deprecated.
        encode_profile: deprecated.
        prefill_decider_plugin_name: deprecated.
        decider_plugin_name: deprecated.
        encode_decider_plugin_name: deprecated.

    Formula: see the table above. Headers: x-prefiller-host-port is the address of the prefill endpoint,
        x-encoder-hosts-ports those of all encode endpoints; what a client sends under these names is not forwarded.
    Unknown: what a decider does not know, see there.
    Source: Endpoint Picker ``disagg-profile-handler``.
    """

    type: ClassVar[str] = "disagg-profile-handler"
    consumes: ClassVar[tuple[str, ...]] = ("prompt_tokens", "prefix_matched_tokens")

    stage_order: str = attrs.field(default="decode-first", converter=_stage_order)
    profiles: StageProfiles | None = None
    deciders: StageDeciders | None = None
    stage_unavailable: Literal["omit", "reject"] = "omit"
    decode_profile: str = ""
    prefill_profile: str = ""
    encode_profile: str = ""
    prefill_decider_plugin_name: Any = attrs.field(default=None, validator=_is_decider, metadata=_NAMED)
    decider_plugin_name: Any = attrs.field(default=None, validator=_is_decider, metadata=_NAMED)
    encode_decider_plugin_name: Any = attrs.field(default=None, validator=_is_decider, metadata=_NAMED)

    _stages: StageProfiles = attrs.field(init=False, repr=False)
    _asked: StageDeciders = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        flat = [self.decode_profile, self.prefill_profile, self.encode_profile, self.prefill_decider_plugin_name]
        flat += [self.decider_plugin_name, self.encode_decider_plugin_name]
        if any(flat) and (self.profiles or self.deciders):
            raise ValueError("expected either profiles and deciders, or the deprecated flat parameters, got both")
        named = self.profiles or StageProfiles(self.decode_profile, self.prefill_profile, self.encode_profile)
        stages = StageProfiles(named.decode or "decode", named.prefill or "prefill", named.encode or "encode")
        prefill = self.prefill_decider_plugin_name or self.decider_plugin_name
        object.__setattr__(self, "_stages", stages)
        object.__setattr__(self, "_asked", self.deciders or StageDeciders(prefill, self.encode_decider_plugin_name))
        if self.stage_order == "prefill-first" and self._asked.prefill is not None:
            raise ValueError("stageOrder prefill-first always prefills, and takes no decider for it")

    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        """Return the next stages to run, those that are neither done nor in vain."""
        if self._hopeless(passes):
            return ()
        decode = self._stages.decode
        open_stages = [name for name in profiles if name not in passes]
        if self.stage_order == "prefill-first":
            first = self._stages.prefill
            if first in open_stages:
                return (first,)
            return (*self._worthwhile(request, open_stages, None, prefill=False), *({decode} & {*open_stages}))
        if decode not in passes:
            return (decode,) if decode in open_stages else ()
        return self._worthwhile(request, open_stages, passes[decode], prefill=True)

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        """Return decode's outcome, with the other stages and the headers that name their endpoints."""
        stages = self._stages
        owned = (PREFILL_HEADER, ENCODER_HEADER)
        if stages.decode not in passes or not passes[stages.decode].picked:
            missing = self._missing(passes) if self.stage_unavailable == "reject" else ()
            return Conclusion(None, message=_unavailable(missing or ("decode",)), owned_headers=owned)
        missing = self._missing(passes)
        if missing and self.stage_unavailable == "reject":
            return Conclusion(None, message=_unavailable(missing), owned_headers=owned)
        served = [name for name in (stages.prefill, stages.encode) if name in passes and passes[name].picked]
        headers = {}
        if stages.prefill in served:
            headers[PREFILL_HEADER] = passes[stages.prefill].endpoints[0].address
        if stages.encode in served:
            headers[ENCODER_HEADER] = ",".join(endpoint.address for endpoint in passes[stages.encode].endpoints)
        instead = passes[stages.decode].endpoints[0].name
        message = f"{_unavailable(missing)}: '{instead}' does it instead" if missing else ""
        return Conclusion(stages.decode, tuple(served), headers, message, owned_headers=owned)

    def _worthwhile(
        self, request: Request, open_stages: Collection[str], decode: Pass | None, *, prefill: bool
    ) -> tuple[str, ...]:
        candidates = [(self._stages.encode, self._asked.encode)]
        candidates += [(self._stages.prefill, self._asked.prefill)] if prefill else []
        return tuple(
            name
            for name, decider in candidates
            if name in open_stages and decider is not None and decider.disaggregate(request, decode)
        )

    def _missing(self, passes: Mapping[str, Pass]) -> tuple[str, ...]:
        """Return the stages that ran and found no endpoint, decode aside."""
        stages = (("prefill", self._stages.prefill), ("encode", self._stages.encode))
        return tuple(stage for stage, name in stages if name in passes and not passes[name].picked)

    def _hopeless(self, passes: Mapping[str, Pass]) -> bool:
        decode = passes.get(self._stages.decode)
        if decode is not None and not decode.picked:
            return True
        return self.stage_unavailable == "reject" and bool(self._missing(passes))


def _unavailable(stages: Sequence[str]) -> str:
    return f"no {' and no '.join(stages)} endpoint"


@attrs.frozen
class PdProfileHandler:
    """Run decode, and prefill on an endpoint of its own (deprecated: write ``disagg-profile-handler``).

    Args:
        decode_profile: the profile that answers.
        prefill_profile: the profile that prefills.
        decider_plugin_name: name of the decider.
        primary_port: as in ``data-parallel-profile-handler``; 0 sends to the endpoint itself.
        prefix_plugin_type: accepted for compatibility; the columns come from the profile's producer.
        prefix_plugin_name: likewise.
        prefix_match_info_producer_name: likewise.

    Formula: decode-first, see ``disagg-profile-handler``.
    Source: Endpoint Picker ``pd-profile-handler``.
    """

    type: ClassVar[str] = "pd-profile-handler"
    consumes: ClassVar[tuple[str, ...]] = ("prompt_tokens", "prefix_matched_tokens")

    decode_profile: str = "decode"
    prefill_profile: str = "prefill"
    decider_plugin_name: Any = attrs.field(
        default=None, validator=_is_decider, metadata={"plugin_ref": "prefix-based-pd-decider"}
    )
    primary_port: int = attrs.field(default=0, validator=[attrs.validators.ge(0), attrs.validators.le(65_535)])
    prefix_plugin_type: str | None = None
    prefix_plugin_name: str | None = None
    prefix_match_info_producer_name: str | None = None

    _handler: DisaggProfileHandler = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.decider_plugin_name is None:
            raise ValueError("deciderPluginName: none is named, and no plugin 'prefix-based-pd-decider' is declared")
        handler = DisaggProfileHandler(
            decode_profile=self.decode_profile,
            prefill_profile=self.prefill_profile,
            prefill_decider_plugin_name=self.decider_plugin_name,
        )
        object.__setattr__(self, "_handler", handler)

    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        """Return the next stage to run."""
        return self._handler.choose(request, profiles, passes)

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        """Return decode's outcome."""
        conclusion = self._handler.conclude(request, passes)
        owned = (*conclusion.owned_headers, RANK_HEADER)
        return attrs.evolve(conclusion, primary_port=self.primary_port or None, owned_headers=owned)


@attrs.frozen
class DisaggHeadersHandler:
    """Do nothing: the profile handlers set the headers themselves (deprecated: leave it out).

    Args:
        prefill_profile: accepted for compatibility.
        encode_profile: accepted for compatibility.

    Source: Endpoint Picker ``disagg-headers-handler``, earlier ``prefill-header-handler``.
    """

    type: ClassVar[str] = "disagg-headers-handler"

    prefill_profile: str = "prefill"
    encode_profile: str = "encode"
