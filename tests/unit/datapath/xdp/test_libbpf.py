"""The door to libbpf, held to this machine's own kernel."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kernlb.datapath.xdp.libbpf import LoadError, Map, Object, Program, possible_cpus
from kernlb.datapath.xdp.libbpf.bpffs import require_bpffs
from kernlb.datapath.xdp.libbpf.maps import NOEXIST
from tests.bpf.compiled import compiled

pytestmark = pytest.mark.bpf

ZERO = bytes(4)
SEED = 0x0123_4567_89AB_CDEF
FRAME = bytes(range(64))


def key(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


class Small:
    """tests/bpf/data/small.bpf.c, loaded."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        with Object.open(path) as loadable:
            loadable.resize("slots", 1000)
            loadable.resize("service_ids", 16)
            loadable.resize("server_counters", 600)
            masks = {"conns4_mask": 0xFF, "conns6_mask": (127).to_bytes(4, sys.byteorder)}
            loadable.set_rodata({"hash_seed": SEED, **masks})
            loadable.allow_fragments()
            loadable.load()
            self.maps = {
                name: stack.enter_context(loadable.map(name)) for name in loadable.map_names
            }
            self.programs = {
                name: stack.enter_context(loadable.program(name)) for name in loadable.program_names
            }

    def told(self) -> list[int]:
        """What `explain` wrote down: the words of struct explanation."""
        value = self.maps["explanations"].lookup(ZERO)
        assert value is not None
        return list(memoryview(value).cast("I"))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("small", tmp_path_factory.mktemp("objects"))


@pytest.fixture
def small(path: Path) -> Iterator[Small]:
    with ExitStack() as stack:
        yield Small(path, stack)


@pytest.fixture
def pins() -> Iterator[Path]:
    directory = Path(f"/sys/fs/bpf/kl-pins-{os.getpid()}")
    require_bpffs(directory)
    directory.mkdir()
    yield directory
    for each in directory.iterdir():
        each.unlink()
    directory.rmdir()


def test_an_object_tells_what_it_has_before_it_is_loaded(path: Path) -> None:
    with Object.open(path) as loadable:
        assert loadable.program_names == ("kernlb", "explain", "sweep")
        assert {"abi", "services", ".data.filter", ".data.settings"} <= {*loadable.map_names}
        before = loadable.shape("services")
        loadable.resize("services", 123)
        assert (before.max_entries, loadable.shape("services").max_entries) == (1, 123)
        assert before.value_size == 128


def test_constants_are_set_by_their_names(small: Small) -> None:
    small.programs["explain"].test_run(FRAME)
    _, masks4, masks6, _, high, low, _, _ = small.told()
    assert (masks4, masks6) == (0xFF, 127)
    assert high << 32 | low == SEED


def test_a_constant_or_map_that_is_not_there_is_named(path: Path) -> None:
    with Object.open(path) as loadable:
        with pytest.raises(LoadError, match=r"small\.bpf\.o has no constant hash_sed"):
            loadable.set_rodata({"hash_sed": 1})
        with pytest.raises(ValueError, match="constant hash_seed has 8 bytes, not 4"):
            loadable.set_rodata({"hash_seed": bytes(4)})
        with pytest.raises(LoadError, match=r"small\.bpf\.o has no map conns5"):
            loadable.resize("conns5", 1)


def test_a_program_that_the_verifier_refuses_comes_with_its_last_words(tmp_path: Path) -> None:
    with (
        Object.open(compiled("small", tmp_path, "-DCARELESS")) as loadable,
        pytest.raises(LoadError, match=r"cannot load small\.bpf\.o: prog 'kernlb'") as refused,
    ):
        loadable.load()
    assert refused.value.errno == errno.EACCES
    assert "invalid access to packet" in refused.value.log
    assert refused.value.log in str(refused.value)


def test_what_is_no_object_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.bpf.o").write_text("no ELF\n" * 100)
    with pytest.raises(LoadError, match=r"cannot open text\.bpf\.o: .*ELF"):
        Object.open(tmp_path / "text.bpf.o")
    with pytest.raises(FileNotFoundError):
        Object.open(tmp_path / "absent.bpf.o")


def test_an_entry_is_written_read_walked_and_removed(small: Small) -> None:
    ids = small.maps["service_ids"]
    keys = [bytes([number]) * 20 for number in range(5)]
    assert ids.next_key() is None
    for number, each in enumerate(keys):
        ids.update(each, key(number))
    assert dict(ids.items()) == {each: key(number) for number, each in enumerate(keys)}
    assert ids.lookup(keys[3]) == key(3)
    with pytest.raises(FileExistsError):
        ids.update(keys[3], key(9), NOEXIST)
    assert [ids.delete(keys[3]) for _ in range(2)] == [True, False]
    assert ids.lookup(keys[3]) is None
    for each, _ in ids.items():
        ids.delete(each)
    assert ids.next_key() is None


def test_a_full_table_says_so(small: Small) -> None:
    ids = small.maps["service_ids"]
    with pytest.raises(OSError, match="cannot write map service_ids") as full:
        for number in range(17):
            ids.update(bytes([number]) * 20, ZERO)
    assert full.value.errno == errno.E2BIG


def test_keys_and_values_of_another_length_never_reach_the_kernel(small: Small) -> None:
    ids = small.maps["service_ids"]
    for act in (ids.lookup, ids.delete, ids.next_key):
        with pytest.raises(ValueError, match="a key has 20 bytes, not 19"):
            act(bytes(19))
    with pytest.raises(ValueError, match="a value has 4 bytes, not 5"):
        ids.update(bytes(20), bytes(5))
    with pytest.raises(ValueError, match=f"a value has {40 * possible_cpus()} bytes, not 40"):
        small.maps["server_counters"].update(ZERO, bytes(40))


def test_a_per_cpu_value_adds_up_over_the_cpus(small: Small) -> None:
    assert small.programs["kernlb"].test_run(FRAME, repeat=5).retval == 2  # XDP_PASS
    values = small.maps["reasons"].values_per_cpu(ZERO)
    assert values is not None
    assert len(values) == possible_cpus()
    assert sum(int.from_bytes(value, sys.byteorder) for value in values) == 5
    assert small.maps["reasons"].values_per_cpu(key(1 << 30)) is None


@pytest.mark.parametrize("name", ["slots", "server_counters"])
def test_an_array_is_read_in_one_piece_or_in_part(small: Small, name: str) -> None:
    array = small.maps[name]
    for number in (0, 1, 7, 598, 599):
        array.update(key(number), bytes([number % 251]) * array.stride)
    one_by_one = [array.lookup(key(number)) or b"" for number in range(array.max_entries)]
    assert array.read_array() == b"".join(one_by_one)
    for first, count in ((0, 1), (1, 1), (7, 0), (1, 598), (599, 1)):
        part = b"".join(one_by_one[first : first + count])
        assert array.read_array(first, count) == part
        assert array._read_one_by_one(first, count) == part
    with pytest.raises(ValueError, match=f"map {name} has no elements 1 to"):
        array.read_array(1, array.max_entries)


def test_memory_of_a_map_is_shared_with_the_program(small: Small) -> None:
    filter_, settings = small.maps[".data.filter"].mmap(), small.maps[".data.settings"].mmap()
    filter_[7] = 40
    settings.cast("I")[1] = 2
    small.programs["explain"].test_run(FRAME)
    assert small.told()[0] == 42


def test_elements_in_memory_lie_eight_bytes_apart_at_least(small: Small) -> None:
    memory = small.maps["slots"].mmap()
    assert len(memory) == 8192  # 1000 values of 4 bytes at multiples of 8, in whole pages
    memory.cast("Q")[999] = 77
    assert small.maps["slots"].lookup(key(999)) == key(77)
    with pytest.raises(OSError, match="cannot map the memory of map service_ids"):
        small.maps["service_ids"].mmap()


@pytest.mark.parametrize("length", [14, 64, 1514, 4000, 9014])
def test_a_packet_may_grow_whatever_its_length(small: Small, length: int) -> None:
    frame = os.urandom(length)
    answer = small.programs["explain"].test_run(frame)
    assert answer.retval == 3  # XDP_TX
    assert len(answer.packet) == length + 16
    assert answer.packet[16:] == frame


def test_a_packet_comes_in_on_an_interface(small: Small) -> None:
    small.programs["explain"].test_run(FRAME, ingress_ifindex=1)
    assert small.told()[6] == 1
    with pytest.raises(OSError, match="cannot run program explain"):
        small.programs["explain"].test_run(FRAME, ingress_ifindex=1 << 20)


def test_a_syscall_program_changes_its_argument(small: Small) -> None:
    words = (4, 100, 28, 0, 0, 0, 0, 0)
    result, ctx = small.programs["sweep"].run_syscall(b"".join(map(key, words)))
    assert result == 7
    assert list(memoryview(ctx).cast("I")) == [4, 100, 28, 0, 128, 0, 0, 0]


def test_a_pin_outlives_the_descriptor_and_is_known_by_its_kind(small: Small, pins: Path) -> None:
    small.maps["slots"].update(key(5), key(55))
    small.maps["slots"].pin(pins / "slots")
    small.programs["kernlb"].pin(pins / "kernlb")
    small.maps["slots"].close()
    with Map.open_pinned(pins / "slots") as slots, Program.open_pinned(pins / "kernlb") as program:
        assert (slots.name, slots.max_entries, slots.lookup(key(5))) == ("slots", 1000, key(55))
        assert program.program_id == small.programs["kernlb"].program_id
    with pytest.raises(OSError, match="it is a bpf-prog, not a bpf-map"):
        Map.open_pinned(pins / "kernlb")
    with pytest.raises(FileNotFoundError, match=r"cannot open .*/absent"):
        Map.open_pinned(pins / "absent")
    with pytest.raises(FileExistsError):
        small.programs["sweep"].pin(pins / "kernlb")


def test_a_loaded_map_can_take_the_place_of_another_objects(small: Small, path: Path) -> None:
    small.maps["slots"].update(key(5), key(55))
    with Object.open(path) as second:
        second.reuse("slots", small.maps["slots"])
        with pytest.raises(LoadError, match=r"cannot use map loads as it is: its value size is 4"):
            second.reuse("loads", small.maps["slots"])
        second.load()
        with second.map("slots") as slots:
            assert slots.map_id == small.maps["slots"].map_id
            assert slots.lookup(key(5)) == key(55)


def test_closing_leaves_no_descriptor_behind(path: Path) -> None:
    before = descriptors()
    with ExitStack() as stack:
        Small(path, stack)
        assert descriptors() != before
    assert descriptors() == before


UNAVAILABLE = """
import os, sys
from kernlb.datapath import DatapathUnavailableError
from kernlb.datapath.xdp.libbpf import Object, require_libbpf
try:
    require_libbpf()
    loadable = Object.open(sys.argv[1])
    os.setuid(65534)
    loadable.load()
except DatapathUnavailableError as why:
    print(why.strerror)
"""


def test_a_process_without_privilege_is_told_what_it_lacks(path: Path) -> None:
    assert said([sys.executable, "-c", UNAVAILABLE, str(path)]) == (
        "cannot load small.bpf.o: CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed (root has them)"
    )


def test_a_host_without_libbpf_is_told_which_package_has_it(path: Path) -> None:
    find = "ldconfig -p | sed -n 's/.*libbpf.so.1 .*=> //p'"
    hide = f'for each in $({find}); do mount --bind /dev/null "$each"; done; exec "$@"'
    argv = ["unshare", "--mount", "sh", "-ec", hide, "sh", sys.executable, "-c", UNAVAILABLE]
    assert said([*argv, str(path)]) == (
        "cannot use XDP: libbpf.so.1 is not installed (Debian: libbpf1)"
    )


def descriptors() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


def said(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
