"""Settings of a host: whole, in part, absent, and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernlb.config import (
    ConfigError,
    Defaults,
    HealthSettings,
    Settings,
    SyncDaemon,
    Timeouts,
    load_settings,
)
from kernlb.health.check import HealthPolicy, TcpCheck, Watch
from kernlb.model import DatapathKind, Forwarding, Scheduler

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


def load(directory: Path, text: str) -> Settings:
    path = directory / "kernlb.yaml"
    path.write_text(text)
    return load_settings(path)


def test_an_absent_file_means_the_defaults(tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "kernlb.yaml")
    assert settings == Settings()
    assert (settings.audit_interval, settings.metrics_listen) == (60.0, "127.0.0.1:9107")
    assert (settings.control_group, dict(settings.ipvs.sysctls)) == ("kernlb", {})


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "\n\n", "{}\n"])
def test_an_empty_file_means_the_defaults(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == Settings()


def test_the_example_sets_everything_it_names() -> None:
    settings = load_settings(EXAMPLES / "kernlb.yaml")
    assert settings.defaults == Defaults(
        DatapathKind.IPVS,
        Scheduler.WLC,
        Forwarding.NAT,
        "lo",
        300.0,
        Watch(TcpCheck()),
        HealthPolicy(keep=0.25),
    )
    assert settings.health == HealthSettings(0.25, 30.0)
    assert settings.ipvs.timeouts == Timeouts(tcp=900, tcpfin=120, udp=300)
    assert settings.ipvs.sysctls == {
        "conntrack": 0,
        "expire_nodest_conn": 1,
        "conn_reuse_mode": 1,
    }


def test_a_master_and_a_backup_may_run_side_by_side(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "ipvs:\n  sync:\n    - {role: master, interface: eth0, sync_id: 7}\n"
        "    - {role: backup, interface: eth0, sync_id: 7, port: 8849, ttl: 2}\n",
    )
    assert settings.ipvs.sync == (
        SyncDaemon("master", "eth0", 7),
        SyncDaemon("backup", "eth0", 7, port=8849, ttl=2),
    )


def test_metrics_can_be_switched_off(tmp_path: Path) -> None:
    assert load(tmp_path, "metrics_listen: false\n").metrics_listen is None


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("defaults:\n  sheduler: rr\n", 2, "defaults.sheduler", 'did you mean "scheduler"?'),
        ("audit_interval: 10ms\n", 1, "audit_interval", "1 second at least"),
        ("audit_interval: fast\n", 1, "audit_interval", "must be a duration"),
        ("metrics_listen: 9107\n", 1, "metrics_listen", "must be address:port or false, not 9107"),
        ("metrics_listen: true\n", 1, "metrics_listen", "must be address:port or false"),
        ("metrics_listen: localhost:9107\n", 1, "metrics_listen", "localhost"),
        ("metrics_listen: 127.0.0.1:99999\n", 1, "metrics_listen", "99999 is not within"),
        ("metrics_listen: 127.0.0.1:0\n", 1, "metrics_listen", "port 0"),
        ("ipvs:\n  timeouts:\n    tcp: 0\n", 3, "ipvs.timeouts.tcp", "whole seconds"),
        ("ipvs:\n  sysctls:\n    conntrak: 1\n", 3, "ipvs.sysctls.conntrak", "conntrack"),
        ("ipvs:\n  sysctls:\n    conntrack: 2\n", 3, "ipvs.sysctls.conntrack", "true or false"),
        (
            "ipvs:\n  sync:\n" + "    - {role: master, interface: e}\n" * 2,
            4,
            "ipvs.sync[1].role",
            "master is there already",
        ),
        (
            "ipvs:\n  sync:\n    - {role: master, interface: e, group: 10.0.0.1}\n",
            3,
            "ipvs.sync[0].group",
            "is not a multicast address",
        ),
        ("control_group: Wheel!\n", 1, "control_group", "must be the name of a group"),
        ("a: &x 1\n", 1, "a", "anchor"),
    ],
)
def test_wrong_settings_are_named_by_line_and_key(
    tmp_path: Path, text: str, line: int, key: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    [fault] = caught.value.faults
    assert message in fault.message
    assert (fault.file, fault.line, fault.key) == (str(tmp_path / "kernlb.yaml"), line, key)


def test_a_file_that_cannot_be_read_is_not_taken_for_an_absent_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load_settings(tmp_path)
