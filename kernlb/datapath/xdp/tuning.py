"""Timeouts as operators call them, and the states of connections that they are of. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kernlb.datapath.xdp.layout import State

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


def by_state(timeouts: Mapping[str, float]) -> dict[State, float]:
    """Seconds of every state that has a timeout, from seconds by NAMES."""
    return _FIXED | {state: timeouts[name] for name, state in NAMES.items()}
