"""Larger nets by the frameworks' own loaders: only when asked, and with one clear line where there is no network."""

from __future__ import annotations

import importlib
from typing import Any

from course_lib.pretrained.weights import PretrainedError
from course_lib.quiet import load_keras

__all__ = ["load_larger"]


def load_larger(name: str, framework: str = "torch", *, download: bool = False) -> Any:
    """A net of torchvision (`"resnet50"`) or of keras.applications (`"ResNet50"`) with its ImageNet weights.

    It touches the network, so it wants `download=True`; a net that was loaded before comes from the framework's own
    cache. The result is in inference mode where the framework has one; its input scale is the framework's affair (see
    the weights' own `transforms()`, or the application's `preprocess_input`). Raises PretrainedError without
    `download=True`, for an unknown name, where torchvision is absent or does not fit, and where the download fails;
    ValueError for another framework.
    """
    if framework not in ("torch", "keras"):
        raise ValueError(f"framework is {framework!r}: there are 'torch' and 'keras'")
    if not download:
        raise PretrainedError(
            f"{name} does not come with the course: load_larger({name!r}, {framework!r}, download=True) fetches it, "
            "and load() gives EfficientNet-Lite0 without a network"
        )
    make = _torchvision(name) if framework == "torch" else _keras_application(name)
    try:
        return make()
    except Exception as error:  # Keras raises a bare Exception, torch.hub whatever urllib or the disk said
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PretrainedError(
            f"the weights of {name} cannot be had ({reason}): they need a network; load() works without one"
        ) from error


def _torchvision(name: str):
    try:
        models = importlib.import_module("torchvision").models
    except Exception as error:  # absent, or built for another torch, which shows as RuntimeError or OSError
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PretrainedError(
            f"torchvision cannot be imported ({reason}): install the release that names your torch's version"
        ) from error
    if name not in models.list_models():
        raise PretrainedError(f"torchvision has no net {name!r}: see torchvision.models.list_models()")
    return lambda: models.get_model(name, weights="DEFAULT").eval()


def _keras_application(name: str):
    make = getattr(load_keras().applications, name, None)
    if make is None or not isinstance(name, str) or not name[:1].isupper():
        raise PretrainedError(f"keras.applications has no net {name!r}: names are like 'ResNet50', 'MobileNetV2'")
    return lambda: make(weights="imagenet")
