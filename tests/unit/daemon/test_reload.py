"""The files are the truth: what a reload and a start make of them, good and bad."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from kernlb.control.protocol import SyncState
from kernlb.model import ServiceState
from tests.unit.daemon.world import World, key, servers_of, story, web

BAD = "address: 192.0.2.10\nport: 80\nscheduler: foo\n"


@story
async def test_a_start_makes_services_then_servers(world: World) -> None:
    world.write("web", web("10.0.0.1*3", "10.0.0.2"))
    change = await world.changes.reload()
    assert world.journal == [
        "+ service tcp/192.0.2.10:80 wlc",
        "+ server tcp/192.0.2.10:80 10.0.0.1:80 weight 3 nat",
        "+ server tcp/192.0.2.10:80 10.0.0.2:80 weight 1 nat",
    ]
    assert [op.text.split() for op in change.ops] == [line.split() for line in world.journal]
    assert world.state("web") is SyncState.SYNCED


@story
async def test_a_reload_makes_before_it_breaks(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"), db=web("10.0.0.9", port=5432))
    world.write("web", web("10.0.0.2", "10.0.0.3", scheduler="rr"))
    await world.changes.reload()
    assert world.journal == [
        "~ service tcp/192.0.2.10:80 scheduler wlc -> rr",
        "+ server tcp/192.0.2.10:80 10.0.0.3:80 weight 1 nat",
        "- server tcp/192.0.2.10:80 10.0.0.1:80",
    ]
    assert all("10.0.0.2" in servers_of(held, key()) for held in world.kernel.history[5:])


@story
async def test_a_reload_of_what_is_in_force_writes_nothing(world: World) -> None:
    await world.start(web=web("10.0.0.1"), db=web("10.0.0.9", port=5432))
    change = await world.changes.reload()
    assert (world.journal, change.ops, change.faults) == ([], [], [])


@story
async def test_a_file_that_goes_takes_its_service_along(world: World) -> None:
    await world.start(web=web("10.0.0.1"), db=web("10.0.0.9", port=5432))
    (world.directory / "web.yaml").unlink()
    await world.changes.reload()
    assert world.journal == ["- service tcp/192.0.2.10:80"]
    assert "ipvs:tcp/192.0.2.10:80" not in world.saved()["owned"]
    assert world.listed().keys() == {"db"}


@story
async def test_a_bad_file_leaves_its_last_good_version_in_force_and_is_named(
    world: World,
) -> None:
    await world.start(web=web("10.0.0.1"), db=web("10.0.0.9", port=5432))
    world.write("web", BAD)
    world.write("db", web("10.0.0.8", port=5432))
    change = await world.changes.reload()
    assert world.weights(key()) == {"10.0.0.1": 1}
    assert world.weights(key(5432)) == {"10.0.0.8": 1}  # a bad file stops no good one
    (fault,) = change.faults
    assert (fault.file, fault.line, fault.key) == (
        str(world.directory / "web.yaml"),
        3,
        "scheduler",
    )
    assert world.state("web") is SyncState.INVALID
    assert "scheduler" in world.listed()["web"].error
    world.write("web", web("10.0.0.2"))
    assert (await world.changes.reload()).faults == []
    assert world.state("web") is SyncState.SYNCED


@story
async def test_a_bad_file_at_start_leaves_its_service_forwarding(world: World) -> None:
    await world.start(web=web("10.0.0.1"), db=web("10.0.0.9", port=5432))
    world.write("web", BAD)
    world.restart()
    await world.start()
    await world.audit.walk()
    assert world.journal == []
    assert world.weights(key()) == {"10.0.0.1": 1}
    assert world.state("web") is SyncState.INVALID
    assert world.overview.status().services == {"synced": 1, "invalid": 1}


@story
async def test_a_bad_file_at_start_leaves_its_service_forwarding_under_a_new_name_too(
    world: World,
) -> None:
    await world.start(web=web("10.0.0.1"))
    (world.directory / "web.yaml").rename(world.directory / "www.yaml")
    await world.changes.reload()
    assert world.saved()["owned"] == {"ipvs:tcp/192.0.2.10:80": "www"}
    world.write("www", BAD)
    world.restart()
    await world.start()
    assert world.weights(key()) == {"10.0.0.1": 1}


@story
async def test_a_missing_directory_at_start_removes_nothing(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    shutil.rmtree(world.directory)
    world.restart()
    change = await world.changes.reload()
    await world.audit.walk()
    assert world.journal == []
    assert world.weights(key()) == {"10.0.0.1": 1}
    assert str(world.directory) in change.faults[0].file
    assert world.state("web") is SyncState.INVALID


@pytest.mark.parametrize("unreadable", [False, True], ids=["missing", "no directory"])
@story
async def test_a_directory_that_goes_while_running_removes_nothing(
    world: World, unreadable: bool
) -> None:
    await world.start(web=web("10.0.0.1"))
    shutil.rmtree(world.directory)
    if unreadable:
        world.directory.write_text("no directory\n")
    change = await world.changes.reload()
    await world.audit.walk()
    assert world.journal == []
    assert change.faults
    assert world.listed().keys() == {"web"}
    assert world.overview.status().services == {"synced": 1}
    assert str(world.directory) in world.overview.status().faults[0].file


@story
async def test_a_service_in_force_keeps_its_key_against_a_new_file(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    world.write("aaa", web("10.0.0.2"))
    change = await world.changes.reload()
    assert world.weights(key()) == {"10.0.0.1": 1}
    assert world.journal == []
    (fault,) = change.faults
    assert fault.file == str(world.directory / "aaa.yaml")
    assert world.state("web") is SyncState.SYNCED
    assert world.state("aaa") is SyncState.INVALID


@story
async def test_no_two_services_are_in_force_with_one_key_when_a_good_version_comes_back(
    world: World,
) -> None:
    await world.start(web=web("10.0.0.1"), db=web("10.0.0.9", port=5432))
    world.write("web", BAD)  # stays in force with port 80
    world.write("db", web("10.0.0.9", port=80))
    await world.changes.reload()
    keys = [each.service.key for each in world.desired.declarations.values()]
    assert sorted(map(str, keys)) == ["tcp/192.0.2.10:5432", "tcp/192.0.2.10:80"]
    assert world.weights(key()) == {"10.0.0.1": 1}
    assert world.weights(key(5432)) == {"10.0.0.9": 1}


@story
async def test_services_may_swap_their_keys_in_one_reload(world: World) -> None:
    await world.start(a=web("10.0.0.1", port=81), b=web("10.0.0.2", port=82))
    world.write("a", web("10.0.0.1", port=82))
    world.write("b", web("10.0.0.2", port=81))
    assert (await world.changes.reload()).faults == []
    assert world.weights(key(81)) == {"10.0.0.2": 1}
    assert world.weights(key(82)) == {"10.0.0.1": 1}
    assert world.saved()["owned"] == {
        "ipvs:tcp/192.0.2.10:81": "b",
        "ipvs:tcp/192.0.2.10:82": "a",
    }


@story
async def test_a_refusal_during_a_reload_is_reported_and_tried_again_by_the_audit(
    world: World,
) -> None:
    await world.start(web=web("10.0.0.1"))
    world.write("web", web("10.0.0.2"))
    world.kernel.refuse_ops("+ server tcp/192.0.2.10:80 10.0.0.2")
    change = await world.changes.reload()
    assert "10.0.0.2" in change.faults[0].message
    assert world.state("web") is SyncState.FAILED
    assert "10.0.0.2" in world.listed()["web"].error
    assert world.weights(key()) == {"10.0.0.1": 1}  # nothing is taken from it meanwhile
    world.kernel.refuse_ops()
    await world.audit.walk()
    assert world.weights(key()) == {"10.0.0.2": 1}
    assert world.state("web") is SyncState.SYNCED
    assert world.overview.status().drift_repaired == 0  # nobody else had changed it


@story
async def test_a_service_that_moves_is_made_anew_before_the_old_one_goes(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    world.write("web", web("10.0.0.1", port=81))
    await world.changes.reload()
    assert (
        world.journal
        == [
            "+ service tcp/192.0.2.10:81 wlc",
            "+ server tcp/192.0.2.10:81 10.0.0.1:80 weight 1 nat",
            "- service tcp/192.0.2.10:80",
        ]
        or world.journal[-1] == "- service tcp/192.0.2.10:80"
    )
    assert world.weights(key()) is None


@story
async def test_a_service_that_cannot_move_stays_where_it_was(world: World) -> None:
    await world.start(web=web("10.0.0.1", vip={"interface": "eth0"}))
    world.write("web", web("10.0.0.1", address="192.0.2.11", vip={"interface": "eth0"}))
    world.kernel.refuse_ops("+ service tcp/192.0.2.11:80")
    await world.changes.reload()
    await world.audit.walk()
    assert world.weights(key()) == {"10.0.0.1": 1}
    assert {str(vip.address) for vip in world.interfaces.addresses} == {"192.0.2.10"}
    world.kernel.refuse_ops()
    await world.audit.walk()
    await world.audit.walk()
    assert world.weights(key()) is None
    assert world.weights(key(address="192.0.2.11")) == {"10.0.0.1": 1}
    assert {str(vip.address) for vip in world.interfaces.addresses} == {"192.0.2.11"}


@story
async def test_a_restart_adopts_what_it_made_and_moves_nothing(world: World) -> None:
    await world.start(web=web("10.0.0.1", vip={"interface": "eth0"}))
    held: dict[object, ServiceState] = dict(world.kernel.state)
    world.restart()
    await world.start()
    assert world.kernel.state == held
    assert world.state("web") is SyncState.SYNCED
    assert world.kernel.applied == world.kernel.applied[:2]


@story
async def test_a_plan_of_a_reload_changes_nothing(world: World, tmp_path: Path) -> None:
    await world.start(web=web("10.0.0.1"))
    world.write("web", web("10.0.0.2"))
    world.write("bad", BAD)
    before = world.saved()
    change = await world.changes.reload(dry_run=True)
    assert [op.text.split()[0] for op in change.ops] == ["+", "-"]
    assert not change.applied
    assert [fault.file for fault in change.faults] == [str(world.directory / "bad.yaml")]
    assert world.journal == []
    assert world.saved() == before
    assert world.state("web") is SyncState.SYNCED
    assert world.weights(key()) == {"10.0.0.1": 1}


@story
async def test_a_full_disk_ends_nothing_and_a_removal_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start(web=web("10.0.0.1"), dns=web("10.0.0.2", port=53))
    (world.directory / "web.yaml").unlink()

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", refuse)
        change = await world.changes.reload()
    assert any("no space" in fault.message for fault in change.faults)
    assert len(world.saved()["owned"]) == 2
    await world.audit.walk()
    assert len(world.saved()["owned"]) == 1
