"""The control interface over a real unix socket: every route, every refusal, and who may call."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kernlb import __version__
from kernlb.control import protocol, protocol_overview, server
from kernlb.control.protocol import Change, Problem, ProblemKind
from kernlb.control.server import ControlServer
from tests.unit.daemon.world import World, foreign, key, story, web

GROUP = "daemon"  # a group that every system has, and that root is not a member of here
NOBODY = 65534
ONE = "/v1/services/web/servers/10.0.0.1:80"


@dataclass(frozen=True)
class Answer:
    status: int
    media_type: str
    body: bytes

    def of(self, kind: type) -> Any:
        return msgspec.json.decode(self.body, type=kind)

    @property
    def problem(self) -> Problem:
        assert self.media_type == protocol.PROBLEM_TYPE
        found: Problem = self.of(Problem)
        assert found.status == self.status
        assert "\n" not in found.title
        return found


class Caller:
    """Speaks HTTP to the socket of a world."""

    def __init__(self, path: Path, world: World) -> None:
        self.path = path
        self.world = world

    async def __call__(self, method: str, target: str, body: object = None) -> Answer:
        content = body if isinstance(body, bytes) else b"" if body is None else encoded(body)
        head = f"{method} {target} HTTP/1.0\r\nContent-Length: {len(content)}\r\n\r\n"
        return await self.raw(head.encode() + content)

    async def raw(self, message: bytes) -> Answer:
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(message)
            head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return Answer(int(first.split()[1]), headers["content-type"].split(";")[0], content)


def encoded(body: object) -> bytes:
    return json.dumps(body).encode()


@asynccontextmanager
async def listening(
    world: World, group: str = GROUP, path: Path | None = None
) -> AsyncIterator[Caller]:
    """A world whose control socket answers, with two services in force."""
    control = ControlServer(group)
    path = path or world.root / "control.sock"
    control.claim(path)
    await world.start(web=web("10.0.0.1", "10.0.0.2"), db=web("10.0.0.9", port=5432))
    await control.start(world.changes, world.overview, world.watchers)
    try:
        yield Caller(path, world)
    finally:
        await control.stop()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, foreign(99, "10.9.9.9"))


# -- every route

EXPLAIN = "/v1/explain?protocol=tcp&client=198.51.100.7:40000&to=192.0.2.10:99"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (EXPLAIN, "datapath xdp is not in use on this host"),
        ("/v1/dump", "datapath xdp is not in use on this host"),
        ("/v1/explain", 'protocol "" is none of tcp, udp, sctp'),
        (EXPLAIN.replace("tcp", "icmp"), 'protocol "icmp" is none of'),
        (EXPLAIN.replace(":40000", ""), "client: "),
        (EXPLAIN.replace("192.0.2.10", "vip"), "to: "),
        (f"{EXPLAIN}&within=yes", "within=yes"),
        (EXPLAIN.replace(":99", ":80"), "datapath ipvs carries it, not xdp"),
    ],
)
@story
async def test_what_xdp_cannot_be_asked_is_a_problem(world: World, target: str, why: str) -> None:
    async with listening(world) as call:
        problem = (await call("GET", target)).problem
        assert problem.type is ProblemKind.INVALID_REQUEST
        assert why in problem.title


READERS = [
    ("/v1/version", protocol.Version),
    ("/v1/status", protocol.Status),
    ("/v1/services", list[protocol.ServiceSummary]),
    ("/v1/services/web", protocol.ServiceView),
    ("/v1/services/web/document", protocol.DocumentView),
    ("/v1/overview", protocol_overview.Overview),
    ("/v1/overview?service=web&history=3", protocol_overview.Overview),
    ("/v1/events", protocol_overview.Events),
    ("/v1/events?since=0&limit=10&service=web&wait=0.01", protocol_overview.Events),
    ("/v1/stats", list[protocol.ServiceStatsView]),
    ("/v1/stats?service=web&service=db", list[protocol.ServiceStatsView]),
]
DOCUMENT = '{"address": "192.0.2.10", "port": 81}'
WRITERS: list[tuple[str, str, object, list[str]]] = [
    ("PUT", "/v1/services/new", web("10.0.0.5", port=81), ["+ service", "+ server"]),
    (
        "PUT",
        "/v1/services/web?replace=true",
        web("10.0.0.1", "10.0.0.2*9"),
        ["~ server"],
    ),
    (
        "PUT",
        "/v1/services/new?adopt=true",
        web("10.9.9.9*3", port=99, scheduler="rr"),
        ["+ server", "- server"],  # its port is another: a service's servers have its port
    ),
    ("PATCH", "/v1/services/web", {"scheduler": "rr"}, ["~ service"]),
    ("DELETE", "/v1/services/web", None, ["- service"]),
    ("POST", "/v1/services/web/servers", {"address": "10.0.0.3"}, ["+ server"]),
    ("PATCH", ONE, {"weight": 7}, ["~ server"]),
    ("DELETE", ONE, None, ["- server"]),
    ("POST", f"{ONE}/drain", None, ["~ server"]),
    ("POST", f"{ONE}/drain", {"timeout": 30}, ["~ server"]),
    ("POST", f"{ONE}/disable", None, ["- server"]),
    ("POST", f"{ONE}/enable", None, []),
    ("POST", "/v1/services/web/servers/10.0.0.1/drain", None, ["~ server"]),
    ("POST", "/v1/apply", {"documents": {"new": DOCUMENT}}, ["+ service"]),
    ("POST", "/v1/reload", None, []),
]
WRITER_NAMES = [f"{method} {target}" for method, target, _, _ in WRITERS]


@pytest.mark.parametrize(("target", "kind"), READERS, ids=[target for target, _ in READERS])
@story
async def test_a_reader_answers_in_its_type(world: World, target: str, kind: type) -> None:
    async with listening(world) as call:
        answer = await call("GET", target)
        assert (answer.status, answer.media_type) == (200, "application/json")
        assert answer.of(kind)
        assert world.journal == []


@story
async def test_what_readers_say_is_what_is_so(world: World) -> None:
    async with listening(world) as call:
        version = (await call("GET", "/v1/version")).of(protocol.Version)
        assert (version.version, version.api, version.pid) == (__version__, "/v1", os.getpid())
        await world.audit.walk()
        listed = (await call("GET", "/v1/services")).of(list[protocol.ServiceSummary])
        assert [(each.name, each.key, each.state) for each in listed] == [
            ("db", "tcp/192.0.2.10:5432", "synced"),
            ("web", "tcp/192.0.2.10:80", "synced"),
            ("", "tcp/192.0.2.10:99", "foreign"),
        ]
        view = (await call("GET", "/v1/services/web")).of(protocol.ServiceView)
        assert [(s.address, s.port, s.kernel_weight, s.state) for s in view.servers] == [
            ("10.0.0.1", 80, 1, "up"),
            ("10.0.0.2", 80, 1, "up"),
        ]
        assert view.file == str(world.directory / "web.yaml")
        stats = (await call("GET", "/v1/stats?service=db")).of(list[protocol.ServiceStatsView])
        assert [each.name for each in stats] == ["db"]


@pytest.mark.parametrize(("method", "target", "body", "ops"), WRITERS, ids=WRITER_NAMES)
@story
async def test_a_writer_answers_with_what_it_did(
    world: World, method: str, target: str, body: object, ops: list[str]
) -> None:
    async with listening(world) as call:
        answer = await call(method, target, body)
        assert answer.status == 200, answer.body
        change: Change = answer.of(Change)
        assert change.applied
        done = [" ".join(line.split()[:2]) for line in world.journal]
        assert done == [" ".join(op.text.split()[:2]) for op in change.ops]
        assert done == ops


@pytest.mark.parametrize(("method", "target", "body", "ops"), WRITERS, ids=WRITER_NAMES)
@story
async def test_a_dry_run_answers_alike_and_does_nothing(
    world: World, method: str, target: str, body: object, ops: list[str]
) -> None:
    async with listening(world) as call:
        files = {path.name: path.read_text() for path in world.directory.iterdir()}
        join = "&" if "?" in target else "?"
        answer = await call(method, f"{target}{join}dry_run=true", body)
        assert answer.status == 200, answer.body
        change: Change = answer.of(Change)
        assert not change.applied
        assert [" ".join(op.text.split()[:2]) for op in change.ops] == ops
        assert world.journal == []
        assert {path.name: path.read_text() for path in world.directory.iterdir()} == files


@pytest.mark.parametrize("body", [None, {}, {"documents": {}}, {"documents": {"new": DOCUMENT}}])
@story
async def test_a_plan_is_never_carried_out(world: World, body: object) -> None:
    async with listening(world) as call:
        world.write("web", web("10.0.0.1"))
        change: Change = (await call("POST", "/v1/plan", body)).of(Change)
        assert not change.applied
        new = isinstance(body, dict) and "new" in body.get("documents", {})
        assert [op.action for op in change.ops] == (["add"] if new else ["remove"])
        assert world.journal == []


@story
async def test_a_foreign_service_is_adopted_by_its_declaration(world: World) -> None:
    async with listening(world) as call:
        world.write("theirs", web("10.0.0.7", port=99))
        await call("POST", "/v1/reload")
        assert (await call("POST", "/v1/services/theirs/adopt")).status == 200
        assert world.weights(key(99)) == {"10.0.0.7": 1}


@story
async def test_an_ipv6_server_is_named_in_brackets(world: World) -> None:
    async with listening(world) as call:
        wish = web("fd00::1", "fd00::2", address="2001:db8::10")
        assert (await call("PUT", "/v1/services/six", wish)).status == 200
        target = "/v1/services/six/servers"
        for name in ("[fd00::1]:80", "%5Bfd00::1%5D:80", "fd00::1", "[fd00::1]", "fd00:0::1"):
            assert (await call("POST", f"{target}/{name}/drain")).status == 200, name
        assert world.weights(key(80, "2001:db8::10")) == {"fd00::1": 0, "fd00::2": 1}


# -- every refusal

BAD = ProblemKind.INVALID_REQUEST
WRONG = ProblemKind.INVALID_DOCUMENT
ABSENT = ProblemKind.NOT_FOUND
REFUSALS: list[tuple[str, str, object, int, ProblemKind]] = [
    ("GET", "/", None, 404, ABSENT),
    ("GET", "/v1", None, 404, ABSENT),
    ("GET", "/v2/status", None, 404, ABSENT),
    ("GET", "/v1/services/", None, 404, ABSENT),
    ("GET", "/v1/services/nobody", None, 404, ABSENT),
    ("GET", "/v1/services/..%2f..%2fetc%2fpasswd", None, 404, ABSENT),
    ("GET", "/v1/stats?service=nobody", None, 404, ABSENT),
    ("DELETE", "/v1/services/nobody", None, 404, ABSENT),
    ("PATCH", "/v1/services/nobody", {}, 404, ABSENT),
    ("POST", "/v1/services/nobody/adopt", None, 404, ABSENT),
    ("POST", "/v1/services/nobody/servers", {"address": "10.0.0.1"}, 404, ABSENT),
    ("POST", "/v1/services/web/servers/10.0.0.8:80/drain", None, 404, ABSENT),
    ("DELETE", "/v1/services/web/servers/10.0.0.1:81", None, 404, ABSENT),
    ("POST", "/v1/status", None, 405, BAD),
    ("DELETE", "/v1/services", None, 405, BAD),
    ("OPTIONS", "/v1/status", None, 405, BAD),
    ("PUT", "/v1/services/new", b"{", 400, BAD),
    ("PUT", "/v1/services/new", b"", 400, BAD),
    ("PUT", "/v1/services/new", b"[]", 400, BAD),
    ("PUT", "/v1/services/new", b"\xff\xfe", 400, BAD),
    ("PUT", "/v1/services/new", b'{"port": NaN}', 400, BAD),
    ("PUT", "/v1/services/new", b"[" * 100_000, 400, BAD),
    ("PUT", "/v1/services/new", b'{"a":' * 50_000, 400, BAD),
    ("PATCH", "/v1/services/web", b"null", 400, BAD),
    ("POST", "/v1/services/web/servers", b"7", 400, BAD),
    ("POST", "/v1/apply", b"", 400, BAD),
    ("POST", "/v1/apply", {"documents": ["web"]}, 400, BAD),
    ("POST", "/v1/apply", {"documents": {"web": 7}}, 400, BAD),
    ("POST", f"{ONE}/drain", {"timeout": "soon"}, 400, BAD),
    ("POST", f"{ONE}/drain", {"timeout": -1}, 400, BAD),
    ("POST", f"{ONE}/drain", b'{"timeout": 1e300}', 400, BAD),
    ("PUT", "/v1/services/new?dry_run=1", web("10.0.0.5", port=81), 400, BAD),
    ("PUT", "/v1/services/new?replace=yes", web("10.0.0.5", port=81), 400, BAD),
    ("PUT", "/v1/services/new?adopt=", web("10.0.0.5", port=81), 400, BAD),
    ("DELETE", "/v1/services/web?dry_run=TRUE", None, 400, BAD),
    ("POST", "/v1/reload?dry_run=please", None, 400, BAD),
    ("PUT", "/v1/services/web", web("10.0.0.1"), 409, ProblemKind.EXISTS),
    ("PUT", "/v1/services/theirs", web("10.0.0.5", port=99), 409, ProblemKind.FOREIGN),
    ("PUT", "/v1/services/new", {}, 422, WRONG),
    ("PUT", "/v1/services/new", web("10.0.0.1", port=70000), 422, WRONG),
    ("PUT", "/v1/services/new", web("10.0.0.1", port=81, scheduler="foo"), 422, WRONG),
    ("PUT", "/v1/services/new", web("10.0.0.1"), 422, WRONG),  # web has that address and port
    ("PUT", "/v1/services/New", web("10.0.0.1", port=81), 422, WRONG),
    ("PUT", "/v1/services/new%0a", web("10.0.0.1", port=81), 422, WRONG),
    ("PUT", "/v1/services/..%2f..%2fnew", web("10.0.0.1", port=81), 422, WRONG),
    ("PATCH", "/v1/services/web", {"scheduler": 7}, 422, WRONG),
    ("PATCH", "/v1/services/web", {"nonsense": True}, 422, WRONG),
    ("PATCH", ONE, {"weight": -1}, 422, WRONG),
    ("POST", "/v1/services/web/servers", {"address": "10.0.0.1"}, 422, WRONG),
    ("POST", "/v1/apply", {"documents": {"new": "port: ["}}, 422, WRONG),
    ("POST", "/v1/plan", {"documents": {"new": "port: 0"}}, 422, WRONG),
]


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "kind"),
    REFUSALS,
    ids=[f"{method} {target} {str(body)[:40]}" for method, target, body, _, _ in REFUSALS],
)
@story
async def test_what_cannot_be_is_refused_with_a_problem_and_changes_nothing(
    world: World, method: str, target: str, body: object, status: int, kind: ProblemKind
) -> None:
    async with listening(world) as call:
        before = dict(world.kernel.state)
        files = {path.name: path.read_text() for path in world.directory.iterdir()}
        answer = await call(method, target, body)
        assert (answer.status, answer.problem.type) == (status, kind), answer.body
        if kind is WRONG:
            assert all(fault.message for fault in answer.problem.faults)
            assert answer.problem.faults
        assert world.kernel.state == before
        assert {path.name: path.read_text() for path in world.directory.iterdir()} == files
        assert sorted(path.name for path in world.root.iterdir()) == [
            "control.sock",
            "services.d",
            "state",
        ]


@story
async def test_what_the_kernel_refuses_is_a_bad_gateway_that_names_the_op(world: World) -> None:
    async with listening(world) as call:
        world.kernel.refuse_ops("+ server")
        answer = await call("POST", "/v1/services/web/servers", {"address": "10.0.0.3"})
        assert (answer.status, answer.problem.type) == (502, ProblemKind.REFUSED)
        assert "10.0.0.3:80" in answer.problem.title


@story
async def test_a_body_that_is_too_large_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_BODY", 1000)  # 64 MB would only take longer
    async with listening(world) as call:
        answer = await call("POST", "/v1/apply", {"documents": {"new": "#" * 2000}})
        assert (answer.status, answer.problem.type) == (413, ProblemKind.TOO_LARGE)
        assert "1000 bytes" in answer.problem.title


@story
async def test_a_failure_of_the_daemon_itself_is_a_problem_too(world: World) -> None:
    async with listening(world) as call:

        def fail() -> protocol.Status:
            raise ZeroDivisionError("of all things")

        world.overview.status = fail  # type: ignore[method-assign]
        answer = await call("GET", "/v1/status")
        assert (answer.status, answer.problem.type) == (500, ProblemKind.INTERNAL)
        assert "ZeroDivisionError: of all things" in answer.problem.title
        assert (await call("GET", "/v1/version")).status == 200


@pytest.mark.parametrize(
    "noise", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"\0" * 100]
)
@story
async def test_noise_on_the_socket_harms_nobody(world: World, noise: bytes) -> None:
    async with listening(world) as call:
        reader, writer = await asyncio.open_unix_connection(call.path)
        writer.write(noise)
        writer.write_eof()
        await reader.read()
        writer.close()
        assert (await call("GET", "/v1/version")).status == 200


# -- who may

STRANGER = """
import os, socket, sys
path, uid, gid, groups = sys.argv[1], *map(eval, sys.argv[2:])
os.setgroups(groups); os.setgid(gid); os.setuid(uid)
door = socket.socket(socket.AF_UNIX)
try:
    door.connect(path)
except PermissionError:
    print("no entry"); sys.exit()
door.sendall(b"GET /v1/version HTTP/1.0\\r\\n\\r\\n")
answer = b"".join(iter(lambda: door.recv(65536), b""))
print(answer.split()[1].decode())
print(answer.partition(b"\\r\\n\\r\\n")[2].decode())
"""
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


async def ask_as(path: Path, uid: int, gid: int, groups: list[int]) -> list[str]:
    """What another user is told: the status and the body, or that there is no entry."""
    arguments = [str(path), str(uid), str(gid), str(groups)]
    command = [sys.executable, "-I", "-c", STRANGER, *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.split("\n", 1)


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A socket's path whose directories everybody may pass."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.owner() == "root" and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    return tmp_path / "control.sock"


@root_only
@story
async def test_a_member_of_the_group_may(world: World, reachable: Path) -> None:
    async with listening(world, GROUP, reachable):
        group = grp.getgrnam(GROUP).gr_gid
        assert (await ask_as(reachable, NOBODY, group, []))[0] == "200"


@root_only
@story
async def test_others_do_not_get_in(world: World, reachable: Path) -> None:
    async with listening(world, GROUP, reachable):
        assert (await ask_as(reachable, NOBODY, NOBODY, []))[0] == "no entry"


@root_only
@story
async def test_others_are_refused_even_where_the_door_is_open(
    world: World, reachable: Path
) -> None:
    async with listening(world, GROUP, reachable):
        open_to_all(reachable)
        status, body = await ask_as(reachable, NOBODY, NOBODY, [])
        assert status == "403"
        problem = msgspec.json.decode(body, type=Problem)
        assert problem.type is ProblemKind.FORBIDDEN
        assert problem.title == f"only root and members of group {GROUP} may control kernlb"


@root_only
@story
async def test_without_such_a_group_root_alone_may(world: World, reachable: Path) -> None:
    async with listening(world, "no-such-group", reachable) as call:
        assert mode_of(reachable) == 0o600
        open_to_all(reachable)
        assert (await ask_as(reachable, NOBODY, NOBODY, []))[0] == "403"
        assert (await call("GET", "/v1/version")).status == 200


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_to_all(path: Path) -> None:
    path.chmod(0o666)


# -- the socket


@root_only
@story
async def test_the_socket_is_for_its_owner_and_the_group(world: World) -> None:
    async with listening(world) as call:
        assert mode_of(call.path) == 0o660
        assert (call.path.owner(), call.path.group()) == ("root", GROUP)


@story
async def test_the_leftover_of_a_killed_daemon_is_replaced(world: World) -> None:
    path = world.root / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with listening(world) as call:
        assert (await call("GET", "/v1/version")).status == 200
    assert not path.exists()


@story
async def test_a_second_daemon_is_refused_and_the_first_goes_on(world: World) -> None:
    async with listening(world) as call:
        second = ControlServer(GROUP)
        with pytest.raises(OSError, match="another kernlbd does"):
            second.claim(call.path)
        await second.stop()
        assert (await call("GET", "/v1/version")).status == 200


def test_a_daemon_too_busy_to_answer_is_still_there(world: World) -> None:
    path = world.root / "control.sock"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = []
        for _ in range(3):  # a full backlog
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(str(path))
        with pytest.raises(OSError, match="another kernlbd does"):
            ControlServer(GROUP).claim(path)
        assert path.is_socket()
        for each in waiting:
            each.close()


@pytest.mark.parametrize("kind", ["file", "directory", "link to a file"])
def test_what_is_no_socket_is_left_alone(world: World, kind: str) -> None:
    path, precious = world.root / "control.sock", world.root / "precious"
    precious.write_text("data")
    match kind:
        case "file":
            path.write_text("data")
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to(precious)
    with pytest.raises(OSError, match=r"cannot listen on .*control.sock: "):
        ControlServer(GROUP).claim(path)
    assert os.path.lexists(path)
    assert precious.read_text() == "data"


def test_a_socket_that_cannot_be_made_says_where_and_why(world: World) -> None:
    path = world.root / ("x" * 200)
    with pytest.raises(OSError, match=r"cannot listen on .*x: "):
        ControlServer(GROUP).claim(path)
