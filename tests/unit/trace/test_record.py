"""A record of the ring as C writes it and Python reads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from kernlb.datapath.xdp.capturing import SEEN, Action, captured
from kernlb.datapath.xdp.layout import Reason
from kernlb.datapath.xdp.loading import object_path


def test_both_have_the_same_fields_at_the_same_places() -> None:
    """By the object's own account of its types (BTF)."""
    if shutil.which("bpftool", path=os.environ["PATH"] + ":/usr/sbin") is None:
        assert os.environ.get("CI") != "true", "bpftool is not installed, and CI must have it"
        pytest.skip("bpftool is not installed")
    argv = ["/usr/sbin/bpftool", "-j", "btf", "dump", "file", str(object_path("capture"))]
    types = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)["types"]
    (seen,) = [each for each in types if each["kind"] == "STRUCT" and each["name"] == "seen"]
    places = {each["name"]: each["bits_offset"] // 8 for each in seen["members"]}
    places["action"] = places.pop("verdict")
    assert places == SEEN.offset and seen["size"] == SEEN.size


def test_the_bytes_of_both_packets_follow() -> None:
    head = SEEN.struct.pack(7, 3, 1, 4, 1 << Reason.REPLY | 1 << Reason.TABLE_FULL, 100, 2, 120, 3)
    found = captured(head + b"abcde")
    assert found.before == (100, b"ab") and found.after == (120, b"cde")
    assert found.action is Action.REDIRECT
    assert found.reasons == (Reason.REPLY, Reason.TABLE_FULL)
    assert (found.time, found.ifindex, found.queue) == (7, 3, 1)


def test_a_verdict_that_xdp_does_not_know_is_aborted_as_the_kernel_takes_it() -> None:
    head = SEEN.struct.pack(7, 3, 1, 99, 0, 0, 0, 0, 0)
    assert captured(head).action is Action.ABORTED
