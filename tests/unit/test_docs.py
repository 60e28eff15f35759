"""The words agree with the program: links and paths lead somewhere, and command lines parse.

Nothing here judges prose. Commands are parsed with the parsers that ship, and run nothing.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.unit.pages import PAGES, ROOT, Block, blocks, prose

BY_NAME = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]


def shell_lines(block: Block) -> Iterator[str]:
    """The commands of a block: all lines of sh, those behind a prompt of console."""
    pending = ""
    for line in block.text.replace("\\\n", " ").splitlines():
        if not pending and block.language == "console":
            if not line.startswith(("$ ", "# ")):
                continue
            line = line[2:]
        pending += f"{line}\n"
        try:
            shlex.split(pending, comments=block.language == "sh")
        except ValueError:  # a quote is open: the command goes on
            continue
        yield pending
        pending = ""
    assert not pending, f"the quotes of the block at line {block.line} do not close"


def commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a line, in words; redirections and what feeds them left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    target = False  # is the next word where a redirection leads?
    for word in [*lexer, ";"]:
        if set(word) <= set("<>&") and set(word) & set("<>"):
            target = True
            if words and words[-1] in ("1", "2"):
                words.pop()
        elif target:
            target = False
        elif set(word) <= set("|&;()"):
            if words:
                yield words
            words = []
        else:
            words.append(word)


def invocations(words: list[str]) -> Iterator[list[str]]:
    """What a command runs itself or hands on (sudo, `kernlb lab enter ... -- kernlb ...`)."""
    for at, word in enumerate(words):
        if word in ("kernlb", "kernlbd"):
            end = words.index("--", at) if "--" in words[at:] else len(words)
            yield words[at:end]


SHOWN = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}:{block.line}: {' '.join(words)[:60]}")
    for page in PAGES
    for block in blocks(page)
    if block.language in ("sh", "console")
    for line in shell_lines(block)
    for command in commands(line)
    for words in invocations(command)
]


@pytest.mark.parametrize("words", SHOWN)
def test_a_command_line_in_a_block_parses(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernlb.cli.app import cli
    from kernlb.daemon import _parser

    monkeypatch.chdir(tmp_path)  # where the files exist that examples name
    for word in words:
        if word.endswith((".yaml", ".d", "/documents")) and not Path(word).is_absolute():
            (tmp_path / word).touch()
    program, *arguments = words
    try:
        if program == "kernlbd":
            _parser().parse_args(arguments)
        else:
            _parse(cli, "kernlb", arguments, None)
    except click.exceptions.Exit:
        return  # --help


def _parse(
    command: click.Command, name: str, arguments: list[str], parent: click.Context | None
) -> None:
    context = command.make_context(name, list(arguments), parent=parent)
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        found, subcommand, rest = command.resolve_command(context, rest)
        assert found and subcommand, f"no command {rest}"
        _parse(subcommand, found, rest, context)


@pytest.mark.parametrize("page", BY_NAME)
def test_a_command_named_in_a_sentence_exists_with_its_options(page: Path) -> None:
    from kernlb.cli.app import cli

    for text in re.findall(r"`kernlb ([^`]+)`", prose(page)):
        command: click.Command = cli
        context = click.Context(cli)
        options = {"--help"}
        for word in shlex.split(text):
            if isinstance(command, click.Group) and word.islower() and word.isalpha():
                found = command.get_command(context, word)
                assert found is not None, f"{page.name}: `kernlb {text}`: no command {word}"
                command = found
                options |= {name for each in found.params for name in each.opts}
            elif word.startswith("-") and command.name != "daemon":
                option = word.partition("=")[0]
                assert option in options, f"{page.name}: `kernlb {text}`: no option {option}"


@pytest.mark.parametrize("page", BY_NAME)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        destination = (page.parent / path).resolve() if path else page
        assert destination.exists(), f"{page.name} links to {target}: there is no such file"
        if anchor:
            assert anchor in _anchors(destination), f"{page.name} links to {target}: no such part"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


FOLDERS = r"kernlb|tests|bench|docs|bpf|ansible|vagrant|\.ci"


@pytest.mark.parametrize("page", BY_NAME)
def test_paths_modules_and_make_targets_exist(page: Path) -> None:
    text = page.read_text()
    for path in re.findall(rf"`((?:{FOLDERS})/[^`\s]*)`", text):
        file, _, test = path.partition("::")
        found = list(ROOT.glob(file.rstrip("/")))
        assert found, f"{page.name} names {path}: there is no such file"
        assert f"def {test}(" in found[0].read_text() if test else True, f"no test {path}"
    for module in re.findall(r"python3? -m (kernlb[\w.]*|tests[\w.]*|bench[\w.]*)", text):
        assert importlib.util.find_spec(module), f"{page.name} runs {module}: no such module"
    for target in re.findall(r"^[^\n`]*?(?:\$ |`|sudo )make ([a-z-]+)", text, re.MULTILINE):
        makefile = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no target {target}"


LOOSE_ENDS = re.compile(r"\b(TODO|FIXME|XXX|TBD|lorem)\b")
PRAISE = re.compile(
    r"\b(blazing|seamless|effortless|cutting.edge|world.class|next.gen|enterprise.grade"
    r"|revolutionary|powerful|robust|simply|leverage)\w*\b",
    re.IGNORECASE,
)
KNOWN_ROOTS = ("boot", "dev", "etc", "lib", "metrics", "opt", "proc", "run", "sys", "tmp", "usr")
KNOWN_ROOTS += ("v1", "var")


@pytest.mark.parametrize("page", BY_NAME)
def test_the_words_are_plain_and_finished(page: Path) -> None:
    text = page.read_text()
    for pattern in (LOOSE_ENDS, PRAISE):
        assert not (found := pattern.search(text)), f"{page.name} says {found[0]}"
    assert not re.search(r"(?<![\w&])#\d+\b", text), f"{page.name} cites a ticket"
    for root in re.findall(r"(?<=[\s`(\"'=])/([a-z0-9]+)/", text):
        assert root in KNOWN_ROOTS, f"{page.name} names a path under /{root}"


def test_every_dependency_is_argued_for() -> None:
    page = (ROOT / "docs/dependencies.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    packages = re.findall(r"PACKAGES=\((.*?)\)", (ROOT / ".ci/setup").read_text(), re.DOTALL)
    names = [re.split(r"[^\w.-]", each)[0] for each in wanted] + " ".join(packages).split()
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_reason_of_xdp_is_described() -> None:
    from kernlb.datapath.xdp.explain import MEANINGS

    page = (ROOT / "docs/xdp.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (?:passed|sent|answered|dropped) \| (.+) \|$", page, re.M)
    assert dict(rows) == {reason.name.lower(): meaning for reason, meaning in MEANINGS.items()}
