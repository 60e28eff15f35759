#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""A virtual service of kernlb, declared by a task. The daemon judges, this only compares."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: kernlb_service
short_description: Declare a virtual service of kernlb
version_added: "0.1.0"
description:
  - Has kernlbd write the document of a service and put it in force, or remove both.
  - The daemon validates the definition and carries it out whole or not at all; when it declines,
    nothing has changed
    and its message, with file, line and key, is the module's.
  - A service whose document says the same already, and is in force, is not touched. Comments in a
    document written by
    hand are kept where they still belong to something.
  - Use this, or the variable C(kernlb_services) of the role C(kernlb.balancer.kernlb), for one
    service, not both.
author:
  - the kernlb authors
options:
  name:
    description: Name of the service, and of its file.
    type: str
    required: true
  state:
    description: Whether there is such a service.
    type: str
    choices: [present, absent]
    default: present
  definition:
    description:
      - The service document, whole. What it leaves out is left to the defaults of the host; a key
        that is null is left out.
      - Numbers that templates have turned into text are read as numbers where the document wants
        one.
    type: dict
  adopt:
    description: Take over a service with this address that is in the kernel already and is not
      kernlb's.
    type: bool
    default: false
extends_documentation_fragment:
  - kernlb.balancer.control
seealso:
  - module: kernlb.balancer.kernlb_server
"""

EXAMPLES = r"""
- name: Declare the web farm on every balancer
  kernlb.balancer.kernlb_service:
    name: web
    definition:
      address: 192.0.2.10
      port: 80
      scheduler: mh
      check: {type: http, path: /health}
      servers:
        - {address: 10.0.0.1, port: 8080}
        - {address: 10.0.0.2, port: 8080, weight: 2}

- name: No longer
  kernlb.balancer.kernlb_service:
    name: web
    state: absent

- name: From a playbook of the servers
  kernlb.balancer.kernlb_service:
    name: web
    definition: "{{ web_service }}"
  delegate_to: "{{ item }}"
  loop: "{{ groups['balancers'] }}"
  run_once: true
"""

RETURN = r"""
name:
  description: Name of the service.
  returned: always
  type: str
  sample: web
ops:
  description: What the kernel got, or would get, in this order. Empty where only the document
    changes.
  returned: success
  type: list
  elements: str
  sample: ["~ server tcp/192.0.2.10:80 10.0.0.2:8080 weight 1 -> 2"]
moved:
  description: Share of new flows that go to another server than before, of services scheduled by
    C(sh) or C(mh).
  returned: success
  type: list
  elements: dict
  sample: [{service: "tcp/192.0.2.10:80", scheduler: mh, share: 0.25}]
file:
  description: The document on the balancer. Empty where there is none yet.
  returned: success
  type: str
  sample: /etc/kernlb/services.d/web.yaml
kind:
  description: The type of the problem with which the daemon declined.
  returned: failure, where the daemon answered
  type: str
  sample: invalid-document
faults:
  description: What is wrong, each with what is known of C(file), C(line), C(key), and the
    C(message).
  returned: failure, where the daemon answered
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.kernlb.balancer.plugins.module_utils.control import (  # noqa: E402
    ARGUMENTS,
    INVALID,
    NOT_FOUND,
    Control,
    ControlError,
    UnreachableError,
    diff,
    service_path,
    texts,
)

NUMBERS = {"port", "fwmark", "weight", "upper_threshold", "lower_threshold", "prefix"}
TEXTS = {"labels", "headers"}  # mappings in which everything is text


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "definition": {"type": "dict"},
            "adopt": {"type": "bool", "default": False},
            **ARGUMENTS,
        },
        required_if=[("state", "present", ["definition"])],
        supports_check_mode=True,
    )
    wish = module.params
    control = Control(wish["socket"], dry_run=module.check_mode)
    try:
        result = _present(control, wish) if wish["state"] == "present" else _absent(control, wish)
    except ControlError as error:
        module.fail_json(msg=str(error), name=wish["name"], kind=error.kind, faults=error.faults)
    except UnreachableError as error:
        module.fail_json(msg=str(error), name=wish["name"])
    module.exit_json(name=wish["name"], **result)


def _present(control: Control, wish: dict) -> dict:
    name, wanted = wish["name"], plain(wish["definition"])
    path = service_path(name)
    there, before, in_force = _document(control, name)
    view = _view(control, name)
    adopts = wish["adopt"] and view.get("state", "conflict") == "conflict"
    if there and before is not None and not adopts:
        request = ("PATCH", path, merge_patch(before, wanted))
        query = {}
    else:
        request = ("PUT", path, wanted)
        query = {"replace": "true", **({"adopt": "true"} if wish["adopt"] else {})}
    change = control.change(*request, dry_run=True, **query)
    changed = before != wanted or not in_force or bool(change["ops"])
    if changed:
        change = control.change(*request, **query)
        view = _view(control, name)
    return _result(changed, change, view.get("file", ""), before or {}, wanted)


def _absent(control: Control, wish: dict) -> dict:
    name = wish["name"]
    there, before, _ = _document(control, name)
    if not there:
        return _result(False, {}, "", {}, {})
    file = _view(control, name).get("file", "")
    change = control.change("DELETE", service_path(name))
    return _result(True, change, file, before or {}, {})


def _document(control: Control, name: str) -> tuple:
    """Whether there is one; what it says, None where that cannot be read; is it in force."""
    try:
        told = control.get(service_path(name) + "/document")
    except ControlError as error:
        if error.kind == NOT_FOUND:
            return False, None, False
        if error.kind == INVALID:
            return True, None, False
        raise
    return True, told["document"], told["in_force"]


def _view(control: Control, name: str) -> dict:
    try:
        return control.get(service_path(name))
    except ControlError as error:
        if error.kind == NOT_FOUND:
            return {}
        raise


def plain(value, key=""):
    """The definition without keys that are null; text is a number where one belongs."""
    if isinstance(value, dict):
        if key in TEXTS:
            return {name: each for name, each in value.items() if each is not None}
        return {name: plain(each, name) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if key in NUMBERS and isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value)
    return value


def merge_patch(before: dict, after: dict) -> dict:
    """What turns one document into the other (RFC 7386)."""
    patch = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            if old != value:
                patch[name] = merge_patch(old, value)
        elif name not in before or old != value:
            patch[name] = value
    return patch


def _result(changed: bool, change: dict, file: str, before: dict, after: dict) -> dict:
    lines = texts(change)
    return {
        "changed": changed,
        "ops": lines,
        "moved": change.get("moved", []),
        "file": file,
        "diff": diff(file, before, after, lines),
    }


if __name__ == "__main__":
    main()
