"""Debian's Chromium, headless, spoken to over a pipe (Chrome DevTools Protocol): no port is opened.

    with Chromium(folder) as chromium:
        page = chromium.open("http://127.0.0.1:9107/")
        page.wait_for("document.title")

It runs wherever its process is put: in a network namespace it sees that network alone.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]

PROGRAM = "chromium"
PATIENCE = 30.0  # seconds for one answer
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it would not run as root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)
KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    " ": 32,
    "End": 35,
    "Home": 36,
    "ArrowUp": 38,
    "ArrowDown": 40,
}


class BrowserError(Exception):
    """The browser did not do what it was told; the message says what it said."""


class Chromium:
    """One browser process. ``prefix`` are words to start it with, as `ip netns exec NAME`."""

    def __init__(self, folder: Path, prefix: Sequence[str] = ()) -> None:
        self._argv = [*prefix, PROGRAM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self._log = folder / "chromium.log"
        folder.mkdir(parents=True, exist_ok=True)
        self._number = 0
        self._unread = b""
        self._pid = 0
        self.events: list[Json] = []

    def __enter__(self) -> Self:
        theirs, self._to = _pipe()
        self._from, back = _pipe()
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        path = shutil.which(self._argv[0])
        assert path is not None, f"{self._argv[0]} is not installed"
        moves = [(os.POSIX_SPAWN_DUP2, old, new) for old, new in _standard(log, theirs, back)]
        environment = {**os.environ, "HOME": str(self._log.parent), "TZ": "UTC"}
        self._pid = os.posix_spawn(path, self._argv, environment, file_actions=moves, setsid=True)
        for descriptor in (theirs, back, log):
            os.close(descriptor)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._to)
        os.close(self._from)

    def open(self, url: str, width: int = 1280, height: int = 900) -> Page:
        """A page of its own, at ``url``."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        page.go(url)
        return page

    def call(self, method: str, session: str | None = None, **params: Any) -> Json:
        """One command and its answer; events that come first are kept."""
        self._number += 1
        message: Json = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._receive(deadline - time.monotonic(), method)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                result: Json = answer["result"]
                return result

    def _receive(self, seconds: float, what: str) -> Json:
        while b"\0" not in self._unread:
            if not select.select([self._from], [], [], max(0.0, seconds))[0]:
                raise BrowserError(f"{what}: no answer within {PATIENCE:g} s; {self._tail()}")
            data = os.read(self._from, 1 << 20)
            if not data:
                raise BrowserError(f"{what}: the browser ended; {self._tail()}")
            self._unread += data
        text, _, self._unread = self._unread.partition(b"\0")
        message: Json = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-1000:]


class Page:
    """A tab. Expressions are JavaScript; their values come back as JSON would carry them."""

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session

    def call(self, method: str, **params: Any) -> Json:
        return self._browser.call(method, self._session, **params)

    def go(self, url: str) -> None:
        failed = self.call("Page.navigate", url=url).get("errorText")
        if failed:
            raise BrowserError(f"cannot open {url}: {failed}")
        self.wait_for("document.readyState === 'complete'")

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def run(self, expression: str) -> Any:
        """Its value, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(f"{expression}: {details.get('exception', details)}")
        return answer["result"].get("value")

    def wait_for(self, condition: str, timeout: float = 10.0) -> None:
        """Until an expression holds."""
        deadline = time.monotonic() + timeout
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout:g} s: {condition}")
            time.sleep(0.05)

    def pass_time(self, seconds: float) -> None:
        """On the page's own clock."""
        self.run(f"new Promise((done) => setTimeout(done, {seconds * 1000}))")

    def text(self, selector: str = "body") -> str:
        """What is to be read there; nothing where it is not shown."""
        found: str = self.run(
            f"[document.querySelector({json.dumps(selector)})]"
            ".map((each) => (each.checkVisibility() ? each.innerText : ''))[0]"
        )
        return found

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.run(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            ".filter((each) => each.checkVisibility()).map((each) => each.innerText.trim())"
        )
        return found

    def resize(self, width: int, height: int = 900, scale: float = 1.0) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def prefer(self, media: str = "", **features: str) -> None:
        """Media type, and features as prefers_color_scheme="dark"."""
        listed = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.call("Emulation.setEmulatedMedia", media=media, features=listed)

    def press(self, key: str, shift: bool = False) -> None:
        """A key, as from a keyboard."""
        code = KEYS.get(key, ord(key[0].upper()))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        press = {
            "key": key,
            "code": key,
            "windowsVirtualKeyCode": code,
            "modifiers": 8 if shift else 0,
        }
        down = "keyDown" if text else "rawKeyDown"
        typed = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type=down, **press, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **press)

    def write(self, text: str) -> None:
        """Text into what has the focus."""
        self.call("Input.insertText", text=text)

    def picture(self, height: int | None = None) -> bytes:
        """A PNG of the window."""
        clip: Json = {}
        if height is not None:
            width = self.run("innerWidth")
            clip = {"clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}}
        answer = self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True, **clip
        )
        return base64.b64decode(answer["data"])

    def effort(self) -> float:
        """Processor time of the page's main thread so far, in milliseconds."""
        self.call("Performance.enable", timeDomain="threadTicks")
        metrics = self.call("Performance.getMetrics")["metrics"]
        return 1000.0 * next(e["value"] for e in metrics if e["name"] == "TaskDuration")

    def tree(self) -> list[Json]:
        """What assistive technology is told."""
        self.call("Accessibility.enable")
        nodes: list[Json] = self.call("Accessibility.getFullAXTree")["nodes"]
        return nodes

    def complaints(self) -> list[str]:
        """What the console was told of errors and warnings, CSP violations among them."""
        self.run("0")  # what was on its way is here then
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            params = event["params"]
            match event["method"]:
                case "Log.entryAdded":
                    entry = params["entry"]
                    found.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")
                case "Runtime.exceptionThrown":
                    found.append(f"exception: {params['exceptionDetails']}")
                case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning"):
                    found.append(f"console: {params['args']}")
        return found

    def forget(self) -> None:
        """What was complained of until now was meant to be."""
        self._browser.events.clear()

    def requested(self) -> list[str]:
        """The URL of everything that was asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event["method"] == "Network.requestWillBeSent"
            and event.get("sessionId") == self._session
        ]


def available() -> bool:
    return shutil.which(PROGRAM) is not None


def version() -> str:
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


def _pipe() -> tuple[int, int]:
    """Two ends above the numbers that the browser wants."""
    ends = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return read, write


def _standard(log: int, read: int, write: int) -> list[tuple[int, int]]:
    """Descriptors as the browser finds them: output goes to a log, 3 and 4 are the pipe."""
    return [(log, 1), (log, 2), (read, 3), (write, 4)]
