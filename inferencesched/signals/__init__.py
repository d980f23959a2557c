"""What engines publish about themselves, as facts by column: metric pages, lists of models, and what is missing there.

Bytes in, values out: no socket, no clock, no schedule. Whoever fetches the pages (the distribution
``inferencesched-sources``, or your own `Source`) finds here how to read them.

>>> page = b'vllm:num_requests_waiting{engine="0"} 3.0'
>>> DIALECTS["vllm"].read(page, {"waiting_requests"}).facts
{'waiting_requests': 3.0}
"""

from inferencesched.signals.blindness import BlindSpot, blind_spots, wanted_columns
from inferencesched.signals.dialects import DCGM, DIALECTS, Dialect, recognise
from inferencesched.signals.exposition import Layout, Sample, samples
from inferencesched.signals.models import MODEL_COLUMNS, read_models
from inferencesched.signals.parts import AdapterInfo, CacheInfo, Number, Part
from inferencesched.signals.specs import MetricSpec

__all__ = [
    "DCGM",
    "DIALECTS",
    "MODEL_COLUMNS",
    "AdapterInfo",
    "BlindSpot",
    "CacheInfo",
    "Dialect",
    "Layout",
    "MetricSpec",
    "Number",
    "Part",
    "Sample",
    "blind_spots",
    "read_models",
    "recognise",
    "samples",
    "wanted_columns",
]
