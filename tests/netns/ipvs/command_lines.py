"""Lines for ipvsadm and for kernlb in its place, in the order in which they are run.

Each begins where the last one left off. STRICTER are those that ipvsadm takes and kernlb refuses,
with what is in the way; each is undone behind it, so that both go on alike.
"""

from __future__ import annotations

from random import Random

WEB, WEB6, DNS = "-t 192.0.2.10:80", "-t [2001:db8::10]:443", "-u 192.0.2.10:53"

ALIKE = f"""
-A {WEB}
-A {WEB} -s rr
-E {WEB} -s rr
-a {WEB} -r 10.0.0.1:8080 -m
-a {WEB} -r 10.0.0.1:8080 -m -w 3
-a {WEB} -r 10.0.0.2 -g -w 0
-a {WEB} -r 10.0.0.3:8080 -i
-e {WEB} -r 10.0.0.1:8080 -m -w 65535
-e {WEB} -r 10.0.0.1:8080 -w 5
-e {WEB} -r 10.0.0.2 -w 7
-e {WEB} -r 10.0.0.2 -i -w 7 --tun-type gue --tun-port 6080 --tun-csum
-e {WEB} -r 10.0.0.2 -i --tun-type gre
-e {WEB} -r 10.0.0.2 -i --tun-type gue --tun-port 6080
-e {WEB} -r 10.0.0.2 -m -x 100 -y 50
-e {WEB} -r 10.0.0.9 -m
-a {WEB} -r 10.0.0.4 -m -w 2147483648
-a {WEB} -r 10.0.0.4 -m -w -1
-a {WEB} -r 10.0.0.4 -m -w two
-a {WEB} -r 10.0.0.4 -m -w
-a {WEB} -r 10.0.0.4 -m -x 10 -y 20
-a {WEB} -r 10.0.0.4 -m -i
-a {WEB} -r 10.0.0.4 -m --tun-type gue --tun-port 6080
-a {WEB} -r 10.0.0.4 -i --tun-type gue
-a {WEB} -r 10.0.0.4 -i --tun-type ipip --tun-port 1
-a {WEB} -r 10.0.0.4 -i --tun-type gre --tun-remcsum
-a {WEB} -r 10.0.0.4 -i --tun-type gre --tun-csum --tun-nocsum
-a {WEB} -r 10.0.0.4 -i --tun-type vxlan
-a {WEB} -r 10.0.0.4 -i --tun-csum
-a {WEB} -r [2001:db8::4]:80 -m
-a {WEB} -r [2001:db8::4]:80 -i
-a {WEB} -m
-a -r 10.0.0.4 -m
-a -t 192.0.2.99:80 -r 10.0.0.4 -m
-d {WEB} -r 10.0.0.99
-d {WEB} -r 10.0.0.3 -w 1
-d {WEB} -r 10.0.0.3:8080
-d {WEB} -r 10.0.0.3
-d -t 192.0.2.99:80 -r 10.0.0.3
-A -t 192.0.2.11
-A -t 192.0.2.11 -p
-a -t 192.0.2.11 -r 10.0.0.1 -m
-A -t 192.0.2.12:http -s wrr
-A -t 192.0.2.12:nosuchport -s wrr
-A -t 192.0.2.12:70000
-A -t 80
-A -t nowhere.invalid:80
-A -t 192.0.2.13:80 -p 0
-A -t 192.0.2.13:80 -p 2678401
-A -t 192.0.2.13:80 -p 600 -M 255.255.255.0
-E -t 192.0.2.13:80 -p600
-E -t 192.0.2.13:80 --persistent=700 --netmask 255.255.0.0 --scheduler lc
-E -t 192.0.2.13:80
-E -t 192.0.2.99:80
-A {DNS} -o -s rr
-A {DNS} -o -o
-E {DNS} -s sh -b sh-port,sh-fallback
-E {DNS} -s sh -b flag-1
-E {DNS} -s sh -b mh-port
-E {DNS} -s sh -b nothing
-E {DNS} -b sh-port
-E {DNS} -s mh
-E {DNS} -s mh -b mh-fallback
-E {DNS} -s nosuch
-E {DNS} -p --pe sip
-E {DNS} -p --pe nosuch
-E {DNS} -s wlc
-A {WEB} -o
-A {WEB6} -s sed -p 60 -M 64
-A -M 64 -t [2001:db8::11]:443 -p 60
-E {WEB6} -p 60 -M 129
-a {WEB6} -r [2001:db8::a]:443 -g
-a {WEB6} -r 10.0.0.1 -i
-a {WEB6} -r [2001:db8::b] -g
-a {WEB6} -r 2001:db8::b -g
-A -f 1
-A -f 0
-A -f x
-A -f 4294967295 -s rr
-A -f 1 -6 -s rr
-A -6 -f 2
-A -t 192.0.2.20:80 -6
-a -f 1 -r 10.0.0.1 -g
-a -f 1 -r 10.0.0.2:8080 -m
-a -f 1 -6 -r [2001:db8::a]:0 -m -w 2
-D -f 1 -6
-A --sctp-service 192.0.2.10:9999
-a --sctp-service 192.0.2.10:9999 -r 10.0.0.1 -m
-At 192.0.2.30:80 -srr
--add-service --tcp-service=192.0.2.31:80 --scheduler=wlc
-A -t 192.0.2.32:80 -A
-A -t 192.0.2.32:80 -u 192.0.2.32:80
-A -t 192.0.2.32:80 -w 3
-A -t 192.0.2.32:80 surplus
-A -t 192.0.2.32:80 --nosuch
-A -t 192.0.2.32:80 -q
-A -t
-A
-t 192.0.2.32:80 -A
surplus
-D
-D -t 192.0.2.99:80
-D -t 192.0.2.12:80 -s rr
-D -t 192.0.2.12:80
-C -t 192.0.2.12:80
-S -t 192.0.2.12:80
-S -n
-L -n
-ln
-L -t 192.0.2.99:80
-Ln -c --stats
-Ln --timeout --rate
-Ln --timeout --daemon
-L -s rr
--set 1 2
--set 1 2 x
--start-daemon neither
--start-daemon master --syncid 256
--stop-daemon
""".strip().splitlines()

STRICTER = {
    "-A -t 192.0.2.40:80 -s rr -b flag-1": "-D -t 192.0.2.40:80",
    "-A -t 192.0.2.40:80 -p -M 255.0.255.0": "-D -t 192.0.2.40:80",
    "-A -u 192.0.2.40:53 --pe sip": "-D -u 192.0.2.40:53",
    "-A -t 127.0.0.1:80": "-D -t 127.0.0.1:80",
    f"-a {WEB} -r 192.0.2.10:8080 -m": f"-d {WEB} -r 192.0.2.10:8080",
    "-a -f 1 -r 10.0.0.7:80 -g": "-d -f 1 -r 10.0.0.7:80",
    f"-a {WEB} -r 10.0.0.7 -i --tun-type gue --tun-port 1 --tun-remcsum": f"-d {WEB} -r 10.0.0.7",
    f"-a {WEB} -r 10.0.0.7 -m -w 65536": f"-d {WEB} -r 10.0.0.7",
    "-Z": "",
    "-Lnc": "",
    "--set 0 0 0": "",
}

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "sed", "nq", "fo", "ovf", "lblc", "lblcr")
FLAGS = {"sh": ("sh-fallback", "sh-port"), "mh": ("mh-fallback", "mh-port")}


def random_rules(random: Random, services: int) -> str:
    """Lines for ``ipvsadm -R`` that make so many services, each unlike the others."""
    lines = []
    for number in range(services):
        version = random.choice((4, 4, 6))
        where = _service(random, number, version)
        port = 0 if where.startswith("-f") else 1000 + number
        lines.append(f"-A {where} {_settings(random, where, version)}".rstrip())
        lines += [
            f"-a {where} {server}"
            for server in dict.fromkeys(_servers(random, where, version, port))
        ]
    return "".join(f"{line}\n" for line in lines)


def _service(random: Random, number: int, version: int) -> str:
    if random.random() < 0.2:
        return f"-f {random.randrange(1, 1 << 31)}{' -6' if version == 6 else ''}"
    option = random.choice(("-t", "-t", "-u", "--sctp-service"))
    host = f"192.0.2.{random.randrange(1, 255)}"
    host = host if version == 4 else f"[2001:db8::{random.randrange(1, 1 << 16):x}]"
    return f"{option} {host}:{1000 + number}"


def _settings(random: Random, where: str, version: int) -> str:
    scheduler = random.choice(SCHEDULERS)
    words = f"-s {scheduler}"
    if random.random() < 0.4:
        words += f" -p {random.randrange(1, 86400)}"
        if random.random() < 0.5:
            words += f" -M {_netmask(random, version)}"
        if "-u" in where and random.random() < 0.3:
            words += " --pe sip"
    if ("-u" in where or "-f" in where) and random.random() < 0.3:
        words += " -o"
    flags = [flag for flag in FLAGS.get(scheduler, ()) if random.random() < 0.5]
    return f"{words} -b {','.join(flags)}" if flags else words


def _netmask(random: Random, version: int) -> str:
    if version == 6:
        return str(random.randrange(1, 129))
    bits = 0xFFFFFFFF << random.randrange(32) & 0xFFFFFFFF
    return ".".join(map(str, bits.to_bytes(4, "big")))


def _servers(random: Random, where: str, version: int, port: int) -> list[str]:
    found: dict[str, str] = {}
    for _ in range(random.randrange(5)):
        forwarding = random.choice(("-m", "-g", "-i"))
        of_server = random.choice((4, 6)) if forwarding == "-i" else version
        last = random.randrange(1, 255)
        host = f"10.0.0.{last}" if of_server == 4 else f"[fd00::{last:x}]"
        free = forwarding == "-m" and port
        words = f"-r {host}:{random.randrange(1, 65536) if free else port} {forwarding}"
        words += f" -w {random.choice((0, 1, 1, 10, 65535))}"
        if forwarding == "-i":
            words += random.choice(
                (
                    "",
                    " --tun-type ipip",
                    " --tun-type gre --tun-csum",
                    " --tun-type gre --tun-nocsum",
                    f" --tun-type gue --tun-port {random.randrange(1, 65536)} --tun-csum",
                    f" --tun-type gue --tun-port {random.randrange(1, 65536)}",
                )
            )
        if random.random() < 0.3:
            upper = random.randrange(1, 1 << 16)
            words += f" -x {upper} -y {random.randrange(upper + 1)}"
        found[host] = words
    return list(found.values())
