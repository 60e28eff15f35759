"""services.d: what is read, what is refused, what is left alone, and what is written."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from kernlb import store as store_module
from kernlb.config import ConfigError, Defaults, Fault
from kernlb.model import Scheduler
from kernlb.store import Store

GOOD = "address: 192.0.2.10\nport: 80\n"
LATER_NS = 10**20  # every file is old by then


@pytest.fixture
def services(tmp_path: Path) -> Path:
    directory = tmp_path / "services.d"
    directory.mkdir()
    (directory / "good.yaml").write_text(GOOD)
    return directory


@pytest.fixture
def store(services: Path) -> Store:
    return Store(services, Defaults(), clock=lambda: LATER_NS)


def only_fault(store: Store, name: str) -> Fault:
    """The one fault under a name, with the good file still good."""
    loaded = store.load()
    assert list(loaded.declarations) == ["good"]
    assert list(loaded.faults) == [name]
    [fault] = loaded.faults[name]
    return fault


def test_yaml_and_json_files_are_services(store: Store, services: Path) -> None:
    (services / "web.json").write_text('{"address": "192.0.2.11", "port": 80}')
    loaded = store.load()
    assert loaded.faults == {}
    assert list(loaded.declarations) == ["good", "web"]
    assert loaded.declarations["web"].source == str(services / "web.json")
    assert store.names() == ["good", "web"]


def test_a_directory_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert (store.load().declarations, store.names()) == ({}, [])


def test_a_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
        Store(tmp_path / "file").load()


@pytest.mark.parametrize(
    "name",
    [
        ".web.yaml",
        ".web.yaml.swp",
        "web.yaml~",
        "#web.yaml#",
        "4913",
        "web.yaml.dpkg-old",
        "README",
    ],
)
def test_what_editors_and_packagers_leave_behind_is_ignored(
    store: Store, services: Path, name: str
) -> None:
    (services / name).write_text("not: [yaml")
    assert store.load().faults == {}
    assert store.names() == ["good"]


def test_a_bad_file_does_not_stop_a_good_one(store: Store, services: Path) -> None:
    (services / "bad.yaml").write_text(GOOD + "weight: -1\n")
    fault = only_fault(store, "bad")
    assert (fault.file, fault.line, fault.key) == (str(services / "bad.yaml"), 3, "weight")


def test_a_link_loop_is_refused(store: Store, services: Path) -> None:
    (services / "bad.yaml").symlink_to("bad.yaml")
    assert "a link that leads back to itself" in only_fault(store, "bad").message


def test_two_links_to_each_other_are_refused(store: Store, services: Path) -> None:
    (services / "bad.yaml").symlink_to("loop")
    (services / "loop").symlink_to("bad.yaml")
    assert "a link that leads back to itself" in only_fault(store, "bad").message


def test_a_dangling_link_is_refused(store: Store, services: Path) -> None:
    (services / "bad.yaml").symlink_to("/nowhere/web.yaml")
    assert "a link to /nowhere/web.yaml, which is not there" in only_fault(store, "bad").message


def test_a_link_to_a_file_elsewhere_is_read(store: Store, services: Path) -> None:
    elsewhere = services.parent / "elsewhere"
    elsewhere.write_text("address: 192.0.2.11\nport: 80\n")
    (services / "web.yaml").symlink_to(elsewhere)
    assert store.load().declarations["web"].address == ip_address("192.0.2.11")


def test_a_directory_is_refused(store: Store, services: Path) -> None:
    (services / "bad.yaml").mkdir()
    assert only_fault(store, "bad").message == "is a directory, not a file"


def test_a_fifo_is_refused_without_waiting_for_a_writer(store: Store, services: Path) -> None:
    os.mkfifo(services / "bad.yaml")
    assert only_fault(store, "bad").message == "is a FIFO, not a file"


def test_a_socket_is_refused(store: Store, services: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(services)  # paths of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("bad.yaml")
        assert only_fault(store, "bad").message == "is a socket, not a file"


def test_a_link_to_a_device_is_refused(store: Store, services: Path) -> None:
    (services / "bad.yaml").symlink_to("/dev/zero")
    assert only_fault(store, "bad").message == "is a device, not a file"


def test_a_file_that_may_not_be_read_is_refused() -> None:
    with tempfile.TemporaryDirectory() as place:
        services = Path(place)
        services.chmod(0o755)
        (services / "good.yaml").write_text(GOOD)
        (services / "good.yaml").chmod(0o644)
        (services / "bad.yaml").write_text(GOOD)
        (services / "bad.yaml").chmod(0)
        with anybody():
            fault = only_fault(Store(services), "bad")
    assert fault.message == "cannot be read: Permission denied"


@contextmanager
def anybody() -> Iterator[None]:
    """Without root's power to read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_huge_file_is_refused_and_not_read_whole(store: Store, services: Path) -> None:
    with (services / "bad.yaml").open("wb") as file:
        file.truncate(2**40)
    assert "is too large" in only_fault(store, "bad").message


def test_the_same_name_in_both_formats_is_refused(store: Store, services: Path) -> None:
    (services / "bad.yaml").write_text(GOOD)
    (services / "bad.json").write_text("{}")
    assert "bad.json and bad.yaml are both there" in only_fault(store, "bad").message


def test_a_yml_file_is_pointed_out_not_passed_over(store: Store, services: Path) -> None:
    (services / "bad.yml").write_text(GOOD)
    assert "call it .yaml" in only_fault(store, "bad").message


@pytest.mark.parametrize("name", ["Web", "-web", "we b", "ü", "x" * 64])
def test_a_file_whose_name_is_none_is_refused(store: Store, services: Path, name: str) -> None:
    (services / f"{name}.yaml").write_text(GOOD)
    assert "is not a name" in only_fault(store, name).message
    assert store.names() == ["good"]


def test_a_file_name_that_is_no_text_is_refused(store: Store, services: Path) -> None:
    (services / os.fsdecode(b"\xff.yaml")).write_text(GOOD)
    assert "is not a name" in only_fault(store, "\\xff").message


def test_a_file_that_vanishes_before_it_is_read_was_never_there(
    store: Store, services: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (services / "web.yaml").write_text(GOOD)
    listed = store._files()
    monkeypatch.setattr(store, "_files", lambda: listed)
    (services / "web.yaml").unlink()
    loaded = store.load()
    assert (list(loaded.declarations), loaded.faults) == (["good"], {})


def test_a_file_that_changes_while_it_is_read_is_read_again(
    store: Store, services: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = services / "web.yaml"
    path.write_text("address: 192.0.2.11\nport: 80\n")
    other = "address: 192.0.2.12\nport: 80\n# more\n"
    check = store_module._refuse_irregular
    writes: Iterator[str] = iter([other])

    def write_then_check(checked: Path, status: os.stat_result) -> None:
        check(checked, status)
        if checked == path and (text := next(writes, None)):
            path.write_text(text)

    monkeypatch.setattr(store_module, "_refuse_irregular", write_then_check)
    assert store.load().declarations["web"].address == ip_address("192.0.2.12")


def test_a_file_that_never_stops_changing_is_refused(
    store: Store, services: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = services / "bad.yaml"
    path.write_text(GOOD)
    check = store_module._refuse_irregular

    def check_then_write(checked: Path, status: os.stat_result) -> None:
        check(checked, status)
        if checked == path:
            path.write_text(path.read_text() + "#")

    monkeypatch.setattr(store_module, "_refuse_irregular", check_then_write)
    assert "changes while it is read" in only_fault(store, "bad").message


def test_only_files_that_changed_are_read_again(store: Store, services: Path) -> None:
    before = store.load().declarations["good"]
    assert store.load().declarations["good"] is before
    (services / "good.yaml").write_text(GOOD + "scheduler: rr\n")
    after = store.load().declarations["good"]
    assert after.service.scheduler is Scheduler.RR


def test_a_file_written_just_now_is_not_trusted_to_be_the_same(services: Path) -> None:
    store = Store(services, clock=lambda: (services / "good.yaml").stat().st_mtime_ns)
    before = store.load().declarations["good"]
    again = store.load().declarations["good"]
    assert again == before
    assert again is not before


def test_a_file_that_is_mended_loses_its_faults(store: Store, services: Path) -> None:
    (services / "web.yaml").write_text("port: 80\n")
    assert list(store.load().faults) == ["web"]
    (services / "web.yaml").write_text("address: 192.0.2.11\nport: 80\n")
    loaded = store.load()
    assert (loaded.faults, list(loaded.declarations)) == ({}, ["good", "web"])


def test_new_defaults_are_applied_to_files_that_did_not_change(store: Store) -> None:
    store.load()
    store.defaults = Defaults(scheduler=Scheduler.MH)
    assert store.load().declarations["good"].service.scheduler is Scheduler.MH


def test_a_new_file_is_for_owner_and_group_only(store: Store, services: Path) -> None:
    path = store.write("web", GOOD)
    assert path == services / "web.yaml"
    assert store.read_text("web") == GOOD
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(p.name for p in services.iterdir()) == ["good.yaml", "web.yaml"]


def test_a_rewritten_file_keeps_its_mode_owner_and_format(store: Store, services: Path) -> None:
    path = services / "web.json"
    path.write_text("{}")
    path.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(path, 4321, 1234)
    before = path.stat()
    assert store.write("web", '{"port": 1}') == path
    after = path.stat()
    assert path.read_text() == '{"port": 1}'
    assert stat.S_IMODE(after.st_mode) == 0o604
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino  # whole or not at all


def test_a_link_stays_a_link_when_its_file_is_rewritten(store: Store, services: Path) -> None:
    elsewhere = services.parent / "elsewhere"
    elsewhere.write_text(GOOD)
    (services / "web.yaml").symlink_to(elsewhere)
    store.write("web", GOOD + "weight: 2\n")
    assert (services / "web.yaml").is_symlink()
    assert elsewhere.read_text() == GOOD + "weight: 2\n"


def test_a_write_that_fails_leaves_the_old_text_and_nothing_else(
    store: Store, services: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.write("good", "weight: 1\n")
    assert [(p.name, p.read_text()) for p in services.iterdir()] == [("good.yaml", GOOD)]


def test_removing_twice_equals_once(store: Store) -> None:
    store.remove("good")
    store.remove("good")
    assert store.names() == []
    with pytest.raises(FileNotFoundError):
        store.read_text("good")


@pytest.mark.parametrize("name", ["../etc/passwd", "..", "", "a/b", "a\0b", "Web"])
def test_a_name_cannot_lead_out_of_the_directory(store: Store, name: str) -> None:
    for act in (store.read_text, store.remove, lambda name: store.write(name, "")):
        with pytest.raises(ConfigError, match="is not a name"):
            act(name)


def test_text_that_is_unreadable_is_told_apart_from_an_absent_service(
    store: Store, services: Path
) -> None:
    (services / "web.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        store.read_text("web")
