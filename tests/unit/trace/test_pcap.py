"""Capture files, read by the tools that people read them with."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kernlb.datapath.xdp.capturing import Action, Captured, Frame
from kernlb.datapath.xdp.explain import frame
from kernlb.datapath.xdp.layout import Reason
from kernlb.model import L4Protocol, parse_endpoint
from kernlb.trace.packets import records
from kernlb.trace.pcap import Format, Pcap, PcapNg, Record

CAME = frame(L4Protocol.TCP, parse_endpoint("198.51.100.7:40000"), parse_endpoint("192.0.2.10:80"))
LEFT = frame(L4Protocol.TCP, parse_endpoint("198.51.100.7:40000"), parse_endpoint("10.0.0.2:80"))
FORWARDED = Captured(
    5 * 10**9 + 1,
    3,
    2,
    Action.TX,
    (Reason.FORWARDED,),
    Frame(len(CAME), CAME),
    Frame(len(LEFT), LEFT),
)
EPOCH = 1_700_000_000 * 10**9


def written(form: Format, *captured: Captured) -> bytes:
    made: list[Record] = []
    for number, each in enumerate(captured):
        made += records(each, EPOCH, number, lambda index: f"eth{index}")
    return form.header("kernlb test", 256) + b"".join(map(form.record, made))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "packets"


def test_scapy_finds_both_packets_their_interfaces_times_and_comments(file: Path) -> None:
    from scapy.utils import PcapNgReader

    file.write_bytes(written(PcapNg(), FORWARDED))
    with PcapNgReader(str(file)) as reader:
        before, after = reader
    assert [each.sniffed_on for each in (before, after)] == ["kernlb in", "kernlb out"]
    assert bytes(before) == CAME and bytes(after) == LEFT
    assert before.comments == [b"XDP_TX: forwarded; in by eth3"]
    assert abs(float(before.time) - 1_700_000_005) < 1e-5


def test_a_packet_longer_than_what_is_kept_says_how_long_it_was(file: Path) -> None:
    from scapy.utils import PcapNgReader

    cut = FORWARDED._replace(before=Frame(1500, CAME[:33]), after=Frame(1520, LEFT[:34]))
    file.write_bytes(written(PcapNg(), cut))
    with PcapNgReader(str(file)) as reader:
        assert [(each.wirelen, len(bytes(each))) for each in reader] == [(1500, 33), (1520, 34)]


@pytest.mark.parametrize("form", [PcapNg(), Pcap()], ids=["pcapng", "pcap"])
def test_tcpdump_reads_it(form: Format, file: Path) -> None:
    if shutil.which("tcpdump") is None:
        assert os.environ.get("CI") != "true", "tcpdump is not installed, and CI must have it"
        pytest.skip("tcpdump is not installed")
    file.write_bytes(written(form, FORWARDED, FORWARDED))
    argv = ["tcpdump", "-nnttr", str(file)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[4].rstrip(":") for line in said] == ["192.0.2.10.80", "10.0.0.2.80"] * 2
    assert said[0].startswith("1700000005.000000")


def test_what_is_dropped_never_left(file: Path) -> None:
    dropped = FORWARDED._replace(action=Action.DROP, reasons=(Reason.NO_NEIGHBOUR,))
    (only,) = records(dropped, EPOCH, 0, str)
    assert only.data == CAME and only.comment == "XDP_DROP: no_neighbour; in by 3"


def test_what_is_passed_as_it_was_is_written_once(file: Path) -> None:
    passed = FORWARDED._replace(
        action=Action.PASS, reasons=(Reason.NOT_OURS,), after=FORWARDED.before
    )
    assert len(records(passed, EPOCH, 0, str)) == 1
    assert len(records(passed._replace(after=FORWARDED.after), EPOCH, 0, str)) == 2


def test_two_reasons_are_both_told() -> None:
    both = FORWARDED._replace(reasons=(Reason.FORWARDED, Reason.TABLE_FULL))
    assert records(both, EPOCH, 0, str)[0].comment == "XDP_TX: forwarded, table_full; in by 3"


def test_a_pair_has_one_number_and_the_verdict_of_xdp_tools() -> None:
    data = written(PcapNg(), FORWARDED, FORWARDED)
    for number in (0, 1):
        option = b"\x05\x00\x08\x00" + number.to_bytes(8, "little")
        assert data.count(option) == 2
    assert data.count(b"\x07\x00\x09\x00\x02" + (3).to_bytes(8, "little")) == 4
