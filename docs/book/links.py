"""Are all links of a built site good? Files and anchors within it are looked up; nothing may be loaded from outside.

    python docs/book/links.py build/book

Links to other sites are left alone: that a reader may follow them needs no network here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["dead_links"]

LOADS = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("image", "href")}


@dataclass
class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    text: str
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        for name in ("href", "src", "xlink:href"):
            if name in values:
                loaded = (tag, name) in LOADS and values.get("rel") not in ("canonical", "author")
                (self.loads if loaded else self.links).append(values[name])


def dead_links(site: Path) -> list[str]:
    """One line for each link that leads nowhere and each thing that a page would load from elsewhere."""
    pages = {path.resolve(): Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        for target in dict.fromkeys([*page.links, *page.loads]):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loads and parts.scheme != "data":
                    found.append(f"{where}: loads {target}")
                continue
            aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            aim = aim / "index.html" if aim.is_dir() else aim
            if not aim.exists():
                found.append(f"{where}: {target} is not there")
            elif parts.fragment and aim in pages and unquote(parts.fragment) not in pages[aim].anchors:
                found.append(f"{where}: {target} has no such anchor")
    found += [
        f"{css.relative_to(site)}: loads from elsewhere" for css in site.rglob("*.css") if "url(http" in css.read_text()
    ]
    return found


if __name__ == "__main__":
    dead = dead_links(Path(sys.argv[1]))
    print("\n".join(dead) or "every link leads somewhere, and nothing is loaded from elsewhere")
    sys.exit(bool(dead))
