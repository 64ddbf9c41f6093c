"""JupyterLab in headless Chromium, for tests that do what a learner does: open a notebook, run it, look at it.

    with Lab(REPO / "lessons", tmp_path) as lab:
        lab.open("08_dropout/08_dropout.ipynb")
        lab.run_all(timeout=90)
        assert lab.error_cells() == []
        lab.screenshot(tmp_path / "card.png", cell="dropout.inverted_dropout-check")

Cells are named by their grade_id (nbgrader's, or the cell id) or by their index. `require_browser()` skips a test
where Chromium or Playwright is missing. Works on a copy of the folder; nothing reaches the network.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# what would pop up over the page, ask the network, or wait for an answer
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": '{"fetchNews": "false", "checkForUpdates": false}',
    "@jupyterlab/apputils-extension:themes": '{"theme": "JupyterLab %s", "adaptive-theme": false}',
    "@jupyterlab/docmanager-extension:plugin": '{"autosave": false}',
    # every cell in the page, not only those in view (see EVERY_CELL)
    "@jupyterlab/notebook-extension:tracker": '{%s"enableKernelInitNotification": false}',
    "@jupyterlab/extensionmanager-extension:plugin": '{"enabled": false}',
}

EVERY_CELL = '"windowingMode": "none", '  # a test counts them; but links into a notebook then end at its top

_SLIDERS = """() => [...document.querySelectorAll('.jp-Notebook .jp-Cell')]
  .flatMap((cell, index) => cell.querySelector('.noUi-handle') ? [index] : [])"""
# From a key on the slider to the next frame that shows another figure, in milliseconds.
_MOVE = """index => new Promise((done, failed) => {
  const cell = document.querySelectorAll('.jp-Notebook .jp-Cell')[index];
  const label = () => [...cell.querySelectorAll('svg[role=img]')].pop().getAttribute('aria-label');
  const before = label(), begun = performance.now();
  const watch = new MutationObserver(() => { if (cell.querySelector('svg[role=img]') && label() !== before) {
    watch.disconnect(); requestAnimationFrame(() => done(performance.now() - begun)); } });
  watch.observe(cell, {subtree: true, childList: true});
  const handle = cell.querySelector('.noUi-handle');
  const least = handle.getAttribute('aria-valuenow') === handle.getAttribute('aria-valuemin');
  handle.dispatchEvent(new KeyboardEvent('keydown', {key: least ? 'ArrowRight' : 'ArrowLeft', bubbles: true}));
  setTimeout(() => failed(new Error('the figure did not change')), 5000); })"""


class BrowserError(AssertionError):
    """JupyterLab or a notebook in it did not do what the test asked for; the message says where it stood."""


@dataclass(frozen=True)
class CellError:
    """A code cell whose output is an error."""

    index: int
    name: str
    message: str


def chromium() -> str | None:
    """The browser's path: $CHROMIUM, or else the first of the usual names."""
    chosen = os.environ.get("CHROMIUM")
    names = [chosen] if chosen else ["chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if (found := shutil.which(name))), None)


def require_browser() -> None:
    """Skip the test, saying why, where there is no Playwright, Chromium or JupyterLab to run it with."""
    pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    pytest.importorskip("jupyterlab", reason="needs JupyterLab")
    if chromium() is None:
        pytest.skip("needs Chromium: install it, or set CHROMIUM to its path")


class Lab:
    """A JupyterLab on a copy of `folder`, and one page of a browser in it; a context manager that ends both.

    `theme`: "Light" or "Dark". `environment`: more variables for the server and its kernels; a value None removes one.
    `every_cell`: draw those out of view too, unlike JupyterLab itself.
    `base`: the path under which the server answers, as "/user/ada" behind a JupyterHub.
    """

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        *,
        theme: str = "Light",
        size: tuple[int, int] = (1280, 1000),
        environment: dict[str, str | None] | None = None,
        every_cell: bool = True,
        base: str = "",
    ) -> None:
        self.root = Path(scratch) / "lab"
        self.theme = theme
        self.size = size
        self.base = base
        self.token = secrets.token_hex(16)
        self._home = Path(scratch) / "lab-home"
        self.data = self._home / "course"  # where predictions and progress are kept
        self._fill = {"themes": theme, "tracker": EVERY_CELL if every_cell else ""}  # of SETTINGS, by plug-in
        self._environment = environment or {}
        self._stack = contextlib.ExitStack()
        shutil.copytree(folder, self.root)

    # ── life ──

    def __enter__(self) -> Lab:
        try:
            self._start_server()
            self._start_browser()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _start_server(self) -> None:
        self._home.mkdir()
        overrides = ",".join(
            f'"{key}": {value % self._fill[key.rpartition(":")[2]] if "%s" in value else value}'
            for key, value in SETTINGS.items()
        )
        settings = self._home / "settings"
        settings.mkdir()
        (settings / "overrides.json").write_text(f"{{{overrides}}}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}{self.base}"
        # what installing the course puts into share/jupyter; here from this checkout
        extensions = self._home / "share" / "labextensions"
        extensions.mkdir(parents=True)
        (extensions / "training-deep-nets").symlink_to(REPOSITORY / "autograder" / "labextension")
        environment = {
            **os.environ,
            "JUPYTER_PATH": str(extensions.parent),
            "JUPYTER_CONFIG_DIR": str(self._home / "config"),
            "JUPYTER_DATA_DIR": str(self._home / "data"),
            "JUPYTER_RUNTIME_DIR": str(self._home / "runtime"),
            "IPYTHONDIR": str(self._home / "ipython"),
            "COURSE_DATA_DIR": str(self.data),
            "COURSE_PROGRESS": "on",  # as `course lab` does
            "JUPYTERLAB_SETTINGS_DIR": str(self._home / "user-settings"),
            "OMP_NUM_THREADS": "1",
            **self._environment,
        }
        command = [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
            f"--ServerApp.base_url={self.base}/",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.root}",
            f"--LabApp.app_settings_dir={settings}",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
            "--LabApp.extension_manager=readonly",
        ]
        log = self._stack.enter_context((self._home / "server.log").open("wb"))
        server = subprocess.Popen(
            command,
            env={key: value for key, value in environment.items() if value is not None},
            cwd=self.root,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._stack.callback(_end, server)
        deadline = time.monotonic() + 60
        while True:
            if server.poll() is not None:
                raise BrowserError(f"JupyterLab ended at once ({server.returncode}): {self.log()}")
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"{self.url}/api?token={self.token}", timeout=5).close()
                return
            if time.monotonic() > deadline:
                raise BrowserError(f"JupyterLab did not answer within 60 s: {self.log()}")
            time.sleep(0.2)

    def _start_browser(self) -> None:
        from playwright.sync_api import sync_playwright

        playwright = self._stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        self._stack.callback(browser.close)
        width, height = self.size
        context = browser.new_context(viewport={"width": width, "height": height})
        # what is not this server is refused, so a page that needs the network fails the test that opens it
        self.refused: list[str] = []
        context.route(lambda url: not url.startswith((self.url, "data:", "blob:")), self._refuse)
        self.page = context.new_page()
        self.page.set_default_timeout(30_000)

    def _refuse(self, route) -> None:
        self.refused.append(route.request.url)
        route.abort()

    def log(self, lines: int = 20) -> str:
        """The last lines that the server wrote."""
        text = (self._home / "server.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    # ── a learner's hands ──

    def open(self, notebook: str, *, timeout: float = 60) -> None:
        """Open a notebook (a path within the folder) alone in the page, and wait until its kernel is ready."""
        if not (self.root / notebook).is_file():
            raise BrowserError(f"There is no {notebook} in {self.root}.")
        # doc/: the single-document mode, without the file browser
        self.page.goto(f"{self.url}/doc/tree/{notebook}?reset&token={self.token}")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=timeout * 1000)
        self._wait_for("status", "['idle', 'unknown'].includes(status)", timeout)

    def run_all(self, timeout: float = 90) -> float:
        """Restart-free Run All; waits until the kernel is idle and each code cell has a number or an error came.

        Returns the seconds it took. Raises BrowserError after `timeout`, naming the cell that was running.
        """
        begun = time.monotonic()
        self.page.evaluate(_RUN, ["notebook:run-all-cells", None])
        self._wait_idle(timeout)
        return time.monotonic() - begun

    def replace_cell(self, cell: str | int, source: str, *, run: bool = True, timeout: float = 60) -> None:
        """Put a new source into a cell and run it."""
        index = self.index(cell)
        self.page.evaluate(_SET_SOURCE, [index, source])
        if run:
            self.run_cell(index, timeout=timeout)

    def run_cell(self, cell: str | int, *, timeout: float = 60) -> None:
        """Run one cell, and wait until the kernel is idle again."""
        self.page.evaluate(_RUN, ["notebook:run-cell", self.index(cell)])
        self._wait_idle(timeout)

    def theme_is(self, theme: str) -> None:
        """Change the page's theme: "Light" or "Dark"."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", f"JupyterLab {theme}"
        )
        light = "true" if theme == "Light" else "false"
        self.page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")

    def sliders(self) -> list[int]:
        """The indices of the cells that show a slider."""
        return self.page.evaluate(_SLIDERS)

    def move_slider(self, cell: str | int) -> float:
        """Press a key on a cell's first slider; the milliseconds until its figure has changed on the page."""
        return self.page.evaluate(_MOVE, self.index(cell))

    def walk_to(self, cell: str | int, selector: str) -> None:
        """With keys alone: to the cell by the arrows, then by Tab to the first thing in it that the selector fits."""
        keys, index = self.page.keyboard, self.index(cell)
        keys.press("Escape")
        for _ in range(len(self.cells())):
            away = index - self.page.evaluate("() => {" + _PANEL + " return panel.content.activeCellIndex; }")
            if away:
                keys.press("ArrowDown" if away > 0 else "ArrowUp")
        for _ in range(20):
            if self.page.evaluate(_FOCUSED, [index, selector]):
                return
            keys.press("Tab")
        raise BrowserError(f"The Tab key leads to no {selector!r} in the cell {cell!r}.")

    # ── a learner's eyes ──

    def cells(self) -> list[dict]:
        """Each cell: index, id, grade_id, type, source, execution_count, error (or None), stderr, text of outputs."""
        return self.page.evaluate(_CELLS)

    def index(self, cell: str | int) -> int:
        """The index of a cell named by grade_id or cell id (an index is taken as it is)."""
        if isinstance(cell, int):
            return cell
        found = [c["index"] for c in self.cells() if cell in (c["grade_id"], c["id"])]
        if len(found) != 1:
            raise BrowserError(f"{len(found)} cells are called {cell!r}.")
        return found[0]

    def error_cells(self) -> list[CellError]:
        """The cells with an error among their outputs, in order."""
        return [
            CellError(c["index"], c["grade_id"] or c["id"], c["error"]) for c in self.cells() if c["error"] is not None
        ]

    def cell(self, cell: str | int):
        """The cell on the page, as a Playwright locator."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(self.index(cell))

    def output(self, cell: str | int):
        """The cell's output area on the page, as a Playwright locator."""
        return self.cell(cell).locator(".jp-OutputArea").first

    def screenshot(self, path: Path, *, selector: str | None = None, cell: str | int | None = None) -> Path:
        """A PNG of the page, or of what a CSS selector finds first, or of a cell with its output."""
        path = Path(path)
        if selector is not None:
            self.page.locator(selector).first.screenshot(path=path)
        elif cell is not None:
            self.cell(cell).screenshot(path=path)
        else:
            self.page.screenshot(path=path)
        return path

    def save(self) -> Path:
        """Save the notebook; returns the file's path."""
        self.page.evaluate(_COMMAND, "docmanager:save")
        return self.root / self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.path")

    # ── waiting ──

    def _wait_idle(self, timeout: float) -> None:
        """Until the command has ended, the kernel is idle and no cell waits: one that runs or queues shows [*]."""
        self._wait_for("cells", "window.courseRan && !busy.length && status === 'idle'", timeout)

    def _wait_for(self, what: str, condition: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        calm = 0
        while calm < 2:  # twice in a row: between two cells the kernel is idle for a moment
            state = self.page.evaluate(_STATE % condition)
            calm = calm + 1 if state["done"] else 0
            if time.monotonic() > deadline:
                raise BrowserError(
                    f"After {timeout:g} s the kernel is {state['status']!r}, cells {state['busy']} are still running "
                    f"(waiting for {what})."
                )
            time.sleep(0.1)


def _end(server: subprocess.Popen) -> None:
    """End the server and the kernels that it started: they are one session, led by the server."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait(10)


_COMMAND = "command => window.jupyterapp.commands.execute(command)"
_PANEL = "const panel = window.jupyterapp.shell.currentWidget; const cells = panel.content.widgets;"
_FOCUSED = (
    "([index, selector]) => {" + _PANEL + " const here = document.activeElement;"
    " return here.matches(selector) && cells[index].node.contains(here); }"
)
_STATE = (
    "() => {" + _PANEL + " const status = panel.sessionContext.session?.kernel?.status ?? 'none';"
    " const busy = cells.flatMap((c, i) =>"
    "   c.model.type === 'code' && c.node.querySelector('.jp-InputPrompt')?.textContent.includes('*') ? [i] : []);"
    " return {status, busy, done: %s}; }"
)
_SET_SOURCE = "([index, source]) => {" + _PANEL + " cells[index].model.sharedModel.setSource(source); }"
# Starts and returns at once: a command that runs cells ends only with them, and a page can't be timed out of it.
_RUN = (
    "([command, index]) => {" + _PANEL + " if (index !== null) {"
    "   panel.content.activeCellIndex = index; panel.content.deselectAll(); }"
    " window.courseRan = false;"
    " window.jupyterapp.commands.execute(command).finally(() => { window.courseRan = true; }); }"
)
_CELLS = (
    "() => {" + _PANEL + " return cells.map((cell, index) => { const data = cell.model.toJSON();"
    " const join = text => Array.isArray(text) ? text.join('') : (text ?? '');"
    " const outputs = data.outputs ?? [];"
    " const error = outputs.find(output => output.output_type === 'error');"
    " return {index, id: data.id, type: data.cell_type, source: join(data.source),"
    "   grade_id: data.metadata?.nbgrader?.grade_id ?? null, execution_count: data.execution_count ?? null,"
    "   error: error ? error.ename + ': ' + error.evalue : null,"
    "   stderr: outputs.filter(o => o.name === 'stderr').map(o => join(o.text)).join(''),"
    "   text: outputs.map(o => join(o.text) || join(o.data?.['text/plain'])).join('\\n')}; }); }"
)
