"""The command line against a daemon that answers what a test tells it to."""

from tests.unit.cli.conftest import daemon, kernlb, kernlb_at  # noqa: F401 (fixtures)
