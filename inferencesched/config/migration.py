"""What older configurations say, in the words of today: fields and plugins that moved, each with a warning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferencesched.config.schema import FlowControl, PickerConfig, PluginEntry, RequestHandler
from inferencesched.errors import Problem

__all__ = ["migrate"]

_INDEX = "approx-prefix-cache-producer"
_MOVED_TO_INDEX = {
    **{
        key: key
        for key in (
            "autoTune",
            "blockSize",
            "blockSizeTokens",
            "lruCapacityPerServer",
            "maxPrefixBlocksToMatch",
            "maxPrefixTokensToMatch",
        )
    },
    "hashBlockSize": "blockSize",
}
"""Parameters that prefix-cache-scorer had when it kept the index itself, by the names they have there now."""

_PRECISE_SCORER, _PRECISE_INDEX = "precise-prefix-cache-scorer", "precise-prefix-cache-producer"


def migrate(spec: PickerConfig, warnings: list[Problem]) -> PickerConfig:
    """Return `spec` without anything deprecated that has moved; append a warning for each."""
    spec = _without_parser(_without_detector(spec, warnings), warnings)
    plugins: list[PluginEntry] = []
    added: dict[str, PluginEntry] = {}
    for entry in spec.plugins:
        if entry.type == _PRECISE_SCORER:
            plugins.append(_scorer_of_precise(entry, added, warnings))
        elif entry.type == "prefix-cache-scorer" and _MOVED_TO_INDEX.keys() & (entry.parameters or {}):
            plugins.append(_scorer_of_index(entry, added, warnings))
        else:
            plugins.append(entry)
    declared = {entry.type for entry in spec.plugins}
    plugins += [entry for entry in added.values() if entry.type not in declared]
    return spec.revised(plugins=tuple(plugins))


def _scorer_of_precise(entry: PluginEntry, added: dict[str, PluginEntry], warnings: list[Problem]) -> PluginEntry:
    """Return the scorer of a bundle of producer and scorer, and add the producer, which has all the parameters."""
    warnings.append(
        Problem(f"{entry.at}.type", f"'{entry.type}' is deprecated; write '{_PRECISE_INDEX}' and 'prefix-cache-scorer'")
    )
    added.setdefault(_PRECISE_INDEX, entry.revised(type=_PRECISE_INDEX, name=""))
    parameters = {"prefixMatchInfoProducerName": _PRECISE_INDEX}
    return entry.revised(type="prefix-cache-scorer", name=entry.label, parameters=parameters)


def _scorer_of_index(entry: PluginEntry, added: dict[str, PluginEntry], warnings: list[Problem]) -> PluginEntry:
    """Return the scorer without the parameters of the index, and add the index with them."""
    parameters: Mapping[str, Any] = entry.parameters or {}
    moved = {_MOVED_TO_INDEX[key]: value for key, value in parameters.items() if key in _MOVED_TO_INDEX}
    for key in parameters:
        if key in _MOVED_TO_INDEX:
            message = f"deprecated here; write '{_MOVED_TO_INDEX[key]}' at a plugin of type '{_INDEX}'"
            warnings.append(Problem(f"{entry.at}.parameters.{key}", message))
    added.setdefault(_INDEX, entry.revised(type=_INDEX, name="", parameters=moved))
    return entry.revised(parameters={key: value for key, value in parameters.items() if key not in _MOVED_TO_INDEX})


def _without_detector(spec: PickerConfig, warnings: list[Problem]) -> PickerConfig:
    """Return `spec` with its deprecated ``saturationDetector`` where it belongs, unless one is there."""
    detector, flow = spec.saturation_detector, spec.flow_control or FlowControl()
    if detector is None:
        return spec
    warnings.append(Problem("saturationDetector", "deprecated; write it under 'flowControl'"))
    if flow.saturation_detector.at:
        detector = flow.saturation_detector
    return spec.revised(saturation_detector=None, flow_control=flow.revised(saturation_detector=detector))


def _without_parser(spec: PickerConfig, warnings: list[Problem]) -> PickerConfig:
    """Return `spec` with its deprecated ``parser`` where it belongs, unless some are there."""
    parser, handler = spec.parser, spec.request_handler
    if parser is None:
        return spec
    warnings.append(Problem("parser", "deprecated; write 'requestHandler: {parsers: [{pluginRef: …}]}'"))
    if handler is None or handler.parsers == RequestHandler().parsers:
        handler = (handler or RequestHandler()).revised(parsers=(parser,))
    return spec.revised(parser=None, request_handler=handler)
