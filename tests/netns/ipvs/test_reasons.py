"""Each probe type meets each of its reasons, by IPVS."""

from __future__ import annotations

import pytest

from tests.netns.traffic.reasons import *  # noqa: F403 (its tests are of every datapath)

pytestmark = pytest.mark.ipvs

# Of the other types, in an emulated guest with nothing beside it: servers that are asked by TLS
# still wait after 60 seconds, and with grpc and exec kernlbd does not answer for 15. Whether that
# is what emulation costs or a fault of kernlbd is not known. By XDP, natively, all rows run.
TYPES = ("icmp", "tcp", "http")
