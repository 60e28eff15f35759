"""Which part of kernlb may lean on which: the layers as a table, held to the real import graph.

Every import statement counts, at the top of a module or inside a function; those under
``if TYPE_CHECKING`` do not, for they never run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import kernlb

ROOT = Path(kernlb.__file__).parent

# A layer: its modules, and what of kernlb they may import beside each other. Each module is in
# exactly one; a pattern of the right column names modules, not layers.
LAYERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "version": (("kernlb",), ()),
    "values": (
        (
            "kernlb.model",
            "kernlb.limits",
            "kernlb.plan",
            "kernlb.declaration",
            "kernlb.health",
            "kernlb.health.check",
            "kernlb.health.outcome",
        ),
        (),
    ),
    "judgement": (
        (
            "kernlb.health.fsm",
            "kernlb.health.damping",
            "kernlb.health.policy",
            "kernlb.health.stance",
            "kernlb.health.diagram",
            "kernlb.health.trust",
            "kernlb.health.pace",
            "kernlb.health.agenda",
            "kernlb.health.partition",
            "kernlb.health.lateness",
            "kernlb.health.passive",
        ),
        ("kernlb.model", "kernlb.intent", "kernlb.health.*"),
    ),
    "probes": (
        ("kernlb.health.probes", "kernlb.health.probes.*", "kernlb.health.monitor"),
        ("kernlb.model", "kernlb.health", "kernlb.health.*"),
    ),
    "decisions": (
        ("kernlb.reconcile", "kernlb.intent", "kernlb.schedule", "kernlb.schedule.*"),
        ("kernlb.model", "kernlb.plan", "kernlb.declaration"),
    ),
    "vip": (
        ("kernlb.vip", "kernlb.vip.plan", "kernlb.vip.announce"),
        ("kernlb.model",),
    ),
    "vip door": (("kernlb.vip.netlink", "kernlb.vip.asking"), ("kernlb.model", "kernlb.vip.*")),
    "config": (
        ("kernlb.config", "kernlb.config.*"),
        (
            "kernlb.model",
            "kernlb.limits",
            "kernlb.declaration",
            "kernlb.health.check",
            "kernlb.health.probes.dns_message",
        ),
    ),
    "store": (("kernlb.store",), ("kernlb.config", "kernlb.config.*", "kernlb.declaration")),
    "datapath": (
        ("kernlb.datapath", "kernlb.datapath.*"),
        ("kernlb.model", "kernlb.limits", "kernlb.plan", "kernlb.schedule.*"),
    ),
    "protocol": (
        (
            "kernlb.control",
            "kernlb.control.protocol",
            "kernlb.control.protocol_health",
            "kernlb.control.protocol_overview",
            "kernlb.control.protocol_xdp",
            "kernlb.control.problem",
        ),
        (),
    ),
    "client": (
        ("kernlb.control.client", "kernlb.control.wire"),
        ("kernlb.control.protocol*",),
    ),
    "server": (
        ("kernlb.control.server", "kernlb.control.access", "kernlb.control.watching"),
        (
            "kernlb",
            "kernlb.control",
            "kernlb.control.pro*",
            "kernlb.control.watching",
            "kernlb.daemon.board",
            "kernlb.daemon.changes",
            "kernlb.daemon.events",
            "kernlb.daemon.readings",
            "kernlb.daemon.status",
            "kernlb.intent",
            "kernlb.model",
        ),
    ),
    "metrics": (
        (
            "kernlb.metrics",
            "kernlb.metrics_health",
            "kernlb.metrics_text",
            "kernlb.metrics_xdp",
        ),
        ("kernlb", "kernlb.control.protocol", "kernlb.control.protocol_xdp"),
    ),
    "daemon": (
        ("kernlb.daemon", "kernlb.daemon.*"),
        (
            "kernlb",
            "kernlb.model",
            "kernlb.plan",
            "kernlb.declaration",
            "kernlb.reconcile",
            "kernlb.intent",
            "kernlb.schedule.*",
            "kernlb.vip.*",
            "kernlb.config*",
            "kernlb.store",
            "kernlb.datapath*",
            "kernlb.health*",
            "kernlb.control.pro*",
            "kernlb.control.server",
            "kernlb.control.watching",
            "kernlb.metrics",
            "kernlb.metrics_text",
            "kernlb.page*",
        ),
    ),
    "command line": (
        ("kernlb.cli", "kernlb.cli.*"),
        (
            "kernlb",
            "kernlb.control.client",
            "kernlb.control.protocol*",
            "kernlb.doctor*",
            "kernlb.migrate*",
            "kernlb.realserver*",
            "kernlb.trace*",
        ),
    ),
    "page": (("kernlb.page", "kernlb.page.*"), ("kernlb", "kernlb.control.pro*")),
    "migration": (
        ("kernlb.migrate", "kernlb.migrate.*"),
        (
            "kernlb.model",
            "kernlb.limits",
            "kernlb.declaration",
            "kernlb.health.check",
            "kernlb.config*",
            "kernlb.control.protocol*",
        ),
    ),
    "doctor": (
        ("kernlb.doctor", "kernlb.doctor.*"),
        (
            "kernlb.model",
            "kernlb.realserver.wish",
            "kernlb.realserver.tunnels",
            "kernlb.limits",
            "kernlb.declaration",
            "kernlb.config*",
            "kernlb.store",
            "kernlb.control.protocol*",
            "kernlb.datapath*",
            "kernlb.vip.asking",
        ),
    ),
    "real server's wish": (
        ("kernlb.realserver.wish", "kernlb.realserver.tunnels"),
        ("kernlb.model",),
    ),
    "real server": (
        (
            "kernlb.realserver",
            "kernlb.realserver.host",
            "kernlb.realserver.looking",
            "kernlb.realserver.making",
            "kernlb.realserver.plan",
            "kernlb.realserver.preparing",
            "kernlb.realserver.reading",
            "kernlb.realserver.record",
            "kernlb.realserver.rules",
            "kernlb.realserver.slots",
            "kernlb.realserver.unit",
            "kernlb.realserver.wanted",
        ),
        (
            "kernlb.model",
            "kernlb.doctor*",
            "kernlb.datapath.xdp.decap",
            "kernlb.datapath.xdp.libbpf",
            "kernlb.realserver.wish",
            "kernlb.realserver.tunnels",
        ),
    ),
    "tracing": (
        ("kernlb.trace", "kernlb.trace.*"),
        ("kernlb.model", "kernlb.datapath.xdp.*", "kernlb.control.protocol*"),
    ),
    "lab": (("kernlb.lab", "kernlb.lab.*"), ("kernlb", "kernlb.datapath.xdp.decap")),
}

# Single edges that the table above does not allow, and why they are there all the same.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("kernlb.cli.daemon", "kernlb.daemon"): "`kernlb daemon` is kernlbd, loaded when it is asked",
    ("kernlb.cli.unload", "kernlb.daemon.*"): "`kernlb unload` does a stopped daemon's work",
    ("kernlb.daemon.unloading", "kernlb.control.access"): "it takes the socket, and serves nobody",
    ("kernlb.cli.quick", "kernlb.control.wire"): "the client's types cost more than the rest",
    ("kernlb.cli.manual", "kernlb.daemon"): "its options are in the manual, made when packaging",
    ("kernlb.cli.schema", "kernlb.config"): "`kernlb schema` needs no daemon",
    ("kernlb.cli.capture", "kernlb.datapath.xdp.*"): "a capture needs no daemon",
    ("kernlb.cli.xdp", "kernlb.config*"): "`kernlb xdp` needs no daemon",
    ("kernlb.cli.xdp", "kernlb.datapath.xdp.*"): "nor a program that is loaded",
    ("kernlb.cli.lab", "kernlb.lab*"): "`kernlb lab` is the lab, loaded when it is asked",
    ("kernlb.migrate.ipvsadm.kernel", "kernlb.datapath.ipvs"): "what others made in the kernel",
    ("kernlb.cli.realserver", "kernlb.datapath.xdp.*"): "a real server has no daemon",
}

# Parts that only compute: no clock, no file, no socket, no process, no event loop.
PURE = (
    "kernlb.cli.columns",
    "kernlb.cli.keys",
    "kernlb.cli.render",
    "kernlb.cli.sparkline",
    "kernlb.cli.status_services",
    "kernlb.cli.status_text",
    "kernlb.cli.top_model",
    "kernlb.cli.top_view",
    "kernlb.cli.wait_condition",
    "kernlb.model",
    "kernlb.limits",
    "kernlb.plan",
    "kernlb.health",
    "kernlb.health.check",
    "kernlb.health.outcome",
    "kernlb.health.fsm",
    "kernlb.health.probes.dns_message",
    "kernlb.health.probes.found",
    "kernlb.health.probes.http_answer",
    "kernlb.health.probes.icmp_packets",
    "kernlb.health.probes.wording",
    "kernlb.health.damping",
    "kernlb.health.policy",
    "kernlb.health.diagram",
    "kernlb.health.lateness",
    "kernlb.declaration",
    "kernlb.reconcile",
    "kernlb.intent",
    "kernlb.schedule*",
    "kernlb.page.guard",
    "kernlb.vip.plan",
    "kernlb.vip.announce",
    "kernlb.config.address",
    "kernlb.config.block",
    "kernlb.config.conflicts",
    "kernlb.config.document",
    "kernlb.config.duration",
    "kernlb.config.edit",
    "kernlb.config.errors",
    "kernlb.config.plain",
    "kernlb.config.schema",
    "kernlb.config.servers",
    "kernlb.config.service",
    "kernlb.config.settings_document",
    "kernlb.config.shape",
    "kernlb.config.splice",
    "kernlb.config.syntax",
    "kernlb.config.xdp_document",
    "kernlb.config.xdp_settings",
    "kernlb.control.protocol",
    "kernlb.control.protocol_health",
    "kernlb.control.protocol_overview",
    "kernlb.control.protocol_xdp",
    "kernlb.control.problem",
    "kernlb.metrics_text",
    "kernlb.daemon.concerns",
    "kernlb.daemon.readings",
    "kernlb.daemon.shares",
    "kernlb.daemon.views",
    "kernlb.daemon.probe_counts",
    "kernlb.daemon.outcome",
    "kernlb.daemon.draft",
    "kernlb.daemon.destinations",
    "kernlb.daemon.neighbours",
    "kernlb.daemon.reachability",
    "kernlb.migrate.ipvsadm.document",
    "kernlb.migrate.ipvsadm.export",
    "kernlb.migrate.ipvsadm.grammar",
    "kernlb.migrate.ipvsadm.line",
    "kernlb.migrate.ipvsadm.listing",
    "kernlb.migrate.ipvsadm.making",
    "kernlb.migrate.ipvsadm.options",
    "kernlb.migrate.ipvsadm.rules",
    "kernlb.migrate.ipvsadm.saved",
    "kernlb.migrate.ipvsadm.views",
    "kernlb.datapath",
    "kernlb.datapath.fake",
    "kernlb.datapath.ipvs.abi",
    "kernlb.datapath.ipvs.attributes",
    "kernlb.datapath.ipvs.program",
    "kernlb.datapath.ipvs.replies",
    "kernlb.datapath.ipvs.requests",
    "kernlb.datapath.ipvs.shape",
    "kernlb.datapath.xdp.cursor",
    "kernlb.datapath.xdp.explain",
    "kernlb.datapath.xdp.tuning",
    "kernlb.datapath.xdp.filter",
    "kernlb.datapath.xdp.hops",
    "kernlb.datapath.xdp.hop_requests",
    "kernlb.datapath.xdp.hop_replies",
    "kernlb.datapath.xdp.layout",
    "kernlb.datapath.xdp.records",
    "kernlb.datapath.xdp.refusals",
    "kernlb.datapath.xdp.slots",
    "kernlb.datapath.xdp.tables",
    "kernlb.doctor",
    "kernlb.doctor.facts",
    "kernlb.doctor.finding",
    "kernlb.doctor.examining",
    "kernlb.doctor.ops",
    "kernlb.doctor.sysctls",
    "kernlb.doctor.network",
    "kernlb.doctor.drivers",
    "kernlb.doctor.services",
    "kernlb.doctor.balancer",
    "kernlb.doctor.balancer.daemon",
    "kernlb.doctor.balancer.devices",
    "kernlb.doctor.balancer.filters",
    "kernlb.doctor.balancer.forwarding",
    "kernlb.doctor.balancer.host",
    "kernlb.doctor.balancer.ipvs",
    "kernlb.doctor.balancer.kernel",
    "kernlb.doctor.balancer.reach",
    "kernlb.doctor.balancer.used",
    "kernlb.doctor.balancer.vips",
    "kernlb.doctor.balancer.xdp",
    "kernlb.doctor.daemon",
    "kernlb.doctor.host",
    "kernlb.doctor.ipvs",
    "kernlb.doctor.netfilter",
    "kernlb.doctor.xdp",
    "kernlb.doctor.server",
    "kernlb.realserver",
    "kernlb.realserver.host",
    "kernlb.realserver.plan",
    "kernlb.realserver.rules",
    "kernlb.realserver.slots",
    "kernlb.realserver.tunnels",
    "kernlb.realserver.unit",
    "kernlb.realserver.wanted",
    "kernlb.realserver.wish",
)
VALUES = frozenset(
    {
        *("__future__", "collections", "contextlib", "copy", "dataclasses", "difflib", "enum"),
        *(
            "array",
            "bisect",
            "errno",
            "functools",
            "hashlib",
            "io",
            "ipaddress",
            "itertools",
            "json",
            "math",
            "re",
        ),
        *("struct", "types", "typing", "msgspec", "yaml", "ruamel"),
    }
)
# `socket` for its constants and inet_pton alone, which open nothing.
SOCKET_CONSTANTS = (
    "kernlb.config.address",
    "kernlb.datapath.ipvs.replies",
    "kernlb.datapath.ipvs.requests",
)

# One door per outside thing: who alone may import it. The lab sets up namespaces, runs guests
# and answers as a backend; it is no part of the daemon.
DOORS: dict[str, tuple[str, ...]] = {
    "socket": (
        "kernlb.control.access",
        "kernlb.control.server",
        "kernlb.control.wire",
        "kernlb.daemon.journal",
        "kernlb.daemon.notify",
        "kernlb.datapath.ipvs.netlink",
        "kernlb.datapath.xdp.asking",  # if_indextoname
        "kernlb.datapath.xdp.attaching",  # if_nametoindex
        "kernlb.datapath.xdp.capturing",  # if_nametoindex
        "kernlb.datapath.xdp.decap",  # if_nametoindex
        "kernlb.datapath.own_addresses",
        "kernlb.datapath.xdp.hop_door",
        "kernlb.datapath.xdp.probing",  # if_nameindex
        "kernlb.migrate.ipvsadm.names",  # of hosts and ports
        "kernlb.health.probes.*",
        "kernlb.vip.asking",
        "kernlb.vip.netlink",
        "kernlb.doctor.doors.ethtool",  # SIOCETHTOOL
        *SOCKET_CONSTANTS,
        "kernlb.lab.*",
    ),
    "subprocess": (
        "kernlb.datapath.ipvs.netlink",  # modprobe ip_vs
        "kernlb.health.probes.exec_door",
        "kernlb.trace.bcc",  # the distribution's Python, which has bcc
        "kernlb.doctor.doors.programs",  # nft, modprobe
        "kernlb.lab.*",
    ),
    "pyroute2": (
        "kernlb.vip.netlink",
        "kernlb.datapath.xdp.decap",
        "kernlb.doctor.doors.*",
        "kernlb.lab.*",
    ),
    "aiohttp": (
        "kernlb.control.server",
        "kernlb.control.watching",
        "kernlb.daemon.scrape",
        "kernlb.page.routes",
        "kernlb.lab.*",
    ),
    "prometheus_client": ("kernlb.metrics", "kernlb.metrics_health", "kernlb.metrics_xdp"),
    "h2": ("kernlb.health.probes.grpc_health",),
    "uvloop": ("kernlb.daemon",),
    "click": ("kernlb.cli.*",),
    "rich": ("kernlb.cli.top_terminal", "kernlb.cli.top_picture"),
    "termios": ("kernlb.cli.top_terminal",),
    "yaml": ("kernlb.config.*",),
    "ruamel": ("kernlb.config.edit",),
    "signal": (
        "kernlb.cli.top_terminal",
        "kernlb.daemon.app",
        "kernlb.trace.stopping",
        "kernlb.health.probes.*",
        "kernlb.lab.*",
    ),
    "ctypes": (
        "kernlb.datapath.xdp.libbpf*",
        "kernlb.health.probes.exec_runner",  # prctl
        "kernlb.doctor.doors.*",
        "kernlb.lab.*",
    ),
}

# Heavy to import, hence never at the top of what the command line loads to start.
HEAVY = {"aiohttp", "pyroute2", "prometheus_client", "uvloop", "ruamel", "yaml", "asyncio", "rich"}


class Import(NamedTuple):
    importer: str
    imported: str
    lazy: bool  # inside a function


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("kernlb", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    """Every import of every module; of kernlb's own, the module that is meant."""
    return tuple(
        Import(name, imported, lazy)
        for name, path in modules().items()
        for imported, lazy in sorted(set(_imports(ast.parse(path.read_text()), lazy=False)))
    )


def _imports(node: ast.AST, *, lazy: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=otherwise):
                for statement in otherwise:
                    yield from _imports(statement, lazy=lazy)
            case ast.Import(names=names):
                yield from ((each.name, lazy) for each in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                for each in names:
                    inner = f"{module}.{each.name}"
                    yield (inner if inner in modules() else module), lazy
            case ast.ImportFrom():
                raise AssertionError("relative imports hide what they import")
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from _imports(child, lazy=True)
            case _:
                yield from _imports(child, lazy=lazy)


def is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def layer_of(name: str) -> str:
    (layer,) = [layer for layer, (members, _) in LAYERS.items() if is_one_of(name, members)]
    return layer


def package(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", modules())
def test_a_module_is_in_one_layer(name: str) -> None:
    layers = [layer for layer, (members, _) in LAYERS.items() if is_one_of(name, members)]
    assert len(layers) == 1, f"{name} is in {layers}: see LAYERS"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_leans_on_what_it_may(layer: str) -> None:
    members, allowed = LAYERS[layer]
    wrong = [
        f"{each.importer} imports {each.imported}"
        for each in imports()
        if package(each.imported) == "kernlb"
        and is_one_of(each.importer, members)
        and not is_one_of(each.imported, (*members, *allowed))
        and not is_excepted(each)
    ]
    assert not wrong


def is_excepted(each: Import) -> bool:
    return each.lazy and any(
        each.importer == importer and fnmatchcase(each.imported, imported)
        for importer, imported in EXCEPTIONS
    )


def test_every_exception_is_still_needed() -> None:
    for importer, imported in EXCEPTIONS:
        assert any(
            each.importer == importer and fnmatchcase(each.imported, imported) for each in imports()
        ), f"{importer} does not import {imported} any more"


def test_pure_modules_compute_and_do_nothing_else() -> None:
    wrong = [
        f"{each.importer} imports {each.imported}"
        for each in imports()
        if is_one_of(each.importer, PURE)
        and package(each.imported) not in VALUES | {"kernlb"}
        and not (each.imported == "socket" and each.importer in SOCKET_CONSTANTS)
    ]
    assert not wrong


def test_pure_values_and_decisions_lean_on_pure_modules_only() -> None:
    impure = [name for name in modules() if not is_one_of(name, PURE)]
    wrong = [
        f"{each.importer} imports {each.imported}"
        for each in imports()
        if each.imported in impure
        and layer_of(each.importer) in ("values", "decisions", "vip", "protocol")
    ]
    assert not wrong


@pytest.mark.parametrize("pattern", PURE)
def test_every_pure_module_is_there(pattern: str) -> None:
    assert any(fnmatchcase(name, pattern) for name in modules())


@pytest.mark.parametrize("name", SOCKET_CONSTANTS)
def test_pure_modules_use_constants_of_sockets_and_open_none(name: str) -> None:
    tree = ast.parse(modules()[name].read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "socket"
    }
    used |= {
        each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "socket"
        for each in node.names
    }
    opens_nothing = {"inet_pton", "inet_ntop", "htons", "ntohs", "htonl", "ntohl"}
    assert used
    assert all(word in opens_nothing or word.isupper() for word in used), used


@pytest.mark.parametrize("outside", DOORS)
def test_an_outside_thing_has_its_doors(outside: str) -> None:
    wrong = [
        f"{each.importer} imports {each.imported}"
        for each in imports()
        if package(each.imported) == outside and not is_one_of(each.importer, DOORS[outside])
    ]
    assert not wrong


def test_one_module_a_subsystem_opens_netlink_sockets_and_two_raw_frames() -> None:
    assert openers_of("AF_NETLINK") == [
        "kernlb.datapath.ipvs.netlink",
        "kernlb.datapath.xdp.hop_door",
    ]
    assert openers_of("AF_PACKET") == ["kernlb.vip.asking", "kernlb.vip.netlink"]


def openers_of(family: str) -> list[str]:
    """Modules that name a family of sockets, the lab aside."""
    return [
        name
        for name, path in modules().items()
        if layer_of(name) != "lab"
        and any(
            isinstance(node, ast.Attribute) and node.attr == family
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]


def test_the_composition_root_is_imported_by_its_door_alone() -> None:
    importers = [each for each in imports() if each.imported == "kernlb.daemon.app"]
    assert importers == [Import("kernlb.daemon", "kernlb.daemon.app", lazy=True)]


# What the keepers speak.
VALUES_OF_DATAPATHS = ("kernlb.datapath.xdp.hops", "kernlb.datapath.probing")


def test_only_the_composition_root_knows_the_real_datapaths_and_doors() -> None:
    wrong = [
        f"{each.importer} imports {each.imported}"
        for each in imports()
        if each.importer.startswith("kernlb.daemon.")
        and is_one_of(
            each.imported, ("kernlb.datapath.*", "kernlb.vip.netlink", "kernlb.vip.asking")
        )
        and each.importer not in ("kernlb.daemon.app", "kernlb.daemon.opened", "kernlb.daemon.host")
        and each.importer != "kernlb.daemon.unloading"  # the root of what runs without a daemon
        and not each.importer.startswith("kernlb.daemon.xdp")  # the composition of one datapath
        and each.imported not in VALUES_OF_DATAPATHS
    ]
    assert not wrong


def test_the_command_line_starts_light() -> None:
    """What `kernlb --help` loads: the closure of the imports at the top of modules."""
    reached, waiting = set[str](), ["kernlb.cli", "kernlb.cli.app"]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        waiting += [each.imported for each in imports() if each.importer == name and not each.lazy]
    assert not {package(name) for name in reached} & HEAVY
    assert not [name for name in reached if is_one_of(name, ("kernlb.daemon*", "kernlb.config*"))]
    assert not [name for name in reached if is_one_of(name, ("kernlb.datapath*", "kernlb.model"))]


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for each in imports():
        # a package and its own modules: the package's __init__ is what they have in common
        if each.imported in graph and not each.lazy:
            graph[each.importer].add(each.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
