"""What becomes of a packet among rules: only what is certain is said."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from kernlb.doctor.doors import iptables, netfilter
from kernlb.doctor.netfilter import Chain, Match, Packet, Rule, Ruleset
from kernlb.doctor.services import Declared
from kernlb.doctor.sysctls import Sysctls
from kernlb.model import DatapathKind, Forwarding
from tests.unit.doctor.made import SERVER, VIP, found, look, service

WEB = Packet(VIP, l4="tcp", dport=80, state="new")
ANY = (Match(""),)  # it may match or not
TO_WEB = (Match("daddr", (netfilter.ip_network("192.0.2.0/24"),)),)


def chain(*rules: Rule, policy: str = "accept", hook: str = "input", name: str = "in") -> Chain:
    return Chain("inet", "filter", name, hook, 0, policy, rules)


def fate(*chains: Chain, packet: Packet = WEB) -> str:
    dropped = Ruleset(chains).drops(("prerouting", "input"), packet)
    return dropped.text if dropped else ""


DROP = Rule("drop all", (), "drop")
ACCEPT_WEB = Rule("accept web", TO_WEB, "accept")
MAYBE_ACCEPT = Rule("limit accept", ANY, "accept")
MAYBE_DROP = Rule("limit drop", ANY, "drop")
COUNT = Rule("limit counter", ANY, "")


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ((), ""),
        ((DROP,), "drop all"),
        ((ACCEPT_WEB, DROP), ""),
        ((MAYBE_ACCEPT, DROP), ""),  # it may have been let in
        ((MAYBE_DROP,), ""),
        ((COUNT, DROP), "drop all"),
        ((Rule("return", TO_WEB, "return"), DROP), ""),
        ((Rule("not web", (replace(TO_WEB[0], negated=True),), "accept"), DROP), "drop all"),
        ((Rule("jump", (), "jump", "inner"),), "drop all"),
        ((Rule("goto", (), "goto", "nowhere"), DROP), ""),
    ],
)
def test_a_packet_meets_rules_in_their_order(rules: tuple[Rule, ...], text: str) -> None:
    assert fate(chain(*rules), chain(DROP, hook="", name="inner")) == text


def test_a_policy_is_what_is_left() -> None:
    assert fate(chain(policy="drop")) == "policy drop"
    assert fate(chain(ACCEPT_WEB, policy="drop")) == ""
    assert fate(chain(MAYBE_ACCEPT, policy="drop")) == ""


def test_an_accept_ends_its_own_base_chain_alone() -> None:
    later = Chain("inet", "filter", "later", "input", 10, "accept", (DROP,))
    assert fate(later, chain(ACCEPT_WEB)) == "drop all"


def test_chains_of_the_other_family_do_not_see_it() -> None:
    assert fate(Chain("ip6", "filter", "in", "input", 0, "drop")) == ""


JSON = [
    {"set": {"family": "inet", "table": "t", "name": "vips", "elem": ["192.0.2.10"]}},
    {"chain": {"family": "inet", "table": "t", "name": "in", "hook": "input", "prio": 0}},
    {
        "rule": {
            "family": "inet", "table": "t", "chain": "in", "handle": 4,
            "expr": [
                {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}},
                           "right": "@vips"}},
                {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}},
                           "right": {"set": [80, {"range": [8000, 8080]}]}}},
                {"vmap": {"key": {"ct": {"key": "state"}},
                          "data": {"set": [["invalid", {"drop": None}],
                                           ["new", {"accept": None}]]}}},
            ],
        }
    },
]  # fmt: skip
LISTING = "table inet t { # handle 1\n\tchain in { # handle 2\n\t\tct state vmap # handle 4\n"


def test_nfts_json_is_understood() -> None:
    rules = Ruleset(tuple(netfilter.parse(JSON, LISTING)))
    invalid = replace(WEB, state="invalid")
    assert str(rules.drops(("input",), invalid)) == "ct state vmap (chain inet t in)"
    assert rules.drops(("input",), WEB) is None
    assert rules.drops(("input",), replace(invalid, dport=8042)) is not None
    assert rules.drops(("input",), replace(invalid, dport=81)) is None
    assert rules.drops(("input",), replace(invalid, daddr=ip_address("192.0.2.11"))) is None


SAVED = """\
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:guard - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m multiport --dports 80,8000:8080 -m comment --comment "a b" -j guard
-A guard -m conntrack --ctstate INVALID -j DROP
-A guard -d 192.0.2.0/24 -j ACCEPT
-A FORWARD -m recent --name x -j DROP
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d 192.0.2.10/32 -j MARK --set-xmark 0x7/0xffffffff
COMMIT
"""


def test_iptables_save_is_understood() -> None:
    rules = Ruleset(tuple(iptables.parse(SAVED, "ip")))
    packet = replace(WEB, iif="eth0")
    assert rules.drops(("input",), packet) is None
    dropped = rules.drops(("input",), replace(packet, state="invalid"))
    assert dropped is not None
    assert dropped.text == "-A guard -m conntrack --ctstate INVALID -j DROP"
    assert rules.drops(("input",), replace(packet, dport=22)).text == "policy drop"
    assert rules.drops(("forward",), packet) is None  # who knows what "recent" has seen
    assert rules.sets_mark(7)
    assert not rules.sets_mark(8)


INVALID = Ruleset((chain(Rule("ct state invalid drop", (Match("state", ("invalid",)),), "drop")),))
BACK = Ruleset((chain(Rule("invalid", (Match("state", ("invalid",)),), "drop"), hook="forward"),))


@pytest.mark.parametrize("rules", [INVALID, BACK])
def test_invalid_packets_of_nat_matter_unless_conntrack_is_kept_informed(rules: Ruleset) -> None:
    off, on = (Sysctls({"net/ipv4/vs/conntrack": value}) for value in "01")
    assert "ct-invalid-drop" in found(rules, off)
    assert "ct-invalid-drop" not in found(rules, on)


def test_invalid_packets_of_dsr_matter_whatever_conntrack_is_told() -> None:
    dsr = Declared((service(Forwarding.DSR),))
    on = Sysctls({"net/ipv4/vs/conntrack": "1"})
    assert "ct-invalid-drop" in found(dsr, INVALID, on)
    assert "ct-invalid-drop" not in found(dsr, BACK, on)  # answers go another way


def test_xdp_is_before_the_packet_filter() -> None:
    xdp = Declared((service(datapath=DatapathKind.XDP),), xdp_interfaces=("eth0",))
    assert not {"ct-invalid-drop", "filter-drops-requests"} & set(found(xdp, INVALID))


def test_what_is_dropped_anyway_is_not_blamed_on_its_state() -> None:
    shut = Ruleset((chain(policy="drop"),))
    ids = found(shut)
    assert "filter-drops-requests" in ids
    assert "ct-invalid-drop" not in ids


def test_answers_that_are_dropped_in_any_state_are_the_filters_doing() -> None:
    tests = (Match("saddr", (netfilter.ip_network(f"{SERVER}/32"),)),)
    rules = Ruleset((chain(Rule("no answers", tests, "drop"), hook="forward"),))
    assert "no answers" in found(rules)["filter-drops-replies"]


def test_the_remedy_is_a_command_for_these_packets() -> None:
    def remedy(rules: Ruleset) -> str:
        (one,) = [e for e in look(rules).found if e.check.id == "filter-drops-requests"]
        return one.finding.commands[0]

    shut = Ruleset((chain(policy="drop"),))
    assert remedy(shut) == "nft insert rule inet filter in ip daddr 192.0.2.10 tcp dport 80 accept"
    saved = Ruleset(tuple(iptables.parse("*filter\n:INPUT DROP [0:0]\n", "ip")))
    assert remedy(saved) == "iptables -t filter -I INPUT -d 192.0.2.10 -p tcp --dport 80 -j ACCEPT"
