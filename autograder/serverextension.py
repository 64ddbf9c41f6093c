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
    from tornado.routing import HostMatches, Rule
    from tornado.web import _ApplicationRouter

    from autograder.gradebook import background, formgrader

    application = server.web_app
    base = application.settings["base_url"].rstrip("/")
    handlers = [(base + pattern, *rest) for pattern, *rest in (*background.handlers(), *formgrader.handlers())]
    application.settings.setdefault("root_dir", server.root_dir)
    rule = Rule(HostMatches(".*$"), _ApplicationRouter(application, handlers))
    application.default_router.rules.insert(0, rule)  # add_handlers would put them after nbgrader's, or not
