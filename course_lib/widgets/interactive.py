"""What every interactive figure shares: a form of named controls over a drawing, a goal to reach, a static form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from torch import Tensor

from course_lib.plots import COLOURS, Figure, PlotError

__all__ = ["Interactive", "View", "choice", "rows", "slider"]

_LABEL = {"description_width": "9.5em"}
_WIDTH = {"width": "36em", "max_width": "100%"}


@dataclass(frozen=True)
class View:
    """What one setting of the controls shows: the drawing as SVG, the words of the goal, and whether it is reached."""

    svg: str
    goal: str
    reached: bool = False


def rows(images: Tensor | np.ndarray) -> Tensor:
    """Images (N, H, W) or (N, H, W, C) as rows (N, H·W·C) of their own dtype. Raises PlotError if there is none."""
    images = images if isinstance(images, Tensor) else torch.tensor(np.asarray(images))
    if images.ndim < 2 or len(images) == 0:
        raise PlotError(f"Images are needed, (N, H, W) or (N, H, W, C), not shape {tuple(images.shape)}.")
    return images.flatten(1)


def slider(words: str, value: float, low: float, high: float, step: float, *, tip: str = "", format: str = ".2f"):
    """A slider over numbers; over whole numbers where `value` and `step` are whole."""
    import ipywidgets

    options = {"value": value, "min": low, "max": high, "step": step, "description": words, "style": _LABEL}
    options |= {"layout": ipywidgets.Layout(**_WIDTH), "description_tooltip": tip or None}
    if isinstance(value, int) and isinstance(step, int):
        return ipywidgets.IntSlider(**options)
    return ipywidgets.FloatSlider(readout_format=format, **options)


def choice(words: str, options: Mapping[str, object] | Iterable[str], value: object):
    """A choice among options, {words: value}, or names that are both. No drop-down list: JupyterLab takes its arrow
    keys away.
    """
    import ipywidgets

    return ipywidgets.RadioButtons(
        options=list(options.items() if isinstance(options, Mapping) else options),
        value=value,
        description=words,
        style=_LABEL,
        layout=ipywidgets.Layout(**_WIDTH),
    )


class Interactive:
    """A figure with controls. A subclass gives `controls`, `view` and `static`, and its `caption`.

    In a notebook with a widget manager the form is shown, elsewhere the static form; the text form is its alt text.
    """

    caption: str

    def controls(self) -> dict[str, object]:
        """The controls by name, made with `slider` and `choice`."""
        raise NotImplementedError

    def view(self, **values) -> View:
        """What the controls' values, by the same names, show."""
        raise NotImplementedError

    def static(self) -> Figure:
        """The figure for readers: a few settings side by side, chosen so that they tell the story."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.static().alt

    __repr__ = __str__

    def widget(self):
        """The form: goal, controls, drawing, caption. None without ipywidgets."""
        try:
            import ipywidgets
        except ImportError:
            return None
        controls = self.controls()
        picture, goal = ipywidgets.HTML(), ipywidgets.HTML()
        found = False

        def update(_change=None) -> None:
            nonlocal found
            view = self.view(**{name: control.value for name, control in controls.items()})
            picture.value = view.svg
            if view.reached or not found:  # once reached, a goal stays reached
                goal.value = _panel(view.goal, COLOURS[2] if view.reached else COLOURS[0])
            found = found or view.reached

        for control in controls.values():
            control.observe(update, names="value")
        update()
        caption = ipywidgets.HTML(f'<div style="max-width:46em;line-height:1.4">{escape(self.caption)}</div>')
        return ipywidgets.VBox([goal, *controls.values(), picture, caption])

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        static = self.static()
        bundle: dict[str, object] = {"text/plain": static.alt, "text/html": static.html()}
        if (form := self.widget()) is not None:
            # the form's own text/plain is "VBox(...)": keep ours
            view = "application/vnd.jupyter.widget-view+json"
            bundle[view] = form._repr_mimebundle_()[view]
        return bundle


def _panel(words: str, edge: str) -> str:
    return (
        f'<div role="status" style="border-left:4px solid {edge};padding:0.3em 0.8em;max-width:46em;line-height:1.45;'
        f'color:var(--jp-ui-font-color1,inherit)">{escape(words)}</div>'
    )
