"""Scenarios: what a host did and what it was answered, as a file. A bug report becomes one, and then a test for ever.

    recorder = Recorder(load_config(...), seed=7)     # call it as you would the scheduler
    recorder.scenario("why are they all on a?").write(Path("all-on-a.json"))

    Scenario.read(Path("all-on-a.json")).check()      # the same answers, or an AssertionError that shows the receipt

A recorded file holds no prompt, no session and, but for those named, no header: prompts are replaced by others that
are as long and have as much in common.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from inferencesched.config import Config, load_config
from inferencesched.decision import Decision, Lease, Rejection
from inferencesched.endpoints import Endpoint
from inferencesched.request import Prompt, Request
from inferencesched.scheduler import Scheduler

__all__ = ["Recorder", "Scenario", "disguised"]

_GRAIN = 16
"""Characters or tokens: prompts that have so many in common, from the first on, have them in common in disguise."""

_PLAIN = ("model", "adapter", "priority", "flow", "prompt_tokens", "max_output_tokens", "size_bytes", "deadline")


@attrs.frozen
class Scenario:
    """What happened, step by step.

    Attributes:
        about: what it shows, one sentence.
        config: an ``EndpointPickerConfig``.
        seed: of the scheduler's dice.
        steps: each a call of the scheduler: what to ``do`` (the method's name), its arguments, the time ``at`` which it
            was called and, where there was an answer, what was ``answered``.
    """

    about: str
    config: Mapping[str, Any]
    seed: int
    steps: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Scenario:
        """Return the scenario in a file."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        """Write the scenario to a file: JSON, a step a line, so that differences can be read."""
        steps = ",\n    ".join(json.dumps(step, ensure_ascii=False) for step in self.steps)
        head = {"about": self.about, "config": dict(self.config), "seed": self.seed}
        text = json.dumps(head, ensure_ascii=False, indent=2).removesuffix("\n}")
        path.write_text(f'{text},\n  "steps": [\n    {steps}\n  ]\n}}\n', encoding="utf-8")

    def replay(self, *, seed: int | None = None) -> list[Decision | Rejection]:
        """Do it all again with a new scheduler and return its answers, in order; what was answered is not looked at."""
        return [answer for _, answer in self._answers(self.seed if seed is None else seed)]

    def check(self) -> None:
        """Do it all again and compare.

        Raises:
            AssertionError: an answer is another than the one recorded; shows the step and the receipt.
        """
        __tracebackhide__ = True
        for number, answer in self._answers(self.seed):
            recorded, found = self.steps[number].get("answered"), _gist(answer)
            if recorded is not None and {key: found.get(key) for key in recorded} != recorded:
                raise AssertionError(
                    f"{self.about}\nstep {number}: recorded {recorded}, now {found}\n{answer.explain()}"
                )

    def _answers(self, seed: int) -> list[tuple[int, Decision | Rejection]]:
        scheduler = load_config(self.config).scheduler(rng=random.Random(seed))
        placed: dict[int, tuple[Request, Decision]] = {}  # by the step that placed it
        answers: list[tuple[int, Decision | Rejection]] = []
        for number, step in enumerate(self.steps):
            answer = _DO[step["do"]](scheduler, step, placed)
            if isinstance(answer, Decision):
                request = _request(step["request"]) if "request" in step else placed[step["of"]][0]
                placed[step.get("of", number)] = request, answer
            if isinstance(answer, Decision | Rejection):
                answers.append((number, answer))
        return answers


class Recorder:
    """A scheduler that writes down what it is told. Its methods are those of `inferencesched.Scheduler`.

    Args:
        config: what decides.
        seed: of the dice.
        headers: names of request headers to write down; they may be credentials, so by default none is.
    """

    def __init__(self, config: Config, *, seed: int = 0, headers: Collection[str] = ()) -> None:
        self.scheduler: Scheduler = config.scheduler(rng=random.Random(seed))
        self._config = config
        self._seed = seed
        self._headers = frozenset(name.lower() for name in headers)
        self._steps: list[dict[str, Any]] = []
        self._placed_by: dict[Lease, int] = {}  # the step that did

    def scenario(self, about: str) -> Scenario:
        """Return what has happened so far."""
        return Scenario(about, self._config.to_mapping(), self._seed, tuple(self._steps))

    def add_endpoint(
        self, name: str, address: str = "", *, labels: Mapping[str, str] | None = None, rank: int = 0, now: float
    ) -> Endpoint:
        """Add an endpoint."""
        self._note("add_endpoint", now, name=name, address=address, labels=dict(labels or {}), rank=rank)
        return self.scheduler.add_endpoint(name, address, labels=labels, rank=rank, now=now)

    def remove_endpoint(self, name: str, *, now: float) -> Endpoint:
        """Remove an endpoint."""
        self._note("remove_endpoint", now, name=name)
        return self.scheduler.remove_endpoint(name, now=now)

    def update(self, name: str, facts: Mapping[str, Any], *, now: float) -> None:
        """Record facts about an endpoint."""
        known = {column: _plain(value) for column, value in facts.items()}
        self._note("update", now, name=name, facts=known)
        self.scheduler.update(name, facts, now=now)

    def schedule(
        self, request: Request, *, now: float, n: int = 1, subset: Collection[str] | None = None
    ) -> Decision | Rejection:
        """Place a request."""
        chosen = None if subset is None else sorted(subset)
        step = self._note("schedule", now, request=self._written(request), n=n, subset=chosen)
        origin = len(self._steps) - 1
        answer = self.scheduler.schedule(request, now=now, n=n, subset=subset)
        step["answered"] = _gist(answer)
        if isinstance(answer, Decision):
            self._placed_by[answer.lease] = origin
        return answer

    def fallback(self, request: Request, decision: Decision, *, now: float) -> Decision | None:
        """Move a placement to its next fallback."""
        origin = self._step_of(decision)
        step = self._note("fallback", now, of=origin)
        answer = self.scheduler.fallback(request, decision, now=now)
        if answer is not None:
            step["answered"] = _gist(answer)
            self._placed_by[answer.lease] = origin
        return answer

    def first_token(self, decision: Decision, *, now: float) -> None:
        """Say that the first output arrived."""
        self._note("first_token", now, of=self._step_of(decision))
        self.scheduler.first_token(decision, now=now)

    def tell(self, hook: str, *what: Any, now: float) -> None:
        """Tell observers what is told in plain values: ``usage_reported``, which policies learn from."""
        self._note("tell", now, hook=hook, what=list(what))
        self.scheduler.tell(hook, *what, now=now)

    def finish(self, decision: Decision, *, now: float, outcome: str = "success") -> bool:
        """Say that a placement has ended."""
        self._note("finish", now, of=self._step_of(decision), outcome=outcome)
        return self.scheduler.finish(decision, now=now, outcome=outcome)

    def handle_timer(self, *, now: float) -> None:
        """Let the scheduler do what is due."""
        self._note("handle_timer", now)
        self.scheduler.handle_timer(now=now)

    def _note(self, do: str, now: float, **arguments: Any) -> dict[str, Any]:
        given = {name: value for name, value in arguments.items() if value not in (None, {}, "")}
        self._steps.append({"at": now, "do": do, **given})
        return self._steps[-1]

    def _step_of(self, decision: Decision) -> int:
        return self._placed_by[decision.lease]

    def _written(self, request: Request) -> dict[str, Any]:
        written: dict[str, Any] = {"id": request.id}
        written |= {name: value for name in _PLAIN if (value := getattr(request, name)) != _DEFAULTS[name]}
        if request.prompt is not None:
            written["prompt"] = disguised(request.prompt)
        if request.session is not None:
            written["session"] = hashlib.blake2b(request.session.encode(), digest_size=8).hexdigest()
        if request.media:
            written["media"] = [digest.hex() for digest in request.media]
        if kept := {name: value for name, value in request.headers.items() if name in self._headers}:
            written["headers"] = kept
        return written


def disguised(prompt: Prompt) -> str | list[int]:
    """Return another prompt, as long, that has as much in common with others in disguise as `prompt` has with them.

    >>> one, other = disguised("A secret. " * 20 + "Mine."), disguised("A secret. " * 20 + "Yours, in fact.")
    >>> one[:192] == other[:192], one == other, len(one), "secret" in one
    (True, False, 205, False)
    """
    text = prompt.decode("latin-1") if isinstance(prompt, bytes) else prompt
    chain = hashlib.blake2b(digest_size=_GRAIN * 2)
    if isinstance(text, str):
        pieces = []
        for start in range(0, len(text), _GRAIN):
            piece = text[start : start + _GRAIN]
            chain.update(piece.encode("utf-8", "surrogatepass"))
            pieces.append(chain.hexdigest()[: len(piece)])
        return "".join(pieces)
    tokens = [int(token) for token in text]
    hidden: list[int] = []
    for start in range(0, len(tokens), _GRAIN):
        piece_of_ids = tokens[start : start + _GRAIN]
        chain.update(np.array(piece_of_ids, np.int64).tobytes())
        hidden += np.frombuffer(chain.digest(), np.uint16)[: len(piece_of_ids)].tolist()
    return hidden


_DEFAULTS = {field.name: field.default for field in attrs.fields(Request)}


def _request(written: Mapping[str, Any]) -> Request:
    media = tuple(bytes.fromhex(digest) for digest in written.get("media", ()))
    return Request(**{**written, "media": media})


def _plain(fact: Any) -> Any:
    if isinstance(fact, set | frozenset):
        return sorted(fact)
    return None if fact is None or math.isnan(fact) else float(fact)


def _facts(written: Mapping[str, Any]) -> dict[str, Any]:
    return {column: frozenset(value) if isinstance(value, list) else value for column, value in written.items()}


def _gist(answer: Decision | Rejection) -> dict[str, Any]:
    if isinstance(answer, Rejection):
        return {"rejected": answer.reason, "http_status": answer.http_status}
    gist: dict[str, Any] = {"endpoint": answer.endpoint.name}
    if answer.fallbacks:
        gist["fallbacks"] = [endpoint.name for endpoint in answer.fallbacks]
    if answer.others:
        gist["stages"] = {lease.stage: lease.endpoint.name for lease in answer.others}
    return gist


_Placed = Mapping[int, tuple[Request, Decision]]
_Step = Mapping[str, Any]


def _add(scheduler: Scheduler, step: _Step, placed: _Placed) -> Endpoint:  # noqa: ARG001 — all of `_DO` have one signature
    labels, rank = step.get("labels"), step.get("rank", 0)
    return scheduler.add_endpoint(step["name"], step.get("address", ""), labels=labels, rank=rank, now=step["at"])


_DO: Mapping[str, Callable[[Scheduler, _Step, _Placed], object]] = {
    "add_endpoint": _add,
    "remove_endpoint": lambda s, step, _: s.remove_endpoint(step["name"], now=step["at"]),
    "update": lambda s, step, _: s.update(step["name"], _facts(step["facts"]), now=step["at"]),
    "schedule": lambda s, step, _: s.schedule(
        _request(step["request"]), now=step["at"], n=step.get("n", 1), subset=step.get("subset")
    ),
    "fallback": lambda s, step, placed: s.fallback(*placed[step["of"]], now=step["at"]),
    "first_token": lambda s, step, placed: s.first_token(placed[step["of"]][1], now=step["at"]),
    "tell": lambda s, step, _: s.tell(step["hook"], *step["what"], now=step["at"]),
    "finish": lambda s, step, placed: s.finish(
        placed[step["of"]][1], now=step["at"], outcome=step.get("outcome", "success")
    ),
    "handle_timer": lambda s, step, _: s.handle_timer(now=step["at"]),
}
