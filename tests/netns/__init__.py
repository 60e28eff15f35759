"""Tests with real traffic in network namespaces."""

import pytest

pytest.register_assert_rewrite("tests.netns.traffic")
