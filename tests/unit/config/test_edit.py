"""Edits change what was asked and nothing else in the text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernlb.config import ConfigError, Defaults, parse_service
from kernlb.config.edit import add_server, edit_server, merge, remove_server, render
from kernlb.config.syntax import read_values
from kernlb.model import parse_endpoint, parse_service_key
from tests.unit.config.documents import services

WEB = parse_service_key("tcp/192.0.2.10:80")
TEXT = """\
# the shop
address: "192.0.2.10"   # in quotes
port: 80

# rack 1
servers:
  - address: 10.0.0.1   # one
    port: 8080
    weight: 5           # half of the others

  # the new ones
  - {address: 10.0.0.2, port: 8080}   # two
  - address: 10.0.0.3
    # nothing more of three
# the end
"""


def lines(text: str) -> set[str]:
    return set(text.splitlines())


def test_a_scalar_is_replaced_in_its_place() -> None:
    assert merge(TEXT, {"port": 8080}) == TEXT.replace("port: 80\n", "port: 8080\n", 1)


def test_a_patch_that_says_what_is_there_changes_nothing() -> None:
    assert merge(TEXT, {"port": 80, "address": "192.0.2.10", "weight": None}) == TEXT


def test_a_new_key_goes_behind_the_last() -> None:
    assert merge(TEXT, {"labels": {"team": "web"}}) == TEXT.replace(
        "    # nothing more", "labels:\n  team: web\n    # nothing more"
    )


def test_null_removes_a_key_and_its_lines_only() -> None:
    assert merge(TEXT, {"port": None}) == TEXT.replace("port: 80\n", "", 1)


def test_a_mapping_is_merged_into_a_mapping() -> None:
    text = merge("port: 80\nlabels:\n  a: x # of a\n  b: y\n", {"labels": {"a": None, "c": "z"}})
    assert text == "port: 80\nlabels:\n  b: y\n  c: z\n"


def test_a_server_is_added_behind_the_others() -> None:
    text = add_server(TEXT, {"address": "10.0.0.4", "weight": 2})
    assert text == TEXT.replace(
        "    # nothing more", "  - address: 10.0.0.4\n    weight: 2\n    # nothing more"
    )


def test_the_first_server_is_added() -> None:
    for text in ("port: 80 # http\n", "port: 80 # http\nservers: []\n"):
        assert add_server(text, {"address": "10.0.0.4"}) == (
            "port: 80 # http\nservers:\n- address: 10.0.0.4\n"
        )


def test_one_server_is_edited() -> None:
    text = edit_server(TEXT, WEB, parse_endpoint("10.0.0.1:8080"), {"weight": 10})
    assert text == TEXT.replace("weight: 5 ", "weight: 10 ")


def test_a_server_on_one_line_is_edited_too() -> None:
    text = edit_server(TEXT, WEB, parse_endpoint("10.0.0.2:8080"), {"weight": 10})
    assert "- {address: 10.0.0.2, port: 8080, weight: 10} # two\n" in text
    assert lines(TEXT) - lines(text) == {"  - {address: 10.0.0.2, port: 8080}   # two"}


def test_a_server_without_port_has_the_port_of_its_service() -> None:
    text = edit_server(TEXT, WEB, parse_endpoint("10.0.0.3:80"), {"weight": 3})
    assert "  - address: 10.0.0.3\n    weight: 3\n" in text


def test_an_address_is_found_however_it_is_spelt() -> None:
    text = "port: 80\nservers:\n- address: 2001:DB8:0::1\n- address: 10.0.0.1\n"
    assert remove_server(text, WEB, parse_endpoint("[2001:db8::1]:80")) == (
        "port: 80\nservers:\n- address: 10.0.0.1\n"
    )


def test_a_server_goes_with_its_lines_only() -> None:
    text = remove_server(TEXT, WEB, parse_endpoint("10.0.0.1:8080"))
    assert lines(TEXT) - lines(text) == {
        "  - address: 10.0.0.1   # one",
        "    port: 8080",
        "    weight: 5           # half of the others",
    }
    assert lines(text) <= lines(TEXT)


def test_the_last_server_leaves_an_empty_list() -> None:
    text = "port: 80 # http\nservers:\n  - address: 10.0.0.1\n"
    text = remove_server(text, WEB, parse_endpoint("10.0.0.1:80"))
    assert text == "port: 80 # http\nservers: []\n"


def test_removing_the_absent_changes_nothing() -> None:
    assert remove_server(TEXT, WEB, parse_endpoint("10.9.9.9:80")) == TEXT


def test_editing_the_absent_is_refused() -> None:
    with pytest.raises(LookupError, match=r"10\.9\.9\.9:80"):
        edit_server(TEXT, WEB, parse_endpoint("10.9.9.9:80"), {"weight": 1})


def test_json_stays_json() -> None:
    text = add_server('{"port": 80, "servers": []}', {"address": "10.0.0.1"})
    assert json.loads(text) == {"port": 80, "servers": [{"address": "10.0.0.1"}]}
    assert json.loads(merge(text, {"port": None})) == {"servers": [{"address": "10.0.0.1"}]}


def test_text_that_looks_like_something_else_is_quoted() -> None:
    labels = {"a": "7", "b": "true", "c": "null", "d": "012", "e": "#x", "f": "x: y", "g": ""}
    assert read_values(merge(TEXT, {"labels": labels}).encode(), "")["labels"] == labels


def test_a_text_that_cannot_be_read_is_not_edited() -> None:
    for text in ("", "- a\n", "a: [\n", "a: &x 1\n"):
        with pytest.raises(ConfigError):
            merge(text, {"port": 80})


def commented(text: str) -> tuple[str, list[str]]:
    """A text with a comment of its own above every top-level key and every server."""
    result: list[str] = []
    comments = []
    for line in text.splitlines():
        if not line.startswith(" "):
            comments.append(f"# about line {len(result)}")
            result.append(comments[-1])
        result.append(line)
    return "\n".join(result) + "\n", comments


PATCHES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "scheduler": st.sampled_from(["rr", "wlc", None]),
        "weight": st.integers(0, 9) | st.none(),
        "labels": st.none()
        | st.dictionaries(st.sampled_from("abc"), st.none() | st.text("xyz 1#:'\"", max_size=5)),
        "drain_timeout": st.none() | st.just("5m"),
        "persistence": st.none() | st.integers(1, 9) | st.just({"timeout": "1m"}),
        "tunnel": st.none(),
        "servers": st.lists(st.just({"address": "10.0.0.1", "weight": 3}), max_size=2),
    },
)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2, in its own words."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@given(services(), PATCHES)
def test_a_merge_says_what_was_asked_and_keeps_every_comment(
    document: dict[str, Any], patch: dict[str, Any]
) -> None:
    text, comments = commented(render(document))
    after = merge(text, patch)
    assert read_values(after.encode(), "") == merged(document, patch)
    kept = lines(after)
    inside = "servers" in patch  # comments within a list that is replaced go with it
    assert inside or all(comment in kept for comment in comments)


@given(services(), st.data())
def test_servers_come_and_go_without_touching_another_line(
    document: dict[str, Any], data: st.DataObject
) -> None:
    text, _ = commented(render(document))
    service = parse_service(text.encode(), name="web", source="", defaults=Defaults())
    longer = add_server(text, {"address": "10.255.255.254"})
    assert lines(text) - lines(longer) <= {"servers: []"}
    for server in service.servers:
        shorter = remove_server(text, service.service.key, server.key)
        listed = read_values(shorter.encode(), "")["servers"]
        assert len(listed) == len(service.servers) - 1
        assert lines(shorter) - lines(text) <= {"servers: []"}
        patch = {"weight": data.draw(st.integers(0, 65535))}
        edited = edit_server(text, service.service.key, server.key, patch)
        again = parse_service(edited.encode(), name="web", source="", defaults=Defaults())
        found = again.server(server.key)
        assert found is not None
        assert found == server.with_weight(patch["weight"])
