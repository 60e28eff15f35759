"""The text of the probes: what is in it, and that what C puts into a slot Python reads out."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

import pytest

from kernlb.datapath.xdp.libbpf.kernel_types import enumerators, offsets
from kernlb.model import AddressKey, parse_service_key
from kernlb.trace import programs
from kernlb.trace.programs import FIELDS, Program, View, slot_bounds, wanted_fields
from kernlb.trace.text_ipvs import LATENCY

KEYS = ("tcp/192.0.2.10:80", "udp/[2001:db8::53]:53", "tcp/192.0.2.10:0")
ALL = tuple(View)
OFFSETS = {
    struct: {field: 8 * at for at, field in enumerate(fields)} for struct, fields in FIELDS.items()
}


def program(views: Collection[View], service: AddressKey | None = None) -> Program:
    return programs.program(views, OFFSETS, service)


@pytest.mark.parametrize("views", [(each,) for each in View] + [ALL, ()], ids=str)
def test_every_table_and_function_that_is_named_is_in_the_text(views: tuple[View, ...]) -> None:
    made = program(views)
    for table in made.tables:
        assert re.search(rf"\b{table}\b\s*[,)]", made.text), table
    for probe in made.probes:
        assert f"int {probe.runs}(struct pt_regs *ctx" in made.text
    assert made.events == (
        "BPF_PERF_OUTPUT(events)" in made.text and bool({*views} - {View.DROPS, View.LATENCY})
    )


def test_what_two_views_share_is_there_once() -> None:
    both = program((View.CONNECTIONS, View.LATENCY))
    assert both.text.count("int conn_begins(") == 1
    assert [each.function for each in both.probes].count("ip_vs_conn_new") == 1
    assert "expect_answer(&event, cp);" in both.text and "tell_begin(ctx" in both.text


def test_drops_need_nothing_of_ipvs() -> None:
    assert "ip_vs" not in program((View.DROPS,)).text
    assert not program((View.DROPS,)).probes
    assert wanted_fields((View.DROPS,)).keys() == {"sk_buff", "net_device"}


@pytest.mark.parametrize("views", [*((each,) for each in View), ALL], ids=str)
def test_every_offset_that_is_used_is_defined(views: tuple[View, ...]) -> None:
    text = program(views).text
    used = set(re.findall(r"GET\([^()]+, (\w+)\)", text)) - {"field"}
    used |= set(re.findall(r"OFFSET_(\w+)(?!.*\d$)", text.partition("left_out")[2]))
    assert used and all(f"#define OFFSET_{each} " in text for each in used)


def test_offsets_are_those_of_this_kernel() -> None:
    """Its types say so, and what is not there is left out."""
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("this kernel has no BTF")
    found = offsets({"sk_buff": ("protocol", "head", "nope"), "nothing_of_the_kind": ("at",)})
    assert found["sk_buff"].keys() == {"protocol", "head"} and not found["nothing_of_the_kind"]
    assert found["sk_buff"]["head"] % 8 == 0 and found["sk_buff"]["protocol"] % 2 == 0
    assert enumerators("skb_drop_reason")[2].startswith("SKB_")
    assert enumerators("nothing_of_the_kind") == {}


def test_the_braces_of_a_program_are_even() -> None:
    for views in ((View.CONNECTIONS,), (View.LATENCY,), ALL):
        text = program(views).text
        assert text.count("{") == text.count("}")


@pytest.mark.parametrize(
    ("key", "address", "port", "protocol", "wanted"),
    [
        (KEYS[0], "192.0.2.10", 80, 6, True),
        (KEYS[0], "192.0.2.10", 81, 6, False),
        (KEYS[0], "192.0.2.10", 80, 17, False),
        (KEYS[0], "192.0.2.11", 80, 6, False),
        (KEYS[0], "192.0.2.10", 0, 1, True),  # ICMP, which has no port
        (KEYS[1], "2001:db8::53", 53, 17, True),
        (KEYS[1], "2001:db8::54", 53, 17, False),
        (KEYS[2], "192.0.2.10", 4711, 6, True),
    ],
)
def test_a_service_is_a_condition_in_the_text(
    tmp_path: Path, key: str, address: str, port: int, protocol: int, wanted: bool
) -> None:
    """The condition itself, compiled for this machine."""
    found = parse_service_key(key)
    text = program((View.DROPS,), found).text  # type: ignore[arg-type]
    function = re.search(r"static inline int wants\(.*?^}\n", text, re.S | re.M)
    assert function
    from ipaddress import ip_address

    octets = ", ".join(map(str, ip_address(address).packed.ljust(16, b"\0")))
    source = (
        "#include <stdint.h>\n#include <arpa/inet.h>\n"
        "typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32;\n"
        "#define NETWORK_ORDER(x) htons(x)\n"
        f"{function[0]}\nint main(void) {{ _Alignas(8) u8 a[16] = {{ {octets} }};\n"
        f"return !wants(a, htons({port}), {protocol}); }}\n"
    )
    assert (ran(tmp_path, source).returncode == 0) is wanted


def test_slots_are_where_python_looks_for_them(tmp_path: Path) -> None:
    """Their bounds meet without a gap, and C puts every latency between those of its slot."""
    function = re.search(r"static inline u32 slot_of\(.*?^}\n", LATENCY, re.S | re.M)
    assert function
    times = sorted(
        {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 100, 999, 1000, 65535, 65536, 10**6, 2**31, 2**32 - 1}
    )
    prints = "".join(f'printf("%u\\n", slot_of({each}ull * 1000));' for each in times)
    source = (
        "#include <stdint.h>\n#include <stdio.h>\ntypedef uint32_t u32; typedef uint64_t u64;\n"
        f"{function[0]}\nint main(void) {{ {prints} return 0; }}\n"
    )
    slots = [int(line) for line in ran(tmp_path, source).stdout.split()]
    for time, slot in zip(times, slots, strict=True):
        low, high = slot_bounds(slot)
        assert low <= time < high, (time, slot)
        assert high - low <= max(1, low / 4)
    used = [0, 1, 2, 3, *range(8, 128)]
    assert all(slot_bounds(a)[1] == slot_bounds(b)[0] for a, b in pairwise(used))


def ran(directory: Path, source: str) -> subprocess.CompletedProcess[str]:
    (directory / "it.c").write_text(source)
    argv = ["clang", "-O1", "-w", "-o", str(directory / "it"), str(directory / "it.c")]
    subprocess.run(argv, check=True, timeout=60)
    return subprocess.run([directory / "it"], capture_output=True, text=True, timeout=10)
