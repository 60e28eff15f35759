"""``kernlb wait``: until a condition holds, for scripts."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kernlb.cli.arguments import Duration, KnownServer, ServiceName
from kernlb.cli.console import DONE, FAILED, Console, pass_console
from kernlb.cli.lazy import group
from kernlb.cli.notation import Document, endpoint, seconds

if TYPE_CHECKING:
    from kernlb.cli.wait_condition import Found
    from kernlb.control.client import Client

    Look = Callable[[Client], Found]

NOT_MET = 5
TIMEOUT = "1m"
LOOK_AGAIN = 5.0  # seconds after which to look though nothing was reported, at most
COUNT_AGAIN = 0.5  # the same for connections, whose ends nobody reports
SOON = 0.25  # and at least; between the two a quarter of the time waited
RETRY = 0.5  # seconds until a daemon that is away is asked again

F = TypeVar("F", bound=Callable[..., Any])

service_argument = click.argument("service", type=ServiceName())
server_argument = click.argument("server", type=KnownServer(), metavar="ADDRESS[:PORT]")


def timeout_option(function: F) -> F:
    return click.option(
        "--timeout",
        type=Duration(),
        default=TIMEOUT,
        show_default=True,
        metavar="DURATION",
        help="Give up after this; 0: look once. Exit code 5.",
    )(function)


@group()
def wait() -> None:
    """Wait until a condition holds: for scripts.

    Exit codes: 0 it holds, 1 it never will (there is no such service), 4 the daemon was away from
    the start, 5 it did not hold in time. What is waited for, and how it stands, goes to standard
    error. A daemon that goes away meanwhile is waited for, too.
    """


@wait.command(
    examples="""
        kernlb wait ready --timeout 2m
    """
)
@timeout_option
@pass_console
def ready(console: Console, timeout: float | str) -> int:
    """Wait until the daemon answers and has judged every server.

    That is: what is declared is in the kernel, or refused by it, and every check has spoken.
    """

    def look(client: Client) -> Found:
        from kernlb.cli import wait_condition

        return wait_condition.ready(client.status(), client.health())

    return Waiting(console, "kernlbd to be ready", "", seconds(timeout)).until(look, away=True)


@wait.command(
    examples="""
        kernlb wait service web synced
        kernlb wait service web gone --timeout 10s
    """
)
@service_argument
@click.argument("state", type=click.Choice(["synced", "gone"]))
@timeout_option
@pass_console
def service(console: Console, service: str, state: str, timeout: float | str) -> int:
    """Wait until the kernel holds a service as declared, or until there is no such service."""
    from kernlb.cli import wait_condition

    judge = wait_condition.synced if state == "synced" else wait_condition.gone
    what = f"service {service} to be {state}"
    waiting = Waiting(console, what, service, seconds(timeout))
    return waiting.until(_of(service, judge, missing=state == "gone"))


@wait.command(
    examples="""
        kernlb wait server web 10.0.0.2:80 up
        kernlb wait server web 10.0.0.2 drained --timeout 10m
    """
)
@service_argument
@server_argument
@click.argument("state", type=click.Choice(["up", "down", "drained", "gone"]))
@timeout_option
@pass_console
def server(
    console: Console, service: str, server: Document, state: str, timeout: float | str
) -> int:
    """Wait until a server is in a state.

    up: it gets connections. down: its checks find it bad. drained: as ``kernlb wait drained``.
    gone: the service has no such server.
    """
    from kernlb.cli.wait_condition import server_is

    if state == "drained":
        return _drained(console, service, server, timeout)
    where = endpoint(server)
    what = f"server {where} of {service} to be {state}"
    waiting = Waiting(console, what, service, seconds(timeout))
    return waiting.until(_of(service, server_is(state, where), missing=state == "gone"))


@wait.command(
    examples="""
        kernlb wait drained web 10.0.0.2 --timeout 10m
    """
)
@service_argument
@server_argument
@timeout_option
@pass_console
def drained(console: Console, service: str, server: Document, timeout: float | str) -> int:
    """Wait until a server that gets no new connections has none left.

    Connections count that ``kernlb stats`` calls active. A server that gets connections is
    refused: drain it first.
    """
    return _drained(console, service, server, timeout)


@wait.command(
    examples="""
        kernlb wait healthy web
    """
)
@service_argument
@timeout_option
@pass_console
def healthy(console: Console, service: str, timeout: float | str) -> int:
    """Wait until every server of a service is up.

    Those that an operator drained or disabled do not count. A server without a check counts as
    up once it is in the kernel.
    """
    from kernlb.cli.wait_condition import healthy

    waiting = Waiting(console, f"{service} to be healthy", service, seconds(timeout))
    return waiting.until(_of(service, healthy))


@wait.command(
    examples="""
        kernlb wait quorum web
    """
)
@service_argument
@timeout_option
@pass_console
def quorum(console: Console, service: str, timeout: float | str) -> int:
    """Wait until enough servers of a service are good for it to serve."""
    from kernlb.cli.wait_condition import quorum

    waiting = Waiting(console, f"{service} to have its quorum", service, seconds(timeout))
    return waiting.until(_of(service, quorum))


def _of(service: str, judge: Callable[..., Found], *, missing: bool = False) -> Look:
    """Judged by the service's line; ``missing``: that there is no such service is what is meant."""

    def look(client: Client) -> Found:
        from kernlb.cli.wait_condition import Found
        from kernlb.control.client import ControlError
        from kernlb.control.protocol import ProblemKind

        try:
            (line,) = client.overview([service], history=0).services
        except ControlError as error:
            if missing and error.problem.type is ProblemKind.NOT_FOUND:
                return Found(True, error.problem.title)
            raise
        return judge(line)

    return look


def _drained(console: Console, service: str, server: Document, timeout: float | str) -> int:
    where = endpoint(server)

    def look(client: Client) -> Found:
        from kernlb.cli.wait_condition import drained

        (line,) = client.overview([service], history=0).services
        return drained(line, where, client.stats(service))

    what = f"server {where} of {service} to be drained"
    waiting = Waiting(console, what, service, seconds(timeout))
    return waiting.until(look, again=COUNT_AGAIN)


class Waiting:
    """One wait: ``what`` for, in words; events of ``service`` ("": of all) tell when to look."""

    def __init__(self, console: Console, what: str, service: str, limit: float) -> None:
        self._console = console
        self._what = what
        self._service = service
        self._limit = limit
        self._started = monotonic()
        self._client = console.client()
        self._said = ""

    def until(self, look: Look, *, again: float = LOOK_AGAIN, away: bool = False) -> int:
        """Look at every event and, for what is no event, ever less often, every ``again`` seconds
        in the end. ``away``: the daemon may be away from the start. The exit code."""
        from kernlb.control.client import DaemonUnreachableError

        if not self._console.json:
            self._console.note(f"waiting for {self._what}, {self._limit:g} s at most")
        while True:
            past = self._past()
            pause = min(again, max(SOON, past / 4), max(0.0, self._limit - past))
            try:
                number = self._client.events(limit=1, service=self._service).latest
                found = look(self._client)
                if found.met or found.never or not pause:
                    return self._ended(found)
                self._say(found.now)
                self._client.events(since=number, limit=1, service=self._service, wait=pause)
            except DaemonUnreachableError as error:
                if not self._said and not away:
                    raise
                self._say(str(error))
                if not pause:
                    return self._unmet(str(error))
                self._console.sleep(min(RETRY, pause))

    def _past(self) -> float:
        return monotonic() - self._started

    def _say(self, now: str) -> None:
        """How it stands, when that is news."""
        if now != self._said and not self._console.json:
            from kernlb.cli.render import printable

            self._console.note(f"{self._past():5.1f} s  {printable(now)}")
        self._said = now

    def _ended(self, found: Found) -> int:
        from kernlb.cli.render import printable

        if found.met:
            if self._console.json:
                self._console.print_json(self._record(True, found.now))
            else:
                self._console.print(f"after {self._past():.1f} s: {printable(found.now)}")
            return DONE
        if not found.never:
            return self._unmet(found.now)
        self._fail(f"cannot wait for {self._what}: {found.now}", found.now)
        return FAILED

    def _unmet(self, now: str) -> int:
        self._fail(f"cannot see {self._what} within {self._limit:g} s: {now}", now)
        return NOT_MET

    def _fail(self, sentence: str, now: str) -> None:
        from kernlb.cli.render import printable

        if self._console.json:
            self._console.print_json(self._record(False, now))
        else:
            self._console.error(printable(sentence))

    def _record(self, met: bool, now: str) -> dict[str, object]:
        return {"met": met, "waited_for": self._what, "now": now, "seconds": round(self._past(), 3)}
