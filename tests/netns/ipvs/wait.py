"""Moved to tests.netns.traffic.wait."""

from tests.netns.traffic.wait import wait_for as wait_for
