"""Clients through kernlb to servers by XDP: what each feature of a service does to them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kernlb.lab.background import Stream
from kernlb.lab.load import share_by_server
from kernlb.lab.topology import IPAddress
from tests.netns.traffic import ways
from tests.netns.traffic.balancer import EQUAL, WEIGHTS, Balancer
from tests.netns.traffic.changing import *  # noqa: F403 (its tests are of every datapath)
from tests.netns.traffic.changing import wait_for_answers
from tests.netns.traffic.staying import *  # noqa: F403
from tests.netns.traffic.ways import *  # noqa: F403
from tests.netns.traffic.web import ECHO, SERVERS, assert_answered, web

pytestmark = pytest.mark.netns

IPV4_AND_6 = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
WAYS = {**ways.WAYS, "fullnat": {"forwarding": "fullnat"}}
TUNNELS = {name: way for name, way in WAYS.items() if way["forwarding"] == "tunnel"}
IPERF, IPERF_BYTES = 5201, 4 << 20


# Ways to the servers.


@IPV4_AND_6
@pytest.mark.parametrize("way", WAYS)
def test_a_megabyte_goes_both_ways_to_every_server(
    balancer: Balancer, way: str, version: int
) -> None:
    ways.assert_megabytes_both_ways(balancer, balancer.fresh_vip(version), **WAYS[way])


@IPV4_AND_6
@pytest.mark.parametrize("way", WAYS)
def test_one_interface_is_enough(balancer: Balancer, way: str, version: int) -> None:
    """Clients' packets come by the router on the servers' segment, and go out there again."""
    vip = balancer.topology.back_vips(version)[list(WAYS).index(way) % 5]
    ways.assert_megabytes_both_ways(balancer, vip, **WAYS[way])


@IPV4_AND_6
@pytest.mark.parametrize("way", TUNNELS)
def test_servers_of_the_other_family_serve_by_tunnel(
    balancer: Balancer, way: str, version: int
) -> None:
    servers = balancer.servers(6 if version == 4 else 4)
    vip = balancer.fresh_vip(version)
    ways.assert_megabytes_both_ways(balancer, vip, servers=servers, **TUNNELS[way])


@IPV4_AND_6
@pytest.mark.parametrize("way", TUNNELS)
def test_the_client_learns_how_much_fits_through_the_tunnel(
    balancer: Balancer, way: str, version: int
) -> None:
    vip = balancer.fresh_vip(version)
    web(balancer, vip, **TUNNELS[way])
    balancer.lab.exec("client", ["ip", f"-{version}", "route", "flush", "cache"])
    (source, *_) = balancer.topology.sources(version)
    (upload,) = balancer.load.http(vip, body=100_000, sources=[source])
    assert upload.received == 100_000
    words = ["ip", "-o", "route", "get", str(vip), "from", str(source)]
    route = balancer.lab.exec("client", words).stdout
    outer = {4: 20, 6: 40}[version] + {"ipip": 0, "gue": 12, "gre": 4}[way]
    assert f" mtu {1500 - outer} " in f"{route.strip()} "


@IPV4_AND_6
def test_fullnat_answers_servers_that_know_no_way_to_the_client(
    balancer: Balancer, version: int
) -> None:
    vip = balancer.fresh_vip(version)
    web(balancer, vip, forwarding="fullnat")
    servers = balancer.topology.servers
    lines = [f"-{version}", "route", "del", "default", "via", ""]
    lines[-1] = str(balancer.topology.balancer.address(version))
    for server in servers:
        balancer.lab.exec(server.role, ["ip", *lines])
    try:
        answers = balancer.load.http(vip, count=6)
    finally:
        lines[2] = "add"
        for server in servers:
            balancer.lab.exec(server.role, ["ip", *lines])
    assert share_by_server(answers) == dict.fromkeys(SERVERS, 2)
    assert {answer.client for answer in answers} == {balancer.topology.balancer.address(version)}


@IPV4_AND_6
@pytest.mark.parametrize("forwarding", ["nat", "dsr", "tunnel", "fullnat"])
def test_a_service_on_every_port_takes_every_port(
    balancer: Balancer, forwarding: str, version: int
) -> None:
    vip = balancer.fresh_vip(version)
    servers = [{"address": server["address"]} for server in balancer.servers(version)]
    web(balancer, vip, port=0, forwarding=forwarding, servers=servers)
    for port in (80, 8080):
        assert share_by_server(balancer.load.http(vip, port=port, count=3)) == EQUAL
    sessions = balancer.load.open(vip, port=ECHO, count=3)
    assert share_by_server(sessions) == EQUAL
    assert_answered(balancer.load.echo(sessions, size=10_000))
    balancer.load.close_sessions(sessions)


# Other people's clients and servers.


@IPV4_AND_6
@pytest.mark.parametrize("way", WAYS)
def test_curl_gets_what_nginx_has(balancer: Balancer, way: str, version: int) -> None:
    vip = balancer.fresh_vip(version)
    web(balancer, vip, **WAYS[way])
    host = f"[{vip}]" if version == 6 else str(vip)
    argv = ["curl", "-sS", "--max-time", "30", "--globoff"]
    # one connection for four requests, so one server
    urls = [f"http://{host}/" for _ in range(4)]
    said = balancer.lab.exec("client", [*argv, *urls]).stdout.splitlines()
    assert len(said) == 4 and len(set(said)) == 1
    size = ["-o", "/dev/null", "-w", "%{http_code} %{size_download}", f"http://{host}/1mb"]
    assert balancer.lab.exec("client", [*argv, *size]).stdout == f"200 {1 << 20}"


@contextmanager
def iperf3_server(balancer: Balancer, role: str) -> Iterator[None]:
    argv = ["iperf3", "--server", "--port", str(IPERF), "--forceflush"]
    server = balancer.lab.popen(role, argv, stdout=subprocess.PIPE, text=True)
    try:
        for line in server.stdout:
            if "listening" in line:
                break
        yield
    finally:
        server.kill()
        server.wait(10)
        server.stdout.close()


@IPV4_AND_6
@pytest.mark.parametrize("way", WAYS)
def test_iperf3_measures_both_directions(balancer: Balancer, way: str, version: int) -> None:
    vip = balancer.fresh_vip(version)
    server = balancer.servers(version, {"server1": 1})
    web(balancer, vip, port=IPERF, servers=server, **WAYS[way])
    with iperf3_server(balancer, "server1"):
        for direction in ([], ["--reverse"]):
            argv = ["iperf3", "--client", str(vip), "--bytes", str(IPERF_BYTES), "--json"]
            report = json.loads(balancer.lab.exec("client", [*argv, *direction]).stdout)
            assert "error" not in report
            # each end is asked what it has at the moment when the client has seen enough
            near = report["end"]["sum_received" if direction else "sum_sent"]
            far = report["end"]["sum_sent" if direction else "sum_received"]
            assert near["bytes"] >= IPERF_BYTES
            assert far["bytes"] > IPERF_BYTES // 40


# Beside the host's own stack.


def test_what_is_no_services_reaches_the_host_and_those_behind_it(balancer: Balancer) -> None:
    web(balancer, balancer.fresh_vip(4))
    assert all(balancer.lab.ping().values())
    for version in (4, 6):
        server = balancer.topology.servers[0].address(version)
        assert share_by_server(balancer.load.http(server, count=2)) == {"server1": 2}


@IPV4_AND_6
def test_another_port_of_a_vip_is_the_hosts_own(balancer: Balancer, version: int) -> None:
    vip = balancer.fresh_vip(version)
    web(balancer, vip)
    assert share_by_server(balancer.load.http(vip, port=81)) == {"ECONNREFUSED": 1}
    program = (
        "import socketserver, http.server\n"
        "class Own(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(b'own none')\n"
        "class Server(socketserver.TCPServer):\n"
        f"    address_family = {10 if version == 6 else 2}\n"
        "    allow_reuse_address = True\n"
        "    def server_bind(self):\n"  # the VIP is local by a route, and on no interface
        f"        self.socket.setsockopt(*{(41, 78, 1) if version == 6 else (0, 15, 1)})\n"
        "        super().server_bind()\n"
        f"with Server(({str(vip)!r}, 8081), Own) as server:\n"
        "    print('ready', flush=True)\n"
        "    server.serve_forever()\n"
    )
    argv = [sys.executable, "-c", program]
    own = balancer.lab.popen("balancer", argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        first = own.stdout.readline()
        assert first == b"ready\n", own.stdout.read()
        argv = ["curl", "-sS", "--max-time", "10", "--globoff"]
        host = f"[{vip}]" if version == 6 else str(vip)
        said = balancer.lab.exec("client", [*argv, f"http://{host}:8081/"]).stdout
        assert said == "own none"
    finally:
        own.kill()
        own.wait(10)
        own.stdout.close()


@IPV4_AND_6
def test_a_vip_answers_pings(balancer: Balancer, version: int) -> None:
    vip = balancer.fresh_vip(version)
    web(balancer, vip)
    argv = ["ping", "-c", "3", "-i", "0.2", "-W", "2", str(vip)]
    assert "3 received" in balancer.lab.exec("client", argv).stdout


# The daemon comes and goes.


def test_nothing_is_lost_while_the_daemon_is_not_there(balancer: Balancer, vip: IPAddress) -> None:
    web(balancer, vip)
    document = {"address": str(vip), "port": ECHO, "scheduler": "wrr"}
    balancer.declare("echo", {**document, "servers": balancer.servers(4, WEIGHTS)})
    sessions = balancer.load.open(vip, count=30)
    assert share_by_server(sessions) == {role: 5 * weight for role, weight in WEIGHTS.items()}
    stream = balancer.load.stream(vip, rate=50)
    for end in (balancer.daemon.kill, balancer.daemon.stop):
        end()
        assert_answered(balancer.load.echo(sessions, size=1000))
        goes_on(stream)
        balancer.daemon.start(*balancer.daemon.options)
        assert_answered(balancer.load.echo(sessions, size=1000))
        goes_on(stream)
    record = stream.stop()
    assert record.failures == ()
    assert record.answered == record.sent
    assert balancer.active("echo") == {role: 5 * weight for role, weight in WEIGHTS.items()}
    balancer.load.close_sessions(sessions)
    balancer.daemon.client.remove_service("echo")


def goes_on(stream: Stream) -> None:
    wait_for_answers(stream, stream.look().answered + 25)
