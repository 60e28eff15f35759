"""Servers die and come back, by XDP."""

from __future__ import annotations

import pytest

from tests.netns.traffic.health import *  # noqa: F403 (its tests are of every datapath)

pytestmark = pytest.mark.netns
