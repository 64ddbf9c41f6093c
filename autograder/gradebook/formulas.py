"""LaTeX to MathML, which every browser draws by itself: no script, no font, no network.

latex2mathml does the conversion, but writes whatever it is given into its output: `\\text{<b>}` becomes a tag and
`\\href{javascript:…}` a link. So its tree is written out here, with the elements and attributes of plain mathematics.
"""

from __future__ import annotations

import re
from html import escape, unescape
from typing import Any

from latex2mathml.converter import convert_to_element

__all__ = ["mathml"]

LONGEST = 2_000  # characters; the longest formula of the lessons has about 200
_ELEMENTS = (
    "math mrow mi mn mo mtext ms mspace mfrac msqrt mroot msub msup msubsup munder mover munderover mmultiscripts "
    "mprescripts none mtable mtr mtd mstyle mpadded mphantom menclose"
)
_ATTRIBUTES = (
    "display stretchy fence form separator minsize maxsize largeop symmetric movablelimits accent accentunder lspace "
    "rspace width height depth voffset linethickness mathvariant mathsize displaystyle scriptlevel columnalign "
    "rowalign columnspacing rowspacing columnlines rowlines frame notation"
)
ELEMENTS, ATTRIBUTES = frozenset(_ELEMENTS.split()), frozenset(_ATTRIBUTES.split())


def mathml(latex: str, *, display: bool) -> str:
    """The formula as MathML; as code, where it is no LaTeX that can be converted."""
    try:
        if len(latex) > LONGEST:
            raise ValueError("too long")
        return _written(convert_to_element(latex, display="block" if display else "inline"))
    except Exception:  # the converter raises what it likes, RecursionError too
        return f"<code>{escape(latex[:LONGEST])}</code>"


def _written(element: Any) -> str:
    inner = escape(unescape(element.text or ""), quote=False) + "".join(_written(child) for child in element)
    if element.tag not in ELEMENTS:
        return inner
    kept = (
        f' {name}="{value}"'
        for name, value in element.attrib.items()
        if name in ATTRIBUTES and re.fullmatch(r"[\w .%+-]{1,40}", value)
    )
    return f"<{element.tag}{''.join(kept)}>{inner}</{element.tag}>"
