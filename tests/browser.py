"""Drives headless Chromium through a pipe (Chrome DevTools Protocol), without further packages.

with Browser() as browser:
    page = browser.page("http://127.0.0.1:8780/", width=360, dark=True)
    page.wait("document.querySelectorAll('.moment').length == 3")
    page.screenshot(path)
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
          "--no-first-run", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
          "--hide-scrollbars", "--remote-debugging-pipe")  # fmt: skip


class Browser:
    """A running browser."""

    def __enter__(self) -> Browser:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        asked, self._asking = os.pipe()
        self._answers, answering = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4; those here must not be one of them.
        moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (asked, answering)]
        actions = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(moved, 3)]
        actions += [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
        command = [PROGRAM, *_FLAGS, f"--user-data-dir={self._folder.name}"]
        self._process = os.posix_spawn(PROGRAM, command, os.environ, file_actions=actions)
        for end in (asked, answering, *moved):
            os.close(end)
        self._numbers, self._rest = itertools.count(1), b""
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._asking)
        os.kill(self._process, signal.SIGTERM)
        os.waitpid(self._process, 0)
        os.close(self._answers)
        self._folder.cleanup()

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Returns what a method of the protocol answers."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self._asking, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._answers, 2**16)
            assert chunk, "the browser has ended"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def page(self, address: str, width: int = 1280, dark: bool = False) -> Page:
        """Opens a page in a window of a width, in pixels."""
        return Page(self, address, width, dark)


class Page:
    """An open page."""

    def __init__(self, browser: Browser, address: str, width: int, dark: bool) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        found = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.enable")
        self.call("Page.navigate", url=address)
        self.wait("document.readyState == 'complete' && location.href != 'about:blank'")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Returns what a method of the protocol answers for this page."""
        return self._browser.call(method, self._session, **params)

    def value(self, expression: str) -> Any:
        """Returns the value of an expression in JavaScript; of a promise, what it becomes."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60.0) -> None:
        """Waits until an expression is true."""
        until = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < until, f"never true: {expression}"
            self.value("new Promise(done => setTimeout(done, 50))")

    def choose(self, selector: str, path: Path) -> None:
        """Puts a file into an input of a form."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path: Path) -> None:
        """Writes all of the page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000)}
        shot = self.call(
            "Page.captureScreenshot", clip=clip | {"scale": 1}, captureBeyondViewport=True
        )
        path.write_bytes(base64.b64decode(shot["data"]))
