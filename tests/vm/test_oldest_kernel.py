"""The packet tests on the oldest kernel that kernlb runs on, as its verifier and JIT have them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.vm.kernels import SUBSET, TREE

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
