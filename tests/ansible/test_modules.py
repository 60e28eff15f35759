"""The modules kernlb_service and kernlb_server, by real ansible-playbook against a real kernlbd."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.modules_play import Ansible, Result
from tests.netns.traffic.daemon import Daemon
from tests.unit.pages import ROOT

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

MODULES = ("kernlb_service", "kernlb_server")
SOURCES = sorted((ROOT / "ansible/plugins").glob("*/*.py"))
WEB: dict[str, Any] = {
    "address": "192.0.2.10",
    "port": 80,
    "scheduler": "mh",
    "servers": [
        {"address": "10.0.0.1", "port": 8080},
        {"address": "10.0.0.2", "port": 8080, "weight": 2},
    ],
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """It holds services in memory and forwards nothing."""
    namespace = f"kmodules{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True, timeout=30)
    daemon = Daemon(tmp_path_factory.mktemp("kernlb"), namespace, {})
    try:
        daemon.start("--datapath", "fake")
        yield daemon
        daemon.stop()
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=True, timeout=30)


@pytest.fixture(scope="module")
def ansible(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    return Ansible(tmp_path_factory.mktemp("ansible"), daemon.socket)


@pytest.fixture
def web(daemon: Daemon) -> Iterator[str]:
    """A service for one test."""
    daemon.client.add_service("web", WEB, replace=True)
    yield "web"
    daemon.client.remove_service("web")


def changes(results: list[Result]) -> list[bool]:
    assert not [each for each in results if each.get("failed")], results
    return [each["changed"] for each in results]


def messages(results: list[Result]) -> list[str]:
    assert all(each["failed"] and not each["changed"] for each in results), results
    return [each["msg"] for each in results]


# -- kernlb_service


def test_a_playbook_declares_a_service_drains_a_server_and_removes_both(
    ansible: Ansible, daemon: Daemon
) -> None:
    heavier = {**WEB, "servers": [{**WEB["servers"][0], "weight": 5}, WEB["servers"][1]]}
    results = ansible.play(
        [
            ansible.service("web", definition=WEB, check=True),
            ansible.service("web", definition=WEB),
            ansible.service("web", definition=heavier, check=True),
            ansible.service("web", definition=heavier),
            ansible.server("web", "10.0.0.1", state="drained", min_serving=1, check=True),
            ansible.server("web", "10.0.0.1", state="drained", min_serving=1, wait=True),
            ansible.server("web", "10.0.0.1", state="enabled", wait=True),
            ansible.service("web", state="absent"),
            ansible.service("bad", definition={**WEB, "scheduler": "foo"}),
        ]
    )
    assert changes(results[:-1]) == [True] * 8
    edit = ["~ server tcp/192.0.2.10:80 10.0.0.1:8080 weight 1 -> 5"]
    assert results[0]["ops"] == results[1]["ops"]
    assert results[1]["ops"][1] == "+ server tcp/192.0.2.10:80 10.0.0.1:8080 weight 1 nat"
    assert results[2]["ops"] == results[3]["ops"] == edit
    assert results[2]["diff"] == results[3]["diff"]
    assert results[3]["diff"]["before"] == WEB
    assert results[3]["diff"]["after"] == heavier
    assert results[3]["diff"]["prepared"] == edit[0] + "\n"
    assert [each["state"] for each in results[4:7]] == ["up", "draining", "up"]
    assert daemon.client.services() == []
    assert messages(results[-1:])[0].startswith("cannot change service bad: ")


def test_a_service_is_changed_where_it_differs_and_removed_once(
    ansible: Ansible, daemon: Daemon
) -> None:
    as_text = {**WEB, "port": "80", "persistence": None}
    heavier = {**WEB, "servers": [{**WEB["servers"][0], "weight": 5}, WEB["servers"][1]]}
    labelled = {**WEB, "labels": {"team": "web"}}
    results = ansible.run(
        [
            ansible.service("web", definition=WEB),
            ansible.service("web", definition=as_text),
            ansible.service("web", definition=WEB, check=True),
            ansible.service("web", definition=heavier, check=True),
            ansible.service("web", definition=labelled, check=True),
            ansible.service("web", definition=labelled),
            ansible.service("web", definition=labelled),
            ansible.service("web", state="absent", check=True),
            ansible.service("web", state="absent"),
            ansible.service("web", state="absent"),
            ansible.service("web", state="absent", check=True),
        ]
    )
    yes, no = True, False
    assert changes(results) == [yes, no, no, yes, yes, yes, no, yes, yes, no, no]
    assert results[3]["moved"][0]["share"] > 0
    assert results[5]["ops"] == []  # a label is the document's alone
    assert results[5]["file"] == str(daemon.services / "web.yaml")
    assert results[7]["ops"] == results[8]["ops"] == ["- service tcp/192.0.2.10:80"]
    assert results[8]["diff"]["after"] == {}
    assert daemon.client.services() == []


def test_a_document_changed_by_hand_is_put_right_and_keeps_its_comments(
    ansible: Ansible, daemon: Daemon, web: str
) -> None:
    file = daemon.services / "web.yaml"
    file.write_text("# ours\n" + file.read_text().replace("mh", "rr"))
    results = ansible.run(
        [
            ansible.service(web, definition=WEB, check=True),
            ansible.service(web, definition=WEB),
            ansible.service(web, definition=WEB),
        ]
    )
    assert changes(results) == [True, True, False]
    assert results[0]["diff"]["before"]["scheduler"] == "rr"
    assert results[1]["ops"] == []  # it never was in force
    assert file.read_text().startswith("# ours\n") and "mh" in file.read_text()
    file.write_text("a: [")
    assert changes(ansible.run([ansible.service(web, definition=WEB)] * 2)) == [True, False]
    assert daemon.client.service(web).state == "synced"


def test_what_was_written_and_not_read_is_put_in_force(
    ansible: Ansible, daemon: Daemon, web: str
) -> None:
    file = daemon.services / "web.yaml"
    written = {**WEB, "scheduler": "rr"}
    file.write_text(file.read_text().replace("mh", "rr") + "# a remark\n")
    results = ansible.run([ansible.service(web, definition=written)] * 2)
    assert changes(results) == [True, False]
    assert results[0]["ops"] == [
        "~ service tcp/192.0.2.10:80 scheduler mh -> rr, flags mh-fallback -> none"
    ]
    assert daemon.client.service(web).scheduler == "rr"
    assert "# a remark" in file.read_text()


def test_the_daemon_says_what_is_wrong_with_a_definition(
    ansible: Ansible, daemon: Daemon, web: str
) -> None:
    wrong = {**WEB, "port": 70000, "servers": [{"address": "10.0.0.1", "weight": -1}]}
    file = daemon.services / "new.yaml"
    results = ansible.run(
        [
            ansible.service("new", definition=wrong),
            ansible.service("new", definition={**WEB, "sheduler": "rr", "port": 81}, check=True),
            ansible.service("new", definition=WEB),
            ansible.service("No Name", definition=WEB),
            ansible.service("No Name", state="absent"),
            ansible.service("new"),
            ansible.service(web, definition={**WEB, "scheduler": "foo"}),
            ansible.service("web", definition=WEB, socket="/nowhere/control.sock"),
        ]
    )
    said = messages(results)
    assert said[0] == (
        f"cannot change service new: {file}:2: port: must be a whole number within 0..65535, "
        f"not 70000; {file}:6: servers[0].weight: must be a whole number within 0..65535, not -1"
    )
    assert results[0]["kind"] == "invalid-document"
    assert [each["line"] for each in results[0]["faults"]] == [2, 6]
    assert 'did you mean "scheduler"?' in said[1]
    assert "web.yaml" in said[2] and "192.0.2.10:80" in said[2]  # two of one address
    assert said[3].startswith("cannot use service name") and said[4].startswith("cannot use")
    assert "definition" in said[5]
    assert f'{daemon.services / "web.yaml"}:3: scheduler: "foo" is unknown' in said[6]
    assert said[7] == (
        "cannot reach kernlbd at /nowhere/control.sock: no such socket (is kernlbd running?)"
    )
    assert daemon.client.service(web).scheduler == "mh"
    assert not file.exists()


# -- kernlb_server


def test_a_server_comes_and_goes(ansible: Ansible, daemon: Daemon, web: str) -> None:
    new = {"port": 8080, "weight": 3, "settings": {"labels": {"rack": "b"}}}
    other = {"port": 8080, "weight": 4, "settings": {"labels": None}}
    results = ansible.run(
        [
            ansible.server(web, "10.0.0.3", **new, check=True),
            ansible.server(web, "10.0.0.3", **new),
            ansible.server(web, "10.0.0.3", **new),
            ansible.server(web, "10.0.0.3"),
            ansible.server(web, "10.0.0.3", **other, check=True),
            ansible.server(web, "10.0.0.3", **other),
            ansible.server(web, "10.0.0.3", **other),
            ansible.server(web, "10.0.0.3", state="absent", check=True),
            ansible.server(web, "10.0.0.3", state="absent"),
            ansible.server(web, "10.0.0.3", state="absent"),
            ansible.server("nowhere", "10.0.0.3", state="absent"),
        ]
    )
    yes, no = True, False
    assert changes(results) == [yes, yes, no, no, yes, yes, no, yes, yes, no, no]
    assert results[0]["ops"] == results[1]["ops"]
    assert results[1]["ops"] == ["+ server tcp/192.0.2.10:80 10.0.0.3:8080 weight 3 nat"]
    assert (results[0]["state"], results[1]["state"]) == ("absent", "up")
    assert results[3]["server"] == "10.0.0.3:8080" and results[3]["serving"] == 2
    assert results[4]["diff"]["before"]["labels"] == {"rack": "b"}
    assert "labels" not in results[4]["diff"]["after"]
    assert results[4]["diff"]["after"] == results[5]["diff"]["after"]
    assert results[5]["weight"] == results[5]["effective_weight"] == 4
    assert results[7]["state"] == "up" and results[8]["state"] == "absent"
    assert results[8]["diff"]["after"] == {} == results[7]["diff"]["after"]


def test_a_server_is_drained_disabled_and_enabled(
    ansible: Ansible, daemon: Daemon, web: str
) -> None:
    one = (web, "10.0.0.1")
    results = ansible.run(
        [
            ansible.server(*one, state="drained", check=True),
            ansible.server(*one, state="drained", drain_timeout=500),
            ansible.server(*one, state="drained", drain_timeout=500),
            ansible.server(*one, state="drained"),
            ansible.server(*one, weight=7),  # present: the hold stays
            ansible.server(*one, state="drained", drain_timeout=0),
            ansible.server(*one, state="drained", drain_timeout=0),
            ansible.server(*one, state="disabled", check=True),
            ansible.server(*one, state="disabled"),
            ansible.server(*one, state="disabled"),
            ansible.server(*one, state="enabled", check=True),
            ansible.server(*one, state="enabled", weight=2, wait=True),
            ansible.server(*one, state="enabled", wait=True),
            ansible.server(*one, state="drained", wait=True),
        ]
    )
    yes, no = True, False
    assert changes(results) == [yes, yes, no, no, yes, yes, no, yes, yes, no, yes, yes, no, yes]
    assert results[0]["ops"] == results[1]["ops"]
    assert results[1]["ops"] == ["~ server tcp/192.0.2.10:80 10.0.0.1:8080 weight 1 -> 0"]
    states = ["up", *["draining"] * 7, "disabled", "disabled", "disabled", "up", "up", "draining"]
    assert [each["state"] for each in results] == states
    holds = [each["diff"]["after"]["hold"] for each in results]
    assert holds == [*["draining"] * 7, *["disabled"] * 3, "none", "none", "none", "draining"]
    assert results[0]["diff"]["before"]["hold"] == "none"
    assert results[4]["ops"] == [] and results[4]["weight"] == 7
    assert results[11]["ops"] == ["+ server tcp/192.0.2.10:80 10.0.0.1:8080 weight 2 nat"]
    assert results[13]["connections"] == {"active": 0, "inactive": 0, "persistent": 0}
    assert 1 <= results[13]["waited"] < 10  # seen quiet twice


def test_too_few_are_never_left(ansible: Ansible, daemon: Daemon, web: str) -> None:
    results = ansible.run(
        [
            ansible.server(web, "10.0.0.1", state="drained", min_serving=2, check=True),
            ansible.server(web, "10.0.0.1", state="disabled", min_serving=2),
            ansible.server(web, "10.0.0.1", state="absent", min_serving=2),
            ansible.server(web, "10.0.0.1", state="drained", min_serving=1),
            ansible.server(web, "10.0.0.2", state="drained", min_serving=1),
            ansible.server(web, "10.0.0.1", state="disabled", min_serving=1),  # serves nobody
        ]
    )
    why = "1 other server takes new connections, and min_serving is 2"
    assert messages(results[:3]) == [
        f"cannot {verb} web/10.0.0.1:8080: {why}" for verb in ("drain", "disable", "remove")
    ]
    assert changes([results[3], results[5]]) == [True, True]
    assert messages([results[4]]) == [
        "cannot drain web/10.0.0.2:8080: 0 other servers take new connections, and min_serving is 1"
    ]
    assert results[4]["serving"] == 0 and results[4]["state"] == "up"


def test_every_error_of_a_server_is_one_sentence(
    ansible: Ansible, daemon: Daemon, web: str, tmp_path: Path
) -> None:
    daemon.client.add_server(web, {"address": "10.0.0.1", "port": 8081})
    results = ansible.run(
        [
            ansible.server("nowhere", "10.0.0.1", port=8080, state="drained"),
            ansible.server("nowhere", "10.0.0.1"),
            ansible.server(web, "10.0.0.9", state="drained"),
            ansible.server(web, "10.0.0.9", port=80, state="enabled"),
            ansible.server(web, "10.0.0.1", state="drained"),
            ansible.server(web, "10.0.0.300"),
            ansible.server(web, "10.0.0.4", weight=-1),
            ansible.server(web, "10.0.0.2", weight=70000),
            ansible.server(web, "10.0.0.2", settings={"wieght": 1}),
            ansible.server(web, "10.0.0.2", state="drained", drain_timeout=-1),
            ansible.server(web, "10.0.0.2", socket="/nowhere/control.sock"),
            ansible.server(web, "10.0.0.2", socket=str(tmp_path)),
        ]
    )
    results += ansible.run([ansible.server(web, "10.0.0.2")], uid=65534)
    said = messages(results)
    assert said[:2] == ["there is no service nowhere"] * 2
    assert results[0]["kind"] == "not-found"
    assert said[2] == "there is no server 10.0.0.9 in service web"
    assert said[3] == "there is no server 10.0.0.9:80 in service web"
    assert said[4] == "10.0.0.1 is several servers of web: say which port"
    assert said[5].startswith("cannot use address: '10.0.0.300'")
    assert "servers[3].weight: must be a whole number within 0..65535, not -1" in said[6]
    assert f"{daemon.services / 'web.yaml'}:" in said[6]
    assert "weight: must be a whole number within 0..65535, not 70000" in said[7]
    assert 'did you mean "weight"?' in said[8]
    assert said[9].startswith("cannot drain: timeout -1")
    assert "no such socket" in said[10]
    assert said[11].startswith(f"cannot reach kernlbd at {tmp_path}: ")
    assert "permission denied (become root, or a member of group kernlb)" in said[12]


# -- what an operator reads, and what a balancer needs


@pytest.mark.parametrize("name", MODULES)
def test_options_results_and_examples_are_documented(ansible: Ansible, name: str) -> None:
    told = ansible.document(name)
    options = set(told["doc"]["options"])
    # an option that does not exist has the module list those that do
    task = _simple(ansible, name)
    task[f"kernlb.balancer.{name}"]["no_such_option"] = 1
    (refused,) = ansible.run([task])
    known = refused["msg"].partition("Supported parameters include: ")[2]
    assert set(known.rstrip(".").replace(" ", "").split(",")) == options
    for task in yaml.safe_load(told["examples"]):
        for module, arguments in task.items():
            if module.startswith("kernlb.balancer."):
                assert set(arguments) <= options, task
    returned = set(told["return"])
    (found,) = ansible.run([_simple(ansible, name)])
    assert set(found) - {"changed", "failed", "diff", "invocation"} <= returned


def _simple(ansible: Ansible, name: str) -> dict[str, Any]:
    if name == "kernlb_service":
        return ansible.service("web", definition=WEB, check=True)
    return ansible.server("nowhere", "10.0.0.1", state="absent")


@pytest.mark.parametrize("source", SOURCES, ids=lambda each: each.name)
def test_a_module_needs_an_old_python_and_nothing_else(source: Path) -> None:
    tree = ast.parse(source.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            top = name.partition(".")[0]
            assert top in {*sys.stdlib_module_names, "ansible", "ansible_collections"}, name
