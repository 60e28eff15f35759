#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""A real server of a kernlb service: there, taking connections, and waiting until it is so."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: kernlb_server
short_description: Add, drain, disable, enable or remove a real server of a kernlb service
version_added: "0.1.0"
description:
  - For playbooks that deploy real servers, delegated to the balancer. Drain the server and wait
    for its connections to
    end, deploy, enable it and wait until it is healthy; then the next one.
  - Where the daemon declines, nothing has changed and its message is the module's.
author:
  - the kernlb authors
options:
  service:
    description: Name of the service.
    type: str
    required: true
  address:
    description: Address of the server.
    type: str
    required: true
  port:
    description: Its port. May be left out where one server of the service has that address; a new
      one has the service's.
    type: int
  state:
    description:
      - C(present), it is in the document. A drain or a disable stays as it is.
      - C(absent), it is not. Its connections are lost; drain it first.
      - C(drained), it gets no new connections, and keeps those that it has.
      - C(disabled), it is out of the kernel at once.
      - C(enabled), it takes connections again, when its checks find it good.
      - All but C(present) and C(absent) want a server that is in the document.
    type: str
    choices: [present, absent, drained, disabled, enabled]
    default: present
  weight:
    description: Its share of new connections. Left out, it stays as it is.
    type: int
  settings:
    description: Further keys of the server in the service's document. Those not named stay, null
      takes one away.
    type: dict
    default: {}
  drain_timeout:
    description:
      - With C(drained), seconds after which its connections are dropped, C(0) for never. Left
        out, as the service says.
      - A server that drains already with the same timeout is not touched; another timeout begins
        anew.
    type: float
  min_serving:
    description:
      - With C(drained), C(disabled) and C(absent), refuse where fewer than this many other
        servers of the service take
        new connections. A server that takes none now may always go.
    type: int
    default: 0
  wait:
    description:
      - With C(drained), until it has no active connection (seen twice, for a handshake may be
        under way), or the drain's
        deadline has passed.
      - With C(enabled) and C(present), until it is up and in the kernel. A server that is drained
        or disabled is first
        watched where it is, until I(good_probes) health checks in a row that began after this
        task have passed; only
        then it is enabled. If they do not, it stays as it is and the task fails.
      - Nothing to wait for with the other states, and in check mode.
    type: bool
    default: false
  idle:
    description:
      - With C(drained) and I(wait), wait until it has no inactive connection either.
      - With forwarding C(dsr) and C(tunnel) a balancer sees only the client's half. A client that
        takes a port again before the entry of its last connection has expired (two minutes)
        is sent to its old server, drained or not.
    type: bool
    default: false
  wait_timeout:
    description: Give up waiting after this many seconds. The task fails, and says what the server
      lacked.
    type: float
    default: 300
  good_probes:
    description: See I(wait). Without effect where the service checks nothing.
    type: int
    default: 1
extends_documentation_fragment:
  - kernlb.balancer.control
seealso:
  - module: kernlb.balancer.kernlb_service
"""

EXAMPLES = r"""
- name: No new connections, and the present ones to their end
  kernlb.balancer.kernlb_server:
    service: web
    address: "{{ ansible_host }}"
    state: drained
    drain_timeout: 120
    min_serving: 2
    wait: true
  delegate_to: balancer1

- name: Deploy
  ansible.builtin.import_tasks: deploy.yml

- name: Healthy again, then back in service
  kernlb.balancer.kernlb_server:
    service: web
    address: "{{ ansible_host }}"
    state: enabled
    good_probes: 2
    wait: true
    wait_timeout: 60
  delegate_to: balancer1

- name: A new server, once it answers
  kernlb.balancer.kernlb_server:
    service: web
    address: 10.0.0.4
    port: 8080
    weight: 2
    settings: {labels: {rack: b}}
    wait: true
  delegate_to: balancer1
"""

RETURN = r"""
service:
  description: Name of the service.
  returned: always
  type: str
  sample: web
server:
  description: Address and port.
  returned: always
  type: str
  sample: 10.0.0.1:8080
state:
  description: >-
    What the daemon makes of the server: C(up), C(draining), C(drained) (its deadline has passed),
    C(disabled),
    C(waiting), C(down), C(inhibited), C(kept), C(spared), C(leaving); C(absent).
  returned: always
  type: str
  sample: draining
weight:
  description: As declared.
  returned: where there is such a server
  type: int
effective_weight:
  description: As it should be in the kernel now.
  returned: where there is such a server
  type: int
connections:
  description: Those of the kernel, C(active), C(inactive) and C(persistent).
  returned: where there is such a server
  type: dict
  sample: {active: 0, inactive: 3, persistent: 0}
health:
  description: What the checks say, C(check), C(condition) and C(failures) (in a row). Empty where
    nothing is checked.
  returned: where there is such a server
  type: dict
  sample: {check: http, condition: down, failures: 3}
reason:
  description: Why it is not healthy, or gets no connections. Empty where all is well.
  returned: where there is such a server
  type: str
  sample: http status 503
serving:
  description: How many other servers of the service take new connections.
  returned: where there is such a service
  type: int
waited:
  description: Seconds spent waiting.
  returned: with I(wait)
  type: float
ops:
  description: What the kernel got, or would get, in this order.
  returned: success
  type: list
  elements: str
  sample: ["~ server tcp/192.0.2.10:80 10.0.0.2:8080 weight 2 -> 0"]
kind:
  description: The type of the problem with which the daemon declined.
  returned: failure, where the daemon declined
  type: str
  sample: not-found
faults:
  description: What is wrong, each with what is known of C(file), C(line), C(key), and the
    C(message).
  returned: failure, where the daemon declined
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.kernlb.balancer.plugins.module_utils.control import (  # noqa: E402
    ARGUMENTS,
    Control,
    ControlError,
    UnreachableError,
    diff,
    endpoint,
)
from ansible_collections.kernlb.balancer.plugins.module_utils.server import (  # noqa: E402
    RefusedError,
    Server,
)
from ansible_collections.kernlb.balancer.plugins.module_utils.waiting import (  # noqa: E402
    Wait,
    until_drained,
    until_healthy,
    until_up,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "port": {"type": "int"},
            "state": {"type": "str", "choices": list(STATES), "default": "present"},
            "weight": {"type": "int"},
            "settings": {"type": "dict", "default": {}},
            "drain_timeout": {"type": "float"},
            "min_serving": {"type": "int", "default": 0},
            "wait": {"type": "bool", "default": False},
            "idle": {"type": "bool", "default": False},
            "wait_timeout": {"type": "float", "default": 300.0},
            "good_probes": {"type": "int", "default": 1},
            **ARGUMENTS,
        },
        supports_check_mode=True,
    )
    wish = module.params
    try:
        name = endpoint(wish["address"], wish["port"])
    except ValueError as error:
        module.fail_json(msg=f"cannot use address: {error}", service=wish["service"])
    control = Control(wish["socket"], dry_run=module.check_mode)
    server = Server(control, wish["service"], wish["address"], wish["port"])
    wait = Wait(wish["wait_timeout"]) if wish["wait"] and not module.check_mode else None
    told = {"service": wish["service"], "server": name}
    try:
        before = server.look()
        STATES[wish["state"]](server, wish, wait)
        after = server.look()
        told.update(server=server.name, **server.told())
    except ControlError as error:
        told.update(kind=error.kind, faults=error.faults)
        module.fail_json(msg=str(error), changed=server.changed, **told)
    except (UnreachableError, RefusedError) as error:
        told.update(_last_seen(server))
        module.fail_json(msg=str(error), changed=server.changed, **told, **_waited(wait))
    if module.check_mode:
        after = server.expected(before)
    shown = diff(f"{wish['service']}/{server.name}", before, after, server.ops)
    module.exit_json(changed=server.changed, ops=server.ops, diff=shown, **told, **_waited(wait))


def _last_seen(server: Server) -> dict:
    """For a failure: what can still be told of the server."""
    try:
        return {"server": server.name, **server.told()}
    except (ControlError, UnreachableError):
        return {}


def _waited(wait) -> dict:
    return {"waited": round(wait.seconds, 1)} if wait else {}


def _present(server: Server, wish: dict, wait) -> None:
    server.declare(wish["weight"], wish["settings"])
    server.look()  # a new one has its port now
    if wait and server.held:
        until_healthy(server, wait, wish["good_probes"])
    elif wait:
        until_up(server, wait)


def _absent(server: Server, wish: dict, wait) -> None:
    if server.there:
        server.refuse_below(wish["min_serving"], "remove")
        server.remove()


def _drained(server: Server, wish: dict, wait) -> None:
    server.require()
    server.refuse_below(wish["min_serving"], "drain")
    server.edit(wish["weight"], wish["settings"])
    server.drain(wish["drain_timeout"])
    if wait:
        until_drained(server, wait, wish["idle"])


def _disabled(server: Server, wish: dict, wait) -> None:
    server.require()
    server.refuse_below(wish["min_serving"], "disable")
    server.edit(wish["weight"], wish["settings"])
    server.disable()


def _enabled(server: Server, wish: dict, wait) -> None:
    server.require()
    server.edit(wish["weight"], wish["settings"])
    if wait and server.held:
        until_healthy(server, wait, wish["good_probes"])
    server.enable()
    if wait:
        until_up(server, wait)


STATES = {
    "present": _present,
    "absent": _absent,
    "drained": _drained,
    "disabled": _disabled,
    "enabled": _enabled,
}


if __name__ == "__main__":
    main()
