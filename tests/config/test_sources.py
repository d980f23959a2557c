"""Which sources a configuration has: listed, taken for granted, or needed by a producer."""

import contextlib
import random
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Any, ClassVar, Self

import attrs
import pytest

from inferencesched import ConfigError, Endpoint, Registry, Scheduler
from inferencesched.interfaces import Extractor, Fleet, Reading, Source, roles_of
from tests.config.short import Plugin, load


@attrs.define(eq=False)
class Metrics:
    """A source whose pages others read."""

    default_extractors: ClassVar[tuple[str, ...]] = ("core-metrics-extractor",)

    path: str = "/metrics"
    readers: tuple[Extractor, ...] = attrs.field(init=False, default=())

    def read_by(self, extractors: Iterable[Extractor]) -> Self:
        other = type(self)(self.path)
        other.readers = tuple(extractors)
        return other

    @contextlib.asynccontextmanager
    async def open(self, fleet: Fleet, /) -> AsyncIterator[None]:
        yield


class Models(Metrics):
    default_extractors: ClassVar[tuple[str, ...]] = ()


@attrs.define(eq=False)
class Events:
    """A source that lives on a producer."""

    producer: Any = attrs.field(metadata={"plugin_ref": "precise-prefix-cache-producer"})

    @contextlib.asynccontextmanager
    async def open(self, fleet: Fleet, /) -> AsyncIterator[None]:
        yield


@attrs.define(eq=False)
class Core:
    default_source: ClassVar[str] = "metrics-data-source"

    def extract(self, endpoint: Endpoint, payload: bytes, columns: Collection[str], /) -> Reading:
        return Reading()


class OfModels(Core):
    default_source: ClassVar[str] = "models-data-source"


INSTALLED = Registry(
    {
        "metrics-data-source": Metrics,
        "models-data-source": Models,
        "kv-events-source": Events,
        "core-metrics-extractor": Core,
        "models-data-extractor": OfModels,
        "file-discovery": Events,
    },
    installed=(),
)
NOTHING = Registry(installed=())


def sources(*plugins: Plugin, registry: Registry = INSTALLED, **layer: Any) -> tuple[tuple[Any, ...], Scheduler]:
    keys = {"dataLayer": layer} if layer else {}
    config = load("queue-scorer", *plugins, registry=registry, **keys)
    scheduler = config.scheduler(rng=random.Random(1))
    return config.sources(scheduler), scheduler


def plugin(scheduler: Scheduler, name: str) -> Any:
    (found,) = [named.plugin for named in scheduler.plugins if named.name == name]
    return found


def listed(source: str, *extractors: str) -> dict[str, Any]:
    return {"pluginRef": source, "extractors": [{"pluginRef": name} for name in extractors]}


def test_the_metrics_of_engines_are_there_without_a_word() -> None:
    (source,), _ = sources()

    assert isinstance(source, Metrics)
    assert isinstance(source, Source)
    assert [type(reader) for reader in source.readers] == [Core]


def test_without_defaults_there_is_what_is_listed() -> None:
    assert sources(injectDefaults=False)[0] == ()


def test_a_source_that_is_declared_and_listed_is_taken_with_its_parameters_and_extractors() -> None:
    declared = {"type": "metrics-data-source", "name": "mine", "parameters": {"path": "/load"}}
    core = {"type": "core-metrics-extractor", "name": "reader"}

    (source,), scheduler = sources(declared, core, sources=[listed("mine", "reader")])

    assert source.path == "/load"
    assert source.readers == (plugin(scheduler, "reader"),)


def test_a_source_that_is_declared_and_not_listed_stands_in_for_the_default_one() -> None:
    declared = {"type": "metrics-data-source", "parameters": {"path": "/load"}}

    (source,), _ = sources(declared)

    assert source.path == "/load"


def test_a_source_without_extractors_has_those_of_its_type() -> None:
    (source,), _ = sources("metrics-data-source", sources=[listed("metrics-data-source")])

    assert [type(reader) for reader in source.readers] == [Core]


def test_an_extractor_that_stands_under_no_source_brings_its_own() -> None:
    (metrics, models), scheduler = sources("models-data-extractor")

    assert [type(reader) for reader in metrics.readers] == [Core]
    assert isinstance(models, Models)
    assert models.readers == (plugin(scheduler, "models-data-extractor"),)


def test_a_producer_that_lives_on_events_has_a_source_of_them() -> None:
    (_, events), scheduler = sources("precise-prefix-cache-producer")

    assert isinstance(events, Events)
    assert events.producer is plugin(scheduler, "precise-prefix-cache-producer")


def test_an_event_source_that_is_declared_is_the_only_one() -> None:
    (_, events), scheduler = sources("precise-prefix-cache-producer", "kv-events-source")

    assert events is plugin(scheduler, "kv-events-source")


def test_discovery_is_a_source() -> None:
    found, scheduler = sources(
        "precise-prefix-cache-producer", "file-discovery", discovery={"pluginRef": "file-discovery"}
    )

    assert found[-1] is plugin(scheduler, "file-discovery")


def test_every_scheduler_has_sources_of_its_own() -> None:
    config = load("precise-prefix-cache-producer", "queue-scorer", registry=INSTALLED)
    one, other = (config.scheduler(rng=random.Random(1)) for _ in range(2))

    assert not set(map(id, config.sources(one))) & set(map(id, config.sources(other)))
    assert config.sources(one)[-1].producer is plugin(one, "precise-prefix-cache-producer")  # type: ignore[attr-defined]


def test_a_source_that_nothing_implements_yet_is_left_out() -> None:
    found, _ = sources("k8s-notification-source", sources=[listed("k8s-notification-source")], injectDefaults=False)

    assert found == ()


def test_a_distribution_that_is_not_installed_is_named_for_all_that_needs_it() -> None:
    config = load("precise-prefix-cache-producer", "queue-scorer", registry=NOTHING)

    with pytest.raises(ConfigError) as caught:
        config.sources(config.scheduler(rng=random.Random(1)))

    remedy = "which comes with the distribution 'inferencesched-sources': pip install inferencesched-sources"
    assert [problem.message for problem in caught.value.problems] == [
        f"needs '{source}', {remedy}" for source in ("metrics-data-source", "kv-events-source")
    ]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"sources": [listed("approx-prefix-cache-producer")]}, "is no source: it cannot be opened"),
        ({"sources": [listed("metrics-data-source", "approx-prefix-cache-producer")]}, "is no extractor"),
    ],
)
def test_what_cannot_do_what_it_is_listed_for_is_named(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sources("metrics-data-source", "approx-prefix-cache-producer", **layer)


def test_the_roles_are_told_by_their_methods() -> None:
    assert roles_of(Metrics) == ("source",)
    assert roles_of(Core) == ("extractor",)
