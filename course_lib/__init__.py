"""What the lessons teach: reference implementations, experiments, data. Import the module you need.

Nothing is imported here, so that `import course_lib` costs nothing; every module imports torch at most, and Keras,
matplotlib or ipywidgets only when they are used.
"""

__all__ = [
    "accounts",
    "activations",
    "architectures",
    "bench",
    "claims",
    "conventions",
    "convolution",
    "datasets",
    "diagnostics",
    "dropout",
    "ensembles",
    "fused",
    "initializers",
    "keras_twin",
    "layer_rules",
    "normalization",
    "optimizers",
    "plots",
    "pooling",
    "predictions",
    "pretrained",
    "provenance",
    "quiet",
    "regularizers",
    "schedules",
    "texts",
    "training",
    "transfer",
    "trust",
    "widgets",
    "windows",
]
