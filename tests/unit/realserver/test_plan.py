"""Changes, and what they were before: a host as a dictionary of slots, set up and put back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernlb.realserver.plan import Want, plan_remove, plan_setup
from kernlb.realserver.rules import arp_guard, mss_limit
from kernlb.realserver.slots import Change, Kind, Slot, same
from tests.unit.realserver.hosts import VIP, VIP6

IGNORE = Slot(Kind.SYSCTL, "net/ipv4/conf/all/arp_ignore")
ON_LO = Slot(Kind.ADDRESS, "192.0.2.10", "lo")
MTU = Slot(Kind.MTU, "eth0")
SLOTS = (IGNORE, ON_LO, MTU)


class World(dict):
    """Values by slot; what is not in it is not there."""

    def __missing__(self, slot):
        return None

    def make(self, changes):
        for change in changes:
            assert self[change.slot] == change.before
            self[change.slot] = change.after
        return self


def test_what_is_good_already_is_left_and_never_put_back():
    world = World({IGNORE: "2"})
    plan = plan_setup([Want(IGNORE, "1", frozenset({"2"})), Want(ON_LO, "32")], [], world)
    assert [str(change) for change in plan.changes] == ["ip address add 192.0.2.10/32 dev lo"]
    world.make(plan.changes)
    assert plan_remove(plan.record, world).changes == (Change(ON_LO, "32", None),)


def test_the_second_time_there_is_nothing_to_do():
    world, wants = World({IGNORE: "0"}), [Want(IGNORE, "1"), Want(ON_LO, "32")]
    first = plan_setup(wants, [], world)
    second = plan_setup(wants, first.record, world.make(first.changes))
    assert (second.changes, second.record) == ((), first.record)


def test_what_is_wanted_no_longer_is_put_back_after_what_is():
    world = World({MTU: "1500"})
    first = plan_setup([Want(MTU, "1600"), Want(ON_LO, "32")], [], world)
    second = plan_setup([Want(IGNORE, "1")], first.record, world.make(first.changes))
    assert [str(change) for change in second.changes] == [
        "sysctl -w net.ipv4.conf.all.arp_ignore=1",
        "ip address del 192.0.2.10/32 dev lo",
        "ip link set eth0 mtu 1500  # was 1600",
    ]


def test_after_a_boot_the_values_of_the_first_time_are_still_known():
    first = plan_setup([Want(MTU, "1600")], [], World({MTU: "1500"}))
    booted = World({MTU: "9000"})
    again = plan_setup([Want(MTU, "1600")], first.record, booted)
    assert again.record == (Change(MTU, "1500", "1600"),)


def test_what_somebody_else_changed_stays_and_is_named():
    world = World({IGNORE: "0"})
    plan = plan_setup([Want(IGNORE, "1"), Want(ON_LO, "32")], [], world)
    world.make(plan.changes)[IGNORE] = "8"
    back = plan_remove(plan.record, world)
    assert back.notes == ("left net.ipv4.conf.all.arp_ignore as it is: it was changed since",)
    assert back.changes == (Change(ON_LO, "32", None),)


def test_what_is_gone_already_needs_no_removal():
    plan = plan_setup([Want(ON_LO, "32")], [], World())
    assert plan_remove(plan.record, World()) == plan_remove([], World())


VALUES = st.sampled_from(["1", "2", None])
WORLDS = st.dictionaries(st.sampled_from(SLOTS), st.sampled_from(["1", "2"]))
WISHES = st.dictionaries(st.sampled_from(SLOTS), VALUES).map(
    lambda wanted: [Want(slot, value) for slot, value in wanted.items()]
)


@given(WORLDS, st.lists(WISHES, max_size=4))
def test_whatever_was_wished_in_turn_removal_leaves_what_was_before(before, wishes):
    # a sysctl that was not there cannot be made to go
    before = {IGNORE: "1", **before}
    world, recorded = World(before), ()
    for wants in wishes:
        wants = [w for w in wants if not (w.slot is IGNORE and w.value is None)]
        plan = plan_setup(wants, recorded, world)
        world.make(plan.changes)
        recorded = plan.record
        assert all(world[want.slot] == want.value for want in wants)
        assert not plan_setup(wants, recorded, world).changes
    world.make(plan_remove(recorded, world).changes)
    assert {slot: value for slot, value in world.items() if value is not None} == before


def test_an_address_with_a_wrong_prefix_gets_the_right_one_first():
    change = Change(ON_LO, "24", "32")
    assert str(change) == "ip address add 192.0.2.10/32 dev lo; ip address del 192.0.2.10/24 dev lo"


def test_tables_are_known_by_their_comment_however_nft_prints_them():
    slot = Slot(Kind.RULES, "arp")
    one = arp_guard([VIP], "eth0", VIP)
    assert same(slot, one, one.replace("{ 192.0.2.10 }", "192.0.2.10").replace("\t", "    "))
    assert not same(slot, one, arp_guard([VIP], "eth1", VIP))
    assert mss_limit([([VIP], 1440), ([VIP6], 1420)]).count("maxseg size set") == 2


def test_a_table_is_replaced_in_one_transaction():
    slot = Slot(Kind.RULES, "arp")
    (command,) = Change(slot, "table arp x {}\n", "table arp y {}\n").commands
    assert command == ("nft", "delete table arp kernlb_realserver\ntable arp y {}\n")
