"""What happens to a web farm, from its first role to the purge. Each returns what was seen."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.machines.farm import SERVERS, Farm

READY = "kernlb wait ready --timeout 90"
ACTIVE = "timeout 60 sh -c 'until systemctl is-active -q kernlbd; do sleep 0.5; done'"
# Another's address and, where the kernel has IPVS, another's service: not kernlb's to remove.
FOREIGN = "198.51.100.77"
FOREIGN_ADDRESS = f"ip address add {FOREIGN}/32 dev lo"
# The trimmed boot makes no units of init scripts, which is all that ipvsadm has.
NO_START = "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d"
FOREIGN_SERVICE = f"{NO_START}; apt-get install -qq -y ipvsadm && rm /usr/sbin/policy-rc.d && "
FOREIGN_SERVICE += f"ipvsadm -A -t {FOREIGN}:80 -s rr"


def role(farm: Farm) -> str:
    """From bare Debian: all that is declared in variables is in force."""
    played = farm.play()
    assert all(played.changed.values()), played.text
    farm.balancer.run(READY)
    return _tasks(played.changed)


def methods(farm: Farm) -> str:
    """Each method is answered by all three servers."""
    answers = farm.asked(*farm.methods)
    assert all(set(each) == set(SERVERS) for each in answers.values()), _told(farm, answers)
    return "answers by server: " + _shares(answers)


def idempotence(farm: Farm) -> str:
    """A second run finds nothing to change."""
    played = farm.play()
    assert not any(played.changed.values()), played.text
    return _tasks(played.changed)


def reboot(farm: Farm) -> str:
    """All machines booted anew: the same, with nobody's hand."""
    _reboot(farm)
    farm.balancer.run(READY)
    return methods(farm)


def traffic(farm: Farm) -> str:
    """Restart, kill, upgrade and downgrade: no request fails meanwhile."""
    packages = farm.packages
    acts = {
        "restart": "systemctl restart kernlbd",
        "kill": f"systemctl kill -s KILL kernlbd; {ACTIVE}",
        "upgrade": _install(farm, packages.newer),
        "downgrade": _install(farm, packages.older),
        "back": _install(farm, packages.now),
    }
    seen = []
    for name, act in acts.items():
        with farm.under_requests() as answers:
            farm.balancer.run(f"{act} && {READY}", timeout=300)
        total = sum(each.total() for each in answers.values())
        failed = total - sum(each[server] for each in answers.values() for server in SERVERS)
        assert total and not failed, f"{name}: {failed} of {total} failed\n{_told(farm, answers)}"
        seen.append(f"{name} {failed} of {total}")
    return "failed: " + ", ".join(seen)


def broken_file(farm: Farm) -> str:
    """A service that kernlbd refuses: the role fails in kernlbd's words, all else stays."""
    before = farm.balancer.run("cat /etc/kernlb/services.d/*").out
    services = farm.services() | {
        "broken": {"address": "192.0.2.9", "port": 80, "scheduler": "foo"}
    }
    extra = farm.site.folder / "broken.json"
    extra.write_text(json.dumps({"kernlb_services": services}))
    played = farm.play("--limit", "balancers", "-e", f"@{extra}", check=False)
    assert played.code != 0, played.text
    assert "broken.yaml" in played.text, played.text
    assert "unknown" in played.text or "foo" in played.text, played.text
    assert farm.balancer.run("cat /etc/kernlb/services.d/*").out == before
    return methods(farm)


def purge(farm: Farm) -> str:
    """Removed, it names what it leaves forwarding; purged, what is kernlb's is gone, only that."""
    has_ipvs = farm.balancer.has_ipvs
    farm.balancer.run(FOREIGN_ADDRESS)
    if has_ipvs:
        farm.balancer.run(FOREIGN_SERVICE, timeout=300)
    said = farm.balancer.run("apt-get remove -y kernlb 2>&1", timeout=300).out
    assert all(method.vip in said for method in farm.methods), said
    methods(farm)
    farm.balancer.run("apt-get purge -y kernlb 2>&1", timeout=300)
    services = "ipvsadm -Sn; " if has_ipvs else ""
    left = farm.balancer.run(
        f"{services}ip address show; ls -d /etc/kernlb /var/lib/kernlb; "
        "getent group kernlb; ls /sys/fs/bpf",
        check=False,
    ).out
    assert f"{FOREIGN}/32" in left, left
    assert not has_ipvs or f"{FOREIGN}:80" in left, left
    assert not any(method.vip in left for method in farm.methods), left
    assert "xdp" not in left and "kernlb" not in left, left
    return (
        f"left of it: nothing; what is foreign is there, IPVS {'too' if has_ipvs else 'not tried'}"
    )


def _install(farm: Farm, package: Path) -> str:
    farm.balancer.put(package, f"/root/{package.name}")
    return f"apt-get install -qq -y --allow-downgrades /root/{package.name} 2>&1"


def _reboot(farm: Farm) -> None:
    machines = (*farm.servers, farm.balancer)
    if farm.balancer.kind == "emulated":
        with ThreadPoolExecutor(len(machines)) as pool:
            list(pool.map(lambda machine: machine.reboot(), machines))
        return
    for machine in machines:  # a container's new process would end with the thread that began it
        machine.reboot()


def _tasks(changed: dict[str, int]) -> str:
    return ", ".join(f"{host} changed={number}" for host, number in sorted(changed.items()))


def _shares(answers: dict[str, Counter[str]]) -> str:
    of = {name: "/".join(str(each[server]) for server in SERVERS) for name, each in answers.items()}
    return ", ".join(f"{name} {shares}" for name, shares in of.items())


def _told(farm: Farm, answers: dict[str, Counter[str]]) -> str:
    return "\n".join([*(f"{name}: {dict(each)}" for name, each in answers.items()), farm.status()])
