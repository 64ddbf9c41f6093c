"""For every test: triton, where it is installed, before TensorFlow.

torch imports triton with its first optimizer. If TensorFlow is there already, the second copy of LLVM ends the process.
"""

from contextlib import suppress

with suppress(ImportError):
    import triton  # noqa: F401
