"""What an ended probe leaves behind until its deadline would have come: next to nothing."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import Callable

import pytest

from kernlb.health.check import Check, DnsCheck, GrpcCheck, HttpCheck, Tls
from kernlb.health.outcome import Opinion, Result
from kernlb.health.probes import Running
from kernlb.health.probes.grpc_health import Call
from kernlb.health.probes.http_answer import Answer
from kernlb.health.probes.making import make_probe
from kernlb.health.probes.secured import Secured
from tests.unit.health.probes.certificates import Certificates
from tests.unit.health.probes.far_ends import Handler, run, says, serving, target
from tests.unit.health.probes.test_grpc import GOOD, OK, UP, answers, call

LATE = 60.0  # seconds: no deadline comes here
BODY = bytes(1 << 20)
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
HTTP = HttpCheck(body="\0", max_bytes=len(BODY))
HTTPS = HttpCheck(body="\0", max_bytes=len(BODY), tls=Tls(verify=False))
NAMES = b"\x40\0" + bytes(0x4000)  # that are none

PROBES: dict[str, tuple[Check, Handler, Opinion]] = {
    "http": (HTTP, says(PAGE, then_hang=True, reads=True), Opinion.GOOD),
    "https": (HTTPS, says(PAGE, then_hang=True, reads=True), Opinion.GOOD),
    "grpc": (GrpcCheck(), answers(call(GOOD, UP, OK), then_hang=True), Opinion.GOOD),
    "dns": (DnsCheck(tcp=True), says(NAMES, then_hang=True, reads=True), Opinion.BAD),
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("kind", PROBES)
def test_an_ended_probe_keeps_nothing_large(
    kind: str, cancelled: bool, certificates: Certificates
) -> None:
    check, handler, opinion = PROBES[kind]
    if kind == "https":
        handler = over_tls(certificates.server("good"), handler)
    before = held()

    async def main(port: int) -> None:
        loop = asyncio.get_running_loop()
        ended: list[Running] = []
        for _ in range(5):
            heard: asyncio.Future[Result] = loop.create_future()
            running = make_probe(check, LATE, target(port), loop).start(heard.set_result)
            if cancelled:
                await asyncio.sleep(0)
                running.cancel()
            else:
                assert (await heard).outcome.opinion is opinion
            running.cancel()  # once more
            ended.append(running)
        gc.collect()
        assert held() == before
        assert sum(map(bytes_of, ended)) < 4096

    with serving(handler) as port:
        run(lambda: main(port))


def over_tls(context: ssl.SSLContext, handler: Callable[[ssl.SSLSocket], None]) -> Handler:
    def handle(connection: object) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:  # type: ignore[arg-type]
            handler(secured)

    return handle


def held() -> int:
    """How many of what is large are there."""
    large = (Secured, ssl.SSLObject, Answer, Call)
    return sum(isinstance(each, large) for each in gc.get_objects())


def bytes_of(running: Running) -> int:
    """What a probe holds itself."""
    words = [each for kind in type(running).__mro__ for each in getattr(kind, "__slots__", ())]
    values = [getattr(running, each, None) for each in words]
    return sum(len(each) for each in values if isinstance(each, (bytes, bytearray)))
