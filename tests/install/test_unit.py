"""The unit of kernlbd on a machine that systemd booted, installed from the package.

A container has the kernel of this machine: no memory limit can be seen to bite there, and no IPVS.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.install.balancer import METRICS, SERVER, VIP, WEB, Balancer
from tests.machines.site import GATEWAY, Site
from tests.packaging import artefacts

pytestmark = [pytest.mark.machines, pytest.mark.timeout(900)]

T = TypeVar("T")
DROP_IN = "/etc/systemd/system/kernlbd.service.d/test.conf"


@pytest.fixture(scope="module")
def balancer(site: Site) -> Balancer:
    return Balancer(site, artefacts.deb())


@pytest.fixture(autouse=True)
def as_it_was(balancer: Balancer) -> Iterator[None]:
    """The unit runs and its service serves, before each test and after."""
    yield
    balancer.run(
        f"rm -rf {DROP_IN} /etc/kernlb/services.d/bad.yaml && systemctl daemon-reload && "
        "systemctl reset-failed kernlbd; systemctl start kernlbd && "
        "kernlb wait healthy web --timeout 60s",
        timeout=300,
    )


def wait_for(condition: Callable[[], T], limit: float, what: str) -> T:
    deadline = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < deadline, f"after {limit:g} s not yet: {what}"
        time.sleep(0.2)
    return found


def pid(balancer: Balancer) -> int:
    return int(balancer.show("MainPID"))


# -- within its limits it does all its work


def test_a_service_by_xdp_is_checked_in_four_ways_and_answers(balancer: Balancer) -> None:
    assert balancer.ask() == "served"
    status = json.loads(balancer.run("kernlb status -o json").out)["status"]
    assert {each["name"]: each["mode"] for each in status["xdp"]["interfaces"]} == {
        "host0": "native",
        "back": "native",
    }
    vips = [(each["address"], each["interface"], each["present"]) for each in status["vips"]]
    assert vips == [(VIP, "host0", True)]


@pytest.mark.parametrize("broken", ["tcp", "exec"])
def test_each_check_can_fail(balancer: Balancer, broken: str) -> None:
    index = "/srv/server/index.html"
    breaking = {"tcp": "systemctl stop server", "exec": f"mv {index} {index}.away"}
    mending = {"tcp": "systemctl start server", "exec": f"mv {index}.away {index}"}
    balancer.run(breaking[broken])
    try:
        wait_for(lambda: "down" in health(balancer), 60, "the server is down")
    finally:
        balancer.run(mending[broken])
    wait_for(lambda: "up" in health(balancer), 60, "the server is up")


def serving(balancer: Balancer) -> bool:
    return balancer.run("kernlb wait healthy web --timeout 60s", check=False).code == 0


def health(balancer: Balancer) -> str:
    """The state of the one server."""
    lines = balancer.run("kernlb health web").out.splitlines()
    return next(line for line in lines if line.startswith(f"{SERVER}:80"))  # its parts follow


def test_the_program_of_a_check_is_nobody_without_any_right(balancer: Balancer) -> None:
    balancer.declare("spy", spy := {**WEB, "address": "10.77.0.101"})
    look = "grep -E '^(Uid|Gid|Groups|CapEff|CapBnd|NoNewPrivs):' /proc/self/status >/dev/shm/spy"
    spy["check"] = {"type": "exec", "command": ["/bin/sh", "-c", look], "interval": "1s"}
    balancer.declare("spy", spy)
    balancer.run("rm -f /dev/shm/spy; systemctl reload kernlbd")
    wait_for(
        lambda: balancer.run("cat /dev/shm/spy", check=False).out.count("\n") > 4, 30, "it ran"
    )
    said = dict(line.split(":", 1) for line in balancer.run("cat /dev/shm/spy").out.splitlines())
    nobody = balancer.run("id -u nobody").out.strip()
    assert said["Uid"].split() == [nobody] * 4
    assert (said["Groups"].strip(), int(said["CapEff"], 16)) == ("", 0)
    assert said["NoNewPrivs"].strip() == "1"
    balancer.run("rm /etc/kernlb/services.d/spy.yaml /dev/shm/spy; systemctl reload kernlbd")


def test_servers_are_asked_at_the_vip_which_writes_sysctls_and_puts_them_back(
    balancer: Balancer,
) -> None:
    sysctl = "sysctl -n net.ipv4.conf.back.accept_local"
    balancer.run("ip -n server address replace 10.77.0.102/32 dev lo")
    at_vip = {"type": "tcp", "via": "vip", "interval": "1s"}
    document = {**WEB, "address": "10.77.0.102", "forwarding": "dsr", "check": at_vip}
    assert balancer.run(sysctl).out.strip() == "0"
    balancer.declare("via", document)
    balancer.run("systemctl reload kernlbd && kernlb wait healthy via --timeout 60s")
    assert balancer.run(sysctl).out.strip() == "1"
    # made anew by a process that has not the right to be told the name of what stands there
    balancer.run("systemctl restart kernlbd && kernlb wait healthy via --timeout 60s")
    balancer.run("rm /etc/kernlb/services.d/via.yaml; systemctl reload kernlbd")
    wait_for(lambda: balancer.run(sysctl).out.strip() == "0", 20, "the sysctl is as it was")


def test_the_program_is_asked_and_its_maps_are_read(balancer: Balancer) -> None:
    told = json.loads(balancer.run(f"kernlb explain tcp {GATEWAY}:40000 {VIP}:80 -o json").out)
    assert (told["verdict"], told["server"]) == ("send", f"{SERVER}:80")
    assert f"tcp/{VIP}:80" in balancer.run("kernlb dump services").out


def test_metrics_and_the_page_are_served(balancer: Balancer) -> None:
    metrics = balancer.run(f"curl -sf http://127.0.0.1:{METRICS}/metrics").out
    assert "kernlb_service_serving_servers{" in metrics
    assert "<html" in balancer.run(f"curl -sf http://127.0.0.1:{METRICS}/").out


def test_a_command_writes_the_file_that_it_promises_to(balancer: Balancer) -> None:
    balancer.run(f"kernlb server edit web {SERVER} --weight 7")
    assert "7" in balancer.run("grep weight /etc/kernlb/services.d/web.yaml").out
    balancer.run(f"kernlb server edit web {SERVER} --weight 1")


# -- what it may not do


def test_it_has_no_other_rights_than_named(balancer: Balancer) -> None:
    said = balancer.run(f"cat /proc/{pid(balancer)}/status").out
    fields = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    named = (5, 6, 7, 12, 13, 38, 39)  # KILL SETGID SETUID NET_ADMIN NET_RAW PERFMON BPF
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == sum(1 << n for n in named)
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_it_sees_a_host_that_it_cannot_write(balancer: Balancer) -> None:
    enter = f"nsenter --mount --target {pid(balancer)}"
    for path in ("/etc", "/usr", "/root", "/sys/fs/bpf", "/proc/sys/kernel", "/sys/fs/cgroup"):
        told = balancer.run(f"{enter} test -w {path} && echo writable", check=False)
        assert told.out == "", path
    for path in ("/etc/kernlb", "/var/lib/kernlb", "/run/kernlb", "/sys/fs/bpf/kernlb"):
        balancer.run(f"{enter} test -w {path}")
    assert balancer.run(f"{enter} ls /home /root", check=False).out.split() == ["/home:", "/root:"]


def test_the_exposure_is_what_it_is_said_to_be(balancer: Balancer) -> None:
    said = balancer.run("systemd-analyze security kernlbd --no-pager").out
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found and float(found[1]) < 3.0, said


# -- the service manager and its daemon


def test_a_reload_of_a_bad_file_fails_in_the_daemons_words_and_leaves_the_rest(
    balancer: Balancer,
) -> None:
    before = pid(balancer)
    balancer.declare("bad", "address: 10.77.0.103\nport: eighty\n")
    failed = balancer.run("systemctl reload kernlbd", check=False)
    assert failed.code == 1
    told = [each["MESSAGE"] for each in balancer.journal("-n", "20")]
    assert any("bad.yaml:2" in message and "port" in message for message in told), told
    assert (pid(balancer), balancer.show("ActiveState")) == (before, "active")
    assert balancer.ask() == "served"
    balancer.run("rm /etc/kernlb/services.d/bad.yaml && systemctl reload kernlbd")


def test_the_status_line_follows(balancer: Balancer) -> None:
    wait_for(lambda: balancer.show("StatusText") == "1 services, 1 servers", 40, "status line")
    balancer.run("kernlb service add more 10.77.0.104:80 --server 10.78.0.3 --server 10.78.0.4")
    wait_for(lambda: balancer.show("StatusText") == "2 services, 3 servers", 40, "status line")
    balancer.run("kernlb service rm more")


def test_a_stop_leaves_traffic_flowing_and_says_what_it_left(balancer: Balancer) -> None:
    balancer.run("systemctl stop kernlbd")
    assert balancer.show("Result") == "success"
    assert [balancer.ask() for _ in range(5)] == ["served"] * 5
    listed = balancer.run("kernlb unload --list").out
    assert f"service web tcp/{VIP}:80 by xdp, 1 server\n" in listed
    assert f"vip     {VIP} on host0\n" in listed
    balancer.run("systemctl start kernlbd")
    assert "attached" not in " ".join(each["MESSAGE"] for each in balancer.journal("-n", "4"))


def test_unloaded_it_is_gone_and_a_start_makes_it_again(balancer: Balancer) -> None:
    refused = balancer.run("kernlb unload", check=False)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("error: cannot unload: kernlbd (pid ")
    balancer.run("systemctl stop kernlbd && kernlb unload")
    assert balancer.ask() != "served"
    assert balancer.run("kernlb unload --list").out == "nothing of kernlb's is in the kernel\n"
    assert "xdp" not in balancer.run("ip link show host0").out
    balancer.run("systemctl start kernlbd && kernlb wait healthy web --timeout 60s")
    assert balancer.ask() == "served"


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_daemon_that_dies_or_freezes_is_replaced_and_nothing_moves(
    balancer: Balancer, how: str
) -> None:
    balancer.run(
        f"mkdir -p $(dirname {DROP_IN}) && printf '[Service]\\nWatchdogSec=4s\\n' >{DROP_IN} && "
        "systemctl daemon-reload && systemctl restart kernlbd && kernlb wait ready"
    )
    before, restarts = pid(balancer), int(balancer.show("NRestarts"))
    balancer.run(f"kill -{'KILL' if how == 'kill' else 'STOP'} {before}")
    assert balancer.ask() == "served"
    wait_for(lambda: pid(balancer) not in (0, before), 60, "another process runs")
    wait_for(lambda: serving(balancer), 60, "it answers, and its server is up")
    assert int(balancer.show("NRestarts")) == restarts + 1
    assert balancer.ask() == "served"
    told = [each["MESSAGE"] for each in balancer.journal(f"_PID={pid(balancer)}")]
    assert not [each for each in told if "+ service" in each or "+ server" in each], told
    if how == "freeze":
        said = [each["MESSAGE"] for each in balancer.journal("-n", "60")]
        assert any("Watchdog timeout" in each for each in said)


def test_programs_of_checks_end_with_the_daemon(balancer: Balancer) -> None:
    sleeping = {"type": "exec", "command": ["/bin/sleep", "4321"]}
    sleeping |= {"interval": "60s", "timeout": "50s"}
    balancer.declare("slow", {**WEB, "address": "10.77.0.105", "check": sleeping})
    balancer.run("systemctl reload kernlbd")
    wait_for(lambda: balancer.run("pgrep -f 'sleep 4321'", check=False).code == 0, 30, "it runs")
    balancer.run("rm /etc/kernlb/services.d/slow.yaml; systemctl stop kernlbd")
    assert balancer.run("pgrep -f 'sleep 4321'", check=False).code == 1


def test_a_second_daemon_is_refused(balancer: Balancer) -> None:
    second = balancer.run("kernlbd", check=False)
    assert second.code == 1
    assert "another kernlbd does" in second.err
    assert balancer.ask() == "served"


def test_members_of_the_group_may_and_others_may_not(balancer: Balancer) -> None:
    balancer.run("id member 2>/dev/null || useradd -G kernlb member; id other || useradd other")
    assert "services  1 synced" in balancer.run("su member -s /bin/sh -c 'kernlb status'").out
    refused = balancer.run("su other -s /bin/sh -c 'kernlb status'", check=False)
    assert (refused.code, refused.out) == (4, "")
    assert "permission denied" in refused.err
    assert balancer.run("su other -s /bin/sh -c 'ls /etc/kernlb'", check=False).code


# -- the journal


def test_what_happened_to_one_service_is_found_by_a_field(balancer: Balancer) -> None:
    balancer.run(f"kernlb server drain web {SERVER} && kernlb server enable web {SERVER}")
    found = balancer.journal("KERNLB_SERVICE=web", f"KERNLB_SERVER={SERVER}:80")
    drained = [each for each in found if each.get("KERNLB_CAUSE", "").startswith("drain by root")]
    assert drained, found
    last = drained[-1]
    assert "weight 1 -> 0" in last["MESSAGE"]
    assert (last["PRIORITY"], last["SYSLOG_IDENTIFIER"]) == ("6", "kernlbd")
    assert last["_TRANSPORT"] == "journal"
    assert int(last["KERNLB_EVENT"]) > 0
    # a line for people is a sentence: no time twice
    plain = balancer.run("journalctl -u kernlbd -o cat --no-pager -n 5").out
    assert "server tcp/" in plain
    assert not plain.startswith("20")
