"""Interactive figures: a module for each lesson's own, on one base (`interactive`) and one way to draw (`svg`)."""

from course_lib.widgets import (
    activations,
    batch_norm,
    cnn_architectures,
    dropout,
    initialization,
    interactive,
    optimizers,
    regularization,
    svg,
    vanishing_gradients,
)

__all__ = [
    "activations",
    "batch_norm",
    "cnn_architectures",
    "dropout",
    "initialization",
    "interactive",
    "optimizers",
    "regularization",
    "svg",
    "vanishing_gradients",
]
