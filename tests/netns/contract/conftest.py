"""The grounds that the contract is held on: the strict fake, and IPVS in a namespace of its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from kernlb.datapath import Datapath
from kernlb.datapath.fake import EVERYTHING, FakeDatapath
from kernlb.datapath.ipvs import IPVSDatapath
from kernlb.model import Scheduler

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


@pytest.fixture(params=["fake", pytest.param("ipvs", marks=pytest.mark.ipvs)])
def datapath(request: pytest.FixtureRequest) -> Datapath:
    if request.param == "ipvs":
        made: IPVSDatapath = request.getfixturevalue("ipvs")
        return made
    known = frozenset(Scheduler) - {Scheduler.TWOS}
    return FakeDatapath(features=replace(EVERYTHING, schedulers=known))
