"""Tasks for the collection's modules, and what each of them returned.

``play`` has ansible-playbook run them, which costs a second a task; ``run`` starts the modules as
Ansible does on a target, with the same arguments and results. A task that fails is a result
like any other. The collection is the checkout's own, found by a link.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.unit.pages import ROOT

PATIENCE = 120.0  # seconds for one playbook
Task = dict[str, Any]
Result = dict[str, Any]


class Ansible:
    """ansible-playbook on this machine, everything of its own under ``folder``."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self.folder = folder
        self.socket = socket
        collections = folder / "collections/ansible_collections/kernlb"
        collections.mkdir(parents=True)
        (collections / "balancer").symlink_to(ROOT / "ansible")
        self.environ = os.environ | {
            "ANSIBLE_COLLECTIONS_PATH": str(folder / "collections"),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
            "ANSIBLE_REMOTE_TEMP": str(folder / "remote"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def play(self, tasks: Sequence[Task], *options: str) -> list[Result]:
        """The result of each task in turn."""
        names = [f"result{number}" for number in range(len(tasks))]
        listed = [
            {"name": f"Task {number}", "ignore_errors": True, **task, "register": names[number]}
            for number, task in enumerate(tasks)
        ]
        told = self.folder / "results.json"
        told.unlink(missing_ok=True)
        content = "{{ [" + ", ".join(names) + "] | to_json }}"
        listed.append(
            {"ansible.builtin.copy": {"dest": str(told), "content": content, "mode": "0600"}}
            | {"check_mode": False, "diff": False}
        )
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": listed}
        (self.folder / "play.yml").write_text(json.dumps([play]))
        argv = ["ansible-playbook", "-i", "localhost,", "--diff", *options, "play.yml"]
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
        assert told.exists(), done.stdout + done.stderr
        results: list[Result] = json.loads(told.read_text())
        crashed = [each for each in results if "Traceback" in json.dumps(each)]
        assert not crashed, json.dumps(crashed, indent=1)
        return results

    def run(self, tasks: Sequence[Task], uid: int = 0) -> list[Result]:
        """The same without a playbook around, by a user: modules of this collection only."""
        orders = []
        for task in tasks:
            ((name, arguments),) = [each for each in task.items() if "." in each[0]]
            internal = {"_ansible_check_mode": "check_mode" in task, "_ansible_diff": True}
            orders.append([name.rpartition(".")[2], {**arguments, **internal}, uid])
        driver = Path(__file__).with_name("modules_direct.py")
        done = subprocess.run(
            ["/usr/bin/python3", str(driver), str(self.folder / "collections")],
            input=json.dumps(orders),
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
        results: list[Result] = json.loads(done.stdout)
        return results

    def service(self, name: str, *, check: bool = False, **wish: Any) -> Task:
        return self._task("kernlb_service", {"name": name, **wish}, check)

    def server(self, service: str, address: str, *, check: bool = False, **wish: Any) -> Task:
        return self._task("kernlb_server", {"service": service, "address": address, **wish}, check)

    def _task(self, module: str, wish: dict[str, Any], check: bool) -> Task:
        arguments = {"socket": str(self.socket), **wish}
        return {f"kernlb.balancer.{module}": arguments} | ({"check_mode": True} if check else {})

    def document(self, module: str) -> dict[str, Any]:
        """What ansible-doc reads in a module."""
        argv = ["ansible-doc", "-t", "module", "-j", f"kernlb.balancer.{module}"]
        done = subprocess.run(
            argv, env=self.environ, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)[f"kernlb.balancer.{module}"]
        return found
