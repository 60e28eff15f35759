"""TCP: each outcome on real sockets, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from kernlb.health.check import Carried, Target, TcpCheck
from kernlb.health.outcome import Opinion, Outcome, Result
from kernlb.health.probes.making import make_probe
from tests.unit.health.probes.backends import (
    LOCALHOST,
    LOOPS,
    PATIENCE,
    SHORT,
    ask,
    closed_port,
    descriptors,
    run,
)

TIME_WAIT = "06"  # /proc/net/tcp


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return LOOPS[request.param]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def target_of(sock: socket.socket) -> Target:
    return Target(LOCALHOST, sock.getsockname()[1])


def states_of(port: int) -> set[str]:
    """The states of all sockets that have to do with this port, the listener's aside."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[3] for row in rows if f":{port:04X}" in row[1] + row[2] and row[3] != "0A"}


def test_an_open_port_passes(loop: Callable[[], asyncio.AbstractEventLoop], listener) -> None:
    result = run(ask(TcpCheck(), target_of(listener)), loop)
    assert result[::2] == (Outcome.PASSED, "")
    assert 0 < result.duration < PATIENCE


def test_an_open_port_of_ipv6_passes(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as sock:
        target = Target(IPv6Address("::1"), sock.getsockname()[1])
        assert run(ask(TcpCheck(), target), loop).outcome is Outcome.PASSED


def test_a_port_of_its_own_is_asked_instead_of_the_targets(listener) -> None:
    port = listener.getsockname()[1]
    assert run(ask(TcpCheck(port), Target(LOCALHOST, closed_port()))).outcome is Outcome.PASSED


def test_a_closed_port_refuses(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    result = run(ask(TcpCheck(), Target(LOCALHOST, closed_port())), loop)
    assert result[::2] == (Outcome.REFUSED, "")


def test_a_full_backlog_is_no_answer_to_connect(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with full() as listener:
        result = run(ask(TcpCheck(), target_of(listener), SHORT), loop)
    assert result.outcome is Outcome.CONNECT_TIMEOUT
    assert SHORT <= result.duration < SHORT + PATIENCE


@contextmanager
def full() -> Iterator[socket.socket]:
    """A listener whose queue is full: SYNs are dropped from then on."""
    waiting = []
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        try:
            while True:
                sock = socket.socket()
                waiting.append(sock)
                sock.settimeout(0.2)
                sock.connect(listener.getsockname())
                assert len(waiting) < 10
        except TimeoutError:
            yield listener
        finally:
            for sock in waiting:
                sock.close()


def test_a_reset_on_the_heels_of_accepting_is_a_reset(
    loop: Callable[[], asyncio.AbstractEventLoop], listener: socket.socket
) -> None:
    async def asked() -> Result:
        there = asyncio.get_running_loop()
        answered: asyncio.Future[Result] = there.create_future()
        make_probe(TcpCheck(), SHORT, target_of(listener), there).start(answered.set_result)
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        return await answered

    assert run(asked(), loop)[::2] == (Outcome.RESET, "")


def test_no_time_wait_is_left(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    run(ask(TcpCheck(), target_of(listener)))
    accepted, _ = listener.accept()
    with accepted, pytest.raises(ConnectionResetError):
        accepted.settimeout(5)
        accepted.recv(1)
    assert states_of(port) == set()


def test_a_probe_is_started_again_and_again_and_holds_no_descriptor(
    loop: Callable[[], asyncio.AbstractEventLoop], listener: socket.socket
) -> None:
    async def asked() -> Result:
        there = asyncio.get_running_loop()
        probe = make_probe(TcpCheck(), SHORT, target_of(listener), there)
        before = descriptors()
        for _ in range(50):
            answered: asyncio.Future[Result] = there.create_future()
            probe.start(answered.set_result)
            result = await answered
            listener.accept()[0].close()
            assert result.outcome is Outcome.PASSED
        assert descriptors() <= before
        return result

    run(asked(), loop)


@pytest.mark.parametrize("port", ["open", "closed", "full"])
def test_a_cancelled_probe_says_nothing_and_holds_nothing(
    loop: Callable[[], asyncio.AbstractEventLoop], port: str
) -> None:
    async def asked() -> Result:
        there = asyncio.get_running_loop()
        heard: list[Result] = []
        probe = make_probe(TcpCheck(), SHORT / 3, target, there)
        before = descriptors()
        running = probe.start(heard.append)
        running.cancel()
        running.cancel()
        assert descriptors() <= before
        # another of the same length, started later, ends: so the cancelled one's time is past
        result = await ask(TcpCheck(), target_of(dead), SHORT / 3)
        assert not heard
        return result

    with full() as dead, socket.create_server(("127.0.0.1", 0)) as listener:
        target = {
            "open": target_of(listener),
            "closed": Target(LOCALHOST, closed_port()),
            "full": target_of(dead),
        }[port]
        assert run(asked(), loop).outcome is Outcome.CONNECT_TIMEOUT


def test_without_a_descriptor_to_spare_nothing_was_asked(
    loop: Callable[[], asyncio.AbstractEventLoop], listener: socket.socket
) -> None:
    async def asked() -> Result:
        there = asyncio.get_running_loop()
        probe = make_probe(TcpCheck(), SHORT, target_of(listener), there)
        answered: asyncio.Future[Result] = there.create_future()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            probe.start(answered.set_result)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return await answered

    result = run(asked(), loop)
    assert result[::2] == (Outcome.NOT_ASKED, "too many open files")
    assert result.outcome.opinion is Opinion.NONE


def test_a_source_that_is_not_ours_is_our_own_trouble() -> None:
    carried = Carried(0, LOCALHOST, IPv4Address("192.0.2.77"))
    result = run(ask(TcpCheck(), Target(IPv4Address("192.0.2.1"), 80, carried=carried)))
    assert result[::2] == (Outcome.NOT_ASKED, "cannot assign requested address")


def test_a_carried_probe_goes_to_the_vip_and_the_services_port(listener: socket.socket) -> None:
    source = IPv4Address("127.0.0.77")
    target = Target(
        IPv4Address("192.0.2.1"),
        closed_port(),
        service_port=listener.getsockname()[1],
        carried=Carried(0, LOCALHOST, source),
    )
    assert run(ask(TcpCheck(), target)).outcome is Outcome.PASSED
    accepted, peer = listener.accept()
    accepted.close()
    assert peer[0] == str(source)


def test_answers_that_came_while_the_process_stood_still_count(
    loop: Callable[[], asyncio.AbstractEventLoop], listener: socket.socket
) -> None:
    """Frozen beyond the timeout, with the answer in the socket."""

    async def asked() -> Result:
        there = asyncio.get_running_loop()
        answered: asyncio.Future[Result] = there.create_future()
        make_probe(TcpCheck(), 0.02, target_of(listener), there).start(answered.set_result)
        accepted, _ = listener.accept()
        listener.settimeout(0.1)
        with accepted, pytest.raises(TimeoutError):
            listener.accept()
        return await answered

    assert run(asked(), loop).outcome is Outcome.PASSED


def test_many_at_once_each_get_their_own_answer(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def asked() -> Result:
        there = asyncio.get_running_loop()
        ports = [(sock.getsockname()[1], Outcome.PASSED) for sock in listeners]
        ports += [(port, Outcome.REFUSED) for port in dead]
        futures = []
        for number in range(400):
            port, _ = ports[number % len(ports)]
            future: asyncio.Future[Result] = there.create_future()
            make_probe(TcpCheck(), 5.0, Target(LOCALHOST, port), there).start(future.set_result)
            futures.append(future)
        results = await asyncio.gather(*futures)
        wanted = [ports[number % len(ports)][1] for number in range(400)]
        assert [each.outcome for each in results] == wanted
        return results[0]

    listeners = [socket.create_server(("127.0.0.1", 0), backlog=400) for _ in range(5)]
    dead = [closed_port() for _ in range(3)]
    try:
        run(asked(), loop)
    finally:
        for sock in listeners:
            sock.close()


def test_a_descriptor_used_again_at_once_hears_nothing_of_the_one_before(
    loop: Callable[[], asyncio.AbstractEventLoop], listener: socket.socket
) -> None:
    """Two are answered in one breath; the first to hear ends the other and asks a dead one."""

    async def asked() -> Result:
        there = asyncio.get_running_loop()
        answered: asyncio.Future[Result] = there.create_future()
        probe = make_probe(TcpCheck(), SHORT, target_of(listener), there)
        silent = make_probe(TcpCheck(), SHORT, target_of(dead), there)
        running = []
        first: list[Result] = []

        def heard(result: Result) -> None:
            first.append(result)
            for each in running:
                each.cancel()
            for _ in range(2):
                silent.start(second.append)
            silent.start(answered.set_result)

        second: list[Result] = []
        running += [probe.start(heard) for _ in range(2)]
        result = await answered
        assert [each.outcome for each in first] == [Outcome.PASSED]
        assert [each.outcome for each in second] == [Outcome.CONNECT_TIMEOUT] * 2
        return result

    with full() as dead:
        assert run(asked(), loop).outcome is Outcome.CONNECT_TIMEOUT


def test_hundreds_of_answers_that_came_in_a_pause_count_before_any_deadline(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """More than are heard in one turn of the loop."""

    async def asked() -> Result:
        there = asyncio.get_running_loop()
        futures = []
        for _ in range(600):
            answered: asyncio.Future[Result] = there.create_future()
            make_probe(TcpCheck(), 0.001, target_of(listener), there).start(answered.set_result)
            futures.append(answered)
        with pytest.raises(BlockingIOError):  # each has been established by now
            while True:
                listener.accept()[0].close()
        results = await asyncio.gather(*futures)
        assert {each.outcome for each in results} == {Outcome.PASSED}
        assert results[0].duration > 0.001
        return results[0]

    with socket.create_server(("127.0.0.1", 0), backlog=2000) as listener:
        listener.setblocking(False)
        run(asked(), loop)
