"""Ansible on a farm of machines: the collection's playbooks, and what each task said of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.machines.farm import ANSIBLE, Farm
from tests.machines.image import ROOT

PLAYBOOKS = ROOT / "ansible" / "playbooks"
CALLBACKS = Path(__file__).parent / "callbacks"
GROUPS = {"realservers": {"children": {"servers": {}}}}


@dataclass(frozen=True, slots=True)
class Told:
    """What one run said: ``text`` as the operator sees it, and of each task how it ended."""

    text: str
    code: int
    tasks: tuple[Mapping[str, Any], ...]

    def changed(self) -> set[tuple[str, str]]:
        """Host and name of each task that changed something, or would have."""
        return {(task["host"], task["task"]) for task in self.tasks if task["changed"]}

    def failures(self) -> list[str]:
        """What the tasks that failed said."""
        return [task["said"] for task in self.tasks if task["outcome"] == "failed"]


def play(
    farm: Farm, playbook: Path, *options: str, timeout: float = 1800, **variables: Any
) -> Told:
    """Run a playbook on the operator's host, with ``variables`` before all others."""
    folder = farm.site.folder
    claims, extra, groups = (folder / each for each in ("claims", "extra.json", "groups.json"))
    claims.write_text("")
    extra.write_text(json.dumps(variables))
    groups.write_text(json.dumps(GROUPS))
    environ = ANSIBLE | {
        "ANSIBLE_SSH_ARGS": f"-F {farm.site.ssh_config}",
        "ANSIBLE_COLLECTIONS_PATH": str(folder / "collections"),
        "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
        "ANSIBLE_CALLBACKS_ENABLED": "claims",
        "CLAIMS": str(claims),
    }
    argv = ["ansible-playbook", "-i", str(farm.inventory), "-i", str(groups), str(playbook)]
    argv += ["-e", f"@{extra}", *options]
    done = farm.site.run(argv, timeout=timeout, check=False, environ=environ)
    tasks = tuple(json.loads(line) for line in claims.read_text().splitlines())
    return Told(done.stdout + done.stderr, done.returncode, tasks)
