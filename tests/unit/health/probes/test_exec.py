"""Exec probes: real programs, their ends, and what they may not do."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from kernlb.health.check import ExecCheck, Target
from kernlb.health.outcome import Opinion, Outcome, Result
from kernlb.health.probes.exec import complaint
from kernlb.health.probes.exec_door import door_of
from kernlb.health.probes.making import make_probe
from tests.unit.health.probes.far_ends import ask, ask_probe, run, target

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and os.environ.get("CI") != "true",
    reason="needs root, to run programs as another user",
)

HERE = target(80)


def sh(script: str, **words: bool) -> ExecCheck:
    return ExecCheck(("/bin/sh", "-c", script), **words)  # type: ignore[arg-type]


ENDS: dict[str, tuple[ExecCheck, Outcome, str]] = {
    "0": (sh("echo OK - fine; exit 0"), Outcome.PASSED, "OK - fine"),
    "0, silent": (sh("exit 0"), Outcome.PASSED, ""),
    "1": (sh("echo WARN; exit 1"), Outcome.EXIT_WARNING, "WARN"),
    "1, failing": (
        sh("echo WARN; exit 1", warning_fails=True),
        Outcome.EXIT_CRITICAL,
        "status 1: WARN",
    ),
    "2": (sh("echo CRIT; exit 2"), Outcome.EXIT_CRITICAL, "CRIT"),
    "3": (sh("exit 3"), Outcome.EXIT_UNKNOWN, ""),
    "127": (sh("no-such-word"), Outcome.EXIT_UNKNOWN, "status 127: /bin/sh: 1: no-such-word: "),
    "standard error": (sh("echo oops >&2; exit 2"), Outcome.EXIT_CRITICAL, "oops"),
    "the first line": (sh("printf 'one\\ntwo\\n'; exit 2"), Outcome.EXIT_CRITICAL, "one"),
    "control characters": (sh(r"printf '\033[2Jx\377\n'"), Outcome.PASSED, ".[2Jx\ufffd"),
    "a long line": (sh("head -c 5000 /dev/zero | tr '\\0' a"), Outcome.PASSED, "a" * 199 + "…"),
    "killed": (sh("kill -9 $$"), Outcome.SIGNALLED, "SIGKILL"),
    "segfault": (sh("kill -SEGV $$"), Outcome.SIGNALLED, "SIGSEGV"),
    "real time signal": (sh("kill -40 $$"), Outcome.SIGNALLED, "signal 40"),
    "endless output": (ExecCheck(("/usr/bin/yes",)), Outcome.TOO_LONG, "over 65536 bytes printed"),
    "hangs": (sh("sleep 100"), Outcome.EXEC_TIMEOUT, ""),
    "hangs, deaf": (sh("trap '' TERM INT HUP; sleep 100"), Outcome.EXEC_TIMEOUT, ""),
    "no program": (
        ExecCheck(("/nonexistent",)),
        Outcome.NOT_ASKED,
        "cannot run it: no such file or directory",
    ),
    "no permission": (ExecCheck(("/etc/passwd",)), Outcome.NOT_ASKED, "cannot run it: permission"),
    "relative": (ExecCheck(("true",)), Outcome.NOT_ASKED, "the program has no absolute path"),
    "nothing": (ExecCheck(()), Outcome.NOT_ASKED, "the program has no absolute path"),
    "root": (ExecCheck(("/bin/true",), "root"), Outcome.NOT_ASKED, "programs are not run as root"),
    "nobody known": (ExecCheck(("/bin/true",), "no-one"), Outcome.NOT_ASKED, "user no-one is"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends(end: str) -> None:
    check, outcome, detail = ENDS[end]
    slow = outcome is Outcome.EXEC_TIMEOUT
    result = ask(check, HERE, timeout=0.3 if slow else 10)
    assert result.outcome is outcome, result
    assert result.detail.startswith(detail)
    assert bool(result.detail) == bool(detail)
    if slow:
        assert 0.29 <= result.duration < 5


def told(script: str, to: Target = HERE) -> str:
    result = ask(sh(script), to, timeout=10)
    assert result.outcome is Outcome.PASSED, result
    return result.detail


def test_it_is_told_the_target_and_nothing_of_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    there = Target(ip_address("10.0.0.2"), 80, ip_address("10.9.9.9"), 443)
    words = set(told("env | sort | tr '\\n' ' '", there).split())
    assert words == {
        "KERNLB_ADDRESS=10.0.0.2",
        "KERNLB_PORT=80",
        "KERNLB_SERVICE_ADDRESS=10.9.9.9",
        "KERNLB_SERVICE_PORT=443",
        "LANG=C.UTF-8",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "PWD=/",  # the shell's own
    }


def test_it_has_no_privilege() -> None:
    status = told(
        "cat /proc/self/status | tr '\\n' ';' | grep -o 'Uid:.*Groups:[^;]*' | tr '\\t' ' '"
    )
    assert status.strip() == (
        "Uid: 65534 65534 65534 65534;Gid: 65534 65534 65534 65534;FDSize: 64;Groups:"
    )
    status = told(
        "grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs):' /proc/self/status | tr '\\n\\t' '  '"
    )
    none = "0" * 16
    assert status == f"CapInh: {none} CapPrm: {none} CapEff: {none} CapAmb: {none} NoNewPrivs: 1"


def test_it_has_three_descriptors_and_an_empty_input() -> None:
    secret = os.open("/etc/shadow", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        script = "import os; print(sorted(os.listdir('/proc/self/fd')), os.read(0, 9), os.getcwd())"
        result = ask(ExecCheck((sys.executable, "-I", "-S", "-c", script)), HERE, timeout=10)
    finally:
        os.close(secret)
    # 3 is the directory that it reads
    assert result.detail == "['0', '1', '2', '3'] b'' /"


LEAVES = {
    "in its group": "sleep 1000 & ",
    "in another session": "setsid sleep 1000 & ",
    "as a daemon": "setsid sh -c 'sleep 1000 & exit 0' & ",
    "a family of them": "for i in 1 2 3; do setsid sh -c 'setsid sleep 1000 & wait' & done; ",
    "deaf": "setsid sh -c 'trap \"\" TERM HUP INT; sleep 1000; sleep 1000' & ",
}


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[str]:
    """A word in the environment of what a program leaves behind."""
    yield f"KERNLB_MARK={tmp_path}"


def alive(mark: str) -> list[int]:
    found = []
    for each in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in each.read_bytes().split(b"\0"):
                found.append(int(each.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("leaves", LEAVES)
@pytest.mark.parametrize("end", ["exit 0", "exec sleep 1000", "kill -9 $$", "exec yes"])
def test_nothing_that_it_started_outlives_it(leaves: str, end: str, marked: str) -> None:
    # the descriptor is closed once the children run
    script = f"export {marked}; {LEAVES[leaves]} sleep 0.1; {end}"
    result = ask(sh(script), HERE, timeout=0.5)
    assert result.outcome in (
        Outcome.PASSED,
        Outcome.EXEC_TIMEOUT,
        Outcome.SIGNALLED,
        Outcome.TOO_LONG,
    )
    assert alive(marked) == []


def test_one_that_is_cancelled_is_killed(marked: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard: list[Result] = []
        probe = make_probe(sh(f"export {marked}; setsid sleep 1000 & sleep 1000"), 60, HERE, loop)
        running = probe.start(heard.append)
        await until(lambda: len(alive(marked)) == 2)
        running.cancel()
        running.cancel()
        await until(lambda: not alive(marked))
        await until(lambda: not door_of(loop)._waiting)
        assert not heard

    run(main)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_only_so_many_run_at_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        door_of(loop).at_once = 3
        slow = make_probe(sh("sleep 1000"), 60, HERE, loop)
        running = [slow.start(lambda _: None) for _ in range(3)]
        result = await ask_probe(slow)
        assert (result.outcome, result.detail) == (
            Outcome.NOT_ASKED,
            "3 programs are running already",
        )
        for each in running:
            each.cancel()
        await until(lambda: not door_of(loop).full)
        quick = make_probe(sh("exit 0"), 10, HERE, loop)
        assert (await ask_probe(quick)).outcome is Outcome.PASSED

    run(main)


def test_a_runner_that_dies_is_nobodys_fault_and_comes_back() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        door = door_of(loop)
        ended: asyncio.Future[Result] = loop.create_future()
        make_probe(sh("sleep 1000"), 1, HERE, loop).start(ended.set_result)
        assert door._process is not None
        door._process.kill()
        result = await asyncio.wait_for(ended, 10)
        assert result.outcome is Outcome.NOT_ASKED
        quick = make_probe(sh("exit 0"), 10, HERE, loop)
        assert (await ask_probe(quick)).outcome is Outcome.PASSED

    run(main)


def test_a_runner_that_dies_beside_a_long_program_takes_it_along_and_is_replaced(
    marked: str,
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        door = door_of(loop)
        ended: asyncio.Future[Result] = loop.create_future()
        long = sh(f"export {marked}; setsid sleep 1000 & sleep 1000")
        make_probe(long, 60, HERE, loop).start(ended.set_result)
        await until(lambda: len(alive(marked)) == 2)
        assert door._process is not None
        door._process.kill()
        # ordered before it is noticed: by a runner that dies before it reads that, or after
        quick = make_probe(sh("exit 0"), 10, HERE, loop)
        assert (await asyncio.wait_for(ask_probe(quick), 5)).outcome.opinion is not Opinion.BAD
        result = await asyncio.wait_for(ended, 5)
        assert (result.outcome, result.detail) == (
            Outcome.NOT_ASKED,
            "the process that runs programs has ended",
        )
        assert (await asyncio.wait_for(ask_probe(quick), 5)).outcome is Outcome.PASSED
        await until(lambda: not alive(marked))

    run(main)


def test_a_runner_that_is_stopped_is_not_waited_for() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        door = door_of(loop)
        quick = make_probe(sh("exit 0"), 0.1, HERE, loop)
        assert (await ask_probe(quick)).outcome is Outcome.PASSED
        assert door._process is not None
        os.kill(door._process.pid, 19)
        try:
            result = await ask_probe(quick)
        finally:
            os.kill(door._process.pid, 18)
        assert result.outcome is Outcome.EXEC_TIMEOUT
        await until(lambda: not door._waiting)

    run(main)


def test_a_setuid_program_gains_nothing(tmp_path: Path) -> None:
    program = Path("/var/tmp") / f"kernlb-id-{os.getpid()}"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    try:
        program.chmod(0o4755)
        assert program.stat().st_mode & stat.S_ISUID
        result = ask(ExecCheck((str(program), "-u")), HERE, timeout=10)
    finally:
        program.unlink()
    assert (result.outcome, result.detail) == (Outcome.PASSED, "65534")


def test_a_check_without_fault_has_no_complaint() -> None:
    assert complaint(sh("exit 0")) is None
