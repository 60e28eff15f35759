"""Every forwarding method, from bare Debian to purged, on whole machines (tests/machines/farm).

The same stories are the stages of `make test-vm`, which run on emulated machines. On containers the
other stories of this folder show what can be shown there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machines.farm import Farm, stories
from tests.machines.farm.packages import built
from tests.machines.site import Site

pytestmark = [pytest.mark.machines, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def farm(machines: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with Site(machines) as site:
        farm = Farm(site, built(tmp_path_factory.mktemp("packages")))
        stories.role(farm)
        yield farm


def test_each_method_is_answered_by_all_three_servers(farm: Farm) -> None:
    print(stories.methods(farm))


def test_a_second_run_of_the_roles_changes_nothing(farm: Farm) -> None:
    print(stories.idempotence(farm))


def test_all_methods_answer_again_after_a_reboot_of_all_machines(farm: Farm) -> None:
    print(stories.reboot(farm))


def test_restart_kill_upgrade_and_downgrade_fail_no_request(farm: Farm) -> None:
    print(stories.traffic(farm))


def test_a_service_that_is_refused_fails_the_role_in_the_daemons_words(farm: Farm) -> None:
    print(stories.broken_file(farm))


def test_a_purge_takes_what_is_kernlbs_and_nothing_else(farm: Farm) -> None:
    print(stories.purge(farm))
