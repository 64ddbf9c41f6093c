"""An interactive figure: what one value of a stack of convolutions sees of a picture, and what the stack costs.

StackFigure(image)                              # sliders and figure; fixed panels without a widget manager

Everything drawn is worked out by `course_lib.accounts` and `course_lib.windows`: no net is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from course_lib.accounts import Account, account
from course_lib.plots import COLOURS, Figure, PlotError
from course_lib.widgets.interactive import Interactive, View, choice, slider
from course_lib.widgets.svg import drawing, heading, text
from course_lib.windows import ReceptiveField, Window, receptive_field

__all__ = ["HEADS", "Stack", "StackFigure", "planned"]

HEADS = {"flat": "flattened", "average": "the mean of each map"}
CLASSES, FIRST_MAPS, MOST_MAPS = 10, 8, 64
MOST_PARAMETERS, MOST_PRODUCTS = 40_000, 1_200_000
SEEN, BAR = COLOURS[1], COLOURS[0]
PICTURE = 300  # units of the drawing


@dataclass(frozen=True)
class Stack:
    """A planned net: its account, what the value in the middle of the last map sees, and where that begins."""

    side: int
    account: Account
    field: ReceptiveField
    first: int

    @property
    def last_side(self) -> int:
        """Values along one side of the last map."""
        return next(row.output_shape[1] for row in reversed(self.account.layers) if row.kind in ("Conv2d", "MaxPool2d"))

    @property
    def seen(self) -> tuple[int, int]:
        """The first pixel that the value in the middle sees, and the one behind the last, within the picture."""
        return max(self.first, 0), min(self.first + self.field.size, self.side)


@lru_cache(maxsize=512)
def planned(side: int, kernel: int, depth: int, halvings: int, dilation: int, head: str) -> Stack:
    """A stack for grey pictures of `side` pixels: `depth` convolutions, padded so that they keep the size, the maps
    doubled and the size halved by max pooling `halvings` times, spread evenly. Raises PlotError for values that do
    not fit.
    """
    if head not in HEADS or kernel % 2 == 0 or not 1 <= depth <= 12 or not 0 <= halvings <= min(depth, 4):
        raise PlotError(
            f"Give an odd kernel, 1 to 12 layers, no more halvings than layers, a head of {', '.join(HEADS)}."
        )
    if side // 2**halvings < 1 or dilation < 1:
        raise PlotError(f"A picture of {side} pixels can't be halved {halvings} times.")
    behind = {round(depth * (k + 1) / (halvings + 1)) or 1 for k in range(halvings)}
    windows, maps, before = [], FIRST_MAPS, 1
    padding = dilation * (kernel - 1) // 2
    with torch.device("meta"):
        net = nn.Sequential()
        for layer in range(1, depth + 1):
            net.append(nn.Conv2d(before, maps, kernel, padding=padding, dilation=dilation))
            windows.append(Window(kernel, 1, padding, dilation))
            before = maps
            if layer in behind:
                net.append(nn.MaxPool2d(2))
                windows.append(Window(2, 2))
                maps = min(2 * maps, MOST_MAPS)
        if head == "average":
            net.append(nn.AdaptiveAvgPool2d(1))
        net.append(nn.Flatten())
        features = account(net, (1, side, side)).output_shape[0]
        net.append(nn.Linear(features, CLASSES))
        plan = account(net, (1, side, side))
    field = receptive_field(windows)
    last = next(row.output_shape[1] for row in reversed(plan.layers) if row.kind in ("Conv2d", "MaxPool2d"))
    return Stack(side, plan, field, field.start + last // 2 * field.jump)


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = {"Conv2d": "convolution", "MaxPool2d": "pooling", "AdaptiveAvgPool2d": "mean of each map", "Linear": "dense"}


def _picture(image: np.ndarray, stack: Stack, left: float, top: float) -> str:
    """The picture pixel by pixel, and a box around what the value sees."""
    size = PICTURE / stack.side
    ink = "".join(
        f'<rect x="{left + c * size:.1f}" y="{top + r * size:.1f}" width="{size:.1f}" height="{size:.1f}" '
        f'fill="currentColor" fill-opacity="{image[r, c]:.2f}"/>'
        for r, c in np.argwhere(image > 0.05)
    )
    first, last = stack.seen
    box = (
        f'<rect x="{left + first * size:.1f}" y="{top + first * size:.1f}" width="{(last - first) * size:.1f}" '
        f'height="{(last - first) * size:.1f}" fill="{SEEN}" fill-opacity="0.22" stroke="{SEEN}" stroke-width="2.5"/>'
    )
    frame = f'<rect x="{left}" y="{top}" width="{PICTURE}" height="{PICTURE}" fill="none" stroke="currentColor"/>'
    words = f"{stack.side} × {stack.side} pixels; the box: what the middle value sees"
    return ink + box + frame + text(left + PICTURE / 2, top + PICTURE + 18, words)


def _bars(stack: Stack, left: float, top: float) -> str:
    """A line for each layer: its kind, its output, its multiply-adds as a bar, its parameters."""
    rows = [row for row in stack.account.layers if row.kind in NAMES]
    longest = max(row.multiply_adds for row in rows) or 1
    parts = [
        text(left + 190, top + 10, "output", anchor="end", size=11),
        text(left + 205, top + 10, "multiply-adds", anchor="start", size=11),
        text(left + 455, top + 10, "parameters", anchor="end", size=11),
    ]
    step = min(24, 280 / len(rows))
    for i, row in enumerate(rows, 1):
        y = top + 12 + i * step
        shape = " × ".join(map(str, row.output_shape))
        length = 110 * row.multiply_adds / longest
        parts += [
            text(left, y, NAMES[row.kind], anchor="start"),
            text(left + 190, y, shape, anchor="end", size=11),
            f'<rect x="{left + 205}" y="{y - 10:.1f}" width="{length:.1f}" height="12" fill="{BAR}"/>',
            text(
                left + 210 + length, y, f"{row.multiply_adds:,}" if row.multiply_adds else "", anchor="start", size=11
            ),
            text(left + 455, y, f"{row.parameters:,}" if row.parameters else "–", anchor="end", size=11),
        ]
    return "".join(parts)


def _sentence(stack: Stack) -> str:
    field, plan = stack.field, stack.account
    return (
        f"One value of the last map ({stack.last_side} × {stack.last_side}) sees {field.size} × {field.size} pixels; "
        f"neighbours lie {field.jump} apart. {plan.parameters:,} parameters, {plan.multiply_adds:,} multiply-adds."
    )


def _panels(image: np.ndarray, stack: Stack, top: float) -> str:
    return _picture(image, stack, 10, top) + _bars(stack, 335, top)


CAPTION = (
    "Left: a picture, and the box that the value in the middle of the last map sees of it, counted past the border "
    "where it reaches beyond. Right: the layers, with the size of what each puts out, its multiply-adds for one "
    "picture (bars on a scale of their own) and its parameters. Depth, kernel and dilation widen the box step by "
    "step, each halving doubles the steps that follow. Look at where the multiply-adds are, and where the parameters."
)


class StackFigure(Interactive):
    """The figure with its sliders; where no widget manager is, `static()`: too narrow a view, dilation, halvings."""

    caption = CAPTION

    def __init__(self, image: np.ndarray):
        """`image`: one picture (H, W), square, 0 to 1 or uint8; its ink is what is not 0. Raises PlotError."""
        image = np.asarray(image)
        if image.ndim != 2 or image.shape[0] != image.shape[1]:
            raise PlotError(f"A square picture (H, W) is needed, not shape {image.shape}.")
        self.image = image / 255 if image.dtype == np.uint8 else image.astype(float)
        self.side = len(image)

    def static(self) -> Figure:
        settings = (
            ("three convolutions, nothing halved", (3, 3, 0, 1, "flat")),
            ("the same three, halved twice", (3, 3, 2, 1, "flat")),
            ("six, halved twice, and the mean of each map", (3, 6, 2, 1, "average")),
        )
        body, told, row = "", [], PICTURE + 62
        for index, (words, (kernel, depth, halvings, dilation, head)) in enumerate(settings):
            stack = planned(self.side, kernel, depth, halvings, dilation, head)
            top = 30 + row * index
            body += heading(10, top - 10, index, words) + _panels(self.image, stack, top)
            told.append(f"{words}: {_sentence(stack)}")
        alt = "A picture with a box around what one value sees, and the layers' costs. " + " ".join(told)
        return Figure(drawing(800, 10 + row * len(settings), body, alt), alt, CAPTION)

    def controls(self) -> dict[str, object]:
        return {
            "depth": slider("Convolutions", 2, 1, 8, 1, tip="How many, one behind the other"),
            "kernel": slider("Kernel", 3, 1, 7, 2, tip="Side of each kernel, in cells"),
            "halvings": slider("Halvings", 0, 0, 3, 1, tip="Max poolings, spread evenly; each doubles the maps"),
            "dilation": slider("Dilation", 1, 1, 4, 1, tip="Pixels between neighbouring cells of a kernel"),
            "head": choice("Behind the maps", {words: name for name, words in HEADS.items()}, "flat"),
        }

    def view(self, depth: int, kernel: int, halvings: int, dilation: int, head: str) -> View:
        stack = planned(self.side, kernel, depth, min(halvings, depth), dilation, head)
        first, last = stack.seen
        plan = stack.account
        cheap = plan.parameters <= MOST_PARAMETERS and plan.multiply_adds <= MOST_PRODUCTS
        reached = (first, last) == (0, stack.side) and cheap and dilation == 1
        ask = (
            f"Your goal: let the middle value see the whole picture, without dilation, for at most {MOST_PARAMETERS:,} "
            f"parameters and {MOST_PRODUCTS:,} multiply-adds."
        )
        if reached:
            ask += (
                f" ✓ Found: {plan.parameters:,} parameters, {plan.multiply_adds:,} multiply-adds. What happens to the "
                "multiply-adds if you halve once less, and to the parameters if the maps are flattened?"
            )
        body = _panels(self.image, stack, 10) + text(400, PICTURE + 50, _sentence(stack))
        return View(drawing(800, PICTURE + 62, body, _sentence(stack)), ask, reached)
