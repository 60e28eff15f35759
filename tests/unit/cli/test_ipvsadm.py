"""``kernlb ipvsadm`` and the real daemon, which holds services in memory (the fake datapath)."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernlb.control.client import Client, DaemonUnreachableError
from tests.unit.cli.conftest import Kernlb, Outcome, StubDaemon


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a running daemon whose host would rather have XDP, sed and tunnels."""
    base = tmp_path_factory.mktemp("d")
    (base / "etc" / "services.d").mkdir(parents=True)
    settings = {"defaults": {"scheduler": "sed", "forwarding": "tunnel"}, "metrics_listen": False}
    (base / "etc" / "kernlb.yaml").write_text(json.dumps(settings))
    options = ["--datapath", "fake", "--log-level", "error"]
    options += ["--config-dir", str(base / "etc"), "--state-dir", str(base / "state")]
    command = [sys.executable, "-m", "kernlb.cli", "--socket", str(base / "s"), "daemon", *options]
    daemon = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 30
        while not _answers(base / "s"):
            assert daemon.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield base
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0


def _answers(path: Path) -> bool:
    try:
        Client(str(path)).version()
    except DaemonUnreachableError:
        return False
    return True


Ipvsadm = Callable[..., Outcome]


@pytest.fixture
def ipvsadm(
    base: Path,
    kernlb_at: Callable[[Path], Kernlb],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Ipvsadm]:
    """A line as ipvsadm would be given it; what it leaves is cleared."""
    kernlb = kernlb_at(base / "s")

    def run(line: str, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        return kernlb("ipvsadm", *line.split())

    yield run
    assert run("-C").code == 0


@pytest.fixture
def services(base: Path) -> Path:
    return base / "etc" / "services.d"


DONE = Outcome(0, "", "")


def test_a_script_makes_documents_that_say_what_it_said(ipvsadm: Ipvsadm, services: Path) -> None:
    assert ipvsadm("-A -t 192.0.2.10:80 -s mh") == DONE
    assert ipvsadm("-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m -w 3 -x 10") == DONE
    assert ipvsadm("-a -t 192.0.2.10:80 -r 10.0.0.2") == DONE
    assert (services / "tcp-192.0.2.10-80.yaml").read_text() == (
        "# made by: kernlb ipvsadm -A -t 192.0.2.10:80 -s mh\n"
        "address: 192.0.2.10\n"
        "port: 80\n"
        "datapath: ipvs\n"
        "scheduler: mh\n"
        "scheduler_flags: []\n"
        "labels:\n"
        "  made-by: ipvsadm\n"
        "servers:\n"
        "- address: 10.0.0.1\n"
        "  port: 8080\n"
        "  weight: 3\n"
        "  forwarding: nat\n"
        "  upper_threshold: 10\n"
        "- address: 10.0.0.2\n"
        "  forwarding: dsr\n"
    )
    assert ipvsadm("-Sn").out == (
        "-A -t 192.0.2.10:80 -s mh\n"
        "-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m -w 3\n"
        "-a -t 192.0.2.10:80 -r 10.0.0.2:80 -g -w 1\n"
    )


def test_an_edit_changes_what_ipvsadm_says_and_leaves_the_rest(
    ipvsadm: Ipvsadm, services: Path, base: Path, kernlb_at: Callable[[Path], Kernlb]
) -> None:
    ipvsadm("-R", "-A -u 192.0.2.10:53 -p 60 -M 255.255.255.0 --pe sip -o -s sh -b sh-port\n")
    kernlb = kernlb_at(base / "s")
    assert kernlb("service", "edit", "udp-192.0.2.10-53", "--label", "team=dns").code == 0
    assert ipvsadm("-E -u 192.0.2.10:53 -p 90") == DONE
    assert ipvsadm("-Sn").out == "-A -u 192.0.2.10:53 -s wlc -p 90\n"
    text = (services / "udp-192.0.2.10-53.yaml").read_text()
    assert "team: dns" in text and text.startswith("# made by")
    assert ipvsadm("-a -u 192.0.2.10:53 -r 10.0.0.1 -i --tun-type gue --tun-port 6080") == DONE
    assert ipvsadm("-e -u 192.0.2.10:53 -r 10.0.0.1 -i --tun-type gre --tun-csum") == DONE
    rule = "-a -u 192.0.2.10:53 -r 10.0.0.1:53 -i -w 1 --tun-type gre --tun-csum\n"
    assert ipvsadm("-Sn").out.endswith(rule)
    assert ipvsadm("-e -u 192.0.2.10:53 -r 10.0.0.1 -w 7") == DONE
    assert ipvsadm("-Sn").out.endswith("-a -u 192.0.2.10:53 -r 10.0.0.1:53 -g -w 7\n")
    assert ipvsadm("-d -u 192.0.2.10:53 -r 10.0.0.1") == DONE
    assert ipvsadm("-D -u 192.0.2.10:53") == DONE
    assert list(services.iterdir()) == []


def test_a_server_of_a_document_inherits_nothing_that_a_script_did_not_say(
    ipvsadm: Ipvsadm, services: Path, base: Path, kernlb_at: Callable[[Path], Kernlb]
) -> None:
    (services / "web.yaml").write_text(
        "{address: 192.0.2.10, port: 80, datapath: ipvs, weight: 9, upper_threshold: 5,"
        " forwarding: tunnel, tunnel: {type: gre}}"
    )
    kernlb = kernlb_at(base / "s")
    assert kernlb("reload").code == 0
    for server in ("10.0.0.1 -m", "10.0.0.2 -i"):
        assert ipvsadm(f"-a -t 192.0.2.10:80 -r {server}") == DONE
    assert ipvsadm("-Sn").out.splitlines()[1:] == [
        "-a -t 192.0.2.10:80 -r 10.0.0.1:80 -m -w 1",
        "-a -t 192.0.2.10:80 -r 10.0.0.2:80 -i -w 1 --tun-type ipip",
    ]
    assert [line.split()[2] for line in ipvsadm("-Ln --thresholds").out.splitlines()[4:]] == [
        *("0", "0")
    ]


def test_no_word_at_all_lists_and_json_is_of_the_daemon(
    ipvsadm: Ipvsadm, base: Path, kernlb_at: Callable[[Path], Kernlb]
) -> None:
    assert ipvsadm("-A -f 7 -6 -s rr") == DONE
    lines = ipvsadm("").out.splitlines()
    assert lines[0].startswith("IP Virtual Server version ")
    assert lines[3] == "FWM  7 IPv6 rr"
    assert ipvsadm("-l -f 7 -6").out.splitlines()[2:] == ["FWM  7 IPv6 rr"]
    (view,) = json.loads(kernlb_at(base / "s")("-o", "json", "ipvsadm", "-L").out)
    assert view["key"] == "fwmark/ipv6/7"


def test_a_drained_server_is_listed_as_the_kernel_has_it(
    ipvsadm: Ipvsadm, base: Path, kernlb_at: Callable[[Path], Kernlb]
) -> None:
    ipvsadm("-R", "-A -t 192.0.2.10:80\n-a -t 192.0.2.10:80 -r 10.0.0.1 -w 5\n")
    kernlb = kernlb_at(base / "s")
    assert kernlb("server", "drain", "tcp-192.0.2.10-80", "10.0.0.1").code == 0
    assert ipvsadm("-Sn").out.endswith("-r 10.0.0.1:80 -g -w 0\n")
    assert kernlb("server", "disable", "tcp-192.0.2.10-80", "10.0.0.1").code == 0
    assert ipvsadm("-Sn").out == "-A -t 192.0.2.10:80 -s wlc\n"


@pytest.mark.parametrize(
    ("line", "code", "why"),
    [
        ("-A -t 192.0.2.10:80", 255, "cannot add service tcp/192.0.2.10:80: it exists"),
        ("-E -t 192.0.2.11:80", 255, "there is no service tcp/192.0.2.11:80"),
        ("-D -t 192.0.2.11:80", 255, "there is no service"),
        ("-a -t 192.0.2.11:80 -r 10.0.0.1", 255, "there is no service"),
        ("-a -t 192.0.2.10:80 -r 192.0.2.10 -m", 255, "the balancer itself would answer"),
        ("-d -t 192.0.2.10:80 -r 10.0.0.1", 255, "there is no server 10.0.0.1:80"),
        ("-e -t 192.0.2.10:80 -r 10.0.0.1", 255, "there is no server 10.0.0.1:80"),
        ("-L -t 192.0.2.11:80", 1, "there is no service"),
        ("-Lnc", 255, "kernlb stats"),
        ("-Z", 255, "only rise"),
        ("--set 1 2 3", 255, "ipvs.timeouts"),
        ("--start-daemon master", 255, "ipvs.sync"),
        ("-n", 255, "a command comes first"),
        ("-A -t \x1b[31m:80", 2, r"\x1b[31m"),
    ],
)
def test_what_is_refused_is_one_sentence(ipvsadm: Ipvsadm, line: str, code: int, why: str) -> None:
    ipvsadm("-A -t 192.0.2.10:80")
    before = ipvsadm("-Sn").out
    said = ipvsadm(line)
    assert (said.code, said.out) == (code, "")
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert why in said.err
    assert ipvsadm("-Sn").out == before


def test_a_restore_takes_its_good_lines_and_names_the_bad(ipvsadm: Ipvsadm) -> None:
    said = ipvsadm(
        "-R",
        "-A -t 192.0.2.10:80\n"
        "ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.1\n"
        "-a -t 192.0.2.10:80 -r 192.0.2.10 -m\n"
        "\n"
        "-A -t 192.0.2.10:80\n"
        "-A -t 192.0.2.11:80 -s rr\n"
        "-E -t 192.0.2.11:80 -s wrr\n"
        "-A -t 192.0.2.12:80 -b\n"
        "-Z\n"
        "-A -t 192.0.2.12\n"
        "-A -t 192.0.2.13:80\n",
    )
    assert said.code == 2
    assert [line.split(":")[1].strip() for line in said.err.splitlines()] == [
        *("line 3", "line 5", "line 8", "line 9", "line 10")
    ]
    assert ipvsadm("-Sn").out.splitlines() == [
        "-A -t 192.0.2.10:80 -s wlc",
        "-a -t 192.0.2.10:80 -r 10.0.0.1:80 -g -w 1",
        "-A -t 192.0.2.11:80 -s wrr",
    ]


def test_help_and_version_need_no_daemon(kernlb: Kernlb, daemon: StubDaemon) -> None:
    for word in ("-h", "--help"):
        said = kernlb("ipvsadm", word)
        assert said.code == 0 and "--tun-type ipip|gue|gre" in said.out
    assert "kernlb" in kernlb("ipvsadm", "-v").out
    assert daemon.requests == []


def test_a_restore_of_new_services_is_one_change(
    kernlb: Kernlb, daemon: StubDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.says("GET /v1/services", [])
    lines = [f"-A -t 192.0.2.{n}:80\n-a -t 192.0.2.{n}:80 -r 10.0.0.1\n" for n in range(1, 51)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(lines)))
    assert kernlb("ipvsadm", "-R") == DONE
    assert [each.path for each in daemon.requests] == ["/v1/services", "/v1/apply"]
    assert len(daemon.requests[1].body["documents"]) == 50


def test_without_a_daemon_it_says_so(kernlb_at: Callable[[Path], Kernlb], tmp_path: Path) -> None:
    said = kernlb_at(tmp_path / "none")("ipvsadm", "-Ln")
    assert said.code == 4
    assert "cannot reach kernlbd" in said.err
