"""The metrics page: what Prometheus reads there, and that it is what the kernel counted."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from kernlb import __version__, metrics, metrics_text
from kernlb.daemon.scrape import MetricsServer
from kernlb.datapath import Counters, ServerStats, ServiceStats
from kernlb.intent import AdminMode
from tests.unit.daemon.health_world import ADDRESSES, health_world
from tests.unit.daemon.world import World, foreign, key, story, web

WEB = ServiceStats(
    Counters(connections=12, packets_in=340, packets_out=330, bytes_in=56_000, bytes_out=7_800_000),
    {},
)
ONE = ServerStats(
    Counters(connections=9, packets_in=300, packets_out=290, bytes_in=50_000, bytes_out=7_000_000),
    active=4,
    inactive=3,
    persistent=2,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, foreign(99, "10.9.9.9"))


async def scraped(world: World) -> dict[str, Metric]:
    page = (await metrics.render(world.figures)).decode()
    families = list(text_string_to_metric_families(page))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


async def busy(world: World) -> None:
    """Two services, one of them with traffic, a drained server and a file that is bad."""
    world.write("bad", "port: [")
    await world.start(web=web("10.0.0.1*3", "10.0.0.2"), db=web("10.0.0.9", port=5432))
    servers = world.kernel.state[key()].by_key()
    one = next(each for each in servers if str(each.address) == "10.0.0.1")
    world.kernel.set_stats(key(), ServiceStats(WEB.counters, {one: ONE}))
    await world.changes.hold("web", "10.0.0.2", AdminMode.DRAINING, dry_run=False)
    await world.audit.walk()


def value(family: Metric, **labels: str) -> float:
    (found,) = [sample.value for sample in family.samples if sample.labels == labels]
    return found


@story
async def test_figures_are_those_of_the_kernel(world: World) -> None:
    await busy(world)
    page = await scraped(world)
    one = {"service": "web", "server": "10.0.0.1:80"}
    expected: list[tuple[str, dict[str, str], float]] = [
        ("kernlb_service_connections", {"service": "web"}, 12),
        ("kernlb_service_packets_in", {"service": "web"}, 340),
        ("kernlb_service_packets_out", {"service": "web"}, 330),
        ("kernlb_service_bytes_in", {"service": "web"}, 56_000),
        ("kernlb_service_bytes_out", {"service": "web"}, 7_800_000),
        ("kernlb_service_connections", {"service": "db"}, 0),
        ("kernlb_server_connections", one, 9),
        ("kernlb_server_packets_in", one, 300),
        ("kernlb_server_packets_out", one, 290),
        ("kernlb_server_bytes_in", one, 50_000),
        ("kernlb_server_bytes_out", one, 7_000_000),
        ("kernlb_server_active_connections", one, 4),
        ("kernlb_server_inactive_connections", one, 3),
        ("kernlb_server_persistent_connections", one, 2),
        ("kernlb_server_weight", one, 3),
        ("kernlb_server_weight", {"service": "web", "server": "10.0.0.2:80"}, 0),
        ("kernlb_service_serving_servers", {"service": "web"}, 1),
        ("kernlb_service_synced", {"service": "web"}, 1),
    ]
    for name, labels, number in expected:
        assert value(page[name], **labels) == number, (name, labels)


@story
async def test_the_daemon_tells_how_it_fares(world: World) -> None:
    await busy(world)
    world.kernel.drop(key())
    world.now += 60
    await world.audit.walk()
    page = await scraped(world)
    assert value(page["kernlb_build_info"], version=__version__) == 1
    assert value(page["kernlb_start_time_seconds"]) == world.now - 60
    assert value(page["kernlb_last_audit_time_seconds"]) == world.now
    assert value(page["kernlb_drift_repaired"]) == 1
    assert value(page["kernlb_document_faults"]) == 1
    assert value(page["kernlb_datapath_available"], datapath="ipvs") == 1
    states = {s.labels["state"]: s.value for s in page["kernlb_services"].samples}
    assert states == {
        "synced": 2,
        "invalid": 1,
        "foreign": 1,
        "pending": 0,
        "failed": 0,
        "conflict": 0,
    }


@story
async def test_a_service_that_the_kernel_refuses_shows(world: World) -> None:
    await busy(world)
    world.write("web", web("10.0.0.3"))
    world.kernel.refuse_ops("+ server")
    await world.changes.reload()
    page = await scraped(world)
    assert value(page["kernlb_service_synced"], service="web") == 0
    assert value(page["kernlb_services"], state="failed") == 1


@story
async def test_names_and_help_keep_to_the_conventions(world: World) -> None:
    await busy(world)
    page = await scraped(world)
    text = (await metrics.render(world.figures)).decode()
    for name, family in page.items():
        assert re.fullmatch(r"kernlb_[a-z]+(_[a-z]+)*", name)
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge"), (name, family.type)
        for sample in family.samples:
            assert sample.labels.keys() <= {"service", "server", "state", "datapath", "version"}
            if family.type == "counter":
                assert sample.name == f"{name}_total"
            else:
                assert not sample.name.endswith("_total")
    # base units: seconds and bytes, no kilobytes, milliseconds or percent
    assert not re.search(r"_(kb|mb|ms|millis|percent|minutes)(_|\b)", text)
    assert text.count("# HELP") == text.count("# TYPE") == len(page)


@story
async def test_a_scrape_reads_the_kernel_and_changes_nothing(world: World) -> None:
    await busy(world)
    world.forget()
    await scraped(world)
    assert world.journal == []
    assert world.kernel.calls == {}  # statistics alone


@story
async def test_the_page_is_what_prometheus_client_would_write(tmp_path: Path) -> None:
    """Parsed by it and written by it again, not a byte is different."""
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(
            web=backends.wish("one", "two"), db=web("2001:db8::9", address="2001:db8::1", port=5432)
        )
        await world.until_weights(one=1, two=1)
        large = (0, 7, 999_999, 1_000_000, 10**15 + 1, 2**53 + 1, 2**64 - 1)
        for service in ("web", "db"):
            service_key = world.desired.declarations[service].ref.key
            stats = {
                server: ServerStats(Counters(*large[at : at + 5]), *large[:3])
                for at, server in enumerate(world.kernel.state[service_key].by_key())
            }
            world.kernel.set_stats(service_key, ServiceStats(Counters(*large[-5:]), stats))
        page = (await metrics.render(world.figures)).decode()
    assert _written(list(text_string_to_metric_families(page))) == page
    assert 'kernlb_server_bytes_in_total{server="[2001:db8::9]:5432",service="db"}' in page


def _written(families: list[Metric]) -> str:
    class Families(Collector):
        def collect(self) -> list[Metric]:
            return families

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Families())
    return generate_latest(registry).decode()


@pytest.mark.parametrize("value", ['a"b', "back\\slash", "two\nlines", "ö"])
def test_labels_are_written_as_prometheus_client_writes_them(value: str) -> None:
    family = GaugeMetricFamily("kernlb_x", "Text.", labels=["service", "server"])
    family.add_metric([value, "10.0.0.1:80"], 12345678)
    mark = metrics_text.labels({"service": value, "server": "10.0.0.1:80"})
    ours = metrics_text.head("kernlb_x", "gauge", "Text.")
    ours += metrics_text.samples("kernlb_x", [mark], [12345678])
    assert ours == _written([family])


@given(st.integers(0, 2**64 - 1))
def test_numbers_are_written_as_prometheus_client_writes_them(number: int) -> None:
    assert metrics_text.samples("x", [""], [number]) == f"x {floatToGoString(number)}\n"


@story
async def test_too_many_servers_are_left_out_and_the_page_says_so(world: World) -> None:
    await busy(world)
    world.most_servers = 2
    page = await scraped(world)
    assert value(page["kernlb_servers"]) == 3
    assert value(page["kernlb_servers_left_out"]) == 3
    assert not [name for name in page if name.startswith("kernlb_server_")]
    assert value(page["kernlb_service_connections"], service="web") == 12
    world.most_servers = 3
    page = await scraped(world)
    assert value(page["kernlb_servers_left_out"]) == 0
    assert len(page["kernlb_server_weight"].samples) == 3


@story
async def test_a_reading_of_the_sampler_is_used_and_its_age_told(world: World) -> None:
    await busy(world)
    await world.sampler.sweep()
    world.kernel.set_stats(key(), ServiceStats(Counters(connections=99)))
    world.now += 7.0
    page = await scraped(world)
    assert value(page["kernlb_service_connections"], service="web") == 12
    assert value(page["kernlb_counters_time_seconds"]) == world.now - 7.0
    world.now += 60.0
    page = await scraped(world)
    assert value(page["kernlb_service_connections"], service="web") == 99
    assert value(page["kernlb_counters_time_seconds"]) == world.now


@story
async def test_marks_of_servers_follow_what_is_declared(world: World) -> None:
    await busy(world)
    await scraped(world)
    await world.changes.delete("db", dry_run=False)
    await world.put("web", web("10.0.0.1*7", "10.0.0.4"), replace=True)
    page = await scraped(world)
    weights = {s.labels["server"]: s.value for s in page["kernlb_server_weight"].samples}
    assert weights == {"10.0.0.1:80": 7, "10.0.0.4:80": 1}
    read = {s.labels["server"] for s in page["kernlb_server_connections"].samples}
    assert read == set(weights)


@story
async def test_others_get_their_turn_while_a_page_is_made(world: World) -> None:
    await world.start(**{f"s{n}": web("10.0.0.1", "10.0.0.2", port=2000 + n) for n in range(50)})
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await metrics.render(world.figures)
    task.cancel()
    assert turns > 50 * 9  # each service's servers of each family are a part


@story
async def test_the_listener_serves_the_page_and_nothing_else(world: World) -> None:

    await busy(world)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listener = MetricsServer(world.figures)
    await listener.start(f"127.0.0.1:{port}")
    try:
        for target, status in (("/metrics", b"200"), ("/v1/status", b"404"), ("/", b"404")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET " + target.encode() + b" HTTP/1.0\r\n\r\n")
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            assert head.split()[1] == status
            if status == b"200":
                assert b"text/plain; version=0.0.4; charset=utf-8" in head
                assert list(text_string_to_metric_families(body.decode()))
    finally:
        await listener.stop()


@story
async def test_health_is_there_where_servers_are_checked(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(raw=backends.wish("one", check="none", port=81))
        assert not [name for name in await scraped(world) if "health" in name]
        await world.put("web", backends.wish("one", "two"), replace=False)
        await world.until_weights(one=1, two=1)
        await backends.die("two")
        await world.until_weights(one=1)
        page = await scraped(world)
        one, two = (
            {"service": "web", "server": f"{ADDRESSES[name]}:{backends.port}"}
            for name in ("one", "two")
        )
        assert value(page["kernlb_server_up"], **one) == 1
        assert value(page["kernlb_server_up"], **two) == 0
        transitions = page["kernlb_health_transitions"]
        assert value(transitions, **one, to="up") == 1
        assert value(transitions, **one, to="down") == 0
        assert value(transitions, **two, to="down") == 1
        assert value(page["kernlb_health_targets"]) == 2
        probes = {
            (each.labels["type"], each.labels["outcome"]): each.value
            for each in page["kernlb_health_probes"].samples
        }
        assert set(probes) == {("tcp", "passed"), ("tcp", "connection refused")}
        assert probes["tcp", "connection refused"] >= 2
        durations = page["kernlb_health_probe_duration_seconds"]
        assert _of(durations, "_count") == sum(probes.values())
        assert 0 < _of(durations, "_sum") < 10
        assert _of(page["kernlb_health_lateness_seconds"], "_count") >= sum(probes.values())
        for name in ("suspended", "suspensions", "partition_held"):
            assert value(page[f"kernlb_health_{name}"]) == 0


def _of(family: Metric, ending: str) -> float:
    (found,) = [each.value for each in family.samples if each.name.endswith(ending)]
    return found
