"""Plugins and parameters that moved are read where they are now, each with a warning."""

from tests.config.short import load, profile, wrong


def test_parameters_of_the_index_at_the_scorer_move_to_the_producer() -> None:
    config = load(
        {
            "type": "prefix-cache-scorer",
            "name": "prefix",
            "parameters": {"hashBlockSize": 128, "lruCapacityPerServer": 5000, "matchLengthWeight": 0.5},
        }
    )

    assert config.plugins["prefix"].plugin.match_length_weight == 0.5
    index = config.plugins["approx-prefix-cache-producer"].plugin
    assert (index.block_size, index.lru_capacity_per_server) == (128, 5000)
    moved = "deprecated here; write '{}' at a plugin of type 'approx-prefix-cache-producer'"
    assert [(warning.path, warning.message) for warning in config.warnings] == [
        ("plugins[0].parameters.hashBlockSize", moved.format("blockSize")),
        ("plugins[0].parameters.lruCapacityPerServer", moved.format("lruCapacityPerServer")),
    ]


def test_a_declared_producer_keeps_its_own_parameters() -> None:
    config = load(
        {"type": "approx-prefix-cache-producer", "parameters": {"lruCapacityPerServer": 7}},
        {"type": "prefix-cache-scorer", "parameters": {"lruCapacityPerServer": 5000}},
    )

    assert config.plugins["approx-prefix-cache-producer"].plugin.lru_capacity_per_server == 7


def test_a_moved_parameter_that_is_wrong_is_reported_where_it_stands() -> None:
    problems = wrong({"type": "prefix-cache-scorer", "parameters": {"lruCapacityPerServer": "many"}})

    assert problems == {"plugins[0].parameters.lruCapacityPerServer": "expected an integer, got 'many'"}


def test_the_precise_scorer_is_a_producer_and_a_scorer() -> None:
    config = load(
        {"type": "precise-prefix-cache-scorer", "parameters": {"speculativeIndexing": True}},
        schedulingProfiles=[profile({"pluginRef": "precise-prefix-cache-scorer", "weight": 3})],
    )

    default = config.profiles["default"]
    assert [(named.name, named.plugin.type) for named in default.scorers] == [
        ("precise-prefix-cache-scorer", "prefix-cache-scorer")
    ]
    assert default.weights == (3,)
    types = {plugin["type"]: plugin for plugin in config.to_mapping()["plugins"]}
    assert types["precise-prefix-cache-producer"]["parameters"]["speculativeIndexing"] is True
    assert config.warnings[0].message == (
        "'precise-prefix-cache-scorer' is deprecated; write 'precise-prefix-cache-producer' and 'prefix-cache-scorer'"
    )
