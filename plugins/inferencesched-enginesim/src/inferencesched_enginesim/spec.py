"""What one simulated server is: its engine, its names, and how it answers. Values only."""

from __future__ import annotations

import attrs
from attrs.validators import ge, gt, in_, min_len

from inferencesched.sim import ENGINES, EngineSpec

__all__ = ["HARDWARE", "INSTANT", "KvEventPorts", "ServerSpec"]

INSTANT = EngineSpec(
    "instant",
    step_seconds=1e-6,
    prefill_token_seconds=0.0,
    max_running=4096,
    step_tokens=1 << 20,
    cache_tokens=1 << 22,
    max_adapters=4,
)
"""An engine that costs no time: what is left is the price of the HTTP around it."""

HARDWARE = {**ENGINES, "instant": INSTANT}
"""Engines by the name that the command line knows them by."""


@attrs.frozen
class KvEventPorts:
    """Where KV-cache events are published, and where lost ones are asked for again; 0 takes any free port."""

    events: int = attrs.field(default=0, validator=ge(0))
    replay: int = attrs.field(default=0, validator=ge(0))


@attrs.frozen
class ServerSpec:
    """One simulated server.

    Attributes:
        name: of the engine, in listings and topics.
        model: the base model's name.
        loras: adapters that are loaded from the start.
        engine: what the engine can do (`inferencesched.sim.ENGINES`, `INSTANT`).
        block_tokens: tokens per cache block.
        speed: simulated seconds that pass in a real one.
        slowdown: by which this server is slower than its hardware.
        max_model_len: tokens of prompt and answer together.
        max_waiting: sequences that there may be beyond the engine's `max_running`; more are refused. None: any number.
        answer_tokens: length of an answer that nothing else limits.
        echo: whether answers repeat the last message (or the prompt) instead of words drawn from `seed`.
        seed: of the words, the embeddings and the faults' dice.
        embedding_size: numbers in an embedding that does not ask for another size.
        metrics_dialect: ``new`` for vLLM's metric names of today, ``old`` for those of its first engine.
        kv_events: where KV-cache events are published; None: nowhere.
        remembered: requests that `EngineServer.log` keeps, the oldest of which goes first.
        host: to listen at.
        port: to listen at; 0 takes any free one.
    """

    name: str = "e0"
    model: str = "llama-3.1-8b"
    loras: tuple[str, ...] = attrs.field(default=())
    engine: EngineSpec = ENGINES["h100"]
    block_tokens: int = attrs.field(default=16, validator=ge(1))
    speed: float = attrs.field(default=1.0, validator=gt(0.0))
    slowdown: float = attrs.field(default=1.0, validator=gt(0.0))
    max_model_len: int = attrs.field(default=131_072, validator=ge(2))
    max_waiting: int | None = attrs.field(default=None, validator=attrs.validators.optional(ge(0)))
    answer_tokens: int = attrs.field(default=64, validator=ge(1))
    echo: bool = False
    seed: int = 0
    embedding_size: int = attrs.field(default=64, validator=ge(1))
    metrics_dialect: str = attrs.field(default="new", validator=in_(("new", "old")))
    kv_events: KvEventPorts | None = None
    remembered: int = attrs.field(default=1000, validator=ge(0))
    host: str = attrs.field(default="127.0.0.1", validator=min_len(1))
    port: int = attrs.field(default=0, validator=ge(0))

    @loras.validator
    def _has_slots(self, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        if self.model in value:
            raise ValueError(f"'{self.model}' is the base model, and cannot be an adapter too")
        if value and not self.engine.max_adapters:
            raise ValueError(f"adapters are given, and {self.engine.name} has no room for any")
