"""The door to what is declared: from the daemon's answer, or from the files themselves."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from kernlb.config import ConfigError, Settings, load_settings
from kernlb.control.protocol import ServerView, ServiceView, SyncState
from kernlb.declaration import Declaration
from kernlb.doctor.services import Declared, Service
from kernlb.model import (
    DatapathKind,
    Forwarding,
    RealServer,
    Scheduler,
    Tunnel,
    TunnelType,
    parse_service_key,
)
from kernlb.store import Store


def from_daemon(
    views: list[ServiceView], withdrawn: frozenset[str], faults: tuple[str, ...], config: Path
) -> Declared:
    """``withdrawn``: VIPs that are away on purpose, as text. Foreign services are left out."""
    services = [
        _service(view, withdrawn)
        for view in views
        if view.state is not SyncState.FOREIGN and view.name
    ]
    settings, more = _settings(config)
    return _declared(
        services, "kernlbd", (*faults, *(f for f in more if f not in faults)), settings
    )


def from_files(config: Path) -> Declared:
    """Raises OSError where the folder cannot be read."""
    settings, faults = _settings(config)
    try:
        loaded = Store(config / "services.d", settings.defaults).load()
    except ConfigError as error:
        raise OSError(str(error)) from error
    faults += tuple(str(fault) for each in loaded.faults.values() for fault in each)
    services = [_of_file(each) for each in loaded.declarations.values()]
    return _declared(services, f"files of {config}", faults, settings)


def _declared(
    services: list[Service], source: str, faults: tuple[str, ...], settings: Settings
) -> Declared:
    return Declared(
        tuple(sorted(services, key=lambda service: service.name)),
        source,
        faults,
        settings.xdp.interfaces,
        settings.xdp.mode,
        tuple(settings.ipvs.sysctls.items()),
    )


def _settings(config: Path) -> tuple[Settings, tuple[str, ...]]:
    try:
        return load_settings(config / "kernlb.yaml"), ()
    except ConfigError as error:
        return Settings(), tuple(map(str, error.faults))


def _of_file(declaration: Declaration) -> Service:
    return Service(
        declaration.name,
        declaration.datapath,
        declaration.service.key,
        declaration.service.scheduler,
        declaration.servers,
        declaration.vip.interface if declaration.vip else None,
    )


def _service(view: ServiceView, withdrawn: frozenset[str]) -> Service:
    service = Service(
        view.name,
        DatapathKind(view.datapath),
        parse_service_key(view.key),
        Scheduler(view.scheduler),
        tuple(map(_server, view.servers)),
        view.vip_interface or None,
    )
    return replace(service, withdrawn=str(service.vip) in withdrawn)


def _server(view: ServerView) -> RealServer:
    tunnel = None
    if view.tunnel is not None:
        tunnel = Tunnel(TunnelType(view.tunnel.type), view.tunnel.port, view.tunnel.checksum)
    return RealServer(
        ip_address(view.address),
        view.port,
        view.weight,
        Forwarding(view.forwarding),
        tunnel,
        view.upper_threshold,
        view.lower_threshold,
    )
