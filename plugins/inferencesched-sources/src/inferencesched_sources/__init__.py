"""Facts from outside: what model servers publish, brought to the plugins that want it."""

from inferencesched_sources.dcgm import DcgmDataSource, DcgmExtractor
from inferencesched_sources.files import FileDiscovery
from inferencesched_sources.kv_events import KvEventsSource
from inferencesched_sources.metrics import CoreMetricsExtractor, CustomMetric, EngineConfig, MetricsDataSource
from inferencesched_sources.models import ModelsDataExtractor, ModelsDataSource

__all__ = [
    "CoreMetricsExtractor",
    "CustomMetric",
    "DcgmDataSource",
    "DcgmExtractor",
    "EngineConfig",
    "FileDiscovery",
    "KvEventsSource",
    "MetricsDataSource",
    "ModelsDataExtractor",
    "ModelsDataSource",
]
