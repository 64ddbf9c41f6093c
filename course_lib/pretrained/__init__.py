"""A really pretrained convnet that comes with the course: no download, no account, the same in PyTorch and Keras.

from course_lib import pretrained

net = pretrained.load()                                  # EfficientNet-Lite0 in PyTorch, in evaluation
x = pretrained.preprocess(images, 128)                   # uint8 (N, H, W, 3) -> (x - 127)/128, (N, 3, 128, 128)
pretrained.top_k(net(x))                                 # names and probabilities
trunk = pretrained.cut(net, 10)                          # the stem and blocks 0 to 10, sharing the net's weights

The weights derive from ImageNet images; `provenance()` says from where.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from course_lib.pretrained.images import Photographs, photographs, preprocess, top_k
from course_lib.pretrained.larger import load_larger
from course_lib.pretrained.net import BLOCKS, EfficientNetLite0
from course_lib.pretrained.weights import NET, PretrainedError, class_names, provenance, read_arrays

__all__ = [
    "BLOCKS",
    "EfficientNetLite0",
    "Photographs",
    "PretrainedError",
    "class_names",
    "cut",
    "features",
    "load",
    "load_larger",
    "photographs",
    "preprocess",
    "provenance",
    "top_k",
]


def load(framework: str = "torch") -> Any:
    """EfficientNet-Lite0 with its weights: an `EfficientNetLite0` in evaluation, or a `keras.Model`; float32.

    Both give the same logits (N, 1000), for (N, 3, H, W) and for (N, H, W, 3). The weights lie in the package in
    float16 (batch norm in float32) and are checked against their sha256; nothing touches the network. Raises
    PretrainedError where they are absent or damaged, ValueError for another framework.
    """
    if framework not in ("torch", "keras"):
        raise ValueError(f"framework is {framework!r}: there are 'torch' and 'keras'")
    arrays = {name: array.astype("float32") for name, array in read_arrays(NET).items()}
    if framework == "keras":
        from course_lib.pretrained.keras_net import load_keras_net

        return load_keras_net(arrays)
    with torch.device("meta"):  # no random start that is thrown away at once
        model = EfficientNetLite0()
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    state |= {
        name: torch.zeros((), dtype=torch.int64) for name in model.state_dict() if name.endswith("num_batches_tracked")
    }
    model.load_state_dict(state, assign=True)
    return model.eval()


def cut(model: Any, block: int) -> Any:
    """The net up to and with `block` (0 to 15; −1 is the stem alone), as a model that shares the net's weights.

    For a torch net x → (N, C, h, w), for a Keras one x → (N, h, w, C); `BLOCKS[block].out_channels` is C. Early
    blocks hold edges and textures, late ones what ImageNet's classes need. Raises ValueError for another block.
    """
    if not -1 <= block < len(BLOCKS):
        raise ValueError(f"block is {block}: the net has blocks 0 to {len(BLOCKS) - 1}, and -1 for the stem")
    if isinstance(model, nn.Module):
        return nn.Sequential(model.stem, *model.blocks[: block + 1])
    return type(model)(model.input, _keras_output(model, block))


def features(model: Any, x: Any, blocks: Sequence[int] = (0, 2, 4, 7, 10, 14, 15)) -> tuple[Any, ...]:
    """The outputs of several blocks in one pass, in the order of `blocks` (−1 is the stem): as `cut` gives each.

    The model's mode and its gradients are left as they are: wrap in `torch.no_grad()` where you train nothing. Raises
    ValueError for a block that is not there.
    """
    if wrong := [block for block in blocks if not -1 <= block < len(BLOCKS)]:
        raise ValueError(f"block is {wrong[0]}: the net has blocks 0 to {len(BLOCKS) - 1}, and -1 for the stem")
    if not isinstance(model, nn.Module):
        outputs = type(model)(model.input, [_keras_output(model, block) for block in blocks])(x)
        return tuple(outputs) if isinstance(outputs, (list, tuple)) else (outputs,)
    found = {-1: model.stem(x)}
    for i, block in enumerate(model.blocks[: max(blocks, default=-1) + 1]):
        found[i] = block(found[i - 1])
    return tuple(found[block] for block in blocks)


def _keras_output(model: Any, block: int) -> Any:
    return model.get_layer("stem.relu6" if block < 0 else f"blocks.{block}").output
