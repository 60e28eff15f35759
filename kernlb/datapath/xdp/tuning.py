"""Settings that may change while packets flow: timeouts, and how much is said to whom."""

from __future__ import annotations

from collections.abc import Mapping

from kernlb.datapath.xdp.layout import SETTINGS, TICKS_PER_SECOND, TIMEOUTS, Settings, State

# What an operator calls the timeout of each state; tcp, tcpfin and udp as ipvsadm does.
NAMES: dict[str, State] = {
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
# Seconds; ip_vs_proto_tcp.c, tcp_timeouts[], for states that a balancer hardly sees.
_FIXED = {State.NONE: 2.0, State.LISTEN: 120.0, State.SYNACK: 120.0}


def write(memory: memoryview, timeouts: Mapping[str, float], icmp_per_second: int) -> None:
    """``memory`` of the map `settings`; ``timeouts`` in seconds by NAMES, all of them."""
    seconds = _FIXED | {state: timeouts[name] for name, state in NAMES.items()}
    ticks = [max(1, round(seconds.get(state, 0.0) * TICKS_PER_SECOND)) for state in State]
    SETTINGS.pack_into(memory, 0, Settings(TIMEOUTS.pack(*ticks), icmp_per_second))
