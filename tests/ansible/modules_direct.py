"""Runs modules one after another as Ansible does on a target, without starting an interpreter each.

    /usr/bin/python3 modules_direct.py COLLECTIONS < [["kernlb_service", {arguments}, uid], ...]

Each is a fork in which the module reads its arguments and prints its result; the results are
printed as one JSON list. Ansible's own basic.py does all of it, the playbook around it is spared.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

import ansible.module_utils.basic as basic

PACKAGE = "ansible_collections.kernlb.balancer.plugins.modules"


def run(module: str, arguments: dict, uid: int) -> dict:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
        program = importlib.import_module(f"{PACKAGE}.{module}")
        if uid:
            os.setgroups([])
            os.setuid(uid)
        try:
            program.main()
        except SystemExit:
            pass
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        printed = stream.read()
    os.waitpid(pid, 0)
    return {"changed": False, "failed": False, **json.loads(printed)}


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    print(json.dumps([run(*each) for each in json.load(sys.stdin)]))
