"""Replaces, adds and removes values in a YAML text by its lines, nothing else touched.

Works in block collections only; where a change falls inside a flow collection it declines. Line
numbers and columns come from libyaml's nodes. The caller checks what came out.
"""

from __future__ import annotations

from typing import Any

from kernlb.config.errors import Path

INDENT = 2


def dump(value: Any) -> str:
    """A value as YAML in block style. Text that YAML 1.1 or 1.2 would take for another type is
    quoted."""
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """No aliases: equal values are written out, for aliases are refused on reading."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    text: str = yaml.dump(
        value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=4096, indent=INDENT
    )
    return text.removesuffix("...\n")


class Splice:
    """One text, ready for one change."""

    def __init__(self, text: str) -> None:
        import yaml

        self._lines = text.splitlines(keepends=True)
        if self._lines and not self._lines[-1].endswith("\n"):
            self._lines[-1] += "\n"
        # the base loader: places are wanted, not types, and working those out costs the most
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        self._root: Any = yaml.compose(text.lstrip("\ufeff"), Loader=loader)

    def put(self, path: Path, value: Any) -> str | None:
        """The text with ``value`` at ``path``, which is there or next to what is there; value
        None: with nothing there. None: this is not a change for lines."""
        container = self._root
        for part in path[:-1]:
            found = _child(container, part)
            if found is None:
                return None
            container = found[1]
        if container.flow_style or not container.value:
            return None
        found = _child(container, path[-1])
        if found is None:
            return None if value is None else self._add(container, path[-1], value)
        key, old = found
        if value is None:
            return self._remove(container, key, old)
        if isinstance(path[-1], int):
            return None
        if _is_plain(old) and not isinstance(value, (dict, list)):
            return self._replace_scalar(old, value)
        entry = _entry(path[-1], value, key.start_mark.column)
        first = self._lines[key.start_mark.line][: key.start_mark.column]
        entry[0] = first + entry[0][len(first) :]  # "- " in front of the first key of an item
        return self._with(key.start_mark.line, _last_line(old) + 1, entry)

    def _add(self, container: Any, part: str | int, value: Any) -> str:
        last = container.value[-1]
        node = last[1] if isinstance(last, tuple) else last
        column = container.start_mark.column
        at = _last_line(node) + 1
        return self._with(at, at, _entry(part, value, column))

    def _remove(self, container: Any, key: Any, old: Any) -> str | None:
        if len(container.value) == 1:
            return None
        line, column = key.start_mark.line, key.start_mark.column
        if not isinstance(container.value[0], tuple):  # an item: its dash is in front of it
            column = container.start_mark.column
        if self._lines[line][:column].strip():
            return None  # shares its line with what is around it ("- address: ...")
        return self._with(line, _last_line(old) + 1, [])

    def _replace_scalar(self, old: Any, value: Any) -> str:
        line = self._lines[old.start_mark.line]
        new = dump(value).rstrip("\n")
        changed = line[: old.start_mark.column] + new + line[old.end_mark.column :]
        return self._with(old.start_mark.line, old.start_mark.line + 1, [changed])

    def _with(self, first: int, end: int, lines: list[str]) -> str:
        return "".join([*self._lines[:first], *lines, *self._lines[end:]])


def _child(node: Any, part: str | int) -> tuple[Any, Any] | None:
    """Key and value of an entry, or an item twice."""
    if isinstance(part, int):
        items = node.value if node.id == "sequence" else []
        return (items[part], items[part]) if part < len(items) else None
    entries = node.value if node.id == "mapping" else []
    return next((entry for entry in entries if entry[0].value == part), None)


def _is_plain(node: Any) -> bool:
    """A scalar on one line, and not an empty one."""
    start, end = node.start_mark, node.end_mark
    return bool(node.id == "scalar" and start.line == end.line and start.column < end.column)


def _last_line(node: Any) -> int:
    """Where a value ends, comments after it left out: libyaml's mark of a block is past them."""
    while node.id != "scalar" and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    mark = node.end_mark
    ended = mark.column == 0 and mark.line > node.start_mark.line  # | and > end on the next line
    return int(mark.line - 1 if ended else mark.line)


def _entry(part: str | int, value: Any, column: int) -> list[str]:
    """Lines of ``part: value`` or of ``- value`` that start at a column."""
    text = dump([value] if isinstance(part, int) else {part: value})
    return [" " * column + line for line in text.splitlines(keepends=True)]
