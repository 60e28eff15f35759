"""The mirror of bpf/abi.h, held to the compiler's own account of it (BTF)."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

import pytest

from kernlb.datapath.xdp import layout
from kernlb.datapath.xdp.layout import Layout

ROOT = Path(__file__).parents[4]
HEADER = ROOT / "bpf" / "abi.h"

STRUCTS: dict[str, Layout[Any]] = {
    "abi": layout.ABI,
    "settings": layout.SETTINGS,
    "service_key": layout.SERVICE_ID,
    "run": layout.RUN,
    "service": layout.SERVICE,
    "server": layout.SERVER,
    "load": layout.LOAD,
    "conn": layout.CONN,
    "counters": layout.COUNTERS,
    "signals": layout.SIGNALS,
    "fragment_key": layout.FRAGMENT_ID,
    "fragment": layout.FRAGMENT,
    "neighbour_key": layout.NEIGHBOUR_ID,
    "return_key": layout.RETURN_ID,
    "return_hop": layout.RETURN_HOP,
    "explanation": layout.EXPLANATION,
    "sweep": layout.SWEEP,
}
ENUMS: dict[str, tuple[str, type[IntEnum | IntFlag]]] = {
    "family": ("FAMILY", layout.AddressFamily),
    "forwarding": ("FORWARD", layout.Forward),
    "tunnel": ("TUNNEL", layout.Encapsulation),
    "scheduler": ("SCHEDULE", layout.Schedule),
    "service_flag": ("SERVICE", layout.ServiceFlag),
    "server_flag": ("SERVER", layout.ServerFlag),
    "conn_state": ("STATE", layout.State),
    "conn_flag": ("CONN", layout.ConnFlag),
    "vip_protocol": ("VIP", layout.VipProtocol),
    "filter_mark": ("MARK", layout.Mark),
    "reason": ("REASON", layout.Reason),
    "chosen_by": ("CHOSEN", layout.ChosenBy),
}
CONSTANTS = {
    "ABI_VERSION": layout.ABI_VERSION,
    "TICK_SHIFT": layout.TICK_SHIFT,
    "FILTER_SIZE": layout.FILTER_SIZE,
    "SOURCE_PORT_FIRST": layout.SOURCE_PORT_FIRST,
    "CONN_WAYS": layout.CONN_WAYS,
    "TEMPLATE_PROTOCOL": layout.TEMPLATE_PROTOCOL,
    "NONE": layout.NONE,
    "CONN4_SIZE": layout.CONN_SIZES[layout.AddressFamily.IPV4],
    "CONN6_SIZE": layout.CONN_SIZES[layout.AddressFamily.IPV6],
}
WITHIN = {"hop", "bucket4", "bucket6"}  # others, that is, or CONN_WAYS entries
PADDING = re.compile(r"(pad|reserved)\d*")

Types = dict[int, dict[str, Any]]


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> Types:
    """Every type of the header, by its number."""
    for tool in ("clang", "bpftool"):
        if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin") is None:
            assert os.environ.get("CI") != "true", f"{tool} is not installed, and CI must have it"
            pytest.skip(f"{tool} is not installed")
    directory = tmp_path_factory.mktemp("abi")
    source = [f'#include "{HEADER}"']
    source += [f"struct {name} a_{name};" for name in STRUCTS]
    source += [f"enum {name} an_{name};" for name in ENUMS]
    source += ["enum constants {", *(f"IS_{name} = {name}," for name in CONSTANTS), "} constants;"]
    (directory / "abi.c").write_text("\n".join(source))
    include = f"/usr/include/{platform.machine()}-linux-gnu"
    flags = ["-O2", "-g", "-target", "bpf", "-I", include]
    compiled = str(directory / "abi.o")
    source_file = str(directory / "abi.c")
    subprocess.run(["clang", *flags, "-c", source_file, "-o", compiled], check=True)
    dump = ["bpftool", "-j", "btf", "dump", "file", compiled, "format", "raw"]
    path = os.environ["PATH"] + ":/usr/sbin"
    text = subprocess.run(
        dump, check=True, capture_output=True, env={**os.environ, "PATH": path}
    ).stdout
    return {each["id"]: each for each in json.loads(text)["types"]}


def named(types: Types, kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in types.values() if (each["kind"], each["name"]) == (kind, name)]
    return found


def size_of(types: Types, number: int) -> int:
    each = types[number]
    match each["kind"]:
        case "ARRAY":
            return int(each["nr_elems"]) * size_of(types, each["type_id"])
        case "TYPEDEF":
            return size_of(types, each["type_id"])
        case _:
            return int(each["size"])


def members(types: Types, struct: dict[str, Any], at: int = 0, name: str = "") -> Iterator[Any]:
    """name, (offset, size) of each member; of structs within, each of theirs instead."""
    for each in struct["members"]:
        inner = types[each["type_id"]]
        place = at + each["bits_offset"] // 8
        word = each["name"] if each["name"] != "(anon)" else ""
        full = f"{name}_{word}" if name and word else name or word
        if inner["kind"] in ("STRUCT", "UNION"):
            yield from members(types, inner, place, full)
        else:
            yield full, (place, size_of(types, each["type_id"]))


@pytest.mark.parametrize("name", STRUCTS)
def test_every_field_lies_where_the_compiler_puts_it(types: Types, name: str) -> None:
    struct = named(types, "STRUCT", name)
    there = {
        field: place
        for field, place in members(types, struct)
        if not PADDING.fullmatch(field)
        and place[1]
        and field != "word_word"  # the union's other half
    }
    mirror = STRUCTS[name]
    assert mirror.places == there
    assert tuple(mirror.places) == mirror.record._fields
    assert mirror.size == struct["size"]


@pytest.mark.parametrize("name", ENUMS)
def test_every_number_has_its_name(types: Types, name: str) -> None:
    prefix, mirror = ENUMS[name]
    there = {each["name"]: each["val"] for each in named(types, "ENUM", name)["values"]}
    count = there.pop(f"{prefix}S", None)
    assert {f"{prefix}_{each.name}": each.value for each in mirror} == there
    assert count is None or count == len(mirror)


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_the_same(types: Types, name: str) -> None:
    there = {each["name"]: each["val"] for each in named(types, "ENUM", "constants")["values"]}
    assert CONSTANTS[name] == there[f"IS_{name}"] % 2**32


def test_nothing_of_the_header_is_left_out() -> None:
    text = HEADER.read_text()
    assert set(re.findall(r"^struct (\w+) \{", text, re.M)) == STRUCTS.keys() | WITHIN
    assert set(re.findall(r"^enum (\w+) \{", text, re.M)) == ENUMS.keys()
    assert set(re.findall(r"^#define (\w+) ", text, re.M)) == CONSTANTS.keys()


def test_elements_of_an_array_go_in_and_out() -> None:
    array = memoryview(bytearray(4 * layout.RUN.size))
    layout.RUN.pack_into(array, 2, layout.Run(7, 9))
    assert layout.RUN.unpack(array, 2) == layout.Run(7, 9)
    assert list(layout.RUN.unpack_all(array)) == [(0, 0), (0, 0), (7, 9), (0, 0)]
