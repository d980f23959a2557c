"""`EndpointPickerConfig`, the field's own configuration language, read into objects and written back.

Takes mappings, or `Document`s that know their file and lines; reads no file, no clock and no environment, and names
plugins only by their type. Semantics, defaults and what is put in where something is missing are the Endpoint Picker's.
"""

from inferencesched.config.assembly import Config
from inferencesched.config.defaults import DEFAULT
from inferencesched.config.loading import examine, is_config, load_config
from inferencesched.documents import Document

__all__ = ["DEFAULT", "Config", "Document", "examine", "is_config", "load_config"]
