"""Rolling maintenance of a web farm, as docs/howto/rolling-maintenance.md has it, under load.

One farm for all stories, which follow each other as they would in a year of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.agreement import agrees
from tests.docs.pages import steps
from tests.install.rolling_farm import SERVERS, VIPS, Clients, Farm, wait_serving
from tests.unit.pages import ROOT, blocks

pytestmark = [pytest.mark.machines, pytest.mark.timeout(600)]

PAGE = ROOT / "docs/howto/rolling-maintenance.md"


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with Farm(tmp_path_factory.mktemp("farm")) as farm:
        wait_serving(farm, SERVERS)
        yield farm


@pytest.fixture
def clients(farm: Farm) -> Iterator[Clients]:
    clients = Clients(farm.client_namespace)
    yield clients
    clients.kill()


def started(farm: Farm) -> dict[str, str]:
    """When each nginx was started: its first process and the time of that."""
    show = "systemctl show nginx -p MainPID -p ExecMainStartTimestampMonotonic"
    return {name: farm.machine(name).run(show).out for name in SERVERS}


def test_every_server_is_renewed_and_no_request_fails(farm: Farm, clients: Clients) -> None:
    before = started(farm)
    link(farm.folder / "site", farm.release("v2"))
    command, shown = page("web3  ")
    done = farm.ansible(*command)
    told = clients.stop()
    print(summary(told), *seconds_of(done.stdout), sep="\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert told["failures"] == []
    assert told["done"]["new"] > 1000 and told["done"]["downloads"] > 20
    assert told["done"]["kept connections"] > 25  # of 20 at a time: some had to move
    after = started(farm)
    assert all(after[name] != before[name] for name in SERVERS)
    last = {who: at for who, at in told["last"].items() if who.endswith("v2")}
    assert set(last) == {f"{name} v2" for name in SERVERS}
    for name in SERVERS:
        assert last[f"{name} v2"] > told["last"][f"{name} v1"]  # and none goes back
    assert [farm.servers(name) for name in VIPS] == [dict.fromkeys(SERVERS, "up")] * 2
    assert agrees(shown, done.stdout.splitlines()), done.stdout


def test_a_deploy_that_breaks_a_server_ends_the_roll_with_that_server_out(
    farm: Farm, clients: Clients
) -> None:
    before = started(farm)
    link(farm.folder / "site", farm.release("v3"))
    ailing = farm.release("v3", "cannot reach the database")
    farm.write_inventory(web2={"web_farm_site": str(ailing)}, web={"web_farm_health_timeout": 15})
    command, shown = page("NO MORE HOSTS LEFT")
    done = farm.ansible(*command)
    told = clients.stop()
    print(summary(told))
    assert done.returncode != 0 and "cannot find web/10.77.0.11:80 healthy" in done.stdout, (
        done.stdout
    )
    assert told["failures"] == []
    after = started(farm)
    assert after["web1"] != before["web1"] and after["web2"] != before["web2"]
    assert after["web3"] == before["web3"]
    for name in VIPS:
        assert farm.servers(name) == {"web1": "up", "web2": "draining", "web3": "up"}
    assert "web2 v3" not in told["answers"] and told["answers"]["web1 v3"] > 0
    assert agrees(shown, done.stdout.splitlines()), done.stdout


def test_the_roll_goes_on_once_the_cause_is_mended(farm: Farm, clients: Clients) -> None:
    farm.write_inventory()
    before = started(farm)
    done = farm.ansible(*page("--limit")[0])
    told = clients.stop()
    print(summary(told))
    assert done.returncode == 0, done.stdout + done.stderr
    assert told["failures"] == []
    after = started(farm)
    assert after["web1"] == before["web1"] and after["web3"] != before["web3"]
    assert [farm.servers(name) for name in VIPS] == [dict.fromkeys(SERVERS, "up")] * 2
    assert {f"{name} v3" for name in SERVERS} <= set(told["answers"])


def page(containing: str) -> tuple[list[str], tuple[str, ...]]:
    """The command of the how-to that has this in it or in what it prints, and what it prints."""
    for block in blocks(PAGE):
        for step in steps(block) if block.language in ("console", "sh") else ():
            if any(containing in line for line in (step.command, *(step.prints or ()))):
                return step.command.split(), step.prints or ()
    raise AssertionError(f"{PAGE}: nothing has {containing}")


def link(place: Path, target: Path) -> None:
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def summary(told: dict[str, Any]) -> str:
    return f"{told['done']}, failures {told['failures'][:20]}, answers {told['answers']}"


def seconds_of(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(("TASK", "changed", "ok"))]
