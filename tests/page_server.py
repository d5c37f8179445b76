"""The real server of the page with a tiny model, and Debian's chromium to look at it."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, Playwright
from serving import make_settings

from hemtrace.serve import Limits, create_app

# WebGL2 on a CPU, which is slow; and none at all, where the page shows slices without it.
WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PLAIN = ["--disable-3d-apis"]
START_SECONDS = 60
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@contextmanager
def serve(model: Path, folder: Path, limits: Limits | None = None, **given: Any) -> Iterator[str]:
    """Run the application on a free port of the loopback; gives its address."""
    app = create_app(make_settings(model, folder, limits, **given))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started, "the server did not start"
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
        listening.close()


def launch(playwright: Playwright, arguments: list[str]) -> Browser:
    """Start chromium, or skip where it is not installed."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    return playwright.chromium.launch(executable_path=chromium, args=arguments)


class Visitor:
    """A person with a browser profile of their own, on the page.

    Attributes
    ----------
    page
        What is on screen.
    complaints
        Errors and warnings of the console, uncaught errors, requests to elsewhere, dialogs.
    expected
        Parts of complaints that a test provokes.
    """

    def __init__(self, browser: Browser, address: str, **given: Any) -> None:
        given = {"viewport": {"width": 1366, "height": 850}, "color_scheme": "dark"} | given
        given["reduced_motion"] = "reduce"  # colours are measured, not on their way
        self.context: BrowserContext = browser.new_context(**given)
        self.context.set_default_timeout(60_000)
        self.context.add_init_script(_WATCH)
        self.address, self.complaints, self.expected = address, [], list[str]()
        self.page: Page = self.context.new_page()
        self.watch(self.page)

    def watch(self, page: Page) -> None:
        """Listen to what goes wrong on a page."""

        def told(kind: str, text: str) -> None:
            self.complaints.append(f"{kind}: {text}")

        def asked(url: str) -> None:
            if not url.startswith((self.address, "blob:", "data:")):
                told("request to elsewhere", url)

        def dialog(shown: Any) -> None:
            told("dialog", shown.message)
            shown.dismiss()

        page.on(
            "console",
            lambda m: told(m.type, m.text) if m.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: told("uncaught", str(error)))
        page.on("request", lambda request: asked(request.url))
        page.on("dialog", dialog)

    def open(self) -> Page:
        """Open the page and wait until it is ready."""
        self.page.goto(self.address)
        self.page.wait_for_selector("body[data-ready]")
        return self.page

    def send(self, files: dict[str, bytes]) -> None:
        """Choose files by the page's own button."""
        with self.page.expect_file_chooser() as chooser:
            self.page.click("#choose-files")
        chooser.value.set_files(
            [
                {"name": name.rpartition("/")[2], "mimeType": "", "buffer": content}
                for name, content in files.items()
            ]
        )

    def read(self, files: dict[str, bytes]) -> Page:
        """Open the page, send files and wait until the images are shown."""
        self.open()
        self.send(files)
        self.wait()
        return self.page

    def wait(self) -> None:
        """Wait for the study and its images."""
        self.page.wait_for_selector("#study:not([hidden])")
        self.page.wait_for_selector("#screen[data-shown]")

    def close(self) -> None:
        """Leave, and tell what went wrong."""
        for page in self.context.pages:
            found = page.evaluate("window.violations ?? []")
            self.complaints += [f"policy: {one}" for one in found]
        self.context.close()
        left = [c for c in self.complaints if not any(one in c for one in self.expected)]
        assert not left, left
