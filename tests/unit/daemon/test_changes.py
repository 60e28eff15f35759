"""What operators ask for: tried whole, carried out or taken back, one at a time."""

from __future__ import annotations

import asyncio

import pytest

from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol import ProblemKind, ServerState, SyncState
from kernlb.intent import AdminMode
from tests.unit.daemon.world import World, key, ref, story, web

DRAINING, DISABLED = AdminMode.DRAINING, AdminMode.DISABLED


async def hold(world: World, server: str, mode: AdminMode | None, **how: float | None) -> None:
    timeout = how.get("timeout")
    await world.changes.hold("web", server, mode, drain_timeout=timeout, dry_run=False)


# -- documents


@story
async def test_a_put_writes_the_file_and_the_kernel(world: World) -> None:
    await world.start()
    await world.put("web", web("10.0.0.1"))
    assert world.weights(key()) == {"10.0.0.1": 1}
    world.restart()
    await world.start()
    assert world.journal == []


@story
async def test_a_put_replaces_only_when_asked_to(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    with pytest.raises(RequestRefusedError) as refused:
        await world.put("web", web("10.0.0.2"))
    assert refused.value.problem.type is ProblemKind.EXISTS
    assert world.journal == []
    await world.put("web", web("10.0.0.2"), replace=True)
    assert world.weights(key()) == {"10.0.0.2": 1}


@story
async def test_a_refused_op_takes_the_whole_change_back(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    text = world.text("web")
    world.kernel.refuse_ops("10.0.0.4")
    with pytest.raises(RequestRefusedError) as refused:
        await world.put("web", web("10.0.0.2*7", "10.0.0.3", "10.0.0.4"), replace=True)
    assert refused.value.problem.type is ProblemKind.REFUSED
    assert "cannot change service web" in refused.value.problem.title
    assert "10.0.0.4:80" in refused.value.problem.title
    assert world.text("web") == text
    assert world.weights(key()) == {"10.0.0.1": 1, "10.0.0.2": 1}
    assert world.state("web") is SyncState.SYNCED


@story
async def test_a_refused_new_service_leaves_no_trace(world: World) -> None:
    await world.start()
    world.kernel.refuse_ops("+ server")
    with pytest.raises(RequestRefusedError):
        await world.put("web", web("10.0.0.1", vip={"interface": "eth0"}))
    assert world.kernel.state == {}
    assert list(world.directory.iterdir()) == []
    assert world.interfaces.addresses == set()
    assert world.saved()["owned"] == {}
    assert world.listed() == {}


@story
async def test_a_set_of_documents_is_applied_whole_or_not_at_all(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    good, bad = '{"address": "192.0.2.10", "port": 81}', '{"address": "192.0.2.10", "port": 0}'
    with pytest.raises(RequestRefusedError) as refused:
        await world.changes.apply({"a": good, "b": bad}, dry_run=False)
    problem = refused.value.problem
    assert problem.type is ProblemKind.INVALID_DOCUMENT
    assert [fault.key for fault in problem.faults] == ["port"]
    assert problem.faults[0].file == str(world.directory / "b.yaml")
    assert world.kernel.state.keys() == {key()}
    world.kernel.refuse_ops("+ service tcp/192.0.2.10:82")
    with pytest.raises(RequestRefusedError):
        await world.changes.apply({"a": good, "b": good.replace("81", "82")}, dry_run=False)
    assert world.kernel.state.keys() == {key()}
    assert sorted(path.name for path in world.directory.iterdir()) == ["web.yaml"]


@story
async def test_a_document_is_told_as_its_file_says_it_and_whether_that_is_in_force(
    world: World,
) -> None:
    await world.start(web=web("10.0.0.1"))
    told = world.changes.document("web")
    assert (told.document, told.in_force) == (web("10.0.0.1"), True)
    world.write("web", web("10.0.0.1", "10.0.0.2"))
    told = world.changes.document("web")
    assert (told.document, told.in_force) == (web("10.0.0.1", "10.0.0.2"), False)
    world.write("web", web("10.0.0.1", scheduler="wonderful"))
    assert not world.changes.document("web").in_force
    for name, text in (("web", "- a list"), ("web", "a: [\n"), ("nowhere", None)):
        if text is not None:
            world.write(name, text)
        with pytest.raises(RequestRefusedError) as refused:
            world.changes.document(name)
        problem = refused.value.problem
        assert problem.type is (
            ProblemKind.NOT_FOUND if text is None else ProblemKind.INVALID_DOCUMENT
        )
        assert text is None or problem.faults[0].file.endswith("web.yaml")


@story
async def test_a_dry_run_changes_nothing(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2", vip={"interface": "eth0"}))
    before, text = world.saved(), world.text("web")
    change = await world.changes.delete("web", dry_run=True)
    assert [op.text.split()[:2] for op in change.ops] == [["-", "vip"], ["-", "service"]]
    await world.changes.patch("web", {"scheduler": "rr"}, dry_run=True)
    await world.put("new", web("10.0.0.3", port=81), dry_run=True)
    await world.changes.add_server("web", {"address": "10.0.0.3"}, dry_run=True)
    await world.changes.edit_server("web", "10.0.0.1", {"weight": 5}, dry_run=True)
    await world.changes.remove_server("web", "10.0.0.1", dry_run=True)
    held = await world.changes.hold("web", "10.0.0.1", DRAINING, dry_run=True)
    assert [op.text for op in held.ops] == ["~ server  tcp/192.0.2.10:80 10.0.0.1:80 weight 1 -> 0"]
    assert (world.journal, world.saved(), world.text("web")) == ([], before, text)
    assert world.state("web") is SyncState.SYNCED


@story
async def test_a_delete_removes_file_vip_and_service(world: World) -> None:
    await world.start(web=web("10.0.0.1", vip={"interface": "eth0"}))
    await world.changes.delete("web", dry_run=False)
    assert world.journal == ["- vip 192.0.2.10 on eth0", "- service tcp/192.0.2.10:80"]
    assert list(world.directory.iterdir()) == []


@story
async def test_two_changes_at_once_are_made_one_after_the_other(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    await asyncio.gather(
        *(
            world.changes.add_server("web", {"address": f"10.0.0.{n}"}, dry_run=False)
            for n in range(2, 12)
        )
    )
    assert world.weights(key()) == {f"10.0.0.{n}": 1 for n in range(1, 12)}
    assert world.text("web").count("address") == 12
    servers = [len(held.get(key(), ()).servers) for held in world.kernel.history[1:]]  # type: ignore[union-attr]
    assert servers == sorted(servers)


@story
async def test_a_change_and_a_reload_at_once_do_not_mix(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    await asyncio.gather(
        world.changes.reload(),
        world.changes.add_server("web", {"address": "10.0.0.2"}, dry_run=False),
        world.audit.walk(),
        world.changes.reload(),
    )
    assert world.journal == ["+ server tcp/192.0.2.10:80 10.0.0.2:80 weight 1 nat"]


@story
async def test_trouble_of_one_service_does_not_refuse_changes_of_another(world: World) -> None:
    await world.start(
        web=web("10.0.0.1"),
        lost=web("10.0.0.9", port=81, address="192.0.2.11", vip={"interface": "nowhere0"}),
        old=web("10.0.0.8", port=82),
    )
    world.kernel.refuse_ops("- service tcp/192.0.2.10:82")
    (world.directory / "old.yaml").unlink()
    await world.changes.reload()
    await world.changes.add_server("web", {"address": "10.0.0.2"}, dry_run=False)
    assert world.weights(key()) == {"10.0.0.1": 1, "10.0.0.2": 1}


@story
async def test_a_vip_that_cannot_be_added_refuses_the_change_that_asks_for_it(
    world: World,
) -> None:
    await world.start()
    with pytest.raises(RequestRefusedError) as refused:
        await world.put("web", web("10.0.0.1", vip={"interface": "nowhere0"}))
    assert "192.0.2.10 on nowhere0" in refused.value.problem.title
    assert world.kernel.state == {}
    assert world.saved()["vips"] == []


# -- holds


@story
async def test_a_drain_takes_new_connections_away_and_ends_at_its_deadline(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    await hold(world, "10.0.0.1:80", DRAINING, timeout=30)
    assert world.weights(key()) == {"10.0.0.1": 0, "10.0.0.2": 1}
    assert world.role("web", "10.0.0.1") is ServerState.DRAINING
    world.now += 29.9
    await world.reconciler.wake([ref()], "test")
    assert world.weights(key()) == {"10.0.0.1": 0, "10.0.0.2": 1}
    world.now += 0.1
    await world.reconciler.wake([ref()], "test")
    assert world.weights(key()) == {"10.0.0.2": 1}
    assert world.role("web", "10.0.0.1") is ServerState.DRAINED
    await hold(world, "10.0.0.1:80", None)
    assert world.weights(key()) == {"10.0.0.2": 1, "10.0.0.1": 1}


@story
async def test_a_drain_lasts_as_long_as_the_service_says(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2", drain_timeout="5m"))
    await hold(world, "10.0.0.1", DRAINING)
    await hold(world, "10.0.0.2", DRAINING, timeout=0)
    deadlines = {str(k.address): each.deadline for k, each in world.runtime.holds("web").items()}
    assert deadlines == {"10.0.0.1": world.now + 300, "10.0.0.2": None}


@story
async def test_a_disabled_server_is_out_until_it_is_enabled(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2*5"))
    await hold(world, "10.0.0.2", DISABLED)
    assert world.weights(key()) == {"10.0.0.1": 1}
    world.write("web", web("10.0.0.1", "10.0.0.2*9"))
    await world.changes.reload()
    assert world.weights(key()) == {"10.0.0.1": 1}
    await hold(world, "10.0.0.2", None)
    assert world.weights(key()) == {"10.0.0.1": 1, "10.0.0.2": 9}


@story
async def test_holds_survive_a_restart(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2", "10.0.0.3"))
    await hold(world, "10.0.0.1", DRAINING, timeout=60)
    await hold(world, "10.0.0.2", DISABLED)
    world.restart()
    await world.start()
    assert world.journal == []
    assert world.weights(key()) == {"10.0.0.1": 0, "10.0.0.3": 1}
    world.now += 60
    world.restart()
    await world.start()
    assert world.weights(key()) == {"10.0.0.3": 1}


@story
async def test_a_hold_goes_with_its_server(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    await hold(world, "10.0.0.1", DISABLED)
    await world.changes.remove_server("web", "10.0.0.1", dry_run=False)
    await world.changes.add_server("web", {"address": "10.0.0.1"}, dry_run=False)
    assert world.weights(key()) == {"10.0.0.2": 1, "10.0.0.1": 1}
    assert world.saved()["admin"] == []


@pytest.mark.parametrize("whole", [True, False], ids=["its service went", "it went alone"])
@story
async def test_a_hold_goes_with_a_server_that_went_while_the_daemon_was_down(
    world: World, whole: bool
) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    await hold(world, "10.0.0.1", DISABLED)
    world.restart()
    if whole:
        (world.directory / "web.yaml").unlink()
    else:
        world.write("web", web("10.0.0.2"))
    await world.start()
    world.write("web", web("10.0.0.1", "10.0.0.2"))
    await world.changes.reload()
    assert world.weights(key()) == {"10.0.0.1": 1, "10.0.0.2": 1}


@pytest.mark.parametrize("running", [True, False])
@story
async def test_a_hold_goes_along_when_the_file_gets_another_name(
    world: World, running: bool
) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    await hold(world, "10.0.0.1", DRAINING, timeout=60.0)
    (world.directory / "web.yaml").rename(world.directory / "www.yaml")
    if running:
        assert (await world.changes.reload(dry_run=True)).ops == []
        await world.changes.reload()
    else:
        world.restart()
        await world.start()
    assert world.weights(key()) == {"10.0.0.1": 0, "10.0.0.2": 1}
    assert world.role("www", "10.0.0.1") is ServerState.DRAINING
    (saved,) = world.saved()["admin"]
    assert (saved["service"], saved["deadline"]) == ("www", world.now + 60)
    await world.changes.hold("www", "10.0.0.1", None, dry_run=False)
    assert world.weights(key()) == {"10.0.0.1": 1, "10.0.0.2": 1}


@story
async def test_a_hold_stays_with_a_name_that_stays(world: World) -> None:
    """Two services swap their addresses: whose server was held is told by the name."""
    servers = [{"address": "10.0.0.1", "port": 80}, {"address": "10.0.0.2", "port": 80}]
    one, other = web(servers=servers), web(servers=servers, port=81)
    await world.start(web=one, db=other)
    await hold(world, "10.0.0.1", DISABLED)
    world.write("web", other)
    world.write("db", one)
    await world.changes.reload()
    assert world.weights(key()) == {"10.0.0.1": 1, "10.0.0.2": 1}
    assert world.weights(key(81)) == {"10.0.0.2": 1}
    # and one that moves to where the other was does not take its hold over
    (world.directory / "web.yaml").unlink()
    world.write("db", other)
    await world.changes.reload()
    assert world.weights(key(81)) == {"10.0.0.1": 1, "10.0.0.2": 1}
    assert world.saved()["admin"] == []


@story
async def test_a_hold_outlives_a_file_that_is_bad_for_a_while(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    await hold(world, "10.0.0.1", DISABLED)
    good = world.text("web")
    world.write("web", "port: [")
    world.restart()
    await world.start()
    world.write("web", good)
    await world.changes.reload()
    assert world.weights(key()) == {"10.0.0.2": 1}


@story
async def test_a_refused_hold_is_taken_back(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    world.kernel.refuse_ops("weight 1 -> 0")
    with pytest.raises(RequestRefusedError) as refused:
        await hold(world, "10.0.0.1", DRAINING)
    assert "cannot drain 10.0.0.1:80 of web" in refused.value.problem.title
    assert world.weights(key()) == {"10.0.0.1": 1, "10.0.0.2": 1}
    assert world.role("web", "10.0.0.1") is ServerState.UP
    assert world.saved()["admin"] == []


@story
async def test_a_hold_comes_back_with_the_server_when_its_removal_is_refused(
    world: World,
) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    await hold(world, "10.0.0.1", DRAINING)
    world.kernel.refuse_ops("- server")
    with pytest.raises(RequestRefusedError):
        await world.changes.remove_server("web", "10.0.0.1", dry_run=False)
    assert world.weights(key()) == {"10.0.0.1": 0, "10.0.0.2": 1}
    assert world.role("web", "10.0.0.1") is ServerState.DRAINING


@story
async def test_the_sorry_server_stands_in_while_all_are_drained(world: World) -> None:
    await world.start(web=web("10.0.0.1", sorry_server={"address": "10.0.0.99"}))
    assert world.weights(key()) == {"10.0.0.1": 1}
    await hold(world, "10.0.0.1", DRAINING)
    assert world.weights(key()) == {"10.0.0.1": 0, "10.0.0.99": 1}
    assert world.journal[0].startswith("+ server")  # before the last one goes
    await hold(world, "10.0.0.1", None)
    assert world.weights(key()) == {"10.0.0.1": 1}


@pytest.mark.parametrize(
    ("service", "server", "kind"),
    [
        ("nobody", "10.0.0.1", ProblemKind.NOT_FOUND),
        ("web", "10.0.0.7", ProblemKind.NOT_FOUND),
        ("web", "10.0.0.1:81", ProblemKind.NOT_FOUND),
        ("web", "garbage", ProblemKind.NOT_FOUND),
        ("web", "10.0.0.2", ProblemKind.INVALID_REQUEST),
    ],
)
@story
async def test_a_server_that_is_not_there_or_not_clear_is_refused(
    world: World, service: str, server: str, kind: ProblemKind
) -> None:
    wish = web("10.0.0.1", "10.0.0.2")
    wish["servers"].append({"address": "10.0.0.2", "port": 8080})
    await world.start(web=wish)
    with pytest.raises(RequestRefusedError) as refused:
        await world.changes.hold(service, server, DRAINING, dry_run=False)
    assert refused.value.problem.type is kind
    assert world.journal == []
