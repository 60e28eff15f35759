"""The program comes into the kernel, is replaced there, and stays, whatever happens to us."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from kernlb.datapath import DatapathUnavailableError
from kernlb.datapath.xdp.layout import ABI_VERSION
from kernlb.datapath.xdp.libbpf import LoadError, Map, Program
from kernlb.datapath.xdp.loading import AbiError, Loaded, load, unload
from kernlb.datapath.xdp.memory import Sizes, memory
from kernlb.datapath.xdp.pins import Pins, map_pin
from tests.netns.xdp.conftest import Objects

pytestmark = [pytest.mark.bpf]

SIZES = Sizes(services=100, servers=1000, slots=10_000, conns4=100_000, conns6=1000)
KEY = bytes(4)
SERVICE = bytes(range(20))
PINNED = {
    *("abi", "conns4", "conns6", "devices", "explanations", "filter", "fragments", "loads"),
    *("reasons", "recounts", "server_counters", "servers", "service_counters", "service_ids"),
    *("returns", "services", "settings", "signals", "slots", "unresolved"),
}


def put(root: Path, path: Path) -> None:
    """Load, and hold nothing open."""
    load(root, SIZES, path).close()


def loaded(root: Path, path: Path, sizes: Sizes = SIZES) -> closing[Loaded]:
    return closing(load(root, sizes, path))


def pinned(root: Path) -> dict[str, int]:
    """Everything under the root, with the kernel's own number of it."""
    found = {}
    for path in root.glob("*/*"):
        if path.parent.name.startswith("maps"):
            with Map.open_pinned(path) as each:
                found[str(path.relative_to(root))] = each.map_id
        elif path.parent.name.startswith("programs"):
            with Program.open_pinned(path) as program:
                found[str(path.relative_to(root))] = program.program_id
    return found


def test_the_first_load_makes_the_maps_as_asked_and_pins_them(root: Path, objects: Objects) -> None:
    with loaded(root, objects.older) as first:
        assert (first.made, first.warnings) == (True, ())
        assert {*first.maps} == {path.name for path in Pins(root).maps.iterdir()} == PINNED
        entries = {name: first.maps[name].max_entries for name in first.maps}
    assert {*pinned(root)} >= {f"programs/{name}" for name in ("kernlb", "explain", "sweep")}
    assert entries["services"] == entries["service_counters"] == 100
    assert entries["service_ids"] == 200  # and as many addresses
    assert entries["servers"] == entries["loads"] == entries["server_counters"] == 1000
    assert (entries["slots"], entries["conns4"], entries["conns6"]) == (10_000, 32_768, 256)
    assert sorted(path.name for path in root.iterdir()) == ["maps", "programs"]


def test_the_program_knows_its_tables_and_a_seed_of_its_own(root: Path, objects: Objects) -> None:
    seeds = set()
    for place in (root / "one", root / "other"):
        with loaded(place, objects.older) as each:
            each.programs["explain"].test_run(bytes(64))
            words = memoryview(each.maps["explanations"].lookup(KEY) or b"").cast("I")
            assert (words[1], words[2]) == (32_767, 255)
            stored = memoryview(each.maps["abi"].lookup(KEY) or b"").cast("Q")[3]
            assert stored == words[4] << 32 | words[5]
            seeds.add(stored)
        unload(place)
    assert len(seeds) == 2


def test_the_memory_is_known_before_it_is_taken(root: Path, objects: Objects) -> None:
    told = memory(SIZES, objects.older)
    with loaded(root, objects.older) as each:
        taken = {name: each.maps[name].footprint() for name in each.maps}
    for name, size in told.items():
        if pin := map_pin(name):
            assert size == pytest.approx(taken[pin], rel=0.01, abs=4096), name
    assert sum(told.values()) == pytest.approx(sum(taken.values()), rel=0.01)


def test_a_later_load_keeps_entries_and_sizes_and_says_so(root: Path, objects: Objects) -> None:
    with loaded(root, objects.older) as first:
        first.maps["service_ids"].update(SERVICE, KEY)
        first.maps["filter"].mmap()[7] = 9
        before = {name: each.map_id for name, each in first.maps.items()}
        seed = first.maps["abi"].lookup(KEY)
    with loaded(root, objects.newer, Sizes(services=200, servers=1000, conns4=131_072)) as second:
        assert not second.made
        assert {name: each.map_id for name, each in second.maps.items()} == before
        assert second.maps["service_ids"].lookup(SERVICE) == KEY
        assert second.maps["filter"].mmap()[7] == 9
        assert second.maps["abi"].lookup(KEY) == seed
        assert second.sizes.of_maps() == SIZES.of_maps()
        assert [str(each) for each in second.warnings] == [
            "services stays at 100 entries, not 200: the map exists",
            "slots stays at 10000 entries, not 1048576: the map exists",
            "conns6 stays at 1024 entries, not 262144: the map exists",
        ]


def test_a_later_load_pins_the_new_program(root: Path, objects: Objects) -> None:
    with loaded(root, objects.older) as first, loaded(root, objects.newer) as second:
        assert first.programs["kernlb"].tag != second.programs["kernlb"].tag
        with Program.open_pinned(Pins(root).programs / "kernlb") as program:
            assert program.program_id == second.programs["kernlb"].program_id
    assert sorted(path.name for path in root.iterdir()) == ["maps", "programs"]


def test_maps_of_another_abi_are_refused_with_both_numbers(root: Path, objects: Objects) -> None:
    with loaded(root, objects.older) as first:
        abi = first.maps["abi"].lookup(KEY) or b""
        first.maps["abi"].update(KEY, (77).to_bytes(4, sys.byteorder) + abi[4:])
    before = pinned(root)
    with pytest.raises(AbiError, match=f"have ABI version 77, this program has {ABI_VERSION};"):
        load(root, SIZES, objects.newer)
    assert pinned(root) == before


def test_maps_without_an_abi_are_refused(root: Path, objects: Objects) -> None:
    put(root, objects.older)
    (Pins(root).maps / "abi").unlink()
    before = pinned(root)
    with pytest.raises(AbiError, match="/maps has no ABI version"):
        load(root, SIZES, objects.newer)
    assert pinned(root) == before


def test_a_map_of_another_shape_is_refused_by_name(root: Path, objects: Objects) -> None:
    with loaded(root, objects.older) as first:
        (Pins(root).maps / "services").unlink()
        first.maps["slots"].pin(Pins(root).maps / "services")
    before = pinned(root)
    with pytest.raises(LoadError, match="cannot use map services as it is: its value size is 4"):
        load(root, SIZES, objects.newer)
    assert pinned(root) == before


def test_a_map_that_a_new_program_brings_is_made(root: Path, objects: Objects) -> None:
    put(root, objects.older)
    (Pins(root).maps / "server_counters").unlink()
    with loaded(root, objects.newer) as second:
        assert second.maps["server_counters"].max_entries == 1000
    assert {path.name for path in Pins(root).maps.iterdir()} == PINNED


@pytest.mark.parametrize("again", [False, True], ids=["first", "upgrade"])
def test_a_program_that_is_refused_changes_nothing(
    root: Path, objects: Objects, again: bool
) -> None:
    if again:
        put(root, objects.older)
    before = pinned(root)
    with pytest.raises(LoadError, match="invalid access to packet"):
        load(root, SIZES, objects.careless)
    assert pinned(root) == before


def test_tables_that_do_not_fit_are_refused_with_their_size(
    root: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a terabyte, which the kernel refuses at once where the machine has less."""
    monkeypatch.setattr("kernlb.datapath.xdp.memory._MOST", 1 << 33)
    words = r"no memory for tables of 524\d{3} MiB, of which conns6 takes 524288 MiB"
    with pytest.raises(LoadError, match=words) as refused:
        load(root, Sizes(conns6=1 << 33), objects.older)
    assert refused.value.errno == errno.ENOMEM
    assert pinned(root) == {}


@pytest.mark.parametrize(("what", "value"), [("services", 0), ("servers", 1 << 25), ("slots", -1)])
def test_sizes_that_make_no_sense_are_refused_by_name(what: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"cannot size {what}: {value} is not in 1 to"):
        Sizes(**{what: value})


def test_only_one_process_loads_at_a_time(root: Path, objects: Objects) -> None:
    put(root, objects.older)
    before = pinned(root)
    with Pins(root).locked():
        with pytest.raises(BlockingIOError, match=f"cannot change what is pinned in {root}"):
            load(root, SIZES, objects.newer)
        with pytest.raises(BlockingIOError):
            unload(root)
    assert pinned(root) == before
    put(root, objects.newer)
    assert pinned(root) != before


def test_of_loads_at_once_one_wins_and_the_others_say_why(root: Path, objects: Objects) -> None:
    """Each child: 0 loaded, EBUSY told so, anything else is wrong."""
    children = [os.posix_spawn(sys.executable, _racer(root, objects), os.environ) for _ in range(4)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert 0 in codes
    assert {*codes} <= {0, errno.EBUSY}
    assert {path.name for path in Pins(root).maps.iterdir()} == PINNED


def _racer(root: Path, objects: Objects) -> list[str]:
    code = (
        "import sys; from pathlib import Path; from kernlb.datapath.xdp.loading import load\n"
        "try: load(Path(sys.argv[1]), None, Path(sys.argv[2]))\n"
        "except BlockingIOError as why: sys.exit(why.errno)"
    )
    return [sys.executable, "-c", code, str(root), str(objects.older)]


def test_unloading_leaves_nothing_and_twice_is_once(root: Path, objects: Objects) -> None:
    put(root, objects.older)
    for _ in range(2):
        unload(root)
        assert not root.exists()


def test_pins_need_a_bpffs(tmp_path: Path, objects: Objects) -> None:
    with pytest.raises(DatapathUnavailableError, match=f"cannot pin maps in {tmp_path}"):
        load(tmp_path, SIZES, objects.older)


def test_a_bpffs_is_mounted_where_there_is_none(root: Path, objects: Objects) -> None:
    """In a mount namespace of its own, which starts without one."""
    code = (
        "import sys; from pathlib import Path; from kernlb.datapath.xdp.loading import load\n"
        "print(*sorted(load(Path(sys.argv[1]), None, Path(sys.argv[2])).programs))"
    )
    bare = 'while umount /sys/fs/bpf 2>/dev/null; do :; done; ls /sys/fs/bpf; exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", bare, "sh", sys.executable, "-c", code]
    done = subprocess.run([*argv, root, objects.older], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("explain kernlb sweep\n", "")
    assert not root.exists()
