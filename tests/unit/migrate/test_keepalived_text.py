"""The text of a keepalived.conf: comments, quotes, conditions, definitions, loops, includes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernlb.migrate.keepalived.lines import Lines, braces
from kernlb.migrate.keepalived.words import decomment, split, split_quoted
from kernlb.migrate.report import MigrationError, Report
from tests.unit.migrate.configurations import Memory, document, read, told, virtual_server


def lines(text: str | bytes, config_id: str = "main", **files: str) -> list[str]:
    beside: dict[str, str | bytes] = {f"/etc/{name}.conf": body for name, body in files.items()}
    disk = Memory({"/etc/k.conf": text, **beside})
    return [line.text for line in Lines(disk, config_id, Report()).read("/etc/k.conf")]


def test_comments_begin_with_either_mark_and_end_with_the_line() -> None:
    assert lines("! all\nweight 1 # some\n  # none\nweight 2! no blank\n") == [
        "weight 1",
        "weight 2",
    ]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ('path "/a#b!c" # d', 'path "/a#b!c"'),
        (r"path /a\#b", "path /a#b"),
        (r"path /a\b", r"path /a\b"),
        ("  x  ", "x"),
        ("x \\", "x\\"),
        ("#", ""),
    ],
)
def test_quotes_and_backslashes_keep_a_comment_from_beginning(said: str, meant: str) -> None:
    assert decomment(said) == meant


def test_words_are_quoted_as_keepalived_quotes_them() -> None:
    assert split('a "b c"d e') == ("a", "b c", "d", "e")
    assert split_quoted("""ab'c d'"e f" g\\n""", escapes=True) == ("abc de f", "g\n")
    assert split_quoted(r"a\ b '\'' \x41\101\cA", escapes=True) == ("a b", "'", "AA\x01")
    assert split_quoted(r"a\.b", escapes=False) == (r"a\.b",)


def test_braces_are_lines_of_their_own_wherever_they_stand() -> None:
    assert lines('a { b 1\n} c "{x}" {\n}') == ["a", "{", "b 1", "}", 'c "{x}"', "{", "}"]


def test_a_condition_holds_for_its_configuration_id_alone() -> None:
    text = "@main one 1\n@backup two 2\n@^main three 3\n@^backup four 4\n"
    assert lines(text) == ["one 1", "four 4"]
    assert lines(text, "backup") == ["two 2", "three 3"]
    assert lines(text, "") == ["three 3", "four 4"]


def test_what_a_condition_leaves_out_is_told() -> None:
    report = read("@other garbage here\n" + virtual_server(), config_id="main")
    assert told(report) == [
        "1: note: @other garbage here: left out: meant for config id other, and this is main"
    ]


def test_definitions_are_put_in_when_they_are_used_and_not_before() -> None:
    text = """
$BASE=10.2.${SUB}
$SUB=0
${BASE}.100/32
$SUB=10
${BASE}.100/32 $SUB, ${UNKNOWN_ONE $SUBWAY
"""
    assert lines(text) == [
        *("10.2.0.100/32", "10.2.10.100/32 10, $", "{", "UNKNOWN_ONE $SUBWAY"),
    ]


def test_a_definition_may_hold_a_condition() -> None:
    assert lines("$IF_MAIN=@main\n$IF_MAIN priority 240\n") == ["priority 240"]
    assert lines("$IF_MAIN=@main\n$IF_MAIN priority 240\n", "other") == []


def test_definitions_of_several_lines_nest() -> None:
    text = """
$RS= \\
    real_server 10.0.${V}.${N} { \\
        weight ${N} \\
# a comment within
    }

$VS= \\
    virtual_server 192.0.2.${V} { \\
        $N=1 \\
        $RS \\
        $N=2 \\
        $RS \\
    }

$V=7
$VS
"""
    server = ["real_server 10.0.7.{0}", "{", "weight {0}", "}"]
    assert lines(text) == [
        "virtual_server 192.0.2.7",
        "{",
        *[line.replace("{0}", "1") for line in server],
        *[line.replace("{0}", "2") for line in server],
        "}",
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("~SEQ(S, 0, 3) 10.0.${S}.1", ["10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.3.1"]),
        ("~SEQ(S, 3) ${S}", ["1", "2", "3"]),
        ("~SEQ(S, -2) ${S}", ["-1", "-2"]),
        ("~SEQ(S, 5, -2, 1) ${S}", ["5", "3", "1"]),
        ("~SEQx(S, 0x90, 0x10, 0xb0) fe80::${S}", ["fe80::90", "fe80::a0", "fe80::b0"]),
        ("~SEQ(A,1,2) ~SEQ(B,8,9) ${A}.${B}", ["1.8", "1.9", "2.8", "2.9"]),
        ("~LST(IP, 1, 2) ~LST(J,5,6) ${IP}.${J}", ["1.5", "1.6", "2.5", "2.6"]),
        ("~LST({I, J}, {10,1},{20,4}) 192.${I}.${J}", ["192.10.1", "192.20.4"]),
        ("~LST({I, J}, {10}) 192.${I}.${J}.", ["192.10.."]),
        ("$END=2\n~SEQ(S, 1, ${END}) ${S}", ["1", "2"]),
    ],
)
def test_loops_repeat_the_rest_of_their_line(text: str, meant: list[str]) -> None:
    assert lines(text) == meant


def test_predefined_names_are_there() -> None:
    assert lines("a ${_PWD} ${_INSTANCE} ${_HASH} ${_BANG}") == ["a /etc main # !"]


def test_what_is_random_is_not_and_that_is_told() -> None:
    report = read(virtual_server("delay_loop ${_RANDOM 5 9}", checker="TCP_CHECK {\n}"))
    assert document(report)["check"]["interval"] == 5
    assert told(report) == ["4: changed: delay_loop ${_RANDOM 5 9}: is not random: the least "
                            "value stands in"]  # fmt: skip


def test_files_are_read_where_they_are_included() -> None:
    assert lines("a\ninclude b.conf\nc\n", b="b1\nincluder c*.conf\nb2", c1="x", c2="y") == [
        *("a", "b1", "x", "y", "b2", "c"),
    ]


def test_names_of_files_may_have_braces_as_in_a_shell() -> None:
    assert braces("x{a,b{1,2}}y") == ["xay", "xb1y", "xb2y"]
    assert lines("include {a,b}.conf", a="1", b="2") == ["1", "2"]


def test_each_kind_of_include_reads_what_is_there_and_tells_what_is_not() -> None:
    for word in ("include", "includer", "includem", "includew", "includeb", "includea"):
        report = read(f"{word} nothing*.conf\n{word} one.conf", one=virtual_server())
        assert len(report.services) == 1
        assert told(report) == [f"1: lost: {word} nothing*.conf: no file is there under this name"]


def test_a_loss_in_an_included_file_names_that_file_and_its_line() -> None:
    report = read("include one.conf\n", one=virtual_server("nonsense 1"))
    assert [str(loss) for loss in report.losses] == [
        "/etc/one.conf:4: lost: nonsense 1: is unknown, and keepalived ignores it"
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("include keepalived.conf", "/etc/keepalived.conf:1: /etc/keepalived.conf includes itself"),
        ("a\ninclude b.conf", "/etc/b.conf:1: /etc/keepalived.conf includes itself"),
        ("$A=${A}x\n$A", "/etc/keepalived.conf:2: definitions go on and on"),
        ("$A= \\\nx \\\n$A\n$A", "/etc/keepalived.conf:4: definitions go on and on"),
        ("~SEQ(A, 1, 900000) x", "/etc/keepalived.conf:1: ~SEQ has 900000 rounds"),
        ("~SEQ(A,1,9999) ~SEQ(B,1,9999) x", "/etc/keepalived.conf:1: comes to more than 200000"),
        ("a {\n" * 20, "/etc/keepalived.conf:17: blocks within blocks"),
    ],
)
def test_what_would_not_end_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(MigrationError) as caught:
        read(text, b="include keepalived.conf")
    assert str(caught.value).startswith(why)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_read_or_refused_in_one_sentence(content: bytes) -> None:
    try:
        read(content)
    except MigrationError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "x " * 100_000,
        '"' * 100_000,
        "{}" * 30_000,
        "$A=1\n" + "$A " * 20_000,
        "include " + "{a,b}" * 40,
        "@here " * 10_000 + "x",
        "\\" * 60_000,
        virtual_server("", "", "HTTP_GET {\nurl {\npath /\nregex " + "(" * 5_000 + "\n}\n}"),
        virtual_server("", "", "HTTP_GET {\nurl {\npath /\nregex (a{1,65535}){1,65535}\n}\n}"),
        "virtual_server_group g {\n10.0.0.0/8 80\n}\nvirtual_server group g {\n}\n",
        "~LST(A, " + ",".join(map(str, range(10_000))) + ") x ${A}",
    ],
    ids=range(11),
)
def test_what_is_made_to_be_dear_is_read_or_refused_all_the_same(text: str) -> None:
    try:
        read(text)
    except MigrationError as error:
        assert str(error).startswith("/etc/keepalived.conf:")
