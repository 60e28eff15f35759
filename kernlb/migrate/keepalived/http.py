"""HTTP_GET and SSL_GET: their URLs to http checks, one each. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kernlb.migrate.keepalived.ledger import Ledger
from kernlb.migrate.keepalived.tree import Directive
from kernlb.migrate.keepalived.values import switch, word
from kernlb.migrate.keepalived.words import QuoteError, split_quoted

USUAL_STATUS = "200-299"
MAX_BODY = 16 << 20  # bytes of a body that a check looks at, at most

DIGEST = "kernlb compares no digest of a page: body or body_regex can ask for what must be in it"
FAST = "every probe asks for all URLs at once"
PROTOCOL = "kernlb speaks HTTP/1.1"

# PCRE2's options that a pattern of Python's can say by itself.
_INLINE = {"caseless": "i", "multiline": "m", "dotall": "s", "extended": "x"}
_NO_MATTER = {"utf", "no_auto_capture", "no_auto_possess", "no_start_optimize", "never_backslash_c"}
_STATUS = re.compile(r"([1-9][0-9]{2})(?:-([1-9][0-9]{2}))?", re.ASCII)


class Http:
    """Reads what is particular to one HTTP_GET or SSL_GET."""

    def __init__(self, ledger: Ledger, checker: Directive, host: str | None) -> None:
        self._ledger = ledger
        self.tls = checker.name == "SSL_GET"
        self._host = host
        self._sni: str | None = None
        self._urls: list[dict[str, Any]] = []

    def handlers(self) -> dict[str, Callable[[Directive], None]]:
        known: dict[str, Callable[[Directive], None]] = {
            "url": self._url,
            "virtualhost": self._virtualhost,
            "http_protocol": self._protocol,
            "fast_recovery": lambda d: self._ledger.note(d, FAST),
        }
        if self.tls:
            known["enable_sni"] = self._enable_sni
            known["sni_name"] = self._sni_name
            known["tls_compliant"] = lambda d: self._ledger.lost(d, "has no counterpart")
        return known

    def items(self, base: dict[str, Any]) -> list[dict[str, Any]]:
        """One http check a URL; the same one twice is one."""
        found: list[dict[str, Any]] = []
        for url in self._urls:
            item = {**base, **url}
            if "host" not in item and self._host is not None:
                item["host"] = self._host
            if self.tls:
                item["verify"] = False
                if self._sni is not None:
                    item["server_name"] = self._sni
            if item not in found:
                found.append(item)
        return found

    def _virtualhost(self, directive: Directive) -> None:
        try:
            self._host = word(directive)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._ledger.use(directive, 1)

    def _protocol(self, directive: Directive) -> None:
        if directive.args[:1] == ("1.1",):
            self._ledger.use(directive, 1)
        else:
            self._ledger.changed(directive, PROTOCOL)

    def _enable_sni(self, directive: Directive) -> None:
        try:
            asked = switch(directive)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        if asked:
            self._ledger.use(directive, 1)
        else:
            self._ledger.changed(directive, "kernlb names a host whose name it knows")

    def _sni_name(self, directive: Directive) -> None:
        if not directive.args:
            self._ledger.lost(directive, "has no value")
            return
        self._sni = directive.args[0]
        self._ledger.use(directive, 1)

    def _url(self, directive: Directive) -> None:
        url = _Url(self._ledger)
        self._ledger.dispatch(directive.block or (), url.handlers(), frozenset({"status_code"}))
        if "path" not in url.item:
            self._ledger.lost(directive, "has no path: keepalived ignores it")
            return
        self._ledger.use(directive, 0)
        self._urls.append(url.finished())


class _Url:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.item: dict[str, Any] = {}
        self._status: list[int | str] = []
        self._regex: tuple[Directive, str] | None = None
        self._negated = False
        self._flags = ""

    def handlers(self) -> dict[str, Callable[[Directive], None]]:
        lost = self._ledger.lost
        return {
            "path": lambda d: self._text(d, "path"),
            "virtualhost": lambda d: self._text(d, "host"),
            "digest": lambda d: lost(d, DIGEST),
            "status_code": self._statuses,
            "regex": self._pattern,
            "regex_no_match": self._no_match,
            "regex_options": self._options,
            "regex_stack": lambda d: lost(d, "patterns need none here"),
            "regex_min_offset": lambda d: lost(d, "the whole body is looked at"),
            "regex_max_offset": lambda d: lost(d, "the whole body is looked at"),
            "tls_compliant": lambda d: lost(d, "has no counterpart"),
        }

    def finished(self) -> dict[str, Any]:
        said = self._status or [USUAL_STATUS]
        self.item["status"] = said[0] if len(said) == 1 else said
        if self._regex is not None:
            self._finish_pattern(*self._regex)
        return self.item

    def _text(self, directive: Directive, key: str) -> None:
        try:
            self.item[key] = word(directive)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._ledger.use(directive, 1)

    def _statuses(self, directive: Directive) -> None:
        if not directive.args:
            self._ledger.lost(directive, "has no value")
            return
        self._ledger.use(directive)
        for said in directive.args:
            match = _STATUS.fullmatch(said)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if not 100 <= first <= last <= 599:
                self._ledger.report.lost(
                    directive.text, f"{said} is no status within 100..599", directive.place
                )
                continue
            self._status.append(first if first == last else f"{first}-{last}")

    def _pattern(self, directive: Directive) -> None:
        try:
            words = split_quoted(directive.rest, escapes=True)
        except QuoteError as error:
            self._ledger.lost(directive, str(error))
            return
        if len(words) != 1:
            self._ledger.lost(directive, "must be one pattern: keepalived ignores it")
            return
        self._regex = (directive, words[0])
        self._ledger.use(directive)

    def _no_match(self, directive: Directive) -> None:
        self._negated = True
        self._ledger.use(directive, 0)

    def _options(self, directive: Directive) -> None:
        self._ledger.use(directive)
        for option in directive.args:
            if option in _INLINE:
                self._flags += _INLINE[option]
            elif option not in _NO_MATTER:
                self._ledger.report.lost(
                    directive.text,
                    f"{option} has no counterpart in Python's patterns",
                    directive.place,
                )

    def _finish_pattern(self, directive: Directive, pattern: str) -> None:
        flags = "".join(sorted(set(self._flags)))
        scoped = f"(?{flags}:{pattern})" if flags else pattern
        wanted = rf"\A(?![\s\S]*(?:{scoped}))" if self._negated else scoped
        try:
            re.compile(wanted)
        except (re.error, RecursionError, OverflowError) as error:
            self._ledger.lost(directive, f"is no pattern of Python's: {error}")
            return
        self.item["body_regex"] = wanted
        self.item["max_bytes"] = MAX_BODY if self._negated else 1 << 20
