"""One model server in virtual time: continuous batching over a KV cache in blocks. It knows nothing of schedulers.

How an engine of the vLLM kind works, as far as placing requests depends on it:

* It works in *steps*. In each step every running sequence that is past its prompt gets one more token (*decode*), and
  what is left of the step's token budget goes to prompts, oldest first, in pieces if need be (*chunked prefill*).
* A waiting request is admitted, in order of arrival, when a place in the batch, budget, and room in the cache for its
  prompt are there. Leading blocks of its prompt that the cache holds are not computed again. Prompt blocks are known
  to others as soon as the step that computes them begins.
* Answers grow the cache too. When no block is left, the youngest sequence is *preempted*: it gives everything back,
  goes to the head of the queue, and is computed again later, often from its own cached blocks.
* A LoRA adapter needs a slot; loading one makes the step longer; a slot in use is not taken away, and requests behind
  one that waits for a slot may pass it.

The step's duration is linear, the form that is fitted to real engines (`inferencesched.sim.hardware` has numbers):

    step_seconds + Σ prompt tokens × prefill_token_seconds × (1 + position / attention_doubling_tokens)
                 + sequences decoding × decode_sequence_seconds + tokens in their contexts × context_token_seconds
                 + adapters loaded × adapter_load_seconds

The rules follow vLLM's V1 scheduler (vllm/v1/core/sched/scheduler.py). Not modelled: answers as cached prefixes of the
next turn (traces do not say which blocks an answer became), speculative decoding, CUDA-graph steps, swapping.

Steps that only decode are computed many at once (`inferencesched.sim.steps`); `advance` cuts such a run at any time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set as AbstractSet
from typing import Literal

import attrs
from attrs.validators import ge, gt

from inferencesched.sim.adapters import AdapterSlots
from inferencesched.sim.cache import BlockCache
from inferencesched.sim.steps import Run
from inferencesched.sim.trace import TraceRequest

__all__ = ["CacheChange", "Engine", "EngineEvent", "EngineSpec", "Served"]


@attrs.frozen
class EngineSpec:
    """What one engine can do. Times in seconds, sizes in tokens unless the name says otherwise.

    Attributes:
        name: the hardware and model it stands for.
        step_seconds: what every step costs: reading the weights, launching kernels.
        prefill_token_seconds: per prompt token computed, at the beginning of a prompt.
        attention_doubling_tokens: the position in a prompt at which a token costs twice that, because of attention.
        decode_sequence_seconds: per sequence decoding in the step.
        context_token_seconds: per token of their contexts, which decoding has to read.
        max_running: sequences in the batch (vLLM: ``max_num_seqs``).
        step_tokens: token budget of a step, at least `max_running` (vLLM: ``max_num_batched_tokens``).
        cache_tokens: size of the KV cache; infinite for one without limit.
        max_adapters: LoRA adapters that may be in a batch (vLLM: ``max_loras``); 0 switches LoRA off.
        adapter_load_seconds: to bring one adapter into a slot.
    """

    name: str
    step_seconds: float = attrs.field(validator=gt(0.0))
    prefill_token_seconds: float = attrs.field(validator=ge(0.0))
    attention_doubling_tokens: float = attrs.field(default=math.inf, validator=gt(0.0))
    decode_sequence_seconds: float = attrs.field(default=0.0, validator=ge(0.0))
    context_token_seconds: float = attrs.field(default=0.0, validator=ge(0.0))
    max_running: int = attrs.field(default=256, validator=ge(1))
    step_tokens: int = attrs.field(default=2048)
    cache_tokens: float = attrs.field(default=math.inf, validator=gt(0.0))
    max_adapters: int = attrs.field(default=0, validator=ge(0))
    adapter_load_seconds: float = attrs.field(default=0.0, validator=ge(0.0))

    @step_tokens.validator
    def _has_a_token_for_each(self, attribute: attrs.Attribute[int], value: int) -> None:
        if value < self.max_running:
            raise ValueError(f"step_tokens must be at least max_running ({self.max_running}), got {value}")

    def cache_blocks(self, block_tokens: int) -> float:
        """Return how many blocks of that size the cache holds."""
        return self.cache_tokens if math.isinf(self.cache_tokens) else int(self.cache_tokens) // block_tokens

    def prefill_seconds(self, start: int, end: int) -> float:
        """Return how long the prompt's tokens from `start` to `end` take: the integral over their positions."""
        tokens = end - start
        return self.prefill_token_seconds * (tokens + tokens * (start + end) / 2 / self.attention_doubling_tokens)


@attrs.frozen
class EngineEvent:
    """Something that whoever waits for an answer notices."""

    time: float
    kind: Literal["first_token", "finished"]
    served: Served


class Served:
    """One request inside an engine, from its arrival there to its last token.

    Attributes:
        request: what was asked.
        admitted: when it first came into the batch; NaN before that.
        matched_blocks: leading prompt blocks found in the cache when it was first admitted.
        matched_tokens: the same in tokens.
        preemptions: how often it had to start again.
        generated: tokens of the answer so far.
    """

    __slots__ = (
        "admitted",
        "allocated",
        "computed",
        "generated",
        "keys",
        "matched_blocks",
        "matched_tokens",
        "preemptions",
        "published",
        "request",
        "target",
    )

    def __init__(self, request: TraceRequest) -> None:
        self.request = request
        adapter = request.adapter
        self.keys: Sequence[Hashable] = (
            request.blocks if adapter is None else tuple((adapter, block) for block in request.blocks)
        )
        self.admitted = math.nan
        self.matched_blocks = -1  # not admitted yet
        self.matched_tokens = 0
        self.preemptions = 0
        self.generated = 0
        self.target = 0  # tokens to compute before the next token can be generated
        self.computed = 0
        self.allocated = 0  # blocks held, of which the first `published` by key
        self.published = 0

    @property
    def context(self) -> int:
        """Tokens of prompt and answer so far."""
        return self.request.prompt_tokens + self.generated

    @property
    def is_decoding(self) -> bool:
        """Whether it is past its prompt (and, after a preemption, past what it had answered)."""
        return self.computed >= self.target


@attrs.frozen
class CacheChange:
    """A block came into the prefix cache, or left it.

    Attributes:
        key: the block and everything before it: a number of `TraceRequest.blocks`, with an adapter the pair of its name
            and that number.
        served: whose prompt it came with; None when the block was evicted.
        place: which block of that prompt it is, from 0.
    """

    key: Hashable
    served: Served | None = None
    place: int = 0


class Engine:
    """One simulated model server.

    Drive it like every machine here: `submit` requests, call `advance` no later than `next_time` says, and handle the
    events that come back. Time never goes back.

    Args:
        spec: what the engine can do.
        block_tokens: tokens per cache block; those of the trace, whose prompts say nothing finer.
        watch: is told of each block that comes into the prefix cache or leaves it, as it happens.

    Complexity: a step costs O(running sequences); a run of decoding steps costs the same as one.
    """

    def __init__(
        self, spec: EngineSpec, *, block_tokens: int, watch: Callable[[CacheChange], object] | None = None
    ) -> None:
        self.spec = spec
        self.block_tokens = block_tokens
        self.cache = BlockCache(
            spec.cache_blocks(block_tokens), evicted=None if watch is None else lambda key: watch(CacheChange(key))
        )
        self._watch = watch
        self.waiting: deque[Served] = deque()
        self.running: list[Served] = []
        self.computed_tokens = 0
        self.preemptions = 0
        self._run: Run | None = None  # the step or steps under way
        self._chunks: list[tuple[Served, int]] = []  # what a step with prompts does; empty in a run that only decodes
        self._slots = AdapterSlots(spec.max_adapters)
        self._is_stuck = False  # the head of the queue found no room, and none was given back since
        self._idle_since: float | None = 0.0
        self._idle_seconds = 0.0
        self._last_scrape: tuple[float, float] = (0.0, 0.0)  # when, and busy seconds by then

    def next_time(self) -> float | None:
        """Return when something may happen if nothing is submitted; None while idle."""
        return None if self._run is None else self._run.end(self._run.steps)

    def next_step_time(self) -> float | None:
        """Return when the step under way ends, with a token for each sequence that decodes; None while idle.

        For whoever passes tokens on as they come: `next_time` may be many such steps later.
        """
        return None if self._run is None else self._run.end(min(self._run.done + 1, self._run.steps))

    def busy_seconds(self, now: float) -> float:
        """Return how long the engine has worked by `now`."""
        pause = 0.0 if self._idle_since is None else max(now - self._idle_since, 0.0)
        return now - self._idle_seconds - pause

    def scrape(self, now: float) -> Mapping[str, float | AbstractSet[str]]:
        """Return what reading the engine's metrics at `now` tells, by `inferencesched.vocabulary`'s names.

        ``accelerator_utilization`` is the busy share of the time since the last scrape.
        """
        since, busy_then = self._last_scrape
        busy = self.busy_seconds(now)
        self._last_scrape = (now, busy)
        facts: dict[str, float | AbstractSet[str]] = {
            "waiting_requests": float(len(self.waiting)),
            "running_requests": float(len(self.running)),
            "kv_cache_utilization": self.cache.utilization,
            "accelerator_utilization": (busy - busy_then) / (now - since) if now > since else float(busy > 0),
            "cache_block_size_tokens": float(self.block_tokens),
        }
        if not math.isinf(self.cache.capacity):
            facts["cache_num_blocks"] = float(self.cache.capacity)
        if self.spec.max_adapters:
            waiting = (served.request.adapter for served in self.waiting)
            facts["max_active_adapters"] = float(self.spec.max_adapters)
            facts["active_adapters"] = self._slots.resident
            facts["waiting_adapters"] = frozenset(adapter for adapter in waiting if adapter is not None)
        return facts

    def submit(self, request: TraceRequest, *, now: float) -> Served:
        """Queue a request, and return what is known of it from now on. Call `advance` up to `now` first.

        Raises:
            ValueError: no batch of this engine could ever hold it.
        """
        if self._blocks(request.prompt_tokens + request.output_tokens) > self.cache.capacity:
            raise ValueError(f"request {request.id} is longer than the cache of {self.spec.name}")
        if request.adapter is not None and not self.spec.max_adapters:
            raise ValueError(f"request {request.id} wants adapter '{request.adapter}', and {self.spec.name} has none")
        served = Served(request)
        self.waiting.append(served)
        if self._run is None:
            self._idle_seconds += now - (self._idle_since or 0.0)
            self._idle_since = None
            self._begin(now)
        elif not self._is_stuck:
            self._run.steps = min(self._run.steps, self._run.done + 1)  # it may join after the present step
        return served

    def abort(self, served: Served) -> None:
        """Drop a request that has not finished: nobody waits for its answer any more. Call `advance` up to now first.

        Its blocks are free at once; a step under way lasts as long as it would have.

        Raises:
            ValueError: it has finished or was aborted before.

        Complexity: O(waiting + running).
        """
        if served.allocated:
            self.running.remove(served)
            self._give_back(served)
        else:
            self.waiting.remove(served)
            self._is_stuck = False  # it may have been the one that found no room
        if self._run is not None:
            self._run.steps = min(self._run.steps, self._run.done + 1)  # another one may join after the present step

    def advance(self, now: float) -> list[EngineEvent]:
        """Complete every step that ends by `now`; return what came of it, in order."""
        events: list[EngineEvent] = []
        while (run := self._run) is not None:
            complete = run.complete(now)
            if complete == run.done:
                break
            at = run.end(complete)
            events += self._finish_mixed(at) if self._chunks else self._finish_decoding(complete - run.done, at)
            run.done = complete
            if complete == run.steps:
                self._begin(at)
        return events

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)

    # Ending a step

    def _finish_mixed(self, at: float) -> Iterator[EngineEvent]:
        for served, tokens in self._chunks:
            if not served.allocated:
                continue  # aborted under way
            if tokens:
                served.computed += tokens
                self.computed_tokens += tokens
                if not served.is_decoding:
                    continue
            served.generated += 1
            if served.generated == 1:
                yield EngineEvent(at, "first_token", served)
            if served.generated == served.request.output_tokens:
                yield self._leave(served, at)

    def _finish_decoding(self, steps: int, at: float) -> Iterator[EngineEvent]:
        for served in self.running:  # all grow before one leaves, as they did step by step
            self._grow(served, served.context + steps - 1)
        for served in tuple(self.running):
            served.generated += steps
            if served.generated == served.request.output_tokens:
                yield self._leave(served, at)

    def _leave(self, served: Served, at: float) -> EngineEvent:
        self.running.remove(served)
        self._give_back(served)
        return EngineEvent(at, "finished", served)

    def _give_back(self, served: Served) -> None:
        self.cache.release(served.keys[: served.published], nameless=served.allocated - served.published)
        served.allocated = served.published = 0
        self._is_stuck = False

    # Beginning a step

    def _begin(self, at: float) -> None:
        """Compose the next step: decoding first, then prompts under way, then new ones."""
        chunks, preempted = self._continue_running()
        loads = 0
        if not preempted:  # whoever had to go may come back after one step
            loads = self._admit(chunks, at)
        if not chunks:
            self._run, self._idle_since = None, at
            return
        decoding = [served for served, tokens in chunks if not tokens]
        context = sum(served.context for served in decoding)
        duration = (
            self.spec.step_seconds
            + loads * self.spec.adapter_load_seconds
            + len(decoding) * self.spec.decode_sequence_seconds
            + context * self.spec.context_token_seconds
        )
        if len(decoding) == len(chunks):
            growth = len(decoding) * self.spec.context_token_seconds
            self._chunks, self._run = [], Run(at, duration, growth, steps=1 if preempted else self._longest_run())
            return
        duration += sum(self.spec.prefill_seconds(s.computed, s.computed + tokens) for s, tokens in chunks if tokens)
        self._chunks, self._run = chunks, Run(at, duration)

    def _continue_running(self) -> tuple[list[tuple[Served, int]], bool]:
        """Return what each running sequence does (prompt tokens; 0: it decodes), and whether one had to go."""
        chunks: list[tuple[Served, int]] = []
        budget, preempted, place = self.spec.step_tokens, False, 0
        while place < len(self.running) and budget > 0:
            served = self.running[place]
            if served.is_decoding:
                while not self._grow(served, served.context):
                    preempted = True
                    if self._preempt_youngest() is served:
                        return chunks, preempted
                chunks.append((served, 0))
                budget -= 1
            else:
                budget -= self._add_chunk(chunks, served, budget)
            place += 1
        return chunks, preempted

    def _admit(self, chunks: list[tuple[Served, int]], at: float) -> int:
        """Admit waiting requests while there is budget, a place and room; return how many adapters had to be loaded."""
        budget = self.spec.step_tokens - sum(tokens or 1 for _, tokens in chunks)
        loads, passed_over = 0, []
        while self.waiting and budget > 0 and len(self.running) < self.spec.max_running and not self._is_stuck:
            served = self.waiting.popleft()
            in_use = {other.request.adapter for other in self.running}
            if not self._slots.has_room(served.request.adapter, in_use):
                passed_over.append(served)
                continue
            if not self._seat(served):
                self.waiting.appendleft(served)
                self._is_stuck = True
                break
            loads += self._slots.take(served.request.adapter, in_use)
            self.running.append(served)
            if math.isnan(served.admitted):
                served.admitted = at
            budget -= self._add_chunk(chunks, served, budget)
        self.waiting.extendleft(reversed(passed_over))
        return loads

    def _seat(self, served: Served) -> bool:
        """Take room for the whole prompt (after a preemption: and for the answer so far); False if there is none."""
        matched = self.cache.match(served.keys)
        allocated = self._blocks(served.context)
        if not self.cache.take(served.keys, matched, fresh=allocated - matched):
            return False
        served.allocated, served.published, served.target = allocated, matched, served.context
        matched_tokens = min(matched * self.block_tokens, served.request.prompt_tokens)
        served.computed = min(matched_tokens, served.target - 1)  # the next token comes out of computing the last one
        if served.matched_blocks < 0:
            served.matched_blocks, served.matched_tokens = matched, matched_tokens
        return True

    def _add_chunk(self, chunks: list[tuple[Served, int]], served: Served, budget: int) -> int:
        """Give a prompt as much of the step as is left, and tell the others which of its blocks will be there."""
        tokens = min(served.target - served.computed, budget)
        chunks.append((served, tokens))
        reached = served.computed + tokens
        whole = len(served.keys) if reached >= served.request.prompt_tokens else reached // self.block_tokens
        while served.published < whole:
            key = served.keys[served.published]
            if self.cache.publish(key) and self._watch is not None:
                self._watch(CacheChange(key, served, served.published))
            served.published += 1
        return tokens

    def _grow(self, served: Served, tokens: int) -> bool:
        """Hold blocks for a context of `tokens`; False when there is no room."""
        missing = self._blocks(tokens) - served.allocated
        if missing > 0:
            if not self.cache.reserve(missing):
                return False
            served.allocated += missing
        return True

    def _longest_run(self) -> int:
        """Return how many steps can pass before a sequence ends or the cache might be full."""
        steps = min(served.request.output_tokens - served.generated for served in self.running)
        while steps > 1 and self._missing(steps) > self.cache.available:
            steps //= 2
        return steps

    def _missing(self, steps: int) -> int:
        return sum(self._blocks(served.context + steps - 1) - served.allocated for served in self.running)

    def _preempt_youngest(self) -> Served:
        served = self.running.pop()
        self._give_back(served)
        served.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(served)
        return served
