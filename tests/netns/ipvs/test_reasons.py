"""Each probe type meets each of its reasons, by IPVS."""

from __future__ import annotations

import pytest

from tests.netns.traffic.reasons import *  # noqa: F403 (its tests are of every datapath)

pytestmark = pytest.mark.ipvs
