"""Settings that change while packets flow: timeouts, by what operators call them, and limits."""

from __future__ import annotations

from collections.abc import Mapping

from kernlb.datapath.xdp.layout import SETTINGS, TICKS_PER_SECOND, State

NAMES: dict[str, State] = {  # tcp, tcpfin and udp as ipvsadm has them
    "tcp": State.ESTABLISHED,
    "tcp_syn_sent": State.SYN_SENT,
    "tcp_syn_recv": State.SYN_RECV,
    "tcpfin": State.FIN_WAIT,
    "tcp_time_wait": State.TIME_WAIT,
    "tcp_close": State.CLOSE,
    "tcp_close_wait": State.CLOSE_WAIT,
    "tcp_last_ack": State.LAST_ACK,
    "udp": State.UDP,
    "sctp": State.SCTP_ESTABLISHED,
    "sctp_init": State.SCTP_INIT,
    "sctp_closing": State.SCTP_CLOSING,
}
# ip_vs_proto_tcp.c, tcp_timeouts[], for states that a balancer hardly sees
_FIXED = {State.NONE: 2.0, State.LISTEN: 120.0, State.SYNACK: 120.0}
MAX_TICKS = 2**31 - 1  # ages are compared modulo 2^32


def write(settings: memoryview, timeouts: Mapping[str, float], icmp_per_second: int) -> None:
    """Into the map `settings`, word by word. ``timeouts``: seconds by NAMES, all of them."""
    words = settings.cast("I")
    seconds = _FIXED | {state: timeouts[name] for name, state in NAMES.items()}
    for state, value in seconds.items():
        words[state] = min(max(1, round(value * TICKS_PER_SECOND)), MAX_TICKS)
    words[SETTINGS.offset["icmp_per_second"] // 4] = icmp_per_second
