"""What outlives the process: whole on disk at every moment, or one clear error."""

from __future__ import annotations

import errno
import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from kernlb.daemon.runtime import RuntimeState, RuntimeStateError
from kernlb.health.stance import Phase, Stance
from kernlb.intent import Admin, AdminMode
from kernlb.model import DatapathKind, Family, FwmarkKey, ServerKey, ServiceRef
from tests.unit.daemon.world import on, ref

SERVER = ServerKey(ip_address("10.0.0.1"), 80)
SIX = ServerKey(ip_address("fd00::1"), 8080)
MARK = ServiceRef(DatapathKind.IPVS, FwmarkKey(Family.IPV6, 7))
DRAIN = Admin(AdminMode.DRAINING, 1000.0, 1300.5)
KEEPS = Stance(Phase.SERVING, False, (SERVER, SIX))
LOST = Stance(Phase.DOWN, True)
DISABLE = Admin(AdminMode.DISABLED, 1000.25)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    state = RuntimeState.load(tmp_path / "not" / "there" / "yet")
    state.own({ref(): "web", MARK: "marked", ref(443, "2001:db8::1"): "tls"})
    state.vips |= {on("192.0.2.10"), on("2001:db8::1", "lo")}
    state.hold("web", SERVER, DRAIN)
    state.hold("web", SIX, DISABLE)
    state.stand({ref(): KEEPS, MARK: LOST})
    again = RuntimeState.load(tmp_path / "not" / "there" / "yet")
    assert again.owned == state.owned
    assert again.vips == state.vips
    assert again.admin == {"web": {SERVER: DRAIN, SIX: DISABLE}}
    assert again.stances == {ref(): KEEPS, MARK: LOST}


def test_where_a_service_stood_is_forgotten_with_it(tmp_path: Path) -> None:
    state = RuntimeState.load(tmp_path)
    state.own({ref(): "web", MARK: "marked"})
    state.stand({ref(): KEEPS, MARK: LOST})
    state.disown([ref()])
    assert state.stances == RuntimeState.load(tmp_path).stances == {MARK: LOST}


def test_an_older_file_that_names_withdrawn_vips_is_understood(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(f'{{"withdrawn": ["{ref()}"]}}')
    assert RuntimeState.load(tmp_path).stances == {ref(): Stance(Phase.BELOW, True)}


def test_nothing_saved_is_nothing_known(tmp_path: Path) -> None:
    state = RuntimeState.load(tmp_path)
    assert (state.owned, state.vips, state.admin) == ({}, set(), {})


def test_every_change_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    state = RuntimeState.load(tmp_path)
    state.own({ref(): "web"})
    assert RuntimeState.load(tmp_path).owned == {ref(): "web"}
    state.hold("web", SERVER, DRAIN)
    assert RuntimeState.load(tmp_path).holds("web") == {SERVER: DRAIN}
    state.hold("web", SERVER, None)
    assert RuntimeState.load(tmp_path).admin == {}
    state.hold("web", SERVER, DISABLE)
    state.forget("web")
    assert RuntimeState.load(tmp_path).admin == {}
    state.disown([ref()])
    assert RuntimeState.load(tmp_path).owned == {}


def test_what_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    state = RuntimeState.load(tmp_path)
    state.own({ref(): "web"})
    before = (tmp_path / "state.json").stat()
    state.own({ref(): "web"})
    state.disown([MARK])
    state.forget("nobody")
    assert (tmp_path / "state.json").stat() == before


@pytest.mark.parametrize("step", ["write", "flush", "fsync", "replace", "directory"])
def test_a_crash_at_any_moment_of_a_save_leaves_the_old_or_the_new(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = RuntimeState.load(tmp_path)
    state.own({ref(): "web"})
    crash_at(step, monkeypatch)
    with pytest.raises(Crash):
        state.own({MARK: "marked"})
    monkeypatch.undo()
    left = RuntimeState.load(tmp_path).owned
    new = {ref(): "web", MARK: "marked"}
    assert left == (new if step == "directory" else {ref(): "web"})
    RuntimeState.load(tmp_path).own({ref(81): "next"})  # and what is left over is in nobody's way
    assert ref(81) in RuntimeState.load(tmp_path).owned


def test_a_file_is_synced_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, rename = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name} {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    RuntimeState.load(tmp_path).own({ref(): "web"})
    assert steps == ["sync state.new", "rename state.new state.json", f"sync {tmp_path.name}"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe\x00",
        b'{"owned": {"ipvs:tcp/192.0.2.10:80": "web"}',
        b'{"owned": []}',
        b'{"owned": {"ipvs:tcp/192.0.2.10": "web"}}',
        b'{"owned": {"tcp/192.0.2.10:80": "web"}}',
        b'{"owned": {"dpdk:tcp/192.0.2.10:80": "web"}}',
        b'{"vips": [["192.0.2.10"]]}',
        b'{"vips": [["192.0.2.300", "eth0"]]}',
        b'{"admin": [{"service": "web", "server": "10.0.0.1", "mode": "disabled", "since": 1}]}',
        b'{"admin": [{"service": "web", "server": "10.0.0.1:80", "mode": "lost", "since": 1}]}',
        b'{"admin": [{"service": "web"}]}',
        b'{"stances": {"ipvs:tcp/192.0.2.10:80": {"phase": "lost"}}}',
        b'{"stances": {"ipvs:tcp/192.0.2.10:80": {"phase": "all down", "kept": ["10.0.0.1"]}}}',
    ],
)
def test_a_corrupt_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(RuntimeStateError) as refused:
        RuntimeState.load(tmp_path)
    text = str(refused.value)
    assert text.startswith(f"cannot read {tmp_path / 'state.json'}: ")
    assert "move it away" in text
    assert "\n" not in text
    assert (tmp_path / "state.json").read_bytes() == content


class Crash(Exception):
    """The process ends here."""


def crash_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut a save short just before ``step``."""
    opened, sync = Path.open, os.fsync

    def crash(*_arguments: object) -> None:
        raise Crash

    def half_written(self: Path, mode: str) -> object:
        file = opened(self, mode)
        file.write(b'{"owned"')
        file.flush()
        raise Crash

    def directory_only(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise Crash
        sync(descriptor)

    match step:
        case "write":
            monkeypatch.setattr(Path, "open", crash)
        case "flush":
            monkeypatch.setattr(Path, "open", half_written)
        case "fsync":
            monkeypatch.setattr(os, "fsync", crash)
        case "replace":
            monkeypatch.setattr(Path, "replace", crash)
        case "directory":
            monkeypatch.setattr(os, "fsync", directory_only)


def test_what_could_not_be_saved_has_not_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = RuntimeState.load(tmp_path)
    full = OSError(errno.ENOSPC, "no space left on device")

    def refuse(_descriptor: int) -> None:
        raise full

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="no space"):
            state.own({MARK: "edge"})
        assert state.owned == {}
    state.own({MARK: "edge"})  # not "nothing new": the first time was lost
    assert RuntimeState.load(tmp_path).owned == {MARK: "edge"}
