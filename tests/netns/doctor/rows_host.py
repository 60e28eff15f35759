"""What is broken on a balancer with XDP, on this kernel: a row a finding."""

from __future__ import annotations

from tests.netns.doctor.breaking_host import (
    FAR,
    GONE,
    NEAR,
    SETTINGS,
    WEB,
    WEB_FILE,
    bad_file,
    cable_out,
    detached,
    disabled,
    duplicate6,
    few_descriptors,
    files,
    frozen,
    generic,
    keepalived,
    listening,
    many_servers,
    martians,
    no_hop,
    open_socket,
    restarted,
    routed,
    server_gone,
    small_disk,
    somebody_elses,
    stale,
    writable,
)
from tests.netns.doctor.ground import Broken, commands, row, rows, sysctl


def front(family: str, key: str) -> Broken:
    return sysctl(f"net.{family}.conf.front.{key}", "1", "0")


few_ports = sysctl("net.ipv4.ip_local_port_range", "40000 40100", "32768 60999")
XDP = "xdp: {interfaces: [front, back]}"
IPVS_FILE = WEB_FILE.replace("xdp", "ipvs")
LARGER = {**SETTINGS["xdp"], "connections": 8192}
ROWS = rows(
    row(
        "proxy-arp",
        "front.proxy_arp is 1",
        front("ipv4", "proxy_arp"),
        fix=True,
    ),
    row(
        "proxy-ndp",
        "front.proxy_ndp is 1",
        front("ipv6", "proxy_ndp"),
        fix=True,
    ),
    row(
        "arp-ignore-on-balancer",
        f"{NEAR} of service near is on lo and asked for on front",
        front("ipv4", "arp_ignore"),
        fix=True,
    ),
    row(
        "interface-noarp",
        "front",
        commands("ip link set front arp off", "ip link set front arp on"),
    ),
    row("rp-filter-drops", "front.rp_filter is 1", martians, fix=True),
    row(
        "vip-missing",
        f"{WEB}: no interface has it",
        commands(f"ip addr del {WEB}/32 dev lo", f"ip addr add {WEB}/32 dev lo"),
        fix=True,
    ),
    row(
        "vip-elsewhere",
        "it is on front, and services dns, web want it on lo",
        commands(
            f"ip addr del {WEB}/32 dev lo; ip addr add {WEB}/32 dev front",
            f"ip addr del {WEB}/32 dev front; ip addr add {WEB}/32 dev lo",
        ),
        fix=True,
    ),
    row(
        "vip-network-on-lo",
        "all of 192.0.2.0/24 is taken for this host",
        commands(
            f"ip addr del {WEB}/32 dev lo; ip addr add {WEB}/24 dev lo",
            f"ip addr del {WEB}/24 dev lo; ip addr add {WEB}/32 dev lo",
        ),
        fix=True,
    ),
    row(
        "vip-prefix",
        f"{NEAR}/24 on front, beside 10.0.0.1/24",
        commands(f"ip addr add {NEAR}/24 dev front", f"ip addr del {NEAR}/24 dev front"),
    ),
    row(
        "vip-claimed",
        f"on front answers ARP for {NEAR}",
        commands(f"ip addr add {NEAR}/32 dev front", f"ip addr del {NEAR}/32 dev front", "client"),
    ),
    row(
        "vip-answered-by-server",
        "real server 10.1.0.11",
        commands(f"ip addr add {FAR}/32 dev back", f"ip addr del {FAR}/32 dev back", "server1"),
    ),
    row("address-duplicate", "fd00:f::99/64 on front", duplicate6),
    row(
        "vip-interface-down",
        f"front has no carrier; {NEAR} of service near",
        commands("ip link set balancer-f down", "ip link set balancer-f up", "switch"),
        "xdp-interface-down",
    ),
    row(
        "xdp-interface-down",
        "front has no carrier",
        commands("ip link set balancer-f down", "ip link set balancer-f up", "switch"),
        "vip-interface-down",
    ),
    row("vip-listener", f"listens on tcp/{WEB}:80", listening(WEB, 80)),
    row("port-listener", "listens on tcp/0.0.0.0:8080", listening("0.0.0.0", 8080)),
    row(
        "source-is-vip",
        f"has source {WEB}",
        routed(
            f"ip route replace 10.1.0.0/24 dev back src {WEB}",
            "ip route replace 10.1.0.0/24 dev back src 10.1.0.1",
        ),
        "xdp-unresolved",
    ),
    row(
        "server-no-route",
        "ip route get 10.1.0.11: blackhole",
        routed("ip route add blackhole 10.1.0.11/32", "ip route del blackhole 10.1.0.11/32"),
        "xdp-unresolved",
    ),
    row(
        "dsr-behind-gateway",
        "its route is 10.1.0.13 via 10.1.0.254 dev back",
        routed("ip route add 10.1.0.13 via 10.1.0.254", "ip route del 10.1.0.13"),
        "xdp-unresolved",
    ),
    row(
        "server-is-balancer",
        "10.1.0.13/32 on lo",
        routed("ip addr add 10.1.0.13/32 dev lo", "ip addr del 10.1.0.13/32 dev lo"),
        "xdp-unresolved",
    ),
    row("neighbour-unresolved", "10.1.0.13 does not answer on back", server_gone, *GONE),
    row("xdp-unresolved", f"of tcp/{WEB}:80: a route discards", no_hop, "server-no-route"),
    row(
        "server-no-carrier",
        "back has no carrier",
        cable_out,
        *GONE,
        *("vip-interface-down", "xdp-interface-down", "probes-all-failing"),
    ),
    row(
        "probes-all-failing",
        "almost everything failed at once",
        cable_out,
        *GONE,
        *("vip-interface-down", "xdp-interface-down", "server-no-carrier"),
    ),
    row(
        "tunnel-mtu",
        "back takes 1500 bytes; a packet of 1500 in its tunnel has 1520",
        commands("ip link set back mtu 1500", "ip link set back mtu 1600"),
    ),
    row("xdp-no-interface", "service web is of datapath xdp", files(""), "daemon-silent"),
    row(
        "xdp-interface-absent",
        "xdp.interfaces names eth9",
        files("xdp: {interfaces: [front, back, eth9]}"),
        "daemon-silent",
    ),
    row("xdp-missing", "front has no XDP program", detached),
    row("xdp-foreign", "which is not kernlb's", somebody_elses),
    row("xdp-generic", "front is attached in generic mode", generic),
    row(
        "xdp-no-native",
        "driver bridge of br9",
        files(
            "xdp: {interfaces: [front, back, br9]}",
            do="ip link add br9 type bridge; ip link set br9 up",
            undo="ip link del br9",
        ),
        *("daemon-silent", "xdp-missing", "xdp-interface-down"),
    ),
    row(
        "xdp-on-port",
        "front is a port of bridge br9",
        commands("ip link add br9 type bridge; ip link set front master br9", "ip link del br9"),
    ),
    row(
        "xdp-veth-checksum",
        "tx-checksumming on",
        commands("ethtool -K front tx on", "ethtool -K front tx off"),
        fix=True,
    ),
    row(
        "xdp-one-queue",
        "front receives by 1 queue",
        commands("ethtool -L front rx 1", "ethtool -L front rx 2"),
        fix=True,
    ),
    row("xdp-table-full", "117 of 128 entries are in use", many_servers),
    row(
        "xdp-warned",
        "conns4 stays at 4096 entries",
        restarted(xdp={**SETTINGS["xdp"], "connections": 8192}),
    ),
    row("daemon-silent", "no such socket", files(XDP)),
    row("socket-stale", "nobody listens on it", stale, "daemon-silent", fix=True),
    row("file-fault", "bad.yaml", bad_file),
    row("service-serves-nobody", "service far: none of its 1 servers serves", disabled),
    row("ipvs-missing", "has no ip_vs", files(XDP, IPVS_FILE), "daemon-silent"),
    row("descriptors-few", "descriptors open, has", few_descriptors),
    row(
        "ports-few",
        "40000 40100",
        few_ports,
        fix=True,
    ),
    row("state-disk-full", "0 MiB left", small_disk("size=64k,mode=755")),
    row("state-read-only", "mounted read-only", small_disk("size=64m,mode=755,ro")),
    row("files-writable-by-all", "its mode is 0777", writable, fix=True),
    row("socket-open-to-all", "its mode is 0666", open_socket, fix=True),
    row("other-manager", "keepalived: it runs here", keepalived),
    row("audit-late", "the last whole one ended", frozen(14), "probes-late"),
    row("probes-late", "probes", frozen(4)),
)

# Provoked by tests of their own, beside the table.
BESIDE = ("bpffs-missing", "kernel-old", "services-folder-missing", "xdp-veth-peer")
