"""Buttons for what a learner may do with the journal: take it along, or delete it."""

from __future__ import annotations

from typing import Any

from course_lib.predictions.cards import status_html

from ..exercise import CourseError
from .files import delete, export

__all__ = ["controls"]

NAME = "my-progress"
BY_CODE = f'home.export("{NAME}.json"), home.export("{NAME}.csv") and home.delete() do the same as the buttons.'


class Controls:
    """The buttons, where a widget manager shows them; one line that says the calls, everywhere else."""

    def __str__(self) -> str:
        return BY_CODE

    __repr__ = __str__

    def form(self) -> Any:
        """An ipywidgets form, or None without ipywidgets. Deleting takes a second press."""
        try:
            import ipywidgets
        except ImportError:
            return None
        wide = ipywidgets.Layout(width="auto")
        save = {
            suffix: ipywidgets.Button(description=f"Export as {suffix.upper()}", layout=wide)
            for suffix in ("json", "csv")
        }
        remove = ipywidgets.Button(description="Delete all of it", layout=wide)
        status = ipywidgets.HTML(status_html(""))
        armed: list[bool] = []

        def disarm() -> None:
            armed.clear()
            remove.description = "Delete all of it"

        def write(suffix: str) -> None:
            disarm()
            try:
                status.value = status_html(f"Written to {export(f'{NAME}.{suffix}')}, in this folder.")
            except CourseError as error:
                status.value = status_html(f"{error}.")

        def press(_button: Any) -> None:
            if not armed:
                armed.append(True)
                remove.description = "Delete for good"
                status.value = status_html("Press again to delete every prediction and check that is kept, for good.")
                return
            disarm()
            try:
                status.value = status_html(
                    "Deleted. Run the cell above again to see it, and restart the lessons that are open."
                    if delete()
                    else "There was nothing to delete."
                )
            except CourseError as error:
                status.value = status_html(f"{error}.")

        for suffix, button in save.items():
            button.on_click(lambda _button, suffix=suffix: write(suffix))
        remove.on_click(press)
        return ipywidgets.VBox([ipywidgets.HBox([*save.values(), remove]), status])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": str(self)}
        if (form := self.form()) is not None:
            view = "application/vnd.jupyter.widget-view+json"
            bundle[view] = form._repr_mimebundle_()[view]
        return bundle


def controls() -> Controls:
    """Buttons to export what is kept, and to delete it."""
    return Controls()
