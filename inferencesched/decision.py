"""Decision and Rejection: the two answers to "where does this request go?", each with its receipt.

A receipt keeps what a pass computed anyway: the candidates, what each filter dropped and why, every scorer's raw
scores, the totals, the positions picked, the plugins that had to be skipped. Text and dictionaries are made from it
only when somebody asks (`explain`, `to_dict`), so an unread receipt costs a few references. No prompt text is ever in
one: it is made from endpoints, names and numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np

from inferencesched.endpoints import BoolArray, Endpoint, EndpointBatch, FloatArray, Numbers
from inferencesched.extremes import tied
from inferencesched.values import value

__all__ = ["Decision", "Drop", "Lease", "Pass", "Rejection", "Skip"]

_ROWS_SHOWN = 16
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@value(eq=False)
class Lease:
    """The promise that one endpoint is working on one request: taken at the pick, given back exactly once.

    A value: what has become of it is known to the `inferencesched.ledger.Ledger` that issued it, and only there.

    Attributes:
        request_id: the host's name for the request; several leases may carry the same one.
        endpoint: the endpoint *instance*; a later one of the same name is another endpoint.
        stage: the profile that picked it (``default``, ``decode``, ``prefill``…).
        prefill_tokens: reserved until the first token of the answer.
        output_tokens: reserved until the end of the answer.
    """

    request_id: str
    endpoint: Endpoint
    stage: str = ""
    prefill_tokens: float = 0.0
    output_tokens: float = 0.0


@value(eq=False)
class Drop:
    """What one filter removed. Names and reason are made when somebody asks.

    Attributes:
        filter: the filter's name.
        plugin: the filter itself, for its reason.
        among: the endpoints it was asked about.
        keep: its answer.
    """

    filter: str
    plugin: Any = attrs.field(repr=False)
    among: EndpointBatch = attrs.field(repr=False)
    keep: BoolArray = attrs.field(repr=False)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The names of the endpoints it removed."""
        return self.among.select(~self.keep).names

    @property
    def why(self) -> str:
        """The filter's condition in words."""
        return getattr(self.plugin, "why", None) or repr(self.plugin)

    @property
    def transient(self) -> bool:
        """Whether waiting may help: the filter looks at load and not, say, at labels."""
        return bool(getattr(self.plugin, "transient", False))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        names = list(self.endpoints)
        return {"filter": self.filter, "why": self.why, "transient": self.transient, "endpoints": names}


@value
class Skip:
    """A plugin whose answer this decision did without, and why."""

    plugin: str
    role: str
    error: str


@value(eq=False)
class Pass:
    """The receipt of one profile's run: produce → filter → score → pick.

    Attributes:
        profile: the profile's name.
        candidates: the endpoints before any filter, with every column that was read.
        kept: those that every filter kept; `scores`, `totals` and `picked` refer to its positions.
        drops: one entry for each filter that removed something, in order.
        scorers: name and weight as configured, in the order of the rows of `scores`.
        picked: ranked positions in `kept`, the winner first; empty when nothing was left to pick.
        skipped: plugins that failed, or that their breaker kept out.
        consumed: the columns that the filters and scorers declare to read.
    """

    profile: str
    candidates: EndpointBatch
    kept: EndpointBatch
    drops: tuple[Drop, ...]
    scorers: tuple[tuple[str, float], ...]
    _scores: FloatArray | list[list[float]] = attrs.field(repr=False)
    _totals: Numbers = attrs.field(repr=False)
    picked: tuple[int, ...]
    skipped: tuple[Skip, ...] = ()
    consumed: tuple[str, ...] = ()

    @property
    def scores(self) -> FloatArray:
        """Raw scores, shape (scorers, kept); NaN in the row of a scorer that was skipped."""
        return np.asarray(self._scores, np.float64).reshape(len(self.scorers), len(self.kept))

    @property
    def totals(self) -> FloatArray:
        """The weighted mean of the scores, shape (kept,), in [0, 1]."""
        return np.asarray(self._totals, np.float64)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The picked endpoints, the winner first."""
        return tuple(map(self.kept.endpoint, self.picked))

    @property
    def tied(self) -> int:
        """How many endpoints shared the best total; above 1, chance decided among them."""
        return len(tied(self.totals)) if len(self.kept) else 0

    @property
    def margin(self) -> float:
        """The winner's total minus the best total of any other endpoint; NaN without a rival."""
        totals = self.totals
        if not self.picked or len(totals) < 2:
            return math.nan
        return float(totals[self.picked[0]] - np.delete(totals, self.picked[0]).max())

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as plain JSON values; unknown numbers are None."""
        share, scores, totals = _shares(self.scorers), self.scores, self.totals
        return {
            "profile": self.profile,
            "candidates": len(self.candidates),
            "dropped": [drop.to_dict() for drop in self.drops],
            "endpoints": [
                {
                    "endpoint": name,
                    "total": _plain(totals[row]),
                    "scores": {
                        scorer: {
                            "raw": _plain(scores[k, row]),
                            "weighted": _plain(scores[k, row] * share[k]),
                        }
                        for k, (scorer, _) in enumerate(self.scorers)
                    },
                }
                for row, name in enumerate(self.kept.names)
            ],
            "weights": dict(self.scorers),
            "picked": [endpoint.name for endpoint in self.endpoints],
            "tied": self.tied,
            "margin": _plain(self.margin),
            "facts": {column: self._facts(column) for column in self.consumed},
            "skipped": [{"plugin": s.plugin, "role": s.role, "error": s.error} for s in self.skipped],
        }

    def _facts(self, column: str) -> dict[str, Any]:
        """What was known of a column: on the picked endpoint, over all candidates, how old, and on how many not."""
        values, ages = self.candidates[column], self.candidates.age(column)
        known, aged = values[~np.isnan(values)], ages[~np.isnan(ages)]
        return {
            "picked": _plain(self.kept[column][self.picked[0]]) if self.picked else None,
            "least": _plain(known.min()) if known.size else None,
            "most": _plain(known.max()) if known.size else None,
            "unknown": int(len(values) - known.size),
            "oldest_s": round(float(aged.max()), 6) if aged.size else None,
        }

    def lines(self) -> list[str]:
        """Return the receipt as lines of text, the winner marked ``*`` its fallbacks ``2``, ``3`` and so on."""
        out = [f"profile {self.profile}: {len(self.candidates)} candidates, {len(self.kept)} kept"]
        out += [f"  - {len(d.endpoints)} dropped by {d.filter} ({d.why}): {_some(d.endpoints)}" for d in self.drops]
        out += [f"  ! {s.role} {s.plugin} skipped: {s.error}" for s in self.skipped]
        if len(self.kept):
            out += ["  " + line for line in self._table()]
        if self.tied > 1:
            out.append(f"  tie: {self.tied} endpoints share the best total, one of them was drawn")
        elif self.picked and not math.isnan(self.margin):
            out.append(f"  margin over the best other endpoint: {self.margin:+.4f}")
        out += [f"  fact {self._fact_line(column)}" for column in self.consumed]
        return out

    def _table(self) -> list[str]:
        share, scores, totals = _shares(self.scorers), self.scores, self.totals
        rank = {row: "*" if place == 0 else str(place + 1) for place, row in enumerate(self.picked)}
        order = sorted(range(len(self.kept)), key=lambda row: (*_place(self.picked, row), -totals[row], row))
        names = self.kept.names
        head = ["", "endpoint", *(f"{name} ×{weight:g}" for name, weight in self.scorers), "total"]
        rows = [head]
        for row in order[:_ROWS_SHOWN]:
            cells = [
                f"{scores[k, row]:.3f} → {scores[k, row] * share[k]:.3f}" if share[k] else "–"
                for k in range(len(self.scorers))
            ]
            rows.append([rank.get(row, ""), names[row], *cells, f"{totals[row]:.4f}"])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        if len(order) > _ROWS_SHOWN:
            text.append(f"… and {len(order) - _ROWS_SHOWN} more endpoints")
        return text

    def _fact_line(self, column: str) -> str:
        facts = self._facts(column)
        if facts["least"] is None:
            return f"{column}: unknown everywhere"
        spread = f"{facts['least']:g} to {facts['most']:g}" if facts["least"] != facts["most"] else f"{facts['most']:g}"
        there = f"{facts['picked']:g} there, " if facts["picked"] is not None else ""
        age = "as of now" if facts["oldest_s"] is None else f"at most {facts['oldest_s']:.3f} s old"
        unknown = f", unknown on {facts['unknown']} of {len(self.candidates)}" if facts["unknown"] else ""
        return f"{column}: {there}{spread} in all, {age}{unknown}"


@value(eq=False)
class Decision:
    """A request has a place. Keep it, or just its `lease`, until the answer has ended; then tell the scheduler.

    Attributes:
        request_id: the request's id.
        endpoint: where to send it.
        fallbacks: ranked alternatives, for the time before the first byte only.
        lease: what was reserved on `endpoint`.
        others: leases of further stages (the prefill endpoint of a disaggregated pair).
        passes: one receipt for each profile that ran, by name.
        primary: the profile that chose `endpoint`.
        headers: what the host must set on the forwarded request (see `forward`).
        owned_headers: what the host must not forward as the client sent it.
        response_headers: what the host must set on the response.
        primary_port: the port of the endpoint's host to send to, where that is not the endpoint's own (see `address`).
        message: what this answer had to do without, in a sentence ("no prefill endpoint: …"); mostly empty.
        generation: of the configuration that decided.
        now: when it was decided.
    """

    request_id: str
    model: str
    endpoint: Endpoint
    fallbacks: tuple[Endpoint, ...]
    lease: Lease
    passes: Mapping[str, Pass]
    primary: str
    generation: int
    now: float
    others: tuple[Lease, ...] = ()
    headers: Mapping[str, str] = _NOTHING
    skipped: tuple[Skip, ...] = ()
    owned_headers: tuple[str, ...] = ()
    response_headers: Mapping[str, str] = _NOTHING
    primary_port: int | None = None
    message: str = ""

    @property
    def address(self) -> str:
        """Where to send the request: the endpoint's address, or the port that its data-parallel ranks share."""
        if self.primary_port is None:
            return self.endpoint.address
        host, colon, port = self.endpoint.address.rpartition(":")
        is_port = colon and port.isdigit()
        return f"{host if is_port else self.endpoint.address}:{self.primary_port}"

    def forward(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the client's headers as they must be forwarded: names in lower case, ours in place of the client's."""
        kept = {name.lower(): value for name, value in headers.items()}
        for name in self.owned_headers:
            kept.pop(name.lower(), None)
        return kept | {name.lower(): value for name, value in self.headers.items()}

    @property
    def leases(self) -> tuple[Lease, ...]:
        """Every lease of the placement, the primary first: all that must be kept until it ends."""
        return (self.lease, *self.others) if self.others else (self.lease,)

    def explain(self) -> str:
        """Return the receipt as a table for people."""
        head = f"{self.request_id} → {self.endpoint.name}"
        head += f" ({self.endpoint.address})" if self.endpoint.address else ""
        facts = [f"model {self.model}"] if self.model else []
        facts += [f"generation {self.generation}", f"now {self.now:.3f}"]
        out = [f"{head}   {' · '.join(facts)}"]
        if self.fallbacks:
            out.append(f"fallbacks, in order: {', '.join(e.name for e in self.fallbacks)}")
        out += [f"{lease.stage}: {lease.endpoint.name}" for lease in self.others]
        out += [self.message] if self.message else []
        out += [f"! {s.role} {s.plugin} skipped: {s.error}" for s in self.skipped]
        for each in self.passes.values():
            out += each.lines()
        return "\n".join(out)

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as plain JSON values."""
        return {
            "outcome": "assigned",
            "request_id": self.request_id,
            "model": self.model,
            "endpoint": self.endpoint.name,
            "address": self.address,
            "fallbacks": [e.name for e in self.fallbacks],
            "stages": {lease.stage: lease.endpoint.name for lease in self.others},
            "headers": dict(self.headers),
            "response_headers": dict(self.response_headers),
            "message": self.message,
            "primary": self.primary,
            "generation": self.generation,
            "now": self.now,
            "skipped": [{"plugin": s.plugin, "role": s.role, "error": s.error} for s in self.skipped],
            "passes": [each.to_dict() for each in self.passes.values()],
        }


@value(eq=False)
class Rejection:
    """A request has no place, and why: an ordinary outcome, not an error.

    Attributes:
        reason: from the field's vocabulary (header ``x-llm-d-request-dropped-reason``): ``rejected-saturated``,
            ``rejected-no-endpoints``, …
        http_status: what a host should answer; 429 when capacity exists but is contended, 503 when there is none.
        transient: whether the same request may succeed a little later.
        retry_after: seconds to tell the client, at least 1; None when retrying cannot help.
        message: one sentence with the numbers.
        passes: the receipts of the profiles that ran.
    """

    request_id: str
    model: str
    reason: str
    http_status: int
    transient: bool
    message: str
    retry_after: float | None
    generation: int
    now: float
    passes: Mapping[str, Pass] = _NOTHING
    skipped: tuple[Skip, ...] = ()

    def __str__(self) -> str:
        hope = "may pass later, " if self.transient else ""
        when = f" → {hope}retry in {self.retry_after:g} s" if self.retry_after is not None else ""
        model = f" (model {self.model})" if self.model else ""
        return f"no endpoint for '{self.request_id}'{model}: {self.message} [{self.http_status} {self.reason}]{when}"

    def explain(self) -> str:
        """Return the receipt as a table for people."""
        out = [str(self), *(f"! {s.role} {s.plugin} skipped: {s.error}" for s in self.skipped)]
        for each in self.passes.values():
            out += each.lines()
        return "\n".join(out)

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as plain JSON values."""
        return {
            "outcome": "rejected",
            "request_id": self.request_id,
            "model": self.model,
            "reason": self.reason,
            "http_status": self.http_status,
            "transient": self.transient,
            "message": self.message,
            "retry_after": self.retry_after,
            "generation": self.generation,
            "now": self.now,
            "skipped": [{"plugin": s.plugin, "role": s.role, "error": s.error} for s in self.skipped],
            "passes": [each.to_dict() for each in self.passes.values()],
        }


def _plain(number: float) -> float | None:
    return None if math.isnan(number) else round(float(number), 9)


def _shares(scorers: Sequence[tuple[str, float]]) -> list[float]:
    whole = sum(weight for _, weight in scorers)
    return [weight / whole if whole else 0.0 for _, weight in scorers]


def _place(picked: tuple[int, ...], row: int) -> tuple[int]:
    return (picked.index(row) if row in picked else len(picked),)


def _some(names: tuple[str, ...], most: int = 8) -> str:
    more = f" … and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
