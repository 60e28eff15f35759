"""What the XDP program found out, dressed for the control protocol. Pure."""

from __future__ import annotations

from kernlb.control.protocol_xdp import Explanation
from kernlb.datapath.xdp import explain, layout, records
from kernlb.datapath.xdp.asking import Answer
from kernlb.datapath.xdp.layout import ChosenBy, Encapsulation, Forward, Schedule, Server, State
from kernlb.model import L4Protocol, ServerKey


def explanation_view(
    answer: Answer, protocol: L4Protocol, client: ServerKey, to: ServerKey, interface: str
) -> Explanation:
    """``service`` is left open: the program does not know its name."""
    found, service, server = answer.found, answer.service, answer.server
    reason = explain.reason(found)
    meaning = explain.MEANINGS[reason] if reason is not None else "unknown to this kernlb"
    forward = Forward(server.forwarding) if server is not None else None
    chosen = ChosenBy(found.chosen_by) if server is not None else ChosenBy.NOT
    known = chosen is ChosenBy.CONNECTION and found.conn != layout.NONE
    return Explanation(
        protocol=protocol.value,
        client=str(client),
        to=str(to),
        verdict=answer.verdict.value,
        reason=reason_name(found.reason),
        meaning=meaning,
        interface=interface,
        key=str(records.service_of(service).key) if service is not None else "",
        scheduler=Schedule(service.scheduler).name.lower() if service is not None else "",
        server=_server(server) if server is not None else "",
        forwarding=forward.name.lower() if forward is not None else "",
        tunnel=_tunnel(server) if server is not None and forward is Forward.TUNNEL else "",
        chosen_by="" if chosen is ChosenBy.NOT else chosen.name.lower(),
        state=State(found.state).name.lower() if known else "",
        out=answer.out if answer.sent is not None else "",
        next_hop=answer.sent.mac if answer.sent is not None else "",
        vlan=answer.sent.vlan if answer.sent is not None else 0,
        by_fib=bool(found.by_fib),
    )


def reason_name(number: int) -> str:
    """As it is called in metrics."""
    if number < len(layout.Reason):
        return layout.Reason(number).name.lower()
    return f"reason_{number}"


def _server(server: Server) -> str:
    address = layout.address_of(server.addr, server.family)
    return str(ServerKey(address, int.from_bytes(server.declared_port, "big")))


def _tunnel(server: Server) -> str:
    kind = Encapsulation(server.tunnel)
    port = int.from_bytes(server.tunnel_port, "big")
    return f"{kind.name.lower()}:{port}" if port else kind.name.lower()
