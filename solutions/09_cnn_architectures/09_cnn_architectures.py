# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which layers, and how many? Choosing a conv net
#
# *Lesson 9 of Training Deep Nets. About four hours; thirteen exercises that check themselves, the last of them a contest,
# and one graded by hand. You need Python and linear regression. The words of the trade are explained where they first
# appear.*
#
# People ask it like this:
#
# > I am building a sample project in Keras, to tell cats from dogs. I found an example online with three times
# > `Conv2D`, `Activation`, `MaxPooling2D`. **How do people know which layers to use?** Are there rules of thumb when to
# > use Conv2D, or Conv1D, or another layer?
#
# The answer that got the most votes begins: *in short, they don't.* It goes on with rules of thumb all the same:
# convolutions where the data has spatial or temporal structure, pooling to drop detail, recurrent layers for sequences,
# dense ones where nothing is known; copy first, and gather experience. And around it:
#
# > Fully connected layers are the expensive part. Is that so?
#
# > At test nobody needs the activations of the first layers any more. Does TensorFlow drop them?
#
# > My weights come from Keras, my net runs in PyTorch, and the results are worse. Where do I look?
#
# By the end you will have written a convolution and its gradient, worked out on paper what a net sees and what it
# costs, rebuilt the asker's net in Keras with the same weights and the same outputs, mended three nets, and entered one
# of your own in a contest. And you will have read the measurements behind each rule of thumb, this lesson's table of
# defaults among them.

# %% role="setup"
import numpy as np
import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from autograder import exercises
from autograder.check import check
from course_lib import accounts, architectures, claims, conventions, datasets, diagnostics, ensembles, plots, trust
from course_lib import convolution as course_convolution
from course_lib import training as course_training
from course_lib.keras_twin import to_keras_images
from course_lib.predictions import predict, reveal
from course_lib.quiet import load_keras
from course_lib.widgets.cnn_architectures import StackFigure

torch.set_num_threads(1)  # small nets run faster on one thread

# %% [markdown]
# ## The words you need
#
# A **dense** (or fully connected) layer computes $z = W x + b$, the sum of linear regression, once for each of its
# **units**; an **activation** then bends $z$, mostly by $\mathrm{ReLU}(z) = \max(0, z)$. The last layer's numbers are the
# **logits**, one for each class; **softmax** turns them into probabilities. The **loss** is small where the right class
# has a high probability, and **training** moves the weights a little so that the loss falls, one small **batch** of
# examples after another; how far is the **learning rate**. A net that knows its training examples by heart and fails on
# new ones **overfits**.
#
# A **convolution** is a layer for pictures. It has small squares of weights, its **kernels**. A kernel is laid on the
# picture, each weight meets one pixel, and the products are summed: one number. Then it is moved by a pixel, and so on;
# the numbers form a new picture, called a **map** (or channel). A layer with 16 kernels makes 16 maps, and a kernel of
# the next layer has a square of weights for each of these. Four settings say how a kernel moves:
#
# - **padding**: how many rows and columns of zeros are put around the picture first;
# - **stride**: by how many pixels it is moved each time. With 2, the map has half as many rows and columns;
# - **dilation**: how many pixels its cells lie apart. With 2, a kernel of 3 × 3 spans 5 × 5 pixels and looks at 9;
# - **groups**: into how many parts the maps are cut, each seen by its own kernels only.
#
# **Pooling** has no weights: it replaces each small square by its largest value or its mean. What one value of a deep map
# depends on in the picture is its **receptive field**. To **flatten** is to write maps out as one long row of numbers,
# as a dense layer needs it. **Batch norm** is a layer that shifts and scales each map to a mean of 0 and a spread of 1
# over the batch.
#
# The bill of a net has three lines: its **parameters** (the numbers that it learns), its **multiply-adds** (one product
# and one sum each; what it computes for one picture), and its **memory**.
#
# And a recipe of training names: the **initialization**, how weights are drawn at first (He's gives each a variance of 2
# over the number of its unit's inputs, Glorot's about half of that); the activation (ELU is a ReLU whose negative half
# levels off smoothly at −1); **dropout**, by which random units are switched off while training; the **optimizer**, the
# rule that moves the weights (plain steps with **momentum**, or **Adam**, which scales each weight's steps by itself); and
# the **schedule**, by which the learning rate changes on the way. Lessons 2 to 8 take these one by one; here it is enough
# to know them by name.
#
# Here is a convolution at work, with three kernels that somebody wrote by hand:

# %% role="demo"
digits = datasets.load("mnist5k")
emoji = datasets.load("emoji8")
picked = datasets.as_tensors(digits.test.images[:6])
kernels = torch.tensor(
    [[[1.0, 1, 1]] * 3, [[-1.0, -1, -1], [0, 0, 0], [1, 1, 1]], [[-1.0, 0, 1]] * 3]
)  # a mean, edges at the top of strokes, edges at their left
maps = F.conv2d(picked, kernels[:, None], padding=1).relu()
maps = maps / maps.amax((2, 3), keepdim=True)
plots.grid(
    torch.cat([picked[:, 0], *maps.transpose(0, 1)]).numpy(),
    [digits.classes[i] for i in digits.test.labels[:6]]
    + ["mean"]
    + [""] * 5
    + ["top"]
    + [""] * 5
    + ["left"]
    + [""] * 5,
    columns=6,
    alt="Six digits; below them the maps of three kernels: blurred, the upper edges of strokes, their left-hand edges.",
    caption="Six digits (top) and what three kernels of 3 × 3 make of them: a mean, a kernel for edges that are dark "
    "above and bright below, which is the top of a stroke, and one for edges dark on the left and bright on the right. "
    "A net learns its kernels instead; the first ones often look like these.",
)

# %% [markdown]
# ### The PyTorch you need
#
# A **tensor** is an array, as in numpy. Pictures come as `(N, C, H, W)`: N pictures of C maps with H rows and W columns; a
# convolution's weight is `(out, in / groups, rows, columns)`. A tensor remembers how it was computed (the **graph**), and
# through it PyTorch finds **gradients**; `.detach()` and `torch.no_grad()` cut that memory. `F.pad(x, (left, right, top,
# bottom))` puts zeros around, beginning with the *last* axis. `torch.einsum("nchw,oc->nohw", x, w)` multiplies `x` by `w`
# and sums over every letter that is missing on the right, here `c`.
#
# A layer is an **`nn.Module`**: a class whose `__init__` first calls `super().__init__()`, and whose `forward(self, x)`
# computes the output. `nn.Sequential(a, b, c)` puts layers in a row. `model.eval()` and `model.train()` switch between
# use and training.
#
# ## Predict
#
# Commit to an answer before you read on. A guess that turns out wrong teaches more than a right answer that you only
# read. Nothing here is graded or sent anywhere.

# %% role="demo"
predict("dense_share_of_vgg19")

# %% role="demo"
predict("shuffled_pixels")

# %% role="demo"
predict("evaluation_memory")

# %% role="demo"
predict("textbook_recipe")

# %% [markdown]
# ## See
#
# Build a stack of convolutions with the sliders. The box shows what the value in the middle of the last map sees of the
# picture; the list shows what each layer costs. The figure sets you a goal. Watch which slider widens the box, and which
# one pays for it.

# %% role="demo"
StackFigure(digits.test.images[digits.test.labels == 5][0])

# %% [markdown]
# ## Derive: why a convolution is cheap, and what it sees
#
# **Weights.** A dense layer from a picture of $H \times W$ pixels to as many units has $(HW)^2$ weights. A convolution
# makes two assumptions: only neighbours matter, and what is worth finding in one place is worth finding anywhere. Then
# $k^2$ weights do for a map, whatever the picture's size.
#
# **Size.** A kernel of $k$ cells, $d$ apart, spans $d(k-1)+1$ pixels. On $n$ pixels with $p$ zeros on each side its first
# cell can stand in $n + 2p - d(k-1)$ places; the stride takes every $s$-th of them:
#
# $$ n' = \left\lfloor \frac{n + 2p - d\,(k-1) - 1}{s} \right\rfloor + 1 . $$
#
# **Receptive field.** Let $r$ be how many pixels one value sees, and $j$ how many pixels lie between neighbouring values
# (its **jump**); in the picture itself both are 1. The next layer's kernel reaches over $k$ values, whose outer two lie
# $d(k-1)$ values or $d(k-1)\,j$ pixels apart:
#
# $$ r \leftarrow r + d\,(k-1)\,j, \qquad\text{and then}\qquad j \leftarrow s\,j . $$
#
# Depth widens the view step by step; a stride doubles every step that comes after it. That is why nets halve the picture
# now and then.
#
# ## Build
#
# ### 1. A convolution
#
# Write `conv2d(x, weight, bias, stride, padding, dilation, groups)`. With `x` of shape `(N, C, H, W)` and `weight` of shape
# `(out, C / groups, kh, kw)` it returns `(N, out, H', W')`. The last four are whole numbers, the same for rows and
# columns. Neither PyTorch's convolutions nor the course's are allowed; everything else is. The kernel is *not* turned
# round: its cell (0, 0) meets the upper left pixel of the window. Mathematicians call that a correlation, frameworks call
# it a convolution.
#
# With one map, `x = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]`, the kernel `[[1, 0], [0, 2]]` and bias 0 the answer is
# `[[11, 14], [20, 23]]`: the first number is 1 · 1 + 2 · 5.


# %% exercise="cnn_architectures.conv2d" role="solution"
def conv2d(x, weight, bias, stride, padding, dilation, groups):
    """The correlation of x (N, C, H, W) with weight (out, C / groups, kh, kw), plus bias (out,): (N, out, H', W')."""
    ### BEGIN SOLUTION
    (kh, kw), images = weight.shape[2:], F.pad(x, (padding, padding, padding, padding))
    high = (images.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    wide = (images.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    parts = []
    for part, own in zip(images.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        y = 0
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dilation, i * dilation + stride * (high - 1) + 1, stride)
                columns = slice(j * dilation, j * dilation + stride * (wide - 1) + 1, stride)
                y = y + torch.einsum("nchw,oc->nohw", part[:, :, rows, columns], own[:, :, i, j])
        parts.append(y)
    return torch.cat(parts, 1) + bias[:, None, None]
    ### END SOLUTION


# %% exercise="cnn_architectures.conv2d" role="check"
check("cnn_architectures.conv2d", conv2d)

# %% [markdown]
# ### 2. Its gradient, by hand
#
# The output is a sum of terms weight × pixel. So each weight's gradient is the output's gradient times the pixel that it
# met, summed over all places and pictures; and each pixel's gradient is the output's gradient times the weight that it
# met, summed over all windows in which it lay.
#
# Write `conv2d_backward(grad, x, weight, stride, padding)` (no dilation, no groups). `grad` is the loss's gradient at the
# output, `(N, out, H', W')`. Return `dx`, `dweight` and `dbias`, each of the shape of what it belongs to. PyTorch's own
# gradients are not allowed.


# %% exercise="cnn_architectures.conv2d_backward" role="solution"
def conv2d_backward(grad, x, weight, stride, padding):
    """(dx, dweight, dbias) of a convolution, from grad (N, out, H', W')."""
    ### BEGIN SOLUTION
    (kh, kw), (high, wide) = weight.shape[2:], grad.shape[2:]
    images, dweight = F.pad(x, (padding, padding, padding, padding)), torch.zeros_like(weight)
    dimages = torch.zeros_like(images)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + stride * (high - 1) + 1, stride)
            columns = slice(j, j + stride * (wide - 1) + 1, stride)
            dweight[:, :, i, j] = torch.einsum("nohw,nchw->oc", grad, images[:, :, rows, columns])
            dimages[:, :, rows, columns] += torch.einsum("nohw,oc->nchw", grad, weight[:, :, i, j])
    dx = dimages[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
    return dx, dweight, grad.sum((0, 2, 3))
    ### END SOLUTION


# %% exercise="cnn_architectures.conv2d_backward" role="check"
check("cnn_architectures.conv2d_backward", conv2d_backward)

# %% [markdown]
# ### 3. Max pooling, and where the largest value was
#
# Write `max_pool2d(x, kernel_size, stride, padding)`. Return the largest value of each window, `(N, C, H', W')`, and its
# **index**: its place in the map that came in, counted row by row from 0 to $HW - 1$. Of equal values the first counts.
# What the padding adds must never win. The gradient goes to the winner alone; that is what the index is kept for.
#
# With the map `[[1, 5], [7, 3]]`, one window of 2 × 2: value 7, index 2.


# %% exercise="cnn_architectures.max_pool2d" role="solution"
def max_pool2d(x, kernel_size, stride, padding):
    """(values, indices), each (N, C, H', W'); an index is row · W + column in the map x."""
    ### BEGIN SOLUTION
    height, width = x.shape[2:]
    places = torch.arange(height * width).view(height, width)
    images = F.pad(x, (padding,) * 4, value=-torch.inf)
    places = F.pad(places, (padding,) * 4, value=0)
    windows = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
    where = places.unfold(0, kernel_size, stride).unfold(1, kernel_size, stride).flatten(-2)
    best = windows.argmax(-1, keepdim=True)
    return windows.gather(-1, best)[..., 0], where.expand(windows.shape).gather(-1, best)[..., 0]
    ### END SOLUTION


# %% exercise="cnn_architectures.max_pool2d" role="check"
check("cnn_architectures.max_pool2d", max_pool2d)

# %% [markdown]
# ### 4. Average pooling
#
# Write `avg_pool2d(x, kernel_size, stride, padding, count_include_pad)`: the mean of each window. A window at the border
# holds zeros of the padding. With `count_include_pad` they count as pixels (PyTorch's default), so that the border comes
# out darker; without it only real pixels count (what Keras does). A single window over the whole map is **global average
# pooling**: one number a map.


# %% exercise="cnn_architectures.avg_pool2d" role="solution"
def avg_pool2d(x, kernel_size, stride, padding, count_include_pad):
    """The mean of each window, (N, C, H', W')."""
    ### BEGIN SOLUTION
    images, ones = F.pad(x, (padding,) * 4), F.pad(torch.ones_like(x), (padding,) * 4)
    total = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).sum((-1, -2))
    inside = ones.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).sum((-1, -2))
    return total / (kernel_size**2 if count_include_pad else inside)
    ### END SOLUTION


# %% exercise="cnn_architectures.avg_pool2d" role="check"
check("cnn_architectures.avg_pool2d", avg_pool2d)

# %% [markdown]
# ### 5. How large is the map, and what does it see?
#
# Write `geometry(size, layers)` for one axis. `size` is the picture's, and `layers` a list of tuples `(kernel_size, stride,
# padding, dilation)`, the one next to the picture first; a pooling is such a tuple too. Return four things:
#
# 1. the sizes after each layer, a list;
# 2. the receptive field of one value of the last map, in pixels, counted past the border;
# 3. the jump: pixels between neighbouring values of the last map;
# 4. the first pixel that the last map's value 0 sees; negative where that is padding.
#
# For a picture of 28 and two 3 × 3 convolutions with padding 1, the second with stride 2, the answer is
# `([28, 14], 5, 2, -2)`.


# %% exercise="cnn_architectures.geometry" role="solution"
def geometry(size, layers):
    """(sizes, receptive field, jump, first pixel) along one axis."""
    ### BEGIN SOLUTION
    sizes, field, jump, start = [], 1, 1, 0
    for kernel_size, stride, padding, dilation in layers:
        size = (size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1
        sizes.append(size)
        field += dilation * (kernel_size - 1) * jump
        start -= padding * jump
        jump *= stride
    return sizes, field, jump, start
    ### END SOLUTION


# %% exercise="cnn_architectures.geometry" role="check"
check("cnn_architectures.geometry", geometry)

# %% [markdown]
# ### 6. The account of a net
#
# Write `account_of(layers, channels, side)` for square pictures. `layers` is a list of tuples:
#
# | layer | what it does |
# |---|---|
# | `("conv", out, kernel_size, stride, padding, groups)` | a convolution with a bias for each map |
# | `("pool", k)` | pooling of k × k, side by side; what is left over is dropped |
# | `("average",)` | the mean of each map |
# | `("relu",)` | bends each number |
# | `("dense", out)` | flattens what comes, then a dense layer with biases |
#
# Return the parameters of each layer (a list), its multiply-adds for one picture (a list; count products with weights,
# biases and pooling are free), and two numbers of bytes for one picture in float32 (4 bytes a number): **in training**
# every layer's output is kept for the gradient, and the picture too, so all of them together; **in evaluation** a
# layer's input can go once its output is there, so the largest sum of one layer's input and output. (Real layers keep a
# little less or more; the next section measures.)


# %% exercise="cnn_architectures.account" role="solution"
def account_of(layers, channels, side):
    """(parameters, multiply-adds, bytes in training, bytes in evaluation): two lists and two numbers."""
    ### BEGIN SOLUTION
    maps, parameters, products, sizes = channels, [], [], [channels * side * side]
    for kind, *numbers in layers:
        weights = biases = places = 0
        if kind == "conv":
            out, k, stride, padding, groups = numbers
            weights, biases = out * (maps // groups) * k * k, out
            maps, side = out, (side + 2 * padding - k) // stride + 1
            places = side * side
        elif kind == "dense":
            weights, biases, places = maps * side * side * numbers[0], numbers[0], 1
            maps, side = numbers[0], 1
        elif kind == "pool":
            side = side // numbers[0]
        elif kind == "average":
            side = 1
        parameters.append(weights + biases)
        products.append(weights * places)
        sizes.append(maps * side * side)
    moment = max(np.add(sizes[:-1], sizes[1:]))
    return parameters, products, 4 * sum(sizes), 4 * moment
    ### END SOLUTION


# %% exercise="cnn_architectures.account" role="check"
check("cnn_architectures.account", account_of)

# %% [markdown]
# The course's own `accounts.account` does the same for any PyTorch net. Here is LeNet, of 1998, in a modern version. Where
# are its parameters, and where its multiply-adds?

# %% role="demo"
accounts.account(architectures.lenet5_modern(), (1, 28, 28))

# %% [markdown]
# And the first prediction: VGG19, the net of 2014 that many people still start from. On the "meta" device a net has
# shapes and no weights, so that they need not be made.

# %% role="demo"
with torch.device("meta"):
    vgg19 = architectures.vgg19()
rows = accounts.account(vgg19, (3, 224, 224)).layers


def dense_share(field):
    return sum(getattr(row, field) for row in rows if row.kind == "Linear") / sum(getattr(row, field) for row in rows)


Markdown(
    "| VGG19 | the dense layers' share |\n|---|---|\n"
    f"| parameters | {dense_share('parameters'):.0%} |\n"
    f"| multiply-adds | {dense_share('multiply_adds'):.1%} |\n"
    f"| bytes of the outputs | {dense_share('output_bytes'):.2%} |"
)

# %% role="demo"
reveal("dense_share_of_vgg19", 100 * dense_share("parameters"))

# %% [markdown]
# "Expensive" is not one thing. Dense layers hold the parameters, and a parameter costs memory for itself, for its gradient
# and for what the optimizer keeps of it. Convolutions do the arithmetic, and make the large maps that training has to
# keep.
#
# ## Memory: what is kept, and what could go
#
# Training keeps every layer's output until the backward pass has used it. An evaluation has no backward pass. Does the
# framework know? `accounts.forecast` predicts the bytes layer by layer; `diagnostics.peak_memory` watches each tensor come
# and go. The net is a stack of eight equal convolutions.

# %% role="demo"
torch.manual_seed(0)
tower = nn.Sequential()
for k in range(8):
    tower.extend([nn.Conv2d(16 if k else 1, 16, 3, padding=1), nn.ReLU()])
tower.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)])
tower_x, tower_y = torch.rand(32, 1, 32, 32), torch.zeros(32, dtype=torch.int64)


def training_step():
    F.cross_entropy(tower.train()(tower_x), tower_y).backward()
    tower.zero_grad()


def evaluation(guard=None):
    tower.eval()
    if guard is None:
        return tower(tower_x)
    with guard():
        return tower(tower_x)


plan = accounts.forecast(tower, (1, 32, 32), 32)
peaks = {
    "training step": (plan.activations + plan.gradients, diagnostics.peak_memory(training_step)),
    "eval()": (plan.recorded, diagnostics.peak_memory(evaluation)),
    "eval() and no_grad()": (plan.passing, diagnostics.peak_memory(lambda: evaluation(torch.no_grad))),
    "eval() and inference_mode()": (plan.passing, diagnostics.peak_memory(lambda: evaluation(torch.inference_mode))),
}
Markdown(
    "| a batch of 32 | predicted, MB | measured, MB |\n|---|---|---|\n"
    + "\n".join(f"| {name} | {p / 2**20:.1f} | {m / 2**20:.1f} |" for name, (p, m) in peaks.items())
)

# %% role="demo"
reveal("evaluation_memory", peaks["eval()"][1] / peaks["eval() and no_grad()"][1])

# %% [markdown]
# `eval()` does not save memory; `no_grad()` does. (The training step's highest moment comes in the backward pass, when
# gradients of maps are there as well as the maps.) Card C5 below asks the operating system about whole processes, in both
# frameworks.
#
# ## Blocks
#
# ### 7. Depthwise separable convolutions
#
# A convolution does two things at once: it looks at the neighbourhood, and it mixes the maps. Separated, it takes
# $9C + C\,C'$ weights where $9\,C\,C'$ were: first a kernel for each map, with `groups` equal to the number of maps
# (**depthwise**), then a 1 × 1 convolution that mixes them in each pixel (**pointwise**).
#
# Write `separable_conv2d(x, depthwise, pointwise, bias, stride)` with `depthwise` of shape `(C, 1, k, k)`, k odd, and
# `pointwise` of shape `(out, C, 1, 1)`. Pad so that stride 1 keeps the size. `F.conv2d` is allowed from here on.


# %% exercise="cnn_architectures.separable" role="solution"
def separable_conv2d(x, depthwise, pointwise, bias, stride):
    """A kernel for each map, then a mix of the maps in each pixel: (N, out, ⌈H / stride⌉, ⌈W / stride⌉)."""
    ### BEGIN SOLUTION
    y = F.conv2d(x, depthwise, stride=stride, padding=depthwise.shape[-1] // 2, groups=x.shape[1])
    return F.conv2d(y, pointwise, bias)
    ### END SOLUTION


# %% exercise="cnn_architectures.separable" role="check"
check("cnn_architectures.separable", separable_conv2d)

# %% [markdown]
# ### 8. A residual block
#
# Deep nets are hard to train: the gradient has to pass through every layer. A **residual block** adds its input to its
# output, so that the gradient has a road past the layers; the block then learns only the difference. Where the number of
# maps or the size changes, x does not fit the sum; a 1 × 1 convolution with the same stride **projects** it.
#
# Write the module with these parts, by these names: `conv1` (3 × 3, with the stride), `norm1`, `conv2` (3 × 3), `norm2`,
# and `shortcut`: `nn.Identity()` where stride is 1 and the maps are as many, otherwise an `nn.Sequential` of the projection
# and a batch norm. No convolution has a bias, since a batch norm follows each. The output is
# `relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x))`.


# %% exercise="cnn_architectures.residual_block" role="solution"
class ResidualBlock(nn.Module):
    """(N, in_channels, H, W) → (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉), with a road past its layers."""

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        ### BEGIN SOLUTION
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))
        ### END SOLUTION


# %% exercise="cnn_architectures.residual_block" role="check"
check("cnn_architectures.residual_block", ResidualBlock)

# %% [markdown]
# ## Trust
#
# Your code beside PyTorch's and Keras's, on real pictures. "The same" means equal up to rounding.

# %% role="demo"
keras = load_keras()
torch.manual_seed(1)
photo = datasets.as_tensors(emoji.test.images[:4])
conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, dilation=1)
slopes = torch.randn(4, 8, 16, 16)
their_x = photo.clone().requires_grad_()
conv(their_x).backward(slopes)
pooled, where = F.max_pool2d(photo, 3, 2, 1, return_indices=True)
keras_conv = keras.layers.Conv2D(8, 3, strides=2, padding="valid")
keras_conv.build((None, 34, 34, 3))
keras_conv.set_weights([conv.weight.detach().permute(2, 3, 1, 0).numpy(), conv.bias.detach().numpy()])
keras_out = torch.tensor(np.asarray(keras_conv(to_keras_images(F.pad(photo, (1, 1, 1, 1)))))).permute(0, 3, 1, 2)
keras_mean = torch.tensor(
    np.asarray(keras.layers.AveragePooling2D(3, 1, padding="same")(to_keras_images(photo)))
).permute(0, 3, 1, 2)
weight, bias_ = conv.weight.detach(), conv.bias.detach()
trust.table(
    [
        trust.Row(
            "conv2d", "nn.Conv2d (PyTorch)", lambda: conv2d(photo, weight, bias_, 2, 1, 1, 1), conv(photo).detach()
        ),
        trust.Row("conv2d", "Conv2D (Keras)", lambda: conv2d(photo, weight, bias_, 2, 1, 1, 1), keras_out),
        trust.Row(
            "conv2d_backward, dx",
            "PyTorch's graph",
            lambda: conv2d_backward(slopes, photo, weight, 2, 1)[0],
            their_x.grad,
        ),
        trust.Row(
            "conv2d_backward, dweight",
            "PyTorch's graph",
            lambda: conv2d_backward(slopes, photo, weight, 2, 1)[1],
            conv.weight.grad,
            terms=slopes[:, 0].numel(),  # each weight is used at every place of every picture
        ),
        trust.Row("max_pool2d", "F.max_pool2d (PyTorch)", lambda: max_pool2d(photo, 3, 2, 1)[0], pooled),
        trust.Row(
            "max_pool2d, indices",
            "F.max_pool2d (PyTorch)",
            lambda: max_pool2d(photo, 3, 2, 1)[1].float(),
            where.float(),
        ),
        trust.Row(
            "avg_pool2d, padding not counted",
            "AveragePooling2D (Keras)",
            lambda: avg_pool2d(photo, 3, 1, 1, False),
            keras_mean,
        ),
    ]
)

# %% [markdown]
# ## In the frameworks
#
# The same net, and the ways to get it wrong on the road from one framework to the other. The values are read from the
# installed versions.

# %% role="demo"
Markdown(
    "| what | PyTorch | Keras | the trap |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {c.what} | {c.torch()} | {c.keras(keras)} | {c.trap} |"
        for c in conventions.CONVENTIONS.values()
        if c.id.startswith("convolution.")
        or c.id
        in {
            "architectures.feature_maps",
            "architectures.conv_kernel",
            "architectures.depthwise_kernel",
            "architectures.dense_kernel",
            "architectures.flatten",
        }
    )
)

# %% [markdown]
# ### 9. The asker's net, in Keras
#
# The example that the asker found is old: `input_shape=(3, 150, 150)` puts the maps first, where Keras now puts them last.
# Rebuild it: three times (convolution 3 × 3 without padding → ReLU → max pooling 2 × 2), then flatten → dense → ReLU →
# dense, which the question leaves out. And give it the weights of a PyTorch net, so that both say the same.
#
# Write `cats_and_dogs(state, side)`. `state` maps names to numpy arrays in PyTorch's layout: `conv1.weight`, `conv1.bias`,
# …, `conv3.bias`, `dense.weight`, `dense.bias`, `output.weight`, `output.bias`; the number of maps, units and outputs
# follow from their shapes. Return a Keras model for pictures `(N, side, side, C)` that gives the logits. Mind the first
# dense layer: PyTorch flattens map by map, Keras pixel by pixel.


# %% exercise="cnn_architectures.keras_net" role="solution"
def cats_and_dogs(state, side):
    """The Keras model for (N, side, side, C) with the weights of state; its outputs are logits."""
    ### BEGIN SOLUTION
    import keras

    x = inputs = keras.Input((side, side, state["conv1.weight"].shape[1]))
    weights = []
    for i in (1, 2, 3):
        kernel = state[f"conv{i}.weight"]
        x = keras.layers.Conv2D(len(kernel), 3, activation="relu")(x)
        x = keras.layers.MaxPooling2D(2)(x)
        weights += [kernel.transpose(2, 3, 1, 0), state[f"conv{i}.bias"]]
    maps, left = x.shape[3], x.shape[1]
    x = keras.layers.Flatten()(x)
    dense = state["dense.weight"].reshape(-1, maps, left, left).transpose(2, 3, 1, 0)  # rows, columns, maps, units
    x = keras.layers.Dense(dense.shape[-1], activation="relu")(x)
    x = keras.layers.Dense(len(state["output.bias"]))(x)
    model = keras.Model(inputs, x)
    weights += [dense.reshape(-1, dense.shape[-1]), state["dense.bias"]]
    model.set_weights([*weights, state["output.weight"].T, state["output.bias"]])
    return model
    ### END SOLUTION


# %% exercise="cnn_architectures.keras_net" role="check"
check("cnn_architectures.keras_net", cats_and_dogs)

# %% [markdown]
# The asker's whole net has this account, for one picture. Look at the line of the first dense layer.

# %% role="demo"
accounts.account(architectures.cats_and_dogs_net(), (3, 150, 150))

# %% [markdown]
# ## Structure: what convolutions live on
#
# Shuffle the pixels of all pictures in one and the same way. Nothing is lost: a dense layer with its weights shuffled
# alike would not notice. But neighbours are neighbours no more.

# %% role="demo"
order = torch.randperm(784, generator=torch.Generator().manual_seed(7))
shuffled = picked.flatten(2)[:, :, order].view(picked.shape)
plots.grid(
    torch.cat([picked[:, 0], shuffled[:, 0]]).numpy(),
    [digits.classes[i] for i in digits.test.labels[:6]] + [""] * 6,
    columns=6,
    alt="Six digits, and the same with their pixels shuffled in one way: white dots all over.",
    caption="Six digits, and the same six with their pixels in one other order. Both rows hold the same numbers.",
)

# %% role="demo"
series = claims.load("C2").series[0]
worse = {
    arm: series.mean(arm, "mnist5k, pixels shuffled") - series.mean(arm, "mnist5k") > 2
    for arm in ("convolutions", "dense layers")
}
names = {(True, True): "both", (True, False): "conv", (False, True): "dense", (False, False): "neither"}
reveal("shuffled_pixels", names[worse["convolutions"], worse["dense layers"]])

# %% role="demo"
claims.evidence("C2")

# %% [markdown]
# Look at both sets: structure decides which layer *can* use it, not by how much. The last case of the card is a signal,
# not a picture: a short wave at some place in noise. There the right layer is
# `Conv1D`, a kernel that moves along one axis. The rule is about neighbours and places, not about pictures.
#
# ## Clinic
#
# ### 10. Ported weights, and no error anywhere
#
# "I trained in Keras, with `padding='same'` and `strides=2`, and brought the weights to PyTorch with `padding=1`. It runs,
# the shapes fit, nothing warns. But the results are worse." Here is such a net, trained with Keras's rule. Then its
# layers are padded PyTorch's way, one after the other, with the weights as they were:


# %% role="demo"
class TwoRules(nn.Module):
    """Three convolutions with stride 2, of which the first `ported` pad PyTorch's way and the others Keras's."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(a, b, 3, stride=2) for a, b in ((1, 12), (12, 24), (24, 48))])
        self.last, self.ported = nn.Linear(48 * 16, 10), 0

    def forward(self, x):
        for i, conv in enumerate(self.convs):
            if i < self.ported:
                x = F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1).relu()
            else:
                x = course_convolution.conv2d(x, conv.weight, conv.bias, 2, "same").relu()
        return self.last(x.flatten(1))


torch.manual_seed(0)
two_rules = TwoRules()
few = datasets.as_tensors(*digits.subset(100))
test_data = datasets.as_tensors(*digits.test)
course_training.train(two_rules, few, datasets.as_tensors(*digits.valid), epochs=6, seed=0, lr=3e-3, progress=False)
lines = []
for two_rules.ported in range(4):
    score = course_training.evaluate(two_rules, test_data)
    lines.append(f"| {two_rules.ported} of 3 | {score.accuracy:.1%} | {score.loss:.2f} |")
Markdown("| layers padded PyTorch's way | right | loss |\n|---|---|---|\n" + "\n".join(lines))

# %% [markdown]
# Each layer's windows begin one pixel too early, and a later layer's pixels are larger: the picture moves. (The third
# layer gets an odd side, where both rules agree.)
#
# Keras's rule: make $\lceil n / s \rceil$ windows; add as many zeros as the last of them hangs over; half of them before
# the picture, the rest (and an odd one) behind it. Write `conv2d_same(x, weight, bias, stride)`, which pads by it, for
# square kernels of any size and pictures that need not be square.


# %% exercise="cnn_architectures.clinic_same" role="solution"
def conv2d_same(x, weight, bias, stride):
    """A convolution padded as Keras's "same": (N, out, ⌈H / stride⌉, ⌈W / stride⌉)."""
    ### BEGIN SOLUTION
    pads = []
    for n, k in zip(x.shape[:1:-1], weight.shape[:1:-1], strict=True):  # F.pad begins with the last axis
        total = max((-(-n // stride) - 1) * stride + k - n, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, bias, stride)
    ### END SOLUTION


# %% exercise="cnn_architectures.clinic_same" role="check"
check("cnn_architectures.clinic_same", conv2d_same)

# %% [markdown]
# ### 11. Forty million parameters for a thousand pictures
#
# "I have a thousand X-ray pictures of 128 pixels. My net learns them by heart in no time and knows nothing about new ones.
# And its file is 160 MB." Its account:

# %% role="demo"
with torch.device("meta"):
    features = nn.Sequential()
    for a, b in ((1, 16), (16, 32), (32, 64)):
        features.extend([nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)])
    heavy = nn.Sequential()
    heavy.add_module("features", features)
    heavy.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(64 * 16**2, 2440), nn.ReLU(), nn.Linear(2440, 4)))
accounts.account(heavy, (1, 128, 128))

# %% [markdown]
# Nearly all of it is one layer. What it needs to know of a map is whether its pattern was found somewhere, and for that
# one number a map is enough: its mean.
#
# Write `slim(model, classes)`. The model has two parts, `model.features` and `model.head`, as above (with other numbers of
# maps and sizes). Return a net of the **same** features (not a copy, not frozen), the mean of each map, and one dense layer
# that gives the logits. It must take pictures of any size. The pictures have one channel.


# %% exercise="cnn_architectures.clinic_head" role="solution"
def slim(model, classes):
    """A net of the model's own features, the mean of each map, and one dense layer."""
    ### BEGIN SOLUTION
    with torch.no_grad():
        maps = model.features(torch.zeros(1, 1, 32, 32)).shape[1]
    return nn.Sequential(model.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, classes))
    ### END SOLUTION


# %% exercise="cnn_architectures.clinic_head" role="check"
check("cnn_architectures.clinic_head", slim)

# %% [markdown]
# The mean has a price of its own: it forgets *where*. Where the place of a pattern decides, keep a few numbers a map
# (`nn.AdaptiveAvgPool2d(2)` keeps four).
#
# ### 12. A stride that throws the picture away
#
# "To save time, my first layer is a 1 × 1 convolution with stride 2, and the third too. It is quick, and bad." A kernel
# that is smaller than its stride leaves gaps. Here is what such layers never look at:

# %% role="demo"
stacks = {
    "3 × 3, stride 2": ((3, 2, 1),),
    "1 × 1, stride 2": ((1, 2, 0),),
    "3 × 3, stride 4": ((3, 4, 1),),
    "3 × 3, then 1 × 1, both stride 2": ((3, 2, 1), (1, 2, 0)),
}
shown, lost = [], {}
for name, layers in stacks.items():
    probe = torch.zeros(1, 1, 28, 28, requires_grad=True)
    y = probe
    for k, s, p in layers:
        y = F.conv2d(y, torch.ones(1, 1, k, k), stride=s, padding=p)
    y.sum().backward()
    seen = probe.grad[0, 0] != 0
    lost[name] = 1 - float(seen.float().mean())
    shown.append((picked[2, 0] * 0.85 + 0.15) * seen)
plots.grid(
    torch.stack([picked[2, 0] * 0.85 + 0.15, *shown]).numpy(),
    ["whole", "3×3 s2", "1×1 s2", "3×3 s4", "3×3, 1×1"],
    columns=5,
    alt="A digit, whole and as four stacks of layers see it. "
    + "; ".join(f"{n}: {v:.0%} lost" for n, v in lost.items()),
    caption="A digit on grey, and the same with the pixels black that no output depends on. Never looked at: "
    + "; ".join(f"{name} {share:.0%}" for name, share in lost.items())
    + ".",
)

# %% [markdown]
# Write `blind_spots(side, layers)`, with layers as in exercise 5: a mask `(side, side)` of booleans, true where no output of
# the last layer depends on the pixel. Any way that is right will do.


# %% exercise="cnn_architectures.clinic_blind" role="solution"
def blind_spots(side, layers):
    """A boolean mask (side, side), true where a pixel is seen by no output."""
    ### BEGIN SOLUTION
    x = torch.zeros(1, 1, side, side, requires_grad=True)
    y = x
    for kernel_size, stride, padding, dilation in layers:
        ones = torch.ones(1, 1, kernel_size, kernel_size)
        y = F.conv2d(y, ones, stride=stride, padding=padding, dilation=dilation)
    y.sum().backward()
    return x.grad[0, 0] == 0
    ### END SOLUTION


# %% exercise="cnn_architectures.clinic_blind" role="check"
check("cnn_architectures.clinic_blind", blind_spots)

# %% [markdown]
# ## Choosing: distributions, not winners
#
# Train two designs once each, and the better one may just have had the better seed. So compare *distributions*: several
# seeds of each design, all on the same draws of pictures, and look at how far the clouds lie apart. `course_lib.ensembles`
# trains them; seeds are paired, so the third dot of one design saw the same pictures as the third of another.

# %% role="demo"
half = [F.avg_pool2d(x, 2) for x in (datasets.as_tensors(digits.train.images), test_data[0])]
designs = {
    "dense, 64 units twice": ensembles.MLP((196, 64, 64, 10)),
    "conv, 4 and 8 maps": ensembles.ConvNet(1, 14, 10, channels=(4, 8), hidden=32),
    "conv, 12 and 24 maps": ensembles.ConvNet(1, 14, 10, channels=(12, 24), hidden=32),
    "the same with batch norm": ensembles.ConvNet(1, 14, 10, channels=(12, 24), hidden=32, norm=True),
}
clouds, sizes = {}, {}
for name, design in designs.items():
    curves = ensembles.train_ensemble(
        design,
        [ensembles.Member(seed, lr=3e-3) for seed in range(5)],
        (half[0], torch.tensor(digits.train.labels)),
        n_train=500,
        steps=80,
        batch_size=32,
        score_on={"test": (half[1], test_data[1])},
    )
    clouds[name] = (100 * curves.errors["test"][-1]).tolist()
    start = design.init(torch.Generator().manual_seed(0))
    sizes[name] = sum(value.numel() for key, value in start.items() if not key.startswith(("mean_", "var_")))
plots.arms(
    clouds,
    xlabel="test error (%)",
    alt="Test errors of five seeds of four designs. "
    + "; ".join(f"{name}: mean {np.mean(errors):.1f}%" for name, errors in clouds.items()),
    caption="Five seeds of each design, 500 digits at half their size, 80 steps; dots are seeds, diamonds means, bars go "
    "from the lowest to the highest. Parameters: "
    + "; ".join(f"{name} {size:,}" for name, size in sizes.items())
    + ". Which clouds overlap? There a single run could have told you anything.",
)

# %% [markdown]
# ### 13. The challenge
#
# Now choose for yourself. The pictures are silhouettes of animals, turned, shifted, noisy, of 16 × 16 pixels, in ten
# classes. You hand in a function that makes a net **and its optimizer**; the judge trains it and counts how many pictures
# it names right that nobody has seen. Their labels never reach your kernel. The budget is counted, not timed, so a slow
# machine costs nothing. Here are the rules, read from the exercise itself:

# %% role="demo"
record = exercises.get("cnn_architectures.challenge")
contest = next(case for case in record.cases(1) if "images" in case.inputs)
limits = {c.name: c.compare.limit for c in record.criteria if hasattr(c.compare, "limit")}
scale = next(c.compare for c in record.criteria if hasattr(c.compare, "credit"))
most = max(c.points for c in record.criteria)
Markdown(
    "| | |\n|---|---|\n"
    + "\n".join(f"| {name} | at most {limit:,} |" for name, limit in limits.items())
    + f"\n| training pictures | {len(contest['images']):,}, with their labels |"
    f"\n| training | {contest['steps']} steps with batches of {contest['batch']}; the loss is cross-entropy |"
    f"\n| hidden pictures | {len(contest['hidden'])} a draw |"
    f"\n| points | none up to {scale.low:.0%} right, all {most:g} from {scale.full:.0%} on, in between in proportion |"
    "\n| beyond that | places on the class's leaderboard |"
)

# %% role="demo"
examples = [int(np.flatnonzero(contest["labels"] == k)[i]) for i in range(2) for k in range(contest["classes"])]
plots.grid(
    contest["images"][examples],
    [str(contest["labels"][i]) for i in examples],
    columns=contest["classes"],
    alt="Two pictures of each of the ten classes: grey, noisy silhouettes of animals.",
    caption="Two pictures of each class. The classes have numbers, not names: they are numbered anew for every draw.",
)

# %% [markdown]
# Write `contestant(channels, side, classes)`. Return `(model, optimizer)`, or `(model, optimizer, scheduler)`: a
# scheduler's `.step()` is called after every step of training. The contest is `contestant(1, 16, 10)`; the checks also ask
# for other channels, sides and numbers of classes, so that nothing is hard-wired. The model gives logits, `(N, classes)`;
# in evaluation each picture's answer must not depend on the others in its batch. Every number that the model holds counts
# as a parameter.
#
# `accounts.account(contestant(1, 16, 10)[0], (1, 16, 16))` shows where your budget goes. One check trains twice, in a second
# or two.


# %% exercise="cnn_architectures.challenge" role="solution"
def contestant(channels, side, classes):
    """(model, optimizer) or (model, optimizer, scheduler), made for pictures (N, channels, side, side)."""

    ### BEGIN SOLUTION
    def block(a, b, stride=1):
        return nn.Conv2d(a, b, 3, stride, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()

    model = nn.Sequential(
        *block(channels, 12, stride=2),
        *block(12, 24),
        nn.MaxPool2d(2),
        *block(24, 48),
        nn.AdaptiveMaxPool2d(1),  # was the pattern found anywhere?
        nn.Flatten(),
        nn.Linear(48, classes),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=100)
    ### END SOLUTION


# %% exercise="cnn_architectures.challenge" role="check"
check("cnn_architectures.challenge", contestant)

# %% [markdown]
# Two draws have some hundred pictures each, so a point or two of difference is chance; grading uses other draws. How would
# you find out whether a change of yours is an improvement? (Not by running the check again and again until it looks good:
# that is fitting to the test.)
#
# ## Evidence
#
# What people say about choosing layers, each put to the test with at least five seeds. *Does not hold* means that the rule
# written on the card was not met, in small nets and short training; read the rule. `course evidence C3` in a terminal
# measures one again on your own machine.
#
# **How do people know?** C1 compares copying with searching: how many random designs must you try before the best of them,
# chosen on validation pictures, beats what books show?

# %% role="demo"
claims.evidence("C1")

# %% [markdown]
# **Pooling.** "It drops detail, mostly noise." C3 moves test pictures by some pixels and counts the answers that change;
# look at what a stride does in place of a pooling.

# %% role="demo"
claims.evidence("C3")

# %% [markdown]
# **Sequences.** A **recurrent** layer goes through a sequence step by step and carries a state along; a GRU is one that
# learns what to keep in it. C4 lets it compete with `Conv1D` and dense layers: on pictures read row by row, and on signals
# in which the order of two distant bumps decides.

# %% role="demo"
claims.evidence("C4")

# %% [markdown]
# **Size.** C6 sweeps depth and width at fixed data, and looks for the simplest net that gets 99% of our digits right.

# %% role="demo"
claims.evidence("C6")

# %% [markdown]
# **Cost.** C7 is the bill of five nets; C5 the memory of whole processes in both frameworks. Mind C5's third and fourth
# groups: what a tape or a graph does not record, nobody keeps.

# %% role="demo"
claims.evidence("C7")

# %% role="demo"
claims.evidence("C5")

# %% [markdown]
# **Other sizes.** That a net *takes* another size is arithmetic: a convolution does not care, a flattened head does. C9
# checks the arithmetic against both frameworks, and then asks what the answer is worth.

# %% role="demo"
claims.evidence("C9")

# %% [markdown]
# **The table of defaults.** A textbook says: He initialization, ELU, batch norm, dropout, Adam, no learning rate schedule.
# C8 takes out each entry by itself (an **ablation**), and sets a recipe of today beside it. *One cycle* lets the learning
# rate climb and then fall to nearly 0 within the training; *label smoothing* asks for a little less than certainty; *weight
# decay* pulls each weight towards 0.

# %% role="demo"
claims.evidence("C8")

# %% role="demo"
verdict = claims.load("C8").verdict
reveal("textbook_recipe", {"holds": "none", "holds when …": "current", "does not hold": "single"}[verdict])

# %% [markdown]
# ## Explain
#
# ### 14. In your own words
#
# A colleague in a hospital has a thousand X-ray pictures of 256 × 256 pixels in four classes, and asks: "Which layers do I
# use, how many, and how do I find out whether a change helps?" Answer in ten sentences: which kind of layer and why, where
# the parameters will sit and how to have few, how much of the picture one value should see, where to start, and how to
# compare. In a class a teacher reads this one; on your own, write it first, and then open what a teacher would look for.

# %% [markdown] exercise="cnn_architectures.explain" role="explain"
# ### BEGIN SOLUTION
# Use convolutions: in an X-ray picture neighbouring pixels belong together, and a shadow may stand anywhere, so one small
# kernel for all places is what you want. (If the columns of a table had no order, a dense layer would do as well; shuffle
# the pixels and convolutions lose their advantage.) Start from a small design that is known to work, say four times
# (convolution → batch norm → ReLU → halving) with the maps doubled each time, and a ready-made pretrained net beside it.
# Do not flatten the last maps into a dense layer: that is where nearly all parameters would sit, millions for a thousand
# pictures. Take the mean of each map, and one dense layer to the four classes. Work out the receptive field: one value
# should see as much of the picture as the largest sign you look for; each halving doubles the steps of all later layers.
# Check that no kernel is smaller than its stride. Then change one thing at a time, train each variant with several seeds on
# the same splits, split by patient, and compare means with an interval on validation pictures; touch the test pictures
# once, at the end.
# ### END SOLUTION

# %% role="demo"
rubric = exercises.get("cnn_architectures.explain").rubric
Markdown(
    "<details><summary>What a teacher looks for</summary>\n\n"
    + "\n".join(f"- {what} ({points:g})" for what, points in rubric.items())
    + "\n\n</details>"
)

# %% [markdown]
# ## Summary
#
# - A convolution assumes that neighbours belong together and that a pattern may stand anywhere. Where that is true it needs
#   few weights; where it is not, it has no advantage.
# - Size and receptive field follow from kernel, stride, padding and dilation by two short formulas. Depth widens the view
#   step by step, a halving doubles the steps that follow.
# - Parameters sit in dense layers behind flattened maps, multiply-adds in convolutions at full size, memory in the maps that
#   training keeps. Means of the maps in place of flattening remove most of the parameters.
# - `eval()` frees no memory. `no_grad()`, `inference_mode()`, or no tape, does.
# - Between frameworks: maps last or first, kernels transposed, flattened in another order, and "same" padding that differs
#   with stride 2.
# - Compare distributions over seeds. What was measured here:

# %% role="demo"
Markdown(
    "\n".join(
        f"- *{claims.load(id).statement}* **{claims.load(id).verdict}.** {claims.load(id).headline}"
        for id in ("C1", "C2", "C7", "C9")
    )
)

# %% [markdown]
# **The table of defaults**, with each change's effect on the test error in points, and its 95% interval; below 0 means that
# the change is an improvement.

# %% role="demo"
recipe, *changes = claims.load("C8").series[0].arms


def effect(series, arm):
    found = claims.Interval.of_difference("", "", series.values(arm), series.values(recipe))
    return f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


tables = claims.load("C8").series
Markdown(
    "| instead of the recipe | "
    + " | ".join(series.name.split(", ")[1] for series in tables)
    + " |\n|---|"
    + "---|" * len(tables)
    + "\n"
    + "\n".join(f"| {arm} | " + " | ".join(effect(series, arm) for series in tables) + " |" for arm in changes)
    + f"\n\n{recipe.capitalize()} itself: "
    + ", ".join(f"{series.mean(recipe):.1f}% errors on {series.name.split(', ')[1]}" for series in tables)
    + f". **{claims.load('C8').verdict.capitalize()}** {claims.load('C8').condition}"
)

# %% [markdown]
# ## Sources
#
# - LeCun, Bottou, Bengio, Haffner: *Gradient-based learning applied to document recognition*, Proceedings of the IEEE, 1998.
# - Simonyan, Zisserman: *Very deep convolutional networks for large-scale image recognition*, 2015, arXiv:1409.1556 (VGG).
# - Lin, Chen, Yan: *Network in network*, 2013, arXiv:1312.4400 (global average pooling).
# - He, Zhang, Ren, Sun: *Deep residual learning for image recognition*, 2016, arXiv:1512.03385.
# - Chollet: *Xception: deep learning with depthwise separable convolutions*, 2017, arXiv:1610.02357.
# - Dumoulin, Visin: *A guide to convolution arithmetic for deep learning*, 2016, arXiv:1603.07285; Araujo, Norris, Sim:
#   *Computing receptive fields of convolutional neural networks*, Distill, 2019.
# - Smith: *A disciplined approach to neural network hyper-parameters*, 2018, arXiv:1803.09820 (one cycle).
# - Data: MNIST, emoji by Google (Noto), Twitter (Twemoji) and Microsoft (Fluent), and animal silhouettes; licences stand
#   beside the files in `course_lib/datasets`.
