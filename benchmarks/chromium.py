"""A headless Chromium driven over a pipe by its DevTools protocol, with the standard library alone.

    with Chromium(folder) as page:
        page.open(file)
        page.evaluate("document.title")

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip


def find_chromium() -> str | None:
    """The path of an installed Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    """One browser with one page.

    Attributes:
        messages: what the page wrote to the console, and its uncaught errors.
    """

    def __init__(self, folder: Path, width: int = 1280, height: int = 900) -> None:
        """Start it with a fresh profile; downloads go to `folder`."""
        self.messages: list[str] = []
        self._replies: dict[int, dict[str, Any]] = {}
        self._events: set[str] = set()
        self._rest, self._number, self._session = b"", 0, ""
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        command = [str(find_chromium()), *FLAGS, f"--user-data-dir={folder / 'profile'}"]

        def as_3_and_4() -> None:
            # the browser reads commands from 3 and writes to 4; through high numbers, so that neither hides the other
            high = os.dup2(to_browser, 30), os.dup2(from_browser, 31)
            for number, pipe in zip((3, 4), high, strict=True):
                os.dup2(pipe, number)

        self._process = subprocess.Popen(
            command, preexec_fn=as_3_and_4, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(from_browser)
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.resize(width, height)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._out)
        os.close(self._in)

    def open(self, file: Path) -> None:
        """Load a page and wait for its load event."""
        self._events.discard("Page.loadEventFired")
        self.send("Page.navigate", url=file.resolve().as_uri())
        self._wait(lambda: "Page.loadEventFired" in self._events)

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Set the size of the window in CSS pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def prefer(self, scheme: str) -> None:
        """Set the system's colours: `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page, awaited where it is a promise."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60.0) -> None:
        """Wait until an expression is true in the page."""
        self._wait(lambda: self.evaluate(expression), seconds)

    def press(self, key: str, text: str = "") -> None:
        """Press a key, such as `Tab` or `Enter`."""
        codes = {"Tab": 9, "Enter": 13, "Space": 32}
        named = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text or ("\r" if key == "Enter" else ""), **named)
        self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """Save what the window shows as PNG, or the whole page."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))

    def print(self, file: Path) -> None:
        """Save the page as it would be printed."""
        found = self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        file.write_bytes(base64.b64decode(found["data"]))

    def send(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": arguments}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        self._wait(lambda: number in self._replies, 60)
        reply = self._replies.pop(number)
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        result: dict[str, Any] = reply["result"]
        return result

    def _wait(self, done: Any, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise TimeoutError("the browser did not answer in time")
            self._read()

    def _read(self) -> None:
        if not select.select([self._in], [], [], 0.05)[0]:
            return
        *messages, self._rest = (self._rest + os.read(self._in, 1 << 20)).split(b"\0")
        for raw in messages:
            message = json.loads(raw)
            if "id" in message:
                self._replies[message["id"]] = message
            else:
                self._note(message["method"], message["params"])

    def _note(self, method: str, event: dict[str, Any]) -> None:
        self._events.add(method)
        if method == "Runtime.consoleAPICalled":
            self.messages.append(json.dumps(event["args"]))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(event["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.messages.append(event["entry"]["text"])
