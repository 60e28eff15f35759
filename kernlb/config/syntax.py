"""Text to plain values: the part of YAML that a declaration needs, and JSON.

Read are mappings, lists, text, numbers, true, false and null as YAML 1.2 spells them (``no`` and
``on`` are text). Refused, with the line, is everything that makes a document say something else
than it seems to: anchors, aliases, merge keys, tags, duplicate keys, several documents in a file;
and whatever only an attack needs: huge files, deep nesting, NUL bytes.

Rules:

* keys of mappings are always text;
* every loop is bounded by the size of the text, and that is bounded;
* the parser behind is libyaml, read event by event (documents of the usual shape go through
  ``block``, which is faster): no mark outlives its event, and positions are collected by a second
  reading (:func:`lines_of`) only when a fault needs them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from kernlb.config.block import DECLINED, read_block
from kernlb.config.errors import ConfigError, Fault, Lines, Path, key_of, shown

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 12  # the deepest thing a document says is servers[n].check.all[n].headers.name: 7
MAX_VALUES = 400_000  # one server is 10 to 20 events

Positions = dict[Path, int]

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})|0x[0-9a-fA-F]{1,15}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18})", re.ASCII)
_WORDS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_STARTS_NUMBER = frozenset("-+.0123456789")
_UNREADABLE = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def read_values(text: bytes, source: str) -> Any:
    """The value that a document holds. ``source`` is its file: JSON if it ends in ``.json``.

    Raises ConfigError with one fault: what follows a mistake in the syntax means nothing.
    """
    _refuse_unreadable(text, source)
    if source.endswith(".json"):
        return _read_json(text, source)
    value = read_block(text, _scalar)
    return _read_yaml(text, source, None) if value is DECLINED else value


def lines_of(text: bytes, source: str = "") -> Lines:
    """The line of every key and list item, by path; empty where they cannot be told."""
    positions: Positions = {}
    try:
        _refuse_unreadable(text, source)
        _read_yaml(text, source, positions)  # JSON is YAML enough for this
    except ConfigError:
        pass
    return positions


def located(fault: Fault, text: bytes) -> Fault:
    """The fault with the line of its key or of the nearest thing around it, for those found
    without the text at hand."""
    lines = {key_of(path): line for path, line in lines_of(text, fault.file).items()}
    key = fault.key
    while key and key not in lines:
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return replace(fault, line=lines.get(key, 0) if key else 0)


def _refuse_unreadable(text: bytes, source: str) -> None:
    if len(text) > MAX_BYTES:
        size = f"{len(text)} bytes"
        raise _error(f"is too large: {size}, at most {MAX_BYTES} are read", source)
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = _line_at_offset(text, error.start)
        byte = text[error.start]
        raise _error(f"is not UTF-8: byte 0x{byte:02x}", source, line) from None
    if bad := _UNREADABLE.search(text):
        line = _line_at_offset(text, bad.start())
        raise _error(f"has a control character: byte 0x{bad[0][0]:02x}", source, line)


def _read_json(text: bytes, source: str) -> Any:
    import json

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(items)
        if len(value) != len(items):
            raise _DuplicateKeyError
        return value

    def constant(word: str) -> Any:
        raise _error(f"{word} is not JSON", source)

    try:
        # utf-8-sig: a byte order mark is legal at the start of a text, and some editors add it
        value = json.loads(
            text.decode("utf-8-sig"), object_pairs_hook=pairs, parse_constant=constant
        )
        if b"\\u" in text:  # the only way to half a character
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        if not text.strip():
            raise _error("is empty", source) from None
        raise _error(f"is not JSON: {error.msg}", source, error.lineno) from None
    except UnicodeEncodeError:
        raise _error("is not JSON: half a surrogate pair", source) from None
    except (_DuplicateKeyError, RecursionError, ValueError):
        _read_yaml(text, source, {})  # says what and where
        raise _error("is not JSON: a key is there twice, or a number is too long", source) from None


class _DuplicateKeyError(Exception):
    pass


def _read_yaml(text: bytes, source: str, positions: Positions | None) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return _Builder(loader, text, source, positions).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, source) from None
    except yaml.YAMLError as error:
        raise _error(f"is not YAML: {str(error).splitlines()[0]}", source) from None
    finally:
        loader.dispose()


def _syntax_error(error: Any, text: bytes, source: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 0
    lines = text.splitlines()
    if line and line <= len(lines) and re.match(rb" *\t", lines[line - 1]):
        return _error("is not YAML: a tab indents this line, use spaces", source, line)
    return _error(f"is not YAML: {error.problem or error.context}", source, line)


class _Builder:
    """Builds the value of one document from its events."""

    def __init__(self, loader: Any, text: bytes, source: str, positions: Positions | None):
        self._next = loader.get_event
        self._text = text
        self._source = source
        self._positions = positions

    def document(self) -> Any:
        from yaml import events

        self._next()  # stream start
        if isinstance(event := self._next(), events.StreamEndEvent):
            raise self._refusal("is empty", event)
        value = self._value()
        self._next()  # document end
        if not isinstance(event := self._next(), events.StreamEndEvent):
            raise self._refusal("holds several documents: one service a file", event)
        return value

    def _value(self) -> Any:
        """One value, without recursion: a stack of the containers that are open."""
        from yaml.events import (
            MappingStartEvent,
            ScalarEvent,
            SequenceStartEvent,
        )

        get = self._next
        known: dict[str, object] = {}
        stack: list[tuple[Any, str | None]] = []
        container: Any = None  # the innermost open dict or list, None at the top
        key: str | None = None  # in a dict: the key whose value comes next
        path: list[str | int] = []
        for _ in range(MAX_VALUES):
            event = get()
            kind = type(event)
            if kind is ScalarEvent:
                if event.anchor is not None or event.tag is not None:
                    raise self._decorated(event, _here(path, container, key))
                text = event.value
                if key is None and type(container) is dict:
                    if text in container:
                        raise self._duplicate(text, path, event)
                    if text == "<<" and event.implicit[0]:
                        raise self._refusal("has a merge key: write it out", event, (*path, "<<"))
                    key = text
                    self._note((*path, key), event)
                    continue
                if not event.implicit[0]:
                    value: Any = text
                elif text in known:
                    value = known[text]
                else:
                    value = known[text] = _scalar(text)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                if event.anchor is not None or event.tag is not None:
                    raise self._decorated(event, _here(path, container, key))
                if key is None and type(container) is dict:
                    raise self._refusal("has a key that is not text", event, tuple(path))
                if len(stack) >= MAX_DEPTH:
                    where = _here(path, container, key)
                    raise self._refusal(f"is nested deeper than {MAX_DEPTH}", event, where)
                if container is not None:
                    path.append(len(container) if key is None else key)
                self._note(tuple(path), event)
                stack.append((container, key))
                container = {} if kind is MappingStartEvent else []
                key = None
                continue
            elif event.__class__.__name__ == "AliasEvent":
                where = _here(path, container, key)
                raise self._refusal(f"has an alias (*{event.anchor}): write it out", event, where)
            else:  # the end of a mapping or a list
                value = container
                container, key = stack.pop()
                if path:
                    path.pop()
            if container is None:
                return value
            if key is None:
                if self._positions is not None and kind is ScalarEvent:
                    self._note((*path, len(container)), event)
                container.append(value)
            else:
                container[key] = value
                key = None
        raise self._refusal(f"holds more than {MAX_VALUES} values", event)

    def _note(self, path: Path, event: Any) -> None:
        if self._positions is not None:
            self._positions.setdefault(path, event.start_mark.line + 1)

    def _refusal(self, message: str, event: Any, path: Path = ()) -> ConfigError:
        line = event.start_mark.line + 1 if event.start_mark else 0
        return _error(message, self._source, line, path)

    def _decorated(self, event: Any, path: Path) -> ConfigError:
        if event.anchor is not None:
            message = f"has an anchor (&{event.anchor}): write the value out where it is used"
        else:
            message = f"has a tag ({shown(event.tag)}): values have the type their key asks for"
        return self._refusal(message, event, path)

    def _duplicate(self, key: str, path: list[str | int], event: Any) -> ConfigError:
        full = (*path, key)
        first = (self._positions or {}).get(full)
        if first is None and self._positions is None:
            first = lines_of(self._text, self._source).get(full)
        where = f"first on line {first}" if first else "there already"
        return self._refusal(f"is a duplicate key: {where}", event, full)


def _here(path: list[str | int], container: Any, key: str | None) -> Path:
    """Where the value stands that comes next."""
    if key is not None:
        return (*path, key)
    return (*path, len(container)) if type(container) is list else tuple(path)


def _scalar(text: str) -> object:
    """What a plain scalar is: a word, a number, else text. Too long for a number: text too."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in _STARTS_NUMBER:
        if _INT.fullmatch(text):
            return int(text, 16 if text[:2] == "0x" else 10)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def _error(message: str, source: str, line: int = 0, path: Path = ()) -> ConfigError:
    return ConfigError(Fault(message, source, line, key_of(path)))


def _line_at_offset(text: bytes, offset: int) -> int:
    return text.count(b"\n", 0, offset) + 1
