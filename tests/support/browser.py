"""A headless browser for tests: Chromium over its DevTools pipe, without a driver or a package.

Messages are JSON that ends with a zero byte: commands go to file descriptor 3 of the browser, its
answers and events come from descriptor 4.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE = 60
"""Seconds until a page must show what it is asked for."""

START = """
import fcntl, os, sys
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, wanted in zip(high, (3, 4)):
    os.dup2(number, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Puts the pipes where the browser expects them."""

EVERYWHERE = """
const everywhere = (selector, root = document) => [
    ...root.querySelectorAll(selector),
    ...[...root.querySelectorAll('*')].filter(e => e.shadowRoot)
        .flatMap(e => everywhere(selector, e.shadowRoot))];
const texts = selector => everywhere(selector).map(e => e.innerText.trim());
"""
"""Finds elements within shadow roots too, in the order of the document."""


def program() -> str | None:
    """Return the path of an installed browser."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Page:
    """One page of a browser that runs.

    `events` are those that came while something was asked, of the domains that were enabled.
    """

    def __init__(self, commands: IO[bytes], answers: IO[bytes]) -> None:
        self._commands, self._answers = commands, answers
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._receive()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        """Go to an address, in a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url="about:blank")  # else a new fragment loads nothing
        self.call("Page.navigate", url=address)

    def ask(self, expression: str) -> Any:
        """Return the value of an expression in the page, which may use `everywhere` and `texts`."""
        code = f"(() => {{ {EVERYWHERE} return {expression}; }})()"
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True)
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Ask until the answer is something (not empty, not zero), and return it."""
        end = time.monotonic() + PATIENCE
        while not (answer := self.ask(expression)) and time.monotonic() < end:
            time.sleep(0.1)
        assert answer, f"{expression} is {answer!r} after {PATIENCE} s"
        return answer

    def press(self, key: str) -> None:
        """Press a key and let it go, by its name in JavaScript."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def download(self, folder: Path, key: str) -> Path:
        """Press a key and return the file that the page then saves into an empty folder."""
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.press(key)
        end = time.monotonic() + PATIENCE
        while not (found := [*folder.glob("*.png")]) and time.monotonic() < end:
            time.sleep(0.1)
        assert found, f"nothing was saved within {PATIENCE} s"
        return found[0]

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._answers.fileno(), 1 << 16)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


@contextmanager
def browse(binary: str) -> Iterator[Page]:
    """Run a browser until the block ends; it may speak with the loopback interface only."""
    inward, commands = os.pipe()
    answers, outward = os.pipe()
    with TemporaryDirectory(ignore_cleanup_errors=True) as home:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        options += ["--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={home}"]
        options += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(inward), str(outward), binary, *options],
            pass_fds=(inward, outward),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"HOME": home, "PATH": os.defpath},
        )
        os.close(inward)
        os.close(outward)
        try:
            with os.fdopen(commands, "wb") as to, os.fdopen(answers, "rb", 0) as back:
                yield Page(to, back)
        finally:
            process.terminate()
            process.wait(PATIENCE)
