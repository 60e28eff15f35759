"""An HTTP/1.x answer as it comes in, piece by piece. Pure: bytes in, no socket.

Rules (RFC 9112)
- The body ends by Content-Length, by the last chunk, or by the end of the connection. Interim
  answers (1xx) are passed over. HEAD, 204 and 304 have no body.
- At most ``max_bytes`` of the body and MOST_CHUNKS of its chunks are kept, and no more is awaited:
  then the answer is whole.
- What cannot be read as HTTP is MALFORMED, and a head, a chunk's line or a trailer without end is
  TOO_LONG. Both bound what is held, whatever comes.
- No content coding is undone, for none is asked for.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from kernlb.health.outcome import Outcome
from kernlb.health.probes.wording import quote

LONGEST_HEAD = 32768  # bytes of all heads, interim ones included
LONGEST_LINE = 1024  # bytes of a chunk's line
LONGEST_TRAILER = 8192  # of all of them, and the blank line after
MOST_CHUNKS = 4096  # each costs some microseconds, however few bytes it has

_A_LINE = f"a chunk's line of more than {LONGEST_LINE} bytes"
_TRAILERS = f"trailers of more than {LONGEST_TRAILER} bytes"
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9][0-9])(?=[ \r\n])")
_PREFIX = b"HTTP/1."
_DIGITS = re.compile(rb"[0-9]{1,19}")
_FOLD = re.compile(rb"\r?\n[ \t]+")  # RFC 9112, 5.2: as good as a space
_CHUNK = re.compile(rb"([0-9a-f]{1,16})[ \t]*(?:;.*)?\r?", re.IGNORECASE | re.DOTALL)


class _Part(Enum):
    HEAD = auto()
    COUNTED = auto()  # so many bytes, then the end
    OPEN = auto()  # until the connection ends
    CHUNK_LINE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    END = auto()


class Unreadable(Exception):
    """What came is no answer: MALFORMED or TOO_LONG, and why."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


def _malformed(detail: str) -> Unreadable:
    return Unreadable(Outcome.MALFORMED, detail)


class Answer:
    """``feed`` what comes until it says that the answer is whole; then ``status`` and ``body``."""

    __slots__ = (
        "_at",
        "_bodiless",
        "_body",
        "_buffer",
        "_chunks",
        "_heads",
        "_left",
        "_max_bytes",
        "_part",
        "_searched",
        "_trailer",
        "begun",
        "status",
    )

    def __init__(self, method: str, max_bytes: int) -> None:
        self._bodiless = method == "HEAD"
        self._max_bytes = max_bytes
        self._buffer = b""
        self._at = 0  # what is before it has been used up
        self._searched = 0  # bytes after it that hold no end of the head
        self._heads = 0
        self._chunks = 0
        self._trailer = 0
        self._body: list[bytes] = []
        self._left = 0  # bytes until the counted body or the chunk ends
        self._part = _Part.HEAD
        self.begun = False
        self.status = 0

    @property
    def body(self) -> bytes:
        return b"".join(self._body)

    def feed(self, data: bytes) -> bool:
        """Whether the answer is whole. May raise Unreadable."""
        self.begun = True
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0
        while self._part is not _Part.END:
            if not _STEPS[self._part](self):
                return False
        return True

    def ended(self) -> bool:
        """The connection ended: whether the answer is whole by that."""
        return self._part in (_Part.OPEN, _Part.END)

    # Each step uses up what it can of the buffer, and says whether the next has what it needs.

    def _head(self) -> bool:
        buffer = self._buffer[self._at :] if self._at else self._buffer
        if not buffer.startswith(_PREFIX) and not _PREFIX.startswith(buffer[: len(_PREFIX)]):
            raise _malformed(f"it begins with {quote(buffer)}")
        blank, after = _end_of_head(buffer, self._searched)
        if self._heads + (len(buffer) if blank < 0 else after) > LONGEST_HEAD:
            raise Unreadable(Outcome.TOO_LONG, f"headers of more than {LONGEST_HEAD} bytes")
        if blank < 0:
            self._searched = max(0, len(buffer) - 3)
            return False
        head = buffer[:blank]
        status = _STATUS.match(buffer)
        if status is None:
            raise _malformed(f"it begins with {quote(head)}")
        if b"\0" in head:
            raise _malformed("NUL in a header")
        self._at += after
        self._searched = 0
        self._heads += after
        code = int(status[1])
        if 100 <= code < 200 and code != 101:
            return self._at < len(self._buffer)
        self.status = code
        self._part = self._framing(head)
        return True

    def _framing(self, head: bytes) -> _Part:
        """How the body will end (RFC 9112, 6.3)."""
        if self._bodiless or self.status in (101, 204, 304) or not self._max_bytes:
            return _Part.END
        lowered = _FOLD.sub(b" ", head.lower())
        if b"\ntransfer-encoding:" in lowered:
            codings = b",".join(_values(lowered, b"transfer-encoding"))
            chunked = codings.rpartition(b",")[2].strip() == b"chunked"
            return _Part.CHUNK_LINE if chunked else _Part.OPEN
        if b"\ncontent-length:" not in lowered:
            return _Part.OPEN
        lengths = {
            each.strip() for each in b",".join(_values(lowered, b"content-length")).split(b",")
        }
        length = lengths.pop()
        if lengths or not _DIGITS.fullmatch(length):
            raise _malformed(f"Content-Length {quote(b', '.join([length, *lengths]))}")
        self._left = int(length)
        return _Part.COUNTED if self._left else _Part.END

    def _counted(self) -> bool:
        if self._take():
            self._part = _Part.END
        return self._part is _Part.END

    def _open(self) -> bool:
        self._left = len(self._buffer) - self._at
        self._take()
        return self._part is _Part.END

    def _chunk_line(self) -> bool:
        text = self._line(LONGEST_LINE, _A_LINE)
        if text is None:
            return False
        size = _CHUNK.fullmatch(text)
        if size is None:
            raise _malformed(f"chunk of size {quote(text)}")
        self._left = int(size[1], 16)
        self._part = _Part.CHUNK if self._left else _Part.TRAILER
        return True

    def _chunk(self) -> bool:
        if self._take():
            self._chunks += 1
            self._part = _Part.CHUNK_END if self._chunks < MOST_CHUNKS else _Part.END
            return True
        return self._part is _Part.END

    def _chunk_end(self) -> bool:
        text = self._line(LONGEST_LINE, _A_LINE)
        if text is None:
            return False
        if text not in (b"", b"\r"):
            raise _malformed("a chunk is longer than it said")
        self._part = _Part.CHUNK_LINE
        return True

    def _trailers(self) -> bool:
        text = self._line(LONGEST_TRAILER - self._trailer - 1, _TRAILERS)
        if text is None:
            return False
        self._trailer += len(text) + 1
        if text in (b"", b"\r"):
            self._part = _Part.END
        return True

    def _take(self) -> bool:
        """Move what belongs to the body; whether this part of it is all there. Ends the answer
        where enough has been kept."""
        piece = self._buffer[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        kept = piece[: self._max_bytes]
        if kept:
            self._body.append(kept)
            self._max_bytes -= len(kept)
            if not self._max_bytes:
                self._part = _Part.END
                return False
        return not self._left

    def _line(self, most: int, complaint: str) -> bytes | None:
        """A line without its LF, None if it is not all there."""
        end = self._buffer.find(b"\n", self._at)
        if (end if end >= 0 else len(self._buffer)) - self._at > most:
            raise Unreadable(Outcome.TOO_LONG, complaint)
        if end < 0:
            return None
        text = self._buffer[self._at : end]
        self._at = end + 1
        return text


_STEPS = {
    _Part.HEAD: Answer._head,
    _Part.COUNTED: Answer._counted,
    _Part.OPEN: Answer._open,
    _Part.CHUNK_LINE: Answer._chunk_line,
    _Part.CHUNK: Answer._chunk,
    _Part.CHUNK_END: Answer._chunk_end,
    _Part.TRAILER: Answer._trailers,
}


def _end_of_head(buffer: bytes, start: int) -> tuple[int, int]:
    """Where the blank line begins (at the LF before it), and where the body does; -1 if nowhere.
    A line may end with LF alone (RFC 9112, 2.2)."""
    strict = buffer.find(b"\n\r\n", start)
    bare = buffer.find(b"\n\n", start, None if strict < 0 else strict)
    if bare >= 0:
        return bare, bare + 2
    return strict, strict + 3


def _values(lowered: bytes, name: bytes) -> list[bytes]:
    """All values of a header. ``lowered``: the head in lower case."""
    key = b"\n" + name + b":"
    found = []
    at = lowered.find(key)
    while at >= 0:
        end = lowered.find(b"\n", at + len(key))
        found.append(lowered[at + len(key) : end if end >= 0 else len(lowered)].strip())
        at = lowered.find(key, end) if end >= 0 else -1
    return found
