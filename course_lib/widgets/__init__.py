"""Interactive figures: a module for each lesson's own, on one base (`interactive`) and one way to draw (`svg`)."""

from course_lib.widgets import dropout, interactive, optimizers, svg

__all__ = ["dropout", "interactive", "optimizers", "svg"]
