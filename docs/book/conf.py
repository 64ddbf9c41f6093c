"""Sphinx's settings for the book. `make book` (docs/book/build.py) writes the pages that it reads, and runs it."""

import os
import sys
from pathlib import Path

BOOK = Path(__file__).parent
sys.path[:0] = [str(BOOK.parent), str(BOOK.parents[1])]

project = "Training Deep Nets"
copyright = "the authors; code Apache-2.0, text and figures CC BY 4.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "book.extension"]
exclude_patterns = ["downloads", "**/.ipynb_checkpoints"]

html_theme = "furo"
html_title = project
html_static_path = [str(BOOK / "static")]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"  # drawn by the browser itself: no script, no network
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b57a4", "color-brand-content": "#0b57a4"},
    "dark_css_variables": {"color-brand-primary": "#7fb8f0", "color-brand-content": "#7fb8f0"},
}

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
myst_html_meta = {"viewport": "width=device-width, initial-scale=1"}

# Every lesson runs in a kernel of its own; what ran before is taken from the cache. An error, or a word on stderr,
# ends the build: the learners' notebooks show neither.
nb_execution_mode = "cache"
nb_execution_cache_path = os.environ.get("BOOK_CACHE", "")
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_output_stderr = "error"
nb_merge_streams = True
nb_render_markdown_format = "myst"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False
viewcode_line_numbers = True

suppress_warnings = [
    "mystnb.unknown_mime_type",  # a check's verdict as data, beside its card
    "ref.python",  # a short type such as `Result` may be one of several; it is then no link
    "myst.header",  # an output may begin below the level of its page
]
