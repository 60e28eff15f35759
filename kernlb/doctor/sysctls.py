"""Sysctls as values, by their names with slashes: net/ipv4/conf/eth0.5/rp_filter. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernlb.doctor.facts import UnreadError
from kernlb.doctor.ops import SetSysctl, written


@dataclass(frozen=True, slots=True)
class Sysctls:
    """``values`` of those that were read; one that this kernel has not is not in there.
    ``denied`` could not be read."""

    values: Mapping[str, str]
    denied: frozenset[str] = frozenset()

    def number(self, name: str) -> int | None:
        """None where this kernel has no such sysctl. Raises UnreadError."""
        if name in self.denied:
            raise UnreadError(f"{written(name)} cannot be read")
        text = self.values.get(name)
        try:
            return None if text is None else int(text)
        except ValueError:
            raise UnreadError(f'{written(name)} is "{text}", which is no number') from None

    def seen(self, name: str) -> str:
        """As evidence: ``net.ipv4.ip_forward is 0``."""
        value = self.values.get(name)
        return f"{written(name)} is {'not there' if value is None else value}"

    def conf(self, family: int, interface: str, key: str) -> int | None:
        """net.ipv4.conf.INTERFACE.KEY, or ipv6."""
        return self.number(conf_name(family, interface, key))

    def larger(self, interface: str, key: str) -> tuple[int, str]:
        """Of IPv4, where the larger of the interface's and conf.all's counts (rp_filter,
        arp_ignore, arp_announce, accept_local, send_redirects, proxy_arp): that value, and the
        name of the sysctl that has it."""
        names = [conf_name(4, each, key) for each in (interface, "all")]
        return max(((self.number(name) or 0, name) for name in names), key=lambda pair: pair[0])

    def lower(self, interface: str, key: str, value: int) -> tuple[SetSysctl, ...]:
        """The ops after which :meth:`larger` is ``value`` at most."""
        names = [conf_name(4, each, key) for each in ("all", interface)]
        return tuple(SetSysctl(n, str(value)) for n in names if (self.number(n) or 0) > value)


def conf_name(family: int, interface: str, key: str) -> str:
    return f"net/ipv{family}/conf/{interface}/{key}"
