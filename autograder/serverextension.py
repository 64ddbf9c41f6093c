"""The Jupyter server extension that installing the course switches on: nbgrader's pages, made safe and quick to answer.

Learners have no nbgrader: then it does nothing, and imports nothing.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

__all__: list[str] = []


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "autograder.serverextension"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Put our handlers before nbgrader's, in whatever order Jupyter loads the two."""
    if find_spec("nbgrader") is None:
        return
    from autograder.gradebook import background, formgrader

    application = server.web_app
    base = application.settings["base_url"].rstrip("/")
    application.settings.setdefault("root_dir", server.root_dir)
    application.add_handlers(
        ".*$",
        [(base + pattern, *rest) for pattern, *rest in (*background.handlers(), *formgrader.handlers())],
    )
    rules = application.default_router.rules  # the first that fits answers; the last one is the server's own
    rules.insert(0, rules.pop(-2))
