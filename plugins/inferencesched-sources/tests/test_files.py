"""A file of endpoints, read strictly at first and followed with forbearance."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from inferencesched_sources import FileDiscovery, files

from inferencesched import ConfigError, Registry

ENTRY = "- {{name: {name}, address: {address}, port: '{port}', labels: {{zone: north}}}}\n"


def entry(name: str, address: str = "10.0.0.1", port: int = 8000) -> str:
    return ENTRY.format(name=name, address=address, port=port)


def spoil(path: Path, text: str | None) -> None:
    """Write something else into the file, or take it away."""
    if text is None:
        path.unlink()
    else:
        path.write_text(text)


def write(path: Path, *entries: str) -> str:
    """Replace the file as careful writers do, so that it is never half there."""
    text = "endpoints:\n" + "".join(entries) if entries else "endpoints: []\n"
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)
    return text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "endpoints.yaml"


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LOOK_SECONDS", 0.02)


def test_the_endpoints_of_a_file_join_with_address_and_labels(lab: Any, path: Path) -> None:
    write(path, entry("a"), "- {name: b, namespace: other, address: '::1', port: 9000}\n")

    async def scenario() -> None:
        fleet = lab.fleet()
        async with FileDiscovery(str(path)).open(fleet):
            assert [(e.name, e.address, dict(e.labels)) for e in fleet.endpoints] == [
                ("default/a", "10.0.0.1:8000", {"zone": "north"}),
                ("other/b", "[::1]:9000", {}),
            ]
        assert len(fleet.endpoints) == 2

    asyncio.run(scenario())


def test_json_is_read_too(lab: Any, path: Path) -> None:
    path.write_text('{"endpoints": [{"name": "a", "address": "gpu-0", "port": "80"}]}')

    async def scenario() -> None:
        fleet = lab.fleet()
        async with FileDiscovery(str(path)).open(fleet):
            assert fleet.endpoints[0].address == "gpu-0:80"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read"),
        ("", "expected a mapping with the key 'endpoints'"),
        ("endpoints: [", "is neither YAML nor JSON"),
        ("- a", "expected a mapping with the key 'endpoints'"),
        ("endpoints: [{name: a, address: 10.0.0.1, port: '0'}]", "endpoints[0].port: expected a port"),
        ("endpoints: [{name: a, address: 10.0.0.999, port: '1'}]", "endpoints[0].address: expected an IP address"),
        ("endpoints: [{name: a, address: 'http://a', port: '1'}]", "endpoints[0].address: expected an IP address"),
        ("endpoints: [{address: a, port: '1'}]", "endpoints[0].name: required"),
        (f"endpoints: [] # {'x' * 1024 * 1024}", "larger than 1 MiB"),
    ],
)
def test_i6_what_is_wrong_with_the_file_at_the_start_is_an_error(
    lab: Any, path: Path, text: str | None, problem: str
) -> None:
    """An address with a scheme, where none is wanted, is among it."""
    if text is not None:
        path.write_text(text)

    async def scenario() -> None:
        async with FileDiscovery(str(path), watch_file=True).open(lab.fleet()):
            pytest.fail("it was opened")

    with pytest.raises(ConfigError) as caught:
        asyncio.run(scenario())
    assert problem in str(caught.value)


def test_a_watched_file_is_followed_and_another_is_not(lab: Any, path: Path) -> None:
    write(path, entry("a"), entry("b"))

    async def scenario() -> None:
        watching, once = lab.fleet(), lab.fleet()
        async with (
            FileDiscovery(str(path), watch_file=True).open(watching),
            FileDiscovery(str(path)).open(once),
        ):
            write(path, entry("b"), entry("c"))
            await lab.until(lambda: {e.name for e in watching.endpoints} == {"default/b", "default/c"})
            assert {e.name for e in once.endpoints} == {"default/a", "default/b"}

    asyncio.run(scenario())


def test_i2_i3_another_port_under_the_same_name_is_another_instance_and_leaves_no_orphan(lab: Any, path: Path) -> None:
    write(path, entry("a"), entry("b"))

    async def scenario() -> None:
        fleet = lab.fleet()
        async with FileDiscovery(str(path), watch_file=True).open(fleet):
            before = {e.name: e.instance for e in fleet.endpoints}
            write(path, entry("a", port=8001), entry("b"))
            await lab.until(lambda: fleet.table["default/a"].address == "10.0.0.1:8001")
            after = {e.name: e.instance for e in fleet.endpoints}

        assert after.keys() == before.keys()
        assert after["default/a"] != before["default/a"]
        assert after["default/b"] == before["default/b"]

    asyncio.run(scenario())


def test_a_bad_file_changes_nobody_and_is_told_once(lab: Any, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(path, entry("a"), entry("b"))

    async def scenario() -> None:
        fleet = lab.fleet()
        async with FileDiscovery(str(path), watch_file=True).open(fleet):
            for text in ("endpoints: [", "", "nothing: here"):
                caplog.clear()
                spoil(path, text)
                await lab.until(lambda: bool(caplog.messages))
                await asyncio.sleep(0.1)
                assert len(caplog.messages) == 1
                assert len(fleet.endpoints) == 2
            spoil(path, None)
            await asyncio.sleep(0.2)
            assert len(fleet.endpoints) == 2

            write(path, entry("c"))
            await lab.until(lambda: {e.name for e in fleet.endpoints} == {"default/c"})

    with caplog.at_level(logging.WARNING, "inferencesched.sources"):
        asyncio.run(scenario())


def test_an_entry_that_goes_bad_keeps_its_endpoint_and_the_others_are_followed(lab: Any, path: Path) -> None:
    write(path, entry("a"), entry("b"), entry("c"))

    async def scenario() -> None:
        fleet = lab.fleet()
        async with FileDiscovery(str(path), watch_file=True).open(fleet):
            write(path, entry("a", port=0), entry("c", port=9), entry("d"))
            await lab.until(lambda: "default/d" in fleet.table)
            assert {e.name: e.address for e in fleet.endpoints} == {
                "default/a": "10.0.0.1:8000",
                "default/c": "10.0.0.1:9",
                "default/d": "10.0.0.1:8000",
            }

    asyncio.run(scenario())


def test_an_empty_list_removes_everybody_and_nobody_elses_endpoint(lab: Any, path: Path) -> None:
    write(path, entry("a"))

    async def scenario() -> None:
        fleet = lab.fleet()
        fleet.add("by-hand", "10.0.0.9:8000")
        async with FileDiscovery(str(path), watch_file=True).open(fleet):
            write(path)
            await lab.until(lambda: [e.name for e in fleet.endpoints] == ["by-hand"])

    asyncio.run(scenario())


def test_i1_i10_what_was_lost_on_the_way_is_set_right_again(
    lab: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody removes an endpoint that the file has; no event says so, and the next comparison brings it back."""
    monkeypatch.setattr(files, "_RECONCILE_SECONDS", 0.05)
    write(path, entry("a"))

    async def scenario() -> None:
        fleet = lab.fleet()
        async with FileDiscovery(str(path), watch_file=True).open(fleet):
            fleet.remove_endpoint("default/a")
            await lab.until(lambda: "default/a" in fleet.table)

            fleet.remove_endpoint("default/a")
            write(path, entry("b"))
            await lab.until(lambda: {e.name for e in fleet.endpoints} == {"default/b"})

    asyncio.run(scenario())


def test_a_configuration_names_the_file() -> None:
    discovery = Registry().create("file-discovery", {"path": "/etc/endpoints.yaml", "watchFile": True})

    assert discovery == FileDiscovery("/etc/endpoints.yaml", watch_file=True)
    with pytest.raises(ConfigError, match="path: required"):
        Registry().create("file-discovery")
