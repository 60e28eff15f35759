"""kernlbd and XDP on this machine's kernel: what it takes up, leaves behind, and tells."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from kernlb.control.client import ControlError
from kernlb.control.protocol_xdp import Explanation
from kernlb.daemon import main
from kernlb.datapath.xdp.attaching import attached
from kernlb.datapath.xdp.explain import MEANINGS
from kernlb.lab.load import Answer
from kernlb.lab.namespaces import enter, inside
from kernlb.lab.network import Lab
from kernlb.lab.topology import IPAddress
from tests.netns.traffic.balancer import Balancer, Json
from tests.netns.traffic.daemon import Daemon, StartDaemon, fork_into
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import ECHO, assert_answered
from tests.netns.xdp.conftest import SETTINGS

pytestmark = pytest.mark.netns

CLIENT = "10.0.0.11"  # the first of the lab's sources


def service(balancer: Balancer, vip: IPAddress, **settings: Any) -> Json:
    return {
        "address": str(vip),
        "port": 80,
        "scheduler": "mh",
        "forwarding": "nat",
        "servers": balancer.servers(vip.version),
        **settings,
    }


def write(daemon: Daemon, name: str, document: Json) -> None:
    (daemon.services / f"{name}.yaml").write_text(json.dumps(document))


COUNTS = re.compile(r" (in)?active \d+")


def ends(daemon: Daemon) -> dict[str, str]:
    """The maps of services and servers, once the next hops of all servers are known; without
    counts, for connections of earlier tests still end."""

    def known() -> dict[str, str]:
        dumped = daemon.client.dump(["services", "servers"])
        found = {each.name: COUNTS.sub("", each.text) for each in dumped}
        alive = [line for line in found["servers"].splitlines() if " alive" in line]
        return found if all("alive,hop_known" in line for line in alive) else {}

    return wait_for(known, 10, "next hops are known")


def explain(daemon: Daemon, vip: IPAddress, port: int = 80, **how: Any) -> Explanation:
    client = f"{CLIENT}:40000" if vip.version == 4 else "[fd00:f::11]:40000"
    to = f"{vip}:{port}" if vip.version == 4 else f"[{vip}]:{port}"
    return daemon.client.explain("tcp", client, to, **how)


def held(balancer: Balancer, vip: IPAddress) -> list[Answer]:
    sessions = balancer.load.open(vip, port=ECHO, count=6)
    assert_answered(sessions)
    return sessions


def test_a_file_is_all_it_takes(balancer: Balancer, vip: IPAddress) -> None:
    write(balancer.daemon, "file", service(balancer, vip))
    assert "+ service" in balancer.daemon.quick_cli("reload")
    assert_answered(balancer.load.http(vip, count=6))
    xdp = balancer.daemon.client.status().xdp
    assert xdp is not None
    assert {(each.name, each.mode, each.error) for each in xdp.interfaces} == {
        ("front", "native", ""),
        ("back", "native", ""),
    }
    assert (xdp.abi, len(xdp.program), xdp.warnings, xdp.unresolved) == (1, 16, [], [])
    assert xdp.memory > SETTINGS["xdp"]["connections"] * 32
    sizes = {each.name: each for each in xdp.tables}
    assert (sizes["services"].used, sizes["services"].size) == (1, 64)
    assert sizes["servers"].used == 3
    assert set(xdp.packets) == {reason.name.lower() for reason in MEANINGS}
    assert xdp.packets["forwarded"] > 12
    assert xdp.packets["reply"] > 12


def test_memory_is_told_before_it_is_taken(balancer: Balancer) -> None:
    assert "xdp: making tables of " in balancer.daemon.log.read_text()


@pytest.mark.parametrize("version", [4, 6])
def test_explain_says_who_will_answer(balancer: Balancer, version: int) -> None:
    vip = balancer.fresh_vip(version)
    write(balancer.daemon, "file", service(balancer, vip))
    balancer.daemon.client.reload()
    ends(balancer.daemon)  # a next hop that nobody knows yet is another answer
    told = explain(balancer.daemon, vip)
    assert (told.verdict, told.reason, told.service) == ("send", "forwarded", "file")
    assert (told.chosen_by, told.scheduler, told.forwarding) == ("scheduler", "mh", "nat")
    assert (told.interface, told.out) == ("front", "back")
    assert len(told.next_hop) == 17
    source = balancer.topology.sources(version)[0]
    assert str(source) == told.client.rpartition(":")[0].strip("[]")
    (answer,) = balancer.load.http(vip, sources=[source])
    address = told.server.rpartition(":")[0].strip("[]")
    assert balancer.address(str(answer.server), version) == address


def test_explain_leaves_no_trace(balancer: Balancer, vip: IPAddress) -> None:
    maps = ["services", "conns4"]
    write(balancer.daemon, "file", service(balancer, vip, scheduler="rr"))
    balancer.daemon.client.reload()
    services, connections = (each.text for each in balancer.daemon.client.dump(maps))
    asked = [explain(balancer.daemon, vip).server for _ in range(3)]
    assert len(set(asked)) == 1
    services_after, connections_after = (each.text for each in balancer.daemon.client.dump(maps))
    assert services_after == services
    # none is new; the sweep may have freed what other tests left behind
    assert {*connections_after.splitlines()} <= {*connections.splitlines()}
    (stats,) = balancer.daemon.client.stats("file")
    assert stats.counters.connections == 0


def test_explain_finds_a_connection(balancer: Balancer, vip: IPAddress) -> None:
    write(balancer.daemon, "file", service(balancer, vip, port=ECHO, scheduler="rr"))
    balancer.daemon.client.reload()
    namespace = balancer.topology.namespace("client")
    with inside(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as held:
        held.bind((CLIENT, 0))
        held.settimeout(10)
        held.connect((str(vip), ECHO))
        client = f"{CLIENT}:{held.getsockname()[1]}"
        told = balancer.daemon.client.explain("tcp", client, f"{vip}:{ECHO}", within=True)
        assert (told.chosen_by, told.state) == ("connection", "established")
        text = balancer.daemon.quick_cli("explain", "tcp", client, f"{vip}:{ECHO}", "--within")
        assert "it has a connection there (established)" in text


def test_explain_of_what_is_nobodys_is_passed_on(balancer: Balancer, vip: IPAddress) -> None:
    write(balancer.daemon, "file", service(balancer, vip))
    balancer.daemon.client.reload()
    told = explain(balancer.daemon, vip, port=81)
    assert (told.verdict, told.reason, told.server) == ("pass", "no_service", "")
    told = explain(balancer.daemon, ip_address("203.0.113.9"))
    assert (told.verdict, told.reason, told.service) == ("pass", "not_ours", "")


@pytest.mark.parametrize(
    ("client", "interface", "why"),
    [
        ("[fd00:f::b]:1", "", "different address families"),
        (f"{CLIENT}:1", "lo", "interface lo has no XDP program"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    balancer: Balancer, vip: IPAddress, client: str, interface: str, why: str
) -> None:
    with pytest.raises(ControlError, match=why):
        balancer.daemon.client.explain("tcp", client, f"{vip}:80", interface=interface)


def test_dump_names_its_maps(balancer: Balancer, vip: IPAddress) -> None:
    write(balancer.daemon, "file", service(balancer, vip))
    balancer.daemon.client.reload()
    dumped = {each.name: each.text for each in balancer.daemon.client.dump()}
    assert {"services", "servers", "reasons", "devices"} <= set(dumped)
    assert not {"conns4", "conns6"} & set(dumped)
    assert str(vip) in dumped["services"]
    with pytest.raises(ControlError, match="nonsense"):
        balancer.daemon.client.dump(["nonsense"])


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_takes_up_what_it_finds(balancer: Balancer, vip: IPAddress, end: str) -> None:
    daemon = balancer.daemon
    write(daemon, "file", service(balancer, vip, port=ECHO, scheduler="rr"))
    daemon.client.reload()
    sessions = held(balancer, vip)
    before = ends(daemon)
    getattr(daemon, end)()
    assert_answered(balancer.load.echo(sessions))  # nobody is there, and traffic flows
    assert_answered(held(balancer, vip))
    daemon.start(*daemon.options)
    assert_answered(balancer.load.echo(sessions))
    assert ends(daemon).keys() == before.keys()
    assert {each.name for each in daemon.client.services()} >= {"file"}
    assert daemon.client.service("file").state == "synced"
    events = [event.text for event in daemon.client.status().events]
    assert not [text for text in events if "server" in text and text.startswith("+")], events
    balancer.load.close_sessions()


def test_a_change_while_nobody_was_there_is_made_by_the_next_start(
    balancer: Balancer, vip: IPAddress
) -> None:
    daemon = balancer.daemon
    document = service(balancer, vip, port=ECHO, scheduler="rr")
    write(daemon, "file", document)
    daemon.client.reload()
    sessions = held(balancer, vip)
    daemon.kill()
    document["servers"][0]["weight"] = 0
    write(daemon, "file", document)
    daemon.start(*daemon.options)
    assert_answered(balancer.load.echo(sessions))
    weights = [each.kernel_weight for each in daemon.client.service("file").servers]
    assert weights == [0, 1, 1]
    balancer.load.close_sessions()


def test_interfaces_change_on_a_reload(balancer: Balancer, pins: Path) -> None:
    daemon = balancer.daemon

    def on() -> set[str]:
        found = inside(balancer.namespace, lambda: attached(pins))
        return {each.interface for each in found}

    daemon.settle({"xdp": {**SETTINGS["xdp"], "interfaces": ["front"]}})
    daemon.client.reload()
    assert on() == {"front"}
    daemon.settle({"xdp": {**SETTINGS["xdp"], "interfaces": ["front", "back", "later"]}})
    daemon.client.reload()
    assert on() == {"front", "back"}
    xdp = daemon.client.status().xdp
    assert xdp is not None
    assert "there is no such interface" in xdp.interfaces[2].error
    subprocess.run(
        ["ip", "-n", balancer.namespace, "link", "add", "later", "up", "type", "veth"],
        check=True,
        timeout=10,
    )
    try:
        wait_for(lambda: on() == {"front", "back", "later"}, 20, "the new interface is attached")
    finally:
        subprocess.run(
            ["ip", "-n", balancer.namespace, "link", "delete", "later"], check=True, timeout=10
        )
        daemon.settle({})
        daemon.client.reload()


def test_generic_mode_is_shown_loudly(balancer: Balancer) -> None:
    daemon = balancer.daemon
    daemon.settle({"xdp": {**SETTINGS["xdp"], "mode": "generic"}})
    try:
        daemon.client.reload()
        assert "front: GENERIC mode: several times slower" in daemon.quick_cli("status")
        assert "attached to front in generic mode (GENERIC" in daemon.log.read_text()
    finally:
        daemon.settle({})
        daemon.client.reload()
    assert "front, back: native mode" in daemon.quick_cli("status")


def test_sizes_that_differ_from_the_tables_are_a_warning(balancer: Balancer) -> None:
    daemon = balancer.daemon
    daemon.stop()
    daemon.settle({"xdp": {**SETTINGS["xdp"], "connections": 65536}})
    try:
        daemon.start(*daemon.options)
        xdp = daemon.client.status().xdp
        assert xdp is not None
        (warning,) = xdp.warnings
        kept = SETTINGS["xdp"]["connections"]
        assert warning == f"conns4 stays at {kept} entries, not 65536: the map exists"
    finally:
        daemon.stop()
        daemon.settle({})
        daemon.start(*daemon.options)


def test_a_server_that_does_not_answer_is_told(balancer: Balancer, vip: IPAddress) -> None:
    daemon = balancer.daemon
    dead = {"address": "10.1.0.99"}
    write(daemon, "file", service(balancer, vip, servers=[dead]))
    daemon.client.reload()

    def unresolved() -> list[str]:
        xdp = daemon.client.status().xdp
        assert xdp is not None
        return [f"{each.server} {each.reason}" for each in xdp.unresolved]

    (told,) = wait_for(unresolved, 20, "the dead neighbour is seen")
    assert told.startswith("10.1.0.99:80 no answer from neighbour 10.1.0.99 on back")
    told = daemon.quick_cli("status").splitlines()
    assert any("10.1.0.99:80" in line and "no next hop" in line for line in told)


@pytest.fixture
def elsewhere(lab: Lab) -> str:
    """A host of the lab that has no part in balancing."""
    return lab.topology.namespace("router")


def test_a_flush_takes_everything_out(
    start_daemon: StartDaemon, elsewhere: str, pins: Path
) -> None:
    root = pins.with_name(f"{pins.name}-flush")
    settings = {**SETTINGS, "xdp": {**SETTINGS["xdp"], "interfaces": ["front"]}}
    daemon = start_daemon(elsewhere, settings, "--pins", str(root), "--flush-on-stop")
    document = {"address": "203.0.113.1", "port": 80, "servers": [{"address": "10.0.0.1"}]}
    daemon.client.add_service("web", document)
    assert [each.interface for each in inside(elsewhere, lambda: attached(root))] == ["front"]
    daemon.stop()
    assert not root.exists()
    assert inside(elsewhere, lambda: attached(root)) == ()
    assert (daemon.services / "web.yaml").exists()


def test_a_host_that_cannot_have_xdp_goes_on_without_and_says_why(
    start_daemon: StartDaemon, elsewhere: str, tmp_path: Path
) -> None:
    daemon = start_daemon(elsewhere, SETTINGS, "--pins", str(tmp_path / "pins"))
    status = daemon.client.status()
    assert status.xdp is None
    (path,) = [each for each in status.datapaths if each.kind == "xdp"]
    assert (path.available, "bpf" in path.detail) == (False, True)
    with pytest.raises(ControlError) as caught:
        daemon.client.add_service("web", {"address": "203.0.113.1", "port": 80})
    (fault,) = caught.value.problem.faults
    assert "datapath xdp is not available on this host" in fault.message
    with pytest.raises(ControlError, match=r"datapath xdp is not in use on this host: .*bpf"):
        explain(daemon, ip_address("203.0.113.1"))


def test_only_one_daemon_touches_the_maps(balancer: Balancer, vip: IPAddress, pins: Path) -> None:
    """The second one is refused at the socket, before it takes anything up."""
    daemon = balancer.daemon
    write(daemon, "file", service(balancer, vip))
    daemon.client.reload()
    before = ends(daemon)
    log = daemon.log.with_name("second.log")
    argv = ["--config-dir", str(daemon.config), "--state-dir", str(log.with_name("state2"))]
    argv += ["--socket", str(daemon.socket), "--pins", str(pins)]

    def run() -> int:
        enter(daemon.namespace)
        return main(argv)

    pid = fork_into(run, log)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert "another kernlbd does" in log.read_text()
    assert ends(daemon) == before
    assert_answered(balancer.load.http(vip, count=3))
