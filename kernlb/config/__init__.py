"""Documents: text to declarations and settings, every fault named by file, line and key.

Pure: text comes in as an argument (``store`` reads the files of services; only
:func:`load_settings` opens its one file). Importing this is light: the YAML parser, the schema and
the comment-keeping editor (``config.edit``) load when first used.
"""

from __future__ import annotations

from kernlb.config.conflicts import Index, validate_set
from kernlb.config.errors import ConfigError, Fault
from kernlb.config.health_settings import HealthSettings
from kernlb.config.plain import document_of
from kernlb.config.schema import service_schema, settings_schema
from kernlb.config.service import parse_service
from kernlb.config.settings import (
    Defaults,
    IpvsSettings,
    Settings,
    SyncDaemon,
    Timeouts,
    load_settings,
)
from kernlb.config.syntax import located
from kernlb.config.xdp_settings import XdpSettings

__all__ = [
    "ConfigError",
    "Defaults",
    "Fault",
    "HealthSettings",
    "Index",
    "IpvsSettings",
    "Settings",
    "SyncDaemon",
    "Timeouts",
    "XdpSettings",
    "document_of",
    "load_settings",
    "located",
    "parse_service",
    "service_schema",
    "settings_schema",
    "validate_set",
]
