"""What no lab has is found in facts made by hand."""

from __future__ import annotations

from kernlb.doctor.daemon import Daemon, Standing
from kernlb.doctor.drivers import Driver, Drivers
from kernlb.doctor.host import Queueing
from kernlb.doctor.network import Link, Network
from kernlb.doctor.services import Declared
from kernlb.doctor.sysctls import Sysctls
from kernlb.model import DatapathKind
from tests.unit.doctor.made import found, service

XDP = Declared((service(datapath=DatapathKind.XDP),), xdp_interfaces=("eth0",))
ETH0 = Network((Link(1, "eth0", xdp="native"),))


def test_large_receive_offload_under_xdp() -> None:
    on, off = (Drivers({"eth0": Driver("eth0", "ixgbe", lro=lro)}) for lro in (True, False))
    assert "large-receive-offload on" in found(XDP, ETH0, on)["xdp-lro"]
    assert "xdp-lro" not in found(XDP, ETH0, off)


def test_a_kernel_that_interprets_bpf() -> None:
    name = "net/core/bpf_jit_enable"
    assert found(XDP, Sysctls({name: "0"}))["bpf-jit-off"] == "net.core.bpf_jit_enable is 0"
    assert "bpf-jit-off" not in found(XDP, Sysctls({name: "1"}))
    assert "bpf-jit-off" not in found(Sysctls({name: "0"}))  # IPVS alone


def test_backlogs_that_overflowed() -> None:
    sysctls = Sysctls({"net/core/netdev_max_backlog": "1000"})
    assert "300 packets did not fit" in found(Queueing(1_000_000, 300), sysctls)["backlog-drops"]
    assert "backlog-drops" not in found(Queueing(1_000_000_000, 3), sysctls)  # once, long ago
    assert "backlog-drops" not in found(Queueing(1_000_000, 0), sysctls)


def test_rates_that_are_not_counted() -> None:
    name = "net/ipv4/vs/run_estimation"
    assert "is 0" in found(Sysctls({name: "0"}))["run-estimation-off"]
    assert "run-estimation-off" not in found(Sysctls({name: "1"}))
    assert "run-estimation-off" not in found(Sysctls({}))  # a kernel that has no such switch


def test_a_service_that_the_kernel_refused() -> None:
    refused = Standing("web", "failed", "no buffer space", 1, 1)
    assert found(Daemon(True, "/run/s", standings=(refused,)))["service-failed"] == (
        "no buffer space"
    )
    good = Standing("web", "synced", "", 1, 1)
    assert "service-failed" not in found(Daemon(True, "/run/s", standings=(good,)))


def test_a_datapath_that_could_not_be_opened() -> None:
    missing = Daemon(True, "/run/s", datapaths_missing=(("ipvs", "no module"),))
    assert "no module" in found(missing)["datapath-missing"]
    assert "datapath-missing" not in found(missing, XDP)  # nobody wants it
