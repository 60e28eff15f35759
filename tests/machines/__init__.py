"""Whole Debian machines to install kernlb on: systemd, ssh, packages, reboots.

A `Site` is a network of its own with machines in it, seen from the operator's host. Two kinds of
machine stand behind one `Machine` protocol:

- `container` (container.py): systemd-nspawn on this machine's own kernel, at native speed. XDP and
  nftables work; what this kernel lacks (IPVS and ipip on some build machines) is lacking.
- `emulated` (emulated.py): a guest under QEMU with Debian's own kernel. Everything works, slowly.

    with Site("container") as site:
        balancer = site.add("balancer")
        balancer.run("systemctl is-system-running --wait")
"""
