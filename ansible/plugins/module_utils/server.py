# SPDX-License-Identifier: Apache-2.0
"""One real server as kernlbd has it now, and the changes that a task may ask for.

A change is sent only where the daemon holds something else; in check mode it is the daemon's plan.
``look`` first: everything else goes by what was seen last.
"""

from __future__ import annotations

from ipaddress import ip_address

from ansible_collections.kernlb.balancer.plugins.module_utils.control import (
    NOT_FOUND,
    Control,
    ControlError,
    endpoint,
    server_path,
    service_path,
    texts,
)

HELD = ("draining", "drained", "disabled")
SORRY = ("sorry", "standby")
ABSENT = "absent"


class RefusedError(Exception):
    """The module itself declines, or has waited in vain."""


class Server:
    """``view`` is the daemon's, None where there is no such server (or service)."""

    def __init__(self, control: Control, service: str, address: str, port) -> None:
        self.service, self.address, self.port = service, str(ip_address(address)), port
        self.view = None
        self.changed = False
        self.ops: list = []
        self._control = control
        self._others: list = []
        self._problem = None  # why there is no such service
        self._expected: dict = {}

    @property
    def name(self) -> str:
        return endpoint(self.address, self.port)

    @property
    def there(self) -> bool:
        return self.view is not None

    @property
    def state(self) -> str:
        return self.view["state"] if self.view else ABSENT

    @property
    def held(self) -> bool:
        """An operator holds it: it takes no new connections whatever its checks say."""
        return self.state in HELD

    @property
    def serving(self) -> int:
        """How many other servers take new connections."""
        return sum(
            each["effective_weight"] > 0 and each.get("in_kernel", False) for each in self._others
        )

    # -- looking

    def look(self) -> dict:
        """Ask the daemon; what is declared of the server and whether it is held, for a diff."""
        try:
            servers = self._control.get(service_path(self.service))["servers"]
        except ControlError as error:
            if error.kind != NOT_FOUND:
                raise
            self.view, self._others, self._problem = None, [], error
            return {}
        servers = [each for each in servers if each["state"] not in SORRY]
        mine = [each for each in servers if self._is_me(each)]
        if len(mine) > 1:
            raise RefusedError(f"{self.name} is several servers of {self.service}: say which port")
        self.view = mine[0] if mine else None
        self._others = [each for each in servers if each not in mine]
        if self.view is None:
            return {}
        self.port = self.view["port"]
        hold = self.state if self.held else "none"
        return {**self._entry(), "weight": self.view["weight"], "hold": hold}

    def told(self) -> dict:
        """What the module returns of it."""
        if self.view is None:
            return {"state": ABSENT, **({} if self._problem else {"serving": self.serving})}
        health = self.health()
        return {
            "state": self.state,
            "weight": self.view["weight"],
            "effective_weight": self.view["effective_weight"],
            "connections": self.connections(),
            "health": {
                key: health[key] for key in ("check", "condition", "failures") if key in health
            },
            "reason": health.get("why", ""),
            "serving": self.serving,
        }

    def health(self) -> dict:
        """Its entry of /v1/health; empty where nothing is checked."""
        services = self._control.get("/health", service=self.service)["services"]
        found = [each for one in services for each in one["servers"] if each["server"] == self.name]
        return found[0] if found else {}

    def connections(self) -> dict:
        """As the kernel counts them; none where it does not have the server."""
        names = ("active", "inactive", "persistent")
        for stats in self._control.get("/stats", service=self.service):
            for each in stats["servers"]:
                if each["server"] == self.name:
                    return {name: each[name] for name in names}
        return dict.fromkeys(names, 0)

    # -- what may be asked for

    def require(self) -> None:
        """There is such a server, or the daemon's word that there is none."""
        if self._problem:
            raise self._problem
        if self.view is None:
            raise RefusedError(f"there is no server {self.name} in service {self.service}")

    def refuse_below(self, least: int, verb: str) -> None:
        """Decline to take a server away that is one of the last."""
        takes = self.view is not None and self.view["effective_weight"] > 0
        if takes and self.serving < least:
            some = f"{self.serving} other server{'s take' if self.serving != 1 else ' takes'}"
            raise RefusedError(
                f"cannot {verb} {self.service}/{self.name}: {some} new connections, "
                f"and min_serving is {least}"
            )

    def declare(self, weight, settings: dict) -> None:
        """In the document, with these settings."""
        if self._problem:
            raise self._problem
        if self.there:
            self.edit(weight, settings)
            return
        server = {"address": self.address, "port": self.port, "weight": weight, **settings}
        server = {key: value for key, value in server.items() if value is not None}
        self._change("POST", service_path(self.service) + "/servers", server)
        self._expected = {**server, "hold": "none"}

    def edit(self, weight, settings: dict) -> None:
        """What differs of these; the rest of its entry stays."""
        entry = self._entry()
        patch = {key: value for key, value in settings.items() if entry.get(key) != value}
        if weight is not None and weight != self.view["weight"]:
            patch["weight"] = weight
        if patch:
            self._change("PATCH", self._path(), patch)
            self._expected.update(patch)

    def remove(self) -> None:
        self._change("DELETE", self._path())
        self._expected = dict.fromkeys((*self._entry(), "weight", "hold"))

    def drain(self, timeout) -> None:
        """Unless it drains already, by the same deadline."""
        if self.state in ("draining", "drained") and timeout in (None, self._drain_timeout()):
            return
        self._hold("drain", "draining", None if timeout is None else {"timeout": timeout})

    def disable(self) -> None:
        if self.state != "disabled":
            self._hold("disable", "disabled")

    def enable(self) -> None:
        if self.held:
            self._hold("enable", "none")

    def expected(self, before: dict) -> dict:
        """What :meth:`look` would tell if the changes had been made."""
        after = {**before, **self._expected}
        return {key: value for key, value in after.items() if value is not None}

    # -- how

    def _hold(self, verb: str, hold: str, body=None) -> None:
        self._change("POST", f"{self._path()}/{verb}", body)
        self._expected["hold"] = hold

    def _change(self, method: str, path: str, body=None) -> None:
        self.ops += texts(self._control.change(method, path, body))
        self.changed = True

    def _path(self) -> str:
        return server_path(self.service, self.name)

    def _is_me(self, server: dict) -> bool:
        return server["address"] == self.address and self.port in (None, server["port"])

    def _drain_timeout(self) -> float:
        """Seconds from the drain's begin to its deadline; 0: there is none."""
        deadline = self.view.get("deadline", 0.0)
        return round(deadline - self.view.get("since", 0.0), 3) if deadline else 0.0

    def _entry(self) -> dict:
        """Its entry in the document, as it is written. Empty where that cannot be read."""
        try:
            document = self._control.get(service_path(self.service) + "/document")["document"]
        except ControlError:
            return {}
        usual = document.get("port")
        for each in document.get("servers") or []:
            mine = ip_address(each["address"]) == ip_address(self.address)
            if mine and each.get("port", usual) == self.port:
                return each
        return {}
