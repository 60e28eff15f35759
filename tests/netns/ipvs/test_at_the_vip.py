"""Servers are asked at the VIP, by IPVS."""

from __future__ import annotations

import pytest

from tests.netns.traffic.at_the_vip import *  # noqa: F403 (its tests are of every datapath)

pytestmark = pytest.mark.ipvs
