"""InferencePool: which endpoints belong together, and who picks among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from inferencesched.documents import Document, Part, decode
from inferencesched.errors import Problem
from inferencesched.resources.metadata import Metadata, check_labels, non_empty, number

__all__ = ["EndpointPickerRef", "InferencePool", "read_pool", "read_pool_v1alpha2"]

_FailureMode = Literal["FailClose", "FailOpen"]
_AppProtocol = Literal["http", "kubernetes.io/h2c"]


@attrs.frozen
class EndpointPickerRef:
    """Who picks for the pool, and what a gateway does when the picker cannot be reached.

    Attributes:
        name: of the picker's service.
        port: where it listens; None for a kind that has none.
        failure_mode: ``FailClose`` drops the request, ``FailOpen`` lets the gateway pick.
        group: API group of `kind`; empty for the core group.
        kind: ``Service`` unless said otherwise.
    """

    name: str
    port: int | None = None
    failure_mode: _FailureMode = "FailClose"
    group: str = ""
    kind: str = "Service"


@attrs.frozen
class InferencePool:
    """Endpoints that serve the same models: the pods with these labels, each on each of these ports.

    Attributes:
        name: unique in its namespace.
        namespace: where its pods are.
        match_labels: labels that a pod must have.
        ports: more than one are the data-parallel ranks of a pod, each an endpoint.
        app_protocol: what is spoken on all of them.
        picker: who picks; None where the host does.
    """

    name: str
    namespace: str = "default"
    match_labels: Mapping[str, str] = attrs.field(factory=dict)
    ports: tuple[int, ...] = ()
    app_protocol: _AppProtocol = "http"
    picker: EndpointPickerRef | None = None


@attrs.frozen
class _Port(Part):
    number: int = attrs.field(validator=number(1, 65535))


@attrs.frozen
class _Selector(Part):
    match_labels: Mapping[str, str] = attrs.field(validator=check_labels)


@attrs.frozen
class _Picker(Part):
    name: str = attrs.field(validator=non_empty)
    group: str = ""
    kind: str = "Service"
    port: _Port | None = None
    failure_mode: _FailureMode = "FailClose"


@attrs.frozen
class _Spec(Part):
    selector: _Selector
    target_ports: tuple[_Port, ...]
    app_protocol: _AppProtocol = "http"
    endpoint_picker_ref: _Picker | None = None


@attrs.frozen
class _Pool(Part):
    api_version: str
    kind: str
    metadata: Metadata
    spec: _Spec
    status: Any = None


def read_pool(document: Document, problems: list[Problem]) -> InferencePool | None:
    """Return the pool of a ``v1`` document, None after appending what is wrong to `problems`."""
    pool = decode(_Pool, document.content, "", problems)
    if pool is None:
        return None
    spec, ports = pool.spec, tuple(port.number for port in pool.spec.target_ports)
    if not 1 <= len(spec.target_ports) <= 8 and not problems:
        problems.append(Problem("spec.targetPorts", f"expected 1 to 8 ports, got {len(ports)}"))
    for i, port in enumerate(spec.target_ports):
        if port.number in ports[:i]:
            problems.append(Problem(f"{port.at}.number", f"port {port.number} stands above already"))
    ref = spec.endpoint_picker_ref
    if ref is not None and ref.kind == "Service" and ref.port is None:
        problems.append(Problem(f"{ref.at}.port", "required for a Service, expected {number: …}"))
    picker = None
    if ref is not None:
        number = None if ref.port is None else ref.port.number
        picker = EndpointPickerRef(ref.name, number, ref.failure_mode, ref.group, ref.kind)
    labels = spec.selector.match_labels
    return InferencePool(pool.metadata.name, pool.metadata.namespace, labels, ports, spec.app_protocol, picker)


@attrs.frozen
class _OldPicker(Part):
    name: str = attrs.field(validator=non_empty)
    group: str = ""
    kind: str = "Service"
    port_number: int = attrs.field(default=9002, validator=number(1, 65535))
    failure_mode: _FailureMode = "FailClose"


@attrs.frozen
class _OldSpec(Part):
    selector: Mapping[str, str] = attrs.field(validator=check_labels)
    target_port_number: int = attrs.field(validator=number(1, 65535))
    extension_ref: _OldPicker | None = None


@attrs.frozen
class _OldPool(Part):
    api_version: str
    kind: str
    metadata: Metadata
    spec: _OldSpec
    status: Any = None


def read_pool_v1alpha2(document: Document, problems: list[Problem]) -> InferencePool | None:
    """Return the pool of a ``v1alpha2`` document: a flat selector, one port, ``extensionRef``."""
    pool = decode(_OldPool, document.content, "", problems)
    if pool is None:
        return None
    spec, ref = pool.spec, pool.spec.extension_ref
    picker = None
    if ref is not None:
        picker = EndpointPickerRef(ref.name, ref.port_number, ref.failure_mode, ref.group, ref.kind)
    name, namespace = pool.metadata.name, pool.metadata.namespace
    return InferencePool(name, namespace, spec.selector, (spec.target_port_number,), picker=picker)
