"""Declarations beside each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernlb.config import Index, located, parse_service, validate_set
from kernlb.declaration import Declaration


def declare(name: str, text: str) -> Declaration:
    return parse_service(text.encode(), name=name, source=f"{name}.yaml")


def http(name: str, address: str, *servers: str, port: int = 80) -> Declaration:
    listed = "".join(f"  - address: {server}\n" for server in servers)
    body = f"servers:\n{listed}" if listed else ""
    return declare(name, f"address: {address}\nport: {port}\n{body}")


def told(*declarations: Declaration) -> list[str]:
    return [str(fault) for fault in validate_set(declarations)]


def test_services_that_differ_live_side_by_side() -> None:
    assert (
        told(
            http("a", "192.0.2.1", "10.0.0.1"),
            http("b", "192.0.2.1", "10.0.0.1", port=81),
            http("c", "192.0.2.2", "10.0.0.1"),
            declare("d", "address: 192.0.2.1\nport: 80\nprotocol: udp\n"),
            declare("e", "address: 192.0.2.1\nport: 80\ndatapath: xdp\n"),
            declare("f", "fwmark: 1\n"),
            declare("g", "fwmark: 1\nfamily: ipv6\n"),
        )
        == []
    )


def test_the_first_to_declare_a_service_keeps_it() -> None:
    assert told(http("a", "192.0.2.1"), http("b", "192.0.2.1")) == [
        "b.yaml: address: tcp/192.0.2.1:80 is declared already, by a.yaml"
    ]
    assert told(declare("b", "fwmark: 7\n"), declare("a", "fwmark: 7\n")) == [
        "a.yaml: fwmark: fwmark/ipv4/7 is declared already, by b.yaml"
    ]


def test_the_address_of_one_service_is_no_server_of_another() -> None:
    assert told(http("a", "192.0.2.1"), http("b", "192.0.2.2", "10.0.0.1", "192.0.2.1")) == [
        "b.yaml: servers[1].address: 192.0.2.1 is the address of the service in a.yaml: "
        "the balancer itself would answer"
    ]
    assert told(http("a", "192.0.2.2", "192.0.2.1"), http("b", "192.0.2.1")) == [
        "b.yaml: address: 192.0.2.1 is a real server's address in a.yaml: "
        "the balancer itself would answer"
    ]


def test_a_server_on_the_balancer_itself_may_be_at_a_vip() -> None:
    here = "port: 80\naddress: {0}\nservers:\n  - {{address: 192.0.2.1, local: true}}\n"
    own = declare("a", here.format("192.0.2.1"))
    assert own.local == {server.key for server in own.servers}
    assert told(own, declare("b", here.format("192.0.2.2"))) == []
    assert told(declare("b", here.format("192.0.2.2")), own) == []
    index = Index([own])
    index.discard("a")
    assert index.faults(http("c", "192.0.2.9", "192.0.2.1")) == []


def test_a_conflict_gets_its_line_from_the_text() -> None:
    text = "# b\nport: 80\naddress: 192.0.2.2\nservers:\n  - address: 192.0.2.1\n"
    [fault] = validate_set([http("a", "192.0.2.1"), declare("b", text)])
    assert str(located(fault, text.encode())).startswith("b.yaml:5: servers[0].address: 192.0.2.1")


def test_a_sorry_server_among_several_gets_its_line_too() -> None:
    one = "sorry_server:\n  address: 192.0.2.1\n"
    listed = "sorry_server:\n  - address: 192.0.2.1\n"
    several = "sorry_server:\n  - address: 10.0.0.9\n  - address: 192.0.2.1\n"
    for said, place in (
        (one, "4: sorry_server.address"),
        (listed, "3: sorry_server.address"),
        (several, "5: sorry_server[1].address"),
    ):
        text = f"port: 80\naddress: 192.0.2.2\n{said}"
        [fault] = validate_set([http("a", "192.0.2.1"), declare("b", text)])
        assert str(located(fault, text.encode())).startswith(f"b.yaml:{place}: 192.0.2.1 is the")


def test_an_index_judges_a_new_version_without_its_old_one() -> None:
    index = Index([http("a", "192.0.2.1", "10.0.0.1"), http("b", "192.0.2.2", "10.0.0.2")])
    assert index.faults(http("a", "192.0.2.1", "10.0.0.9")) == []
    assert index.faults(http("a", "192.0.2.9", "192.0.2.1")) == []  # it gives 192.0.2.1 up
    assert index.faults(http("a", "192.0.2.2")) != []
    assert index.faults(http("c", "192.0.2.1")) != []
    index.discard("a")
    index.discard("a")
    assert index.faults(http("c", "192.0.2.1")) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.integers(1, 4),
            st.lists(st.integers(1, 6), unique=True, max_size=2),
        )
    )
)
def test_an_index_after_many_changes_judges_as_a_fresh_one(
    changes: list[tuple[str, int, list[int]]],
) -> None:
    index = Index()
    held: dict[str, Declaration] = {}
    for name, vip, servers in changes:
        new = http(name, f"192.0.2.{vip}", *(f"192.0.2.{s}" for s in servers if s != vip))
        fresh = Index(held[other] for other in held)
        assert index.faults(new) == fresh.faults(new)
        if not index.faults(new):
            index.put(new)
            held.pop(name, None)
            held[name] = new
    assert validate_set(held.values()) == []
