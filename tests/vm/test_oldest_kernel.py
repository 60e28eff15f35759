"""The packet tests on the oldest kernel that kernlb runs on, as its verifier and JIT have them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from kernlb.lab.rung import TREE

# Every method, family and protocol, without what surrounds them: a guest is slow.
AROUND = ("tag", "options", "through", "hop-by-hop", "routing", "extensions", "checksum")
SUBSET = (
    "tests/bpf/test_forwarding.py",
    "tests/bpf/test_replies.py",
    "tests/bpf/test_fullnat_ports.py",
    "-k",
    " and ".join(f"not {each}" for each in AROUND),
)
FEWEST = 80  # named cases


@pytest.mark.ipvs
@pytest.mark.timeout(900)
def test_the_packet_tests_pass() -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SUBSET]
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CI": "true"}
    done = subprocess.run(
        argv, cwd=TREE, env=environ, capture_output=True, text=True, timeout=850, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= FEWEST, done.stdout[-500:]
