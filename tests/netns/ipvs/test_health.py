"""Servers die and come back, by IPVS."""

from __future__ import annotations

import pytest

from tests.netns.traffic.health import *  # noqa: F403 (its tests are of every datapath)

pytestmark = pytest.mark.ipvs


@pytest.fixture(scope="module")
def sysctls() -> dict[str, bool]:
    """Connections end with their server."""
    return {"expire_nodest_conn": True}
