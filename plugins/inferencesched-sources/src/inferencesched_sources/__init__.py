"""Facts from outside: what model servers publish, brought to the plugins that want it."""

from inferencesched_sources.kv_events import KvEventsSource
from inferencesched_sources.metrics import CoreMetricsExtractor, MetricsDataSource

__all__ = ["CoreMetricsExtractor", "KvEventsSource", "MetricsDataSource"]
