"""models-data-source and models-data-extractor: which models and LoRA adapters an endpoint serves."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import ClassVar

import attrs

from inferencesched import Endpoint
from inferencesched.interfaces import Reading
from inferencesched.signals import MODEL_COLUMNS, read_models
from inferencesched_sources.http_source import HttpSource, interval_field, path_field

__all__ = ["ModelsDataExtractor", "ModelsDataSource"]


@attrs.define(eq=False, kw_only=True)
class ModelsDataSource(HttpSource):
    """Ask every endpoint which models it serves.

    Args:
        path: of the list.
        scheme: of the list; an endpoint whose address has a scheme keeps it.
        port: instead of the endpoint's own.
        insecure_skip_verify: take any certificate.
        ca_cert_path: a PEM file with the authorities to trust.
        client_cert_path: a PEM file with a certificate to show; with `client_key_path`.
        client_key_path: its key.
        interval: from one look at an endpoint to the next (a Go duration).

    Unknown: as for `metrics-data-source`.
    Source: Endpoint Picker ``models-data-source``. Difference: ``interval`` is 5 s by default, since models come and go
        by hand; the labels about metrics do not matter here.
    """

    type: ClassVar[str] = "models-data-source"
    default_extractors: ClassVar[tuple[str, ...]] = ("models-data-extractor",)
    accept: ClassVar[str] = "application/json"
    moved_by_labels: ClassVar[bool] = False

    path: str = path_field("/v1/models")
    interval: float = interval_field(5.0)


@attrs.frozen
class ModelsDataExtractor:
    """Read the names of models and LoRA adapters off a list of models.

    The columns are sets: ``served_models`` has every name, ``served_adapters`` those that have a ``parent``.

    Unknown: an answer that is no list of models leaves both unknown.
    Source: Endpoint Picker ``models-data-extractor``.
    """

    type: ClassVar[str] = "models-data-extractor"
    default_source: ClassVar[str] = "models-data-source"
    brings: ClassVar[tuple[str, ...]] = MODEL_COLUMNS

    def extract(self, endpoint: Endpoint, payload: bytes, columns: Collection[str], /) -> Reading:
        """Return both sets."""
        try:
            answer = json.loads(payload)
        except ValueError:
            answer = None
        return read_models(answer)
