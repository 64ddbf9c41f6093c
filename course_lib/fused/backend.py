"""When the fused kernels run: which devices, which dtypes, and what the `fused` argument decides."""

import importlib.util
import os
import shutil
from functools import cache

import torch
from torch import Tensor

__all__ = ["kernels_available", "refuse_second_derivative", "use_kernels"]

# x · y + z in one rounding, where the compiler likes; Triton 3.9 warns unless told
COMPILER_OPTIONS = {"enable_fp_fusion": True}
KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@cache
def triton_works() -> bool:
    """Whether Triton is installed, with the C compiler that it needs to build its launchers."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    return importlib.util.find_spec("triton") is not None and bool(compiler)


@cache
def interpreting() -> bool:
    """Whether Triton runs kernels in its interpreter, on CPU tensors. Triton reads the variable once, when imported."""
    return os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None


@cache
def multiprocessors(device: torch.device) -> int:
    """How many multiprocessors share the work; under the interpreter one, which keeps the grid small."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@cache
def gpu_works(device: torch.device) -> bool:
    # Triton needs capability 7.0, and bfloat16 in it 8.0
    return device.type == "cuda" and triton_works() and torch.cuda.get_device_capability(device) >= (8, 0)


def kernels_available(device: torch.device | str) -> bool:
    """Whether fused kernels run on the device: a GPU of capability 8.0 or more with Triton, or Triton's interpreter."""
    device = torch.device(device)
    return gpu_works(device) or (device.type == "cpu" and interpreting())


def use_kernels(fused: bool | None, *tensors: Tensor | None) -> bool:
    """Whether to launch kernels on the tensors (None is passed over), for a function's argument `fused`.

    None chooses, False declines, True insists: then it raises RuntimeError, saying what is missing, where the kernels
    can't run. Empty tensors always take the readable version: there is nothing to launch.
    """
    if fused is False:
        return False
    given = [tensor for tensor in tensors if tensor is not None]
    device = given[0].device
    if fused is None and device.type != "cuda":  # the interpreter is only for those who ask
        return False
    able = (
        kernels_available(device)
        and all(tensor.device == device for tensor in given)
        and all(tensor.dtype in KERNEL_DTYPES for tensor in given)
    )
    if fused and not able:
        raise RuntimeError(
            "fused=True needs float32, float16 or bfloat16 tensors on one GPU with Triton installed "
            "(or on the CPU with TRITON_INTERPRET=1 set before triton is imported), "
            f"but got {', '.join(f'{str(tensor.dtype)[6:]} on {tensor.device}' for tensor in given)}"
        )
    return able and all(tensor.numel() > 0 for tensor in given)


def refuse_second_derivative() -> None:
    """Raise RuntimeError in a backward pass that is itself recorded (create_graph=True).

    `once_differentiable` would not do: it refuses only where the gradient that comes in is differentiated, and else
    leaves the dependence on x out without a word.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("the fused kernels can be differentiated once: pass fused=False for second derivatives")
