"""The grounds that the contract is held on: the strict fake of either kind, IPVS in a namespace of
its own, and XDP's maps under pins of their own on this very kernel."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kernlb.datapath import Datapath
from kernlb.datapath.fake import EVERYTHING, EVERYTHING_OF_XDP, FakeDatapath
from kernlb.datapath.ipvs import IPVSDatapath
from kernlb.datapath.xdp.datapath import XDPDatapath
from kernlb.datapath.xdp.loading import Loaded, load, unload
from kernlb.datapath.xdp.memory import Sizes
from kernlb.datapath.xdp.sweeping import Sweeper
from kernlb.model import Scheduler
from kernlb.plan import RemoveService

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def _inside(namespace: int) -> Iterator[None]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _enter(namespace)
    try:
        yield
    finally:
        _enter(before)
        os.close(before)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


@pytest.fixture(scope="module")
def namespace() -> Iterator[int]:
    """A network namespace that nothing else uses, so that IPVS in it is empty."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if _LIBC.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot make a network namespace")
    made = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    _enter(before)
    os.close(before)
    yield made
    os.close(made)


@pytest.fixture
def ipvs(namespace: int) -> Iterator[IPVSDatapath]:
    with _inside(namespace):
        datapath = IPVSDatapath()
        yield datapath
        datapath.flush()
        datapath.close()


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    """The program, attached nowhere, and its maps."""
    root = Path(f"/sys/fs/bpf/kernlb-contract-{os.getpid()}")
    sizes = Sizes(services=512, servers=16_384, slots=1 << 20, conns4=4096, conns6=4096)
    loaded = load(root, sizes)
    yield loaded
    loaded.close()
    unload(root)


@pytest.fixture
def xdp(loaded: Loaded) -> Iterator[XDPDatapath]:
    """Afterwards nothing is left in the maps but what rests until the sweep, which is made."""
    datapath = XDPDatapath(loaded)
    yield datapath
    datapath.apply([RemoveService(service) for service in datapath.services()])
    assert datapath.dump(["services", "members", "tables"]) == [
        ("services", ""),
        ("members", ""),
        ("tables", ""),
    ]
    Sweeper(loaded, datapath).whole()


GROUNDS = (
    "fake",
    "fake-xdp",
    pytest.param("ipvs", marks=pytest.mark.ipvs),
    pytest.param("xdp", marks=pytest.mark.bpf),
)


@pytest.fixture(params=GROUNDS)
def datapath(request: pytest.FixtureRequest) -> Datapath:
    known = frozenset(Scheduler) - {Scheduler.TWOS}
    match request.param:
        case "fake":
            return FakeDatapath(features=replace(EVERYTHING, schedulers=known))
        case "fake-xdp":
            return FakeDatapath(features=EVERYTHING_OF_XDP)
    made: IPVSDatapath | XDPDatapath = request.getfixturevalue(request.param)
    return made
