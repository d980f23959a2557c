"""Made-up traffic with the shape of real traffic: conversations, agents and single questions, from a seed.

A workload is a stream of *sessions*. A session begins with a system prompt that it shares with every other session of
its application, then grows: each turn appends what the user (or a tool) says to everything before, answers included,
and sends it all again. Turns come at their own times whether or not the answer before them is complete (*open loop*):
one trace serves every policy, and a slow policy cannot slow its own traffic down.

The three kinds of traffic here are calibrated on published material:

* `CHAT` on the first 1,500 s of Mooncake's conversation trace (Qin et al., FAST '25): first prompts of 6,100 tokens in
  the median and 27,700 at the 90th percentile; 35 % of requests continue an earlier one (share more than its first
  block), after 114 s in the median and 416 s at the 90th percentile, grown by 470 tokens in the median; answers of 357
  tokens; a first block of 512 tokens that every request shares.
* `AGENTS` on the airline agents of tau-bench (Yao et al., 2024; github.com/sierra-research/tau-bench): 13 calls a
  session in the mean, a system prompt of 6,248 characters, 551 characters added and 234 answered per call in the median
  (1,283 and 556 at the 90th percentile), at four characters a token. That agents of one sort share their instructions
  and call again within seconds is structure; 20 sorts, and 4 s, are assumptions.
* `COMPLETIONS` on Azure's code service (Patel et al., "Splitwise", 2024; github.com/Azure/AzurePublicDataset): contexts
  of 1,469 tokens in the median and 5,188 at the 90th percentile, 13 and 55 tokens generated. That trace says nothing of
  prefixes; these share none.

Sessions arrive by a Gamma process. ServeGen (Xiang et al., arXiv:2505.09999) finds Gamma and Weibull gaps better than
Poisson's for production clients; a coefficient of variation of 1.24 is the median, and 3.3 the mean weighted by rate,
over windows of 600 s of twenty clients of its "m-small" model. 1 is Poisson.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import attrs
from attrs.validators import ge, gt

from inferencesched.sim.trace import Trace, TraceRequest

__all__ = ["AGENTS", "CHAT", "COMPLETIONS", "LogNormal", "Traffic", "Workload"]

_P90 = 1.2816  # standard deviations from the median to the 90th percentile of a normal distribution
_LONGEST_PROMPT = 120_000  # tokens; Mooncake's longest is 123,192, and engines limit the context to 128 Ki


@attrs.frozen
class LogNormal:
    """A size or a time, given by its median and its 90th percentile."""

    median: float = attrs.field(validator=gt(0.0))
    p90: float = attrs.field()

    @p90.validator
    def _not_below_the_median(self, attribute: attrs.Attribute[float], value: float) -> None:
        if value < self.median:
            raise ValueError(f"the 90th percentile cannot be below the median {self.median:g}, got {value:g}")

    def draw(self, rng: random.Random) -> float:
        """Return one value."""
        return self.median * math.exp(rng.gauss(0.0, 1.0) * math.log(self.p90 / self.median) / _P90)

    def draw_tokens(self, rng: random.Random) -> int:
        """Return one value as a count of tokens, at least 1."""
        return max(round(self.draw(rng)), 1)


@attrs.frozen
class Traffic:
    """One kind of session. Sizes in tokens, times in seconds.

    Attributes:
        name: begins the names of its sessions.
        system: length of an application's system prompt; None when there is none.
        applications: how many there are; the k-th is asked for in proportion to 1/k.
        first: length of a session's first message.
        added: length of each further message.
        answer: length of an answer.
        turns: requests per session, in the mean; their number is geometric.
        gap: time from one request of a session to the next.
        adapters: LoRA adapters, one for each application in turn; empty for the base model.
    """

    name: str
    first: LogNormal
    added: LogNormal
    answer: LogNormal
    gap: LogNormal
    turns: float = attrs.field(default=1.0, validator=ge(1.0))
    system: LogNormal | None = None
    applications: int = attrs.field(default=1, validator=ge(1))
    adapters: tuple[str, ...] = ()


CHAT = Traffic(
    "chat",
    system=LogNormal(512, 512),
    first=LogNormal(5_600, 27_200),
    added=LogNormal(110, 900),
    answer=LogNormal(357, 606),
    gap=LogNormal(114, 416),
    turns=1.54,  # 1 / (1 − 0.35)
)
AGENTS = Traffic(
    "agent",
    system=LogNormal(1_562, 3_000),
    applications=20,
    first=LogNormal(50, 100),
    added=LogNormal(80, 180),  # what an agent's call adds, less the answer before it
    answer=LogNormal(59, 139),
    gap=LogNormal(4, 10),
    turns=13.0,
)
COMPLETIONS = Traffic(
    "completion",
    first=LogNormal(1_469, 5_188),
    added=LogNormal(1, 1),
    answer=LogNormal(13, 55),
    gap=LogNormal(1, 1),
)


@attrs.frozen
class Workload:
    """A mixture of sessions, and how they arrive.

    Attributes:
        mixture: kinds of traffic, each with its sessions per second.
        burstiness: coefficient of variation of the gaps between sessions of one kind; 1 is Poisson.
        block_tokens: size of the blocks in which the trace tells prompts; 64 is the finest at which the Endpoint
            Picker's prefix index looks.
    """

    mixture: tuple[tuple[Traffic, float], ...]
    burstiness: float = attrs.field(default=1.0, validator=gt(0.0))
    block_tokens: int = attrs.field(default=64, validator=ge(1))

    def generate(self, duration: float, rng: random.Random, *, name: str = "generated") -> Trace:
        """Return the requests of `duration` seconds, from a service without a past. Equal dice, equal trace."""
        blocks = _Blocks(self.block_tokens)
        requests: list[TraceRequest] = []
        for traffic, rate in self.mixture:
            applications = [_Application(traffic, place, blocks, rng) for place in range(traffic.applications)]
            popularity = [1 / (place + 1) for place in range(traffic.applications)]
            for number, start in enumerate(self._arrivals(rate, duration, rng)):
                (application,) = rng.choices(applications, popularity)
                session = application.session(f"{traffic.name}-{number}", start, rng)
                requests += (request for request in session if request.arrival < duration)
        requests.sort(key=lambda request: (request.arrival, request.id))
        return Trace(name, self.block_tokens, tuple(requests))

    def _arrivals(self, rate: float, duration: float, rng: random.Random) -> Iterator[float]:
        """Yield times whose gaps have a Gamma distribution of mean 1/rate: shape 1/cv², scale cv²/rate."""
        variance = self.burstiness**2
        at = rng.gammavariate(1 / variance, variance / rate)
        while at < duration:
            yield at
            at += rng.gammavariate(1 / variance, variance / rate)


class _Blocks:
    """Hands out numbers for blocks that no other prompt has."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._next = 0

    def new(self, count: int) -> list[int]:
        first, self._next = self._next, self._next + count
        return list(range(first, self._next))


class _Application:
    """Sessions with one system prompt."""

    def __init__(self, traffic: Traffic, place: int, blocks: _Blocks, rng: random.Random) -> None:
        self._traffic = traffic
        self._blocks = blocks
        self._system_tokens = traffic.system.draw_tokens(rng) if traffic.system is not None else 0
        self._system = blocks.new(self._system_tokens // blocks.tokens)
        self._adapter = traffic.adapters[place % len(traffic.adapters)] if traffic.adapters else None

    def session(self, name: str, start: float, rng: random.Random) -> Iterator[TraceRequest]:
        """Yield the requests of one session.

        A block that is not yet full will read differently when it is: it gets a number of its own in each request.
        """
        traffic, known = self._traffic, list(self._system)
        at, turn = start, 0
        tokens = self._system_tokens + traffic.first.draw_tokens(rng)
        while tokens <= _LONGEST_PROMPT:
            known += self._blocks.new(tokens // self._blocks.tokens - len(known))
            tail = self._blocks.new(1) if tokens % self._blocks.tokens else []
            answer = traffic.answer.draw_tokens(rng)
            yield TraceRequest(f"{name}.{turn}", at, tokens, answer, (*known, *tail), name, self._adapter)
            if rng.random() * traffic.turns < 1.0:  # geometric with mean `turns`
                return
            turn += 1
            at += traffic.gap.draw(rng)
            tokens += answer + traffic.added.draw_tokens(rng)
