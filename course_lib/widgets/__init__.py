"""Interactive figures: a module for each lesson's own, on one base (`interactive`) and one way to draw (`svg`)."""

from course_lib.widgets import batch_norm, dropout, interactive, svg

__all__ = ["batch_norm", "dropout", "interactive", "svg"]
