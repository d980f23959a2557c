"""The model server behind its HTTP: who may be asked for what, and the job that comes of it."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator

import attrs
import xxhash

from inferencesched.prefix import chained_hashes
from inferencesched.sim import CacheChange, TraceRequest
from inferencesched_enginesim.driver import Driver, Sequence
from inferencesched_enginesim.faults import Faults
from inferencesched_enginesim.job import Job
from inferencesched_enginesim.kv_events import KvEvents
from inferencesched_enginesim.log import Received, RequestLog
from inferencesched_enginesim.metrics import MetricPage
from inferencesched_enginesim.problems import BadRequest, ModelNotFound, QueueFull
from inferencesched_enginesim.prompts import Tokens, detokenize
from inferencesched_enginesim.spec import ServerSpec
from inferencesched_enginesim.tally import Tally
from inferencesched_enginesim.text import Answer, Echo, Words

__all__ = ["Asked", "Service"]


@attrs.frozen(eq=False)
class Asked:
    """What a request asks of the engine, whichever API it came through.

    Attributes:
        model: the base model or an adapter.
        prompts: each gets its own answer.
        max_tokens: of an answer; None: as many as the model's length leaves.
        min_tokens: of an answer.
        ignore_eos: whether an answer goes on until `max_tokens`.
        n: answers to each prompt.
        is_streamed: whether tokens are passed on as they come.
        echo: what an echo would say; empty for the prompt itself.
        cache_salt: keeps the prompt's cached blocks apart from those of other salts.
    """

    model: str
    prompts: list[Tokens]
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    n: int = 1
    is_streamed: bool = False
    echo: str = ""
    cache_salt: str = ""


class Service:
    """One simulated server without its HTTP. It is the listener of its engine's driver.

    Args:
        spec: the server.
        loop: that everything runs in.

    Attributes:
        faults: what goes wrong on purpose.
        log: what was received lately.
        adapters: the loaded LoRA adapters, with the paths that they were loaded from.
        driver: runs the engine.
        page: its metrics.
        kv_events: where cache events go, once that is open.
    """

    def __init__(self, spec: ServerSpec, loop: asyncio.AbstractEventLoop) -> None:
        self.spec = spec
        self.faults = Faults(loop.time, random.Random(spec.seed))
        self.log = RequestLog(spec.remembered)
        self.adapters = {name: f"simulated/{name}" for name in spec.loras}
        self.created = int(time.time())
        self.kv_events: KvEvents | None = None
        self._tally = Tally()
        self._ids = itertools.count()
        self.driver = Driver(
            spec.engine,
            block_tokens=spec.block_tokens,
            rate=spec.speed / spec.slowdown,
            loop=loop,
            listener=self,
            watch=None if spec.kv_events is None else self._cache_changed,
        )
        self.page = MetricPage(spec, self.driver.engine, self._tally)

    # --- asking ----------------------------------------------------------------------------------------------------

    def adapter(self, model: object) -> str | None:
        """Return the adapter that a model's name stands for; None for the base model.

        Raises:
            ModelNotFound: it stands for nothing.
        """
        if model == self.spec.model:
            return None
        if isinstance(model, str) and model in self.adapters:
            return model
        raise ModelNotFound(model)

    def job(self, asked: Asked, received: Received) -> Job:
        """Return the job of answering; entering it queues the work.

        Raises:
            ModelNotFound, BadRequest, QueueFull: it cannot be done.
        """
        adapter = self.adapter(asked.model)
        sequences = list(self._sequences(asked, adapter))
        waiting, running = self.spec.max_waiting, self.spec.engine.max_running
        if waiting is not None and self.driver.live + len(sequences) > running + waiting:
            self._tally.rejected += 1
            self.page.changed()
            raise QueueFull
        return Job(self.driver, sequences, received)

    def _sequences(self, asked: Asked, adapter: str | None) -> Iterator[Sequence]:
        for tokens in asked.prompts:
            limit = self._limit(asked, len(tokens))
            blocks = self._blocks(tokens, adapter, asked.cache_salt)
            for number in range(asked.n):
                answer = self._answer(asked, tokens, number)
                natural = max(answer.length, asked.min_tokens)
                length = limit if asked.ignore_eos else min(natural, limit)
                is_cut = asked.ignore_eos or length < natural
                self._check_room(len(tokens) + length)
                name = f"{self.spec.name}-{next(self._ids)}"
                request = TraceRequest(name, 0.0, len(tokens), length, blocks, adapter=adapter)
                yield Sequence(request, tokens, answer, "length" if is_cut else "stop", is_streamed=asked.is_streamed)

    def _limit(self, asked: Asked, prompt_tokens: int) -> int:
        longest, wanted = self.spec.max_model_len, asked.max_tokens
        if prompt_tokens + (wanted or 1) > longest:
            raise BadRequest(
                f"This model's maximum context length is {longest} tokens. However, you requested "
                f"{prompt_tokens + (wanted or 1)} tokens ({prompt_tokens} in the messages, {wanted or 1} in the "
                "completion). Please reduce the length of the messages or completion.",
                param="max_tokens" if wanted else "messages",
            )
        limit = longest - prompt_tokens if wanted is None else wanted
        if asked.min_tokens > limit:
            raise BadRequest(f"'min_tokens' must be at most {limit}, got {asked.min_tokens}", param="min_tokens")
        return limit

    def _check_room(self, tokens: int) -> None:
        if -(-tokens // self.spec.block_tokens) > self.driver.engine.cache.capacity:
            raise BadRequest(f"{tokens} tokens are more than this engine's KV cache can hold")

    def _blocks(self, tokens: Tokens, adapter: str | None, salt: str) -> tuple[int, ...]:
        """The hashes of the prompt's full blocks: those that a cache can share."""
        size = self.spec.block_tokens
        whole = tokens[: len(tokens) // size * size]
        return tuple(chained_hashes(whole, block_size_tokens=size, model=adapter or "", cache_salt=salt))

    def _answer(self, asked: Asked, tokens: Tokens, number: int) -> Answer:
        if self.spec.echo:
            return Echo(asked.echo or detokenize(tokens))
        seed = xxhash.xxh3_64_intdigest(tokens.tobytes(), seed=self.spec.seed + number)
        return Words(seed, self.spec.answer_tokens)

    # --- what the driver tells -------------------------------------------------------------------------------------

    def submitted(self, sequence: Sequence) -> None:
        """Know the prompt whose blocks are about to be stored."""
        if self.kv_events is not None:
            self.kv_events.admit(sequence.request.id, sequence.tokens)

    def first_token(self, sequence: Sequence) -> None:
        """Count it."""
        self._tally.first_token(sequence, self.driver.clock.rate)

    def finished(self, sequence: Sequence) -> None:
        """Count it, and forget the prompt."""
        self._tally.finished(sequence, self.driver.clock.rate)
        if self.kv_events is not None:
            self.kv_events.forget(sequence.request.id)

    def aborted(self, sequence: Sequence) -> None:
        """Count it, and forget the prompt."""
        self._tally.aborted(sequence)
        if self.kv_events is not None:
            self.kv_events.forget(sequence.request.id)

    def stepped(self) -> None:
        """Publish what has changed."""
        self.page.changed()
        if self.kv_events is not None:
            self.kv_events.publish()

    def _cache_changed(self, change: CacheChange) -> None:
        if self.kv_events is not None:
            self.kv_events.watch(change)
