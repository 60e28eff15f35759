"""keepalived's two ways to split a line into words, and to strip its comments. Pure.

Source: keepalived's lib/parser.c. Only ``"`` quotes, and only where a word begins; scripts,
regular expressions and the like are split again as a shell does, with both quotes and escapes.
"""

from __future__ import annotations

BLANK = " \t"
_ESCAPES = {"a": "\a", "b": "\b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPES["v"] = "\v"
_HEX = "0123456789abcdefABCDEF"


class QuoteError(ValueError):
    """A quote that does not close."""


def decomment(line: str) -> str:
    """The line without comment and outer blanks; ``\\#`` and ``\\!`` stand for themselves. One
    backslash stays at the end of a line that goes on."""
    text = line.strip(BLANK)
    found: list[str] = []
    quoted = False
    index = 0
    while index < len(text):
        char = text[index]
        if char == '"':
            quoted = not quoted
        elif char == "\\":
            after = text[index + 1 : index + 2]
            if not after:
                return "".join(found).rstrip(BLANK) + "\\"
            found.append(after if not quoted and after in "#!" else char + after)
            index += 2
            continue
        elif char in "!#" and not quoted:
            break
        found.append(char)
        index += 1
    return "".join(found).rstrip(BLANK)


def split(text: str) -> tuple[str, ...]:
    """The words of a line. Raises QuoteError."""
    words: list[str] = []
    index = 0
    while index < len(text):
        if text[index] in BLANK:
            index += 1
        elif text[index] == '"':
            end = text.find('"', index + 1)
            if end < 0:
                raise QuoteError("a quote does not close")
            words.append(text[index + 1 : end])
            index = end + 1
        else:
            start = index
            while index < len(text) and text[index] not in BLANK + '"':
                index += 1
            words.append(text[start:index])
    return tuple(words)


def split_quoted(text: str, *, escapes: bool) -> tuple[str, ...]:
    """The words of a line with ``'`` and ``"`` anywhere in them. With ``escapes`` a backslash
    makes the character it names, without it stays. Raises QuoteError."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    index = 0
    while index < len(text):
        char = text[index]
        index += 1
        if char == "\\":
            if index == len(text):
                raise QuoteError("a backslash at the end")
            said, index = _escape(text, index) if escapes else (char + text[index], index + 1)
            word = [*(word or []), said]
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote, word = char, word or []
        elif not quote and char in BLANK:
            if word is not None:
                words.append("".join(word))
            word = None
        elif word is None:
            word = [char]
        else:
            word.append(char)
    if quote:
        raise QuoteError("a quote does not close")
    if word is not None:
        words.append("".join(word))
    return tuple(words)


def _escape(text: str, index: int) -> tuple[str, int]:
    """What the escape at ``index`` (behind its backslash) stands for, and where it ends."""
    char = text[index]
    if char == "x" and text[index + 1 : index + 2] in tuple(_HEX):
        end = index + 2
        if text[end : end + 1] in tuple(_HEX):
            end += 1
        return chr(int(text[index + 1 : end], 16)), end
    if char == "c" and index + 1 < len(text):
        return chr(ord(text[index + 1]) & 0x1F), index + 2
    if char in "01234567":
        end = index
        while end < len(text) and end < index + 3 and text[end] in "01234567":
            end += 1
        return chr(int(text[index:end], 8) & 0xFF), end
    return _ESCAPES.get(char, char), index + 1
