"""Two hundred random edits: after each, kernlb and ipvsadm tell the same story."""

from __future__ import annotations

import os
from random import Random

import pytest

from kernlb.control.client import Client
from kernlb.control.protocol import Drain, SyncState
from tests.netns.ipvs.command_line import words
from tests.netns.ipvs.editing import Author, Edit, World
from tests.netns.ipvs.ipvsadm import counters, holdings
from tests.netns.ipvs.views import key, shown
from tests.netns.traffic.daemon import Daemon, StartDaemon

pytestmark = pytest.mark.ipvs

STEPS = int(os.environ.get("KERNLB_EDIT_STEPS", "200"))
BY_COMMAND, BY_SHELL = 10, 50  # every tenth step is the kernlb command's, some by exec


@pytest.mark.timeout(600)
def test_ipvsadm_agrees_with_kernlb_after_each_of_200_random_edits(
    namespace: str, start_daemon: StartDaemon
) -> None:
    seed = int(os.environ.get("KERNLB_EDIT_SEED", "20"))
    print(f"KERNLB_EDIT_SEED={seed}")
    daemon = start_daemon(namespace)
    world = World()
    last = None
    for step, edit in enumerate(Author(Random(seed), world).edits(STEPS)):
        if last is not None:
            check(daemon, world, last)
        print(f"{step}: {edit}")
        if step % BY_SHELL == BY_SHELL - 1:
            daemon.cli(*words(edit))
        elif step % BY_COMMAND == BY_COMMAND - 1:
            daemon.quick_cli(*words(edit))
        else:
            call(daemon.client, edit)
        last = edit.service
    check(daemon, world, last)
    assert daemon.client.status().drift_repaired == 0


def call(client: Client, edit: Edit) -> None:
    """Ask for an edit by the API."""
    service, target = edit.service, edit.target
    match edit.verb:
        case "service add":
            client.add_service(service, edit.body)
        case "service rm":
            client.remove_service(service)
        case "service edit":
            client.edit_service(service, edit.body)
        case "server add":
            client.add_server(service, edit.body)
        case "server rm":
            client.remove_server(service, target)
        case "server edit":
            client.edit_server(service, target, edit.body)
        case "server drain":
            client.drain_server(service, target, Drain())
        case "server disable":
            client.disable_server(service, target)
        case "server enable":
            client.enable_server(service, target)


def check(daemon: Daemon, world: World, edited: str | None) -> None:
    """The kernel by ipvsadm, the daemon by its API, and what was asked for: all the same."""
    kernel = holdings(daemon.namespace)
    assert kernel == world.expected()
    summaries = {each.name: each for each in daemon.client.services()}
    assert {each.key for each in summaries.values()} == kernel.keys()
    assert summaries.keys() == world.documents.keys()
    for name, summary in summaries.items():
        service = kernel[key(world.documents[name])]
        assert summary.state is SyncState.SYNCED, summary
        assert summary.scheduler == service.scheduler
        assert summary.serving == sum(server.weight > 0 for server in service.servers)
        assert summary.servers == len(world.documents[name].get("servers", []))
    if edited in summaries:
        assert shown(daemon.client.service(edited)) == kernel[summaries[edited].key]
    listed = counters(daemon.namespace)
    assert {name: each[1].keys() for name, each in listed.items()} == {
        name: {server.endpoint for server in service.servers} for name, service in kernel.items()
    }
