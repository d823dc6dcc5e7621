# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium that tests drive through its pipe: opens pages, clicks, listens for errors and requests."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    """Return the path of a Chromium; None where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """Runs one page of Chromium; use it as a context manager.

    Attributes:
        problems: Errors and warnings of the console, exceptions and broken files so far.
        requests: Addresses that the page asked for, other than ``data:`` and the page itself.
    """

    def __init__(self, profile, width=1280, height=900):
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        self.problems, self.requests = [], []
        self._buffer, self._number, self._session, self.page = b"", 0, None, None

        def place_pipes():  # the browser reads commands from descriptor 3 and writes answers to 4
            spare = os.dup2(to_read, 20), os.dup2(to_write, 21)
            os.dup2(spare[0], 3)
            os.dup2(spare[1], 4)

        self._process = subprocess.Popen(
            [
                *(find_browser(), "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu"),
                *("--mute-audio", "--hide-scrollbars", "--no-first-run", "--disable-dev-shm-usage"),
                *("--disable-background-networking", f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(3, 4),
            preexec_fn=place_pipes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._session = None
            self.call("Browser.close", timeout=10)
        except (OSError, TimeoutError):
            self._process.kill()
        self._process.wait(timeout=30)
        for end in (self._read, self._write):
            os.close(end)

    def call(self, method, timeout=240, **params):
        """Send a command and return its result; what happens meanwhile is noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + timeout
        while True:
            found = self._next(end - time.monotonic())
            if found.get("id") == self._number:
                assert "error" not in found, f"{method}: {found['error']}"
                return found["result"]

    def wait(self, seconds):
        """Note what happens during this time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self._next(left)
            except TimeoutError:
                return

    def resize(self, width, height):
        """Set the size of the window in pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def open(self, path):
        """Open a local file and wait until it is loaded."""
        self.page = Path(path).resolve().as_uri()
        self.call("Page.navigate", url=self.page)
        self.until("document.readyState === 'complete'")

    def run(self, script):
        """Return the value of a JavaScript expression; promises are waited for."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script, seconds=180):
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"still not: {script}"
            self.wait(0.05)

    def click(self, x, y):
        """Press and release the left button at a place of the window, as a user does."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path, whole=False):
        """Write a picture of the window, or of the whole page, as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def _next(self, seconds):
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser did not answer")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise OSError("the browser ended")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method"), message.get("params") or {})
        return message

    def _note(self, method, params):
        if method == "Runtime.exceptionThrown":
            self.problems.append(params["exceptionDetails"].get("text", "exception"))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            address = params["request"]["url"]
            if not address.startswith(("data:", "about:", "blob:")) and address != self.page:
                self.requests.append(address)
