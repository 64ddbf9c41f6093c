"""The Triton kernels themselves. These modules import triton, so only the functions that launch them import these."""
