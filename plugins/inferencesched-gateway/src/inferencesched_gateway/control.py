"""Control: what headers say of how a request is to be treated, once it is known who may say so."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["Control", "read_control"]

_DEFAULT_FLOW = "default-flow"  # the Endpoint Picker's
_SUBSET = "x-gateway-destination-endpoint-subset"


@attrs.frozen
class Control:
    """What is asked for beside the body.

    Attributes:
        flow: the fairness id.
        is_flow_told: whether somebody said so.
        objective: the name of an InferenceObjective; None for none.
        model: to ask for instead of the client's; None for the client's.
        subset: names or addresses of endpoints that may be used; None for all, empty for none.
        ttft_slo: seconds to the first token.
        tpot_slo: seconds for each further one.
    """

    flow: str = _DEFAULT_FLOW
    is_flow_told: bool = False
    objective: str | None = None
    model: str | None = None
    subset: tuple[str, ...] | None = None
    ttft_slo: float | None = None
    tpot_slo: float | None = None


def read_control(headers: Mapping[str, str]) -> Control:
    """Return what readable headers say; deprecated names count where the current one is not there.

    >>> read_control({"x-llm-d-inference-objective": "chat", "x-slo-ttft-ms": "nan"})
    Control(flow='default-flow', is_flow_told=False, objective='chat', model=None, subset=None, ttft_slo=None, \
tpot_slo=None)
    """
    get = headers.get
    flow = get("x-llm-d-inference-fairness-id") or get("x-gateway-inference-fairness-id")
    return Control(
        flow or _DEFAULT_FLOW,
        bool(flow),
        get("x-llm-d-inference-objective") or get("x-gateway-inference-objective") or None,
        get("x-llm-d-model-name-rewrite") or get("x-gateway-model-name-rewrite") or None,
        _names(get(_SUBSET)),
        _seconds(get("x-llm-d-slo-ttft-ms") or get("x-slo-ttft-ms")),
        _seconds(get("x-llm-d-slo-tpot-ms") or get("x-slo-tpot-ms")),
    )


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(filter(None, (part.strip() for part in text.split(","))))


def _seconds(text: str | None) -> float | None:
    """Return milliseconds as seconds; None for what is no finite number above 0, so that nonsense moves nobody."""
    if text is None:
        return None
    try:
        seconds = float(text) / 1000.0
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None
