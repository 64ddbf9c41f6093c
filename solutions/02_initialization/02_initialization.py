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
# # Initialization: the weights before the first step
#
# *Lesson 2 of Training Deep Nets. About three hours; thirteen exercises that check themselves and one graded by hand.
# You need Python and linear regression. The words of the trade are explained where they first appear.*
#
# People ask it like this:
#
# > I write a net of my own. **What do I put into the weights before training begins? Zeros?**
#
# > How are the filters of a convolutional layer initialized, and in which range? The first layer is supposed to find
# > edges: how can it, if it begins with random numbers?
#
# > My net of twenty layers prints the same loss in every epoch. With five layers it trains.
#
# > One page says Glorot, the next says He, a tutorial says ±1/fan_in, and PyTorch calls `kaiming_uniform_` with a = √5.
# > Which one do I take?
#
# By the end you will have derived the rules from one line of statistics, written each of them, seen them agree with
# PyTorch and Keras number by number, and mended a net that counted the wrong inputs.

# %% role="setup"
from itertools import pairwise

import numpy as np
import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from autograder import exercises
from autograder.check import check
from course_lib import claims, conventions, datasets, initializers, plots, trust
from course_lib import training as course_training
from course_lib.claims.initialization import filters
from course_lib.predictions import predict, reveal
from course_lib.quiet import load_keras
from course_lib.widgets import initialization as widgets

torch.set_num_threads(1)  # small nets run faster on one thread

# %% [markdown]
# ## The words you need
#
# A **layer** takes a row of numbers $x$ for each example and computes $z = W x + b$, the same sum as in linear
# regression, once for each of its **units**: a unit is one row of **weights** $W$, and its **bias** $b$. An
# **activation** bends $z$, mostly by $\mathrm{ReLU}(z) = \max(0, z)$, and what comes out is the next layer's $x$. A
# **leaky** ReLU lets a part of the negative values through: $z$ for $z > 0$, and $a z$ below, with a small **slope** $a$.
# Older nets bend with $\tanh$, or with the **logistic function** $1/(1 + e^{-z})$, also called sigmoid. The numbers of the
# last layer are the **logits**, one for each **class** (the kinds of pictures to be told apart); **softmax** turns them into
# probabilities that sum to 1, $e^{z_k} / \sum_j e^{z_j}$. A net of one layer, without any bend, is a **linear classifier**.
#
# The **loss** of an example is $-\log$ of the probability that its right class got; its unit, with natural logarithms, is
# the **nat**. What a net is worth shows on images that it has never trained on: **validation** images serve for choices, such as that of the
# rate, and **test** images only for the final figure. **Training** computes the **gradient**, how the loss
# changes with each weight, and moves all weights a little against it (by a **learning rate** times the gradient), again and again,
# on one small **batch** of examples after another. An **epoch** is one pass over all examples. The gradient is computed from the last layer back to the
# first: the gradient at a layer's $z$ comes from the gradient at the next one's, through the weights in between.
#
# This lesson is about sizes. The **mean square** of some numbers is the average of their squares; the **variance** is the
# same after their mean has been taken off; the **deviation** is the variance's root. Where the mean is 0, mean square and
# variance are equal, and people say variance for both. If $x$ has the variance $v$, then $c x$ has $c^2 v$. If $x$ and $y$ are
# **independent** (knowing one tells nothing about the other), the variance of $x + y$ is the sum of theirs, and the mean square
# of $x y$ is the product of theirs.
#
# A layer's **fan_in** is how many numbers one of its outputs sums up; its **fan_out**, to how many outputs one input goes.
# In a layer from 784 numbers to 64 units these are 784 and 64.
#
# A **convolution** lays a small patch of weights (a **kernel**, or **filter**) on every place of a picture, and outputs the
# sums as a new picture, a **map** (also called channel; a coloured picture comes in with three). The kernel's width and height
# are its **field**: the part of the picture that one output sees.
#
# The pictures are 5,000 handwritten digits (`mnist5k`), emoji in eight classes by three artists (`emoji8`) and, in some
# measurements at the end, silhouettes of animals (`animalshape`). All come with the course.
#
# Here is what it is about: the same net of twenty layers from three starts.

# %% role="demo"
digits = datasets.load("mnist5k")
emoji = datasets.load("emoji8")
train_data = datasets.as_tensors(*digits.subset(100))
valid_data, test_data = datasets.as_tensors(*digits.valid), datasets.as_tensors(*digits.test)


def deep_net(start, hidden=20, width=64, seed=0):
    """Dense ReLU layers whose weights are start(weight, generator), with biases of 0."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [784] + [width] * hidden
    layers = [nn.Flatten()]
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(width, 10))
    for layer in net:
        if isinstance(layer, nn.Linear):
            with torch.no_grad():
                start(layer.weight, generator)
                layer.bias.zero_()
    return net


starts = {
    "all weights 0": lambda w, g: w.zero_(),
    "deviation 0.01": lambda w, g: w.normal_(0, 0.01, generator=g),
    "variance 2/fan_in": lambda w, g: w.normal_(0, (2 / w.shape[1]) ** 0.5, generator=g),
}
runs = {
    name: course_training.train(deep_net(start), train_data, valid_data, epochs=6, seed=1, progress=False)
    for name, start in starts.items()
}
plots.series(
    list(range(1, 7)),
    {name: [run.valid_loss] for name, run in runs.items()},
    xlabel="epoch",
    ylabel="validation loss (nats)",
    alt="Validation loss by epoch from three starts: "
    + "; ".join(f"{name} from {run.valid_loss[0]:.2f} to {run.valid_loss[-1]:.2f}" for name, run in runs.items()),
    caption="The same twenty layers, data and order of batches; only the weights at the start differ. "
    + "; ".join(f"{name}: {run.valid_accuracy[-1]:.0%} right" for name, run in runs.items())
    + f". A net that guesses among ten classes has the loss log 10 = {np.log(10):.2f}.",
)

# %% [markdown]
# ### The PyTorch you need
#
# A **tensor** is an array, as in numpy: `x * mask`, `x @ weight.T`, `x.square().mean()` mean the same. A tensor can remember
# how it was computed (its **graph**), and through that PyTorch finds gradients: `torch.autograd.grad(number, [a, b])` gives the
# gradient of a number at the tensors `a` and `b`. It remembers only what was computed from a tensor that asks for it, as a net's weights
# do and others after `x.requires_grad_()`.
# `loss.backward()` does the same for all weights, and leaves the gradients in `weight.grad`. Inside `with torch.no_grad():` no
# graph is kept, and weights may be changed in place: `weight.mul_(2)`, `weight.copy_(other)`, `bias.zero_()`; PyTorch's names
# of in-place functions end in `_`. A **generator**, `torch.Generator().manual_seed(0)`, is a source of random numbers of its own;
# the **seed**, here 0, fixes which numbers come.
#
# A layer is an **`nn.Module`**. `nn.Linear(n_in, n_out)` keeps its `weight` as `(out, in)`, `nn.Conv2d(in_channels, out_channels,
# kernel_size)` as `(out, in, height, width)`. `nn.Sequential(a, b, c)` puts layers in a row; `for layer in net:` goes through
# them, `net[0]` is the first, `net.named_modules()` gives names as well, `isinstance(layer, nn.Linear)` says what
# kind one is, and `layer(x)` computes. `F.cross_entropy(logits, labels)` is the loss, averaged over the batch.
# Every tensor has a **dtype**, such as `torch.float32`: your functions should keep that of what they are given.

# %% [markdown]
# ## Predict
#
# Commit to an answer before you read on. A guess that turns out wrong teaches more than a right answer that you only
# read. Nothing here is graded or sent anywhere.

# %% role="demo"
predict("zero_start")

# %% role="demo"
predict("fifty_layers")

# %% role="demo"
predict("torch_default")

# %% role="demo"
predict("random_filters")

# %% [markdown]
# ## See
#
# Fifty layers, real digits going in on the left, random gradients coming back from the right. Nothing is trained. Move the
# variance of the weights (as a multiple of 1/fan_in) and reach the goal that the figure sets you; then look at the other
# activations.

# %% role="demo"
widgets.FlowFigure(digits.test.images)

# %% [markdown]
# ## Derive: one line of statistics
#
# Take one unit, $z = \sum_{i=1}^{\mathrm{fan\_in}} w_i x_i$, with its bias at 0. The weights are drawn independently, with mean 0
# and variance $\mathrm{Var}(w)$. So the terms $w_i x_i$ have mean 0, they are uncorrelated (on average over the draws, the
# product of two of them is 0), their variances add up, and
#
# $$ \mathrm{Var}(z) = \mathrm{fan\_in} \cdot \mathrm{Var}(w) \cdot \mathbb{E}[x^2]. $$
#
# **Every layer multiplies the mean square by a constant.** If it is 1, the signal keeps its size, however many layers there
# are. If it is 0.9, fifty layers leave $0.9^{50}$. That is the whole secret of the net above that did not train:
# 0.01² · 64 is far below 1. ($\mathbb{E}$ stands for the mean: $\mathbb{E}[x^2]$ is the inputs' mean square.)
#
# Three consequences:
#
# 1. **Without a bend** the constant is 1 for $\mathrm{Var}(w) = 1/\mathrm{fan\_in}$. (**LeCun**, 1998.)
# 2. **ReLU** takes half of the mean square away. Since $z$ is as often positive as negative,
#    $\mathbb{E}[\mathrm{ReLU}(z)^2] = \tfrac12 \mathrm{Var}(z)$. So $\mathrm{Var}(w) = 2/\mathrm{fan\_in}$. (**He** and others, 2015.)
# 3. **Backward** the gradient at one input is a sum over the outputs that it feeds, so the same calculation has fan_out where
#    that one had fan_in: $\mathrm{Var}(w) = 1/\mathrm{fan\_out}$. Where the fans differ no number serves both. **Glorot** and Bengio (2010) take
#    the mean of both fans: $\mathrm{Var}(w) = 2/(\mathrm{fan\_in} + \mathrm{fan\_out})$.
#
# PyTorch calls the last two by first names: `kaiming` is He's rule, `xavier` Glorot's.
#
# And why random at all? Two units of a layer with equal weights in and out compute the same, get the same gradient, and
# stay equal for ever. Only different numbers can become different units. This is called **breaking the symmetry**.

# %% role="demo"
lost = widgets.measure_flow(digits.test.images, scale=1.0, activation="relu").signal
reveal("fifty_layers", float(-np.log10(lost[-1])))  # the images come in with a mean square of 1

# %% [markdown]
# ## Build
#
# ### 1. The recursion
#
# Write `variances(sizes, weight_variances, slope, input_moment, gradient_moment)`. `sizes` are the widths $n_0, \dots, n_L$
# of a dense net of $L$ layers ($n_0$ inputs), `weight_variances` the $L$ variances of their weights. Between two layers
# stands a leaky ReLU of this slope, and none behind the last. `input_moment` is the mean square of the data, `gradient_moment` the
# mean square of the gradient at the last layer's $z$. Return two lists of $L$ numbers, in the order of the layers:
#
# 1. the mean square of each layer's $z$ (before the activation);
# 2. the mean square of the gradient at each layer's $z$.
#
# A leaky ReLU multiplies the mean square by $(1 + \text{slope}^2)/2$: the positive half stays, the negative half is multiplied by
# slope². The gradient on its way back meets the same factor. With sizes `[10, 20, 5]`, variances `[0.1, 0.2]`, slope 0 and both
# moments 1 the answer is `[1.0, 2.0]` and `[0.5, 1.0]`.


# %% exercise="initialization.variances" role="solution"
def variances(sizes, weight_variances, slope, input_moment, gradient_moment):
    """(forward, backward): the mean squares of z and of the gradient at z, for each of the L layers."""
    ### BEGIN SOLUTION
    kept = (1 + slope**2) / 2
    layers = len(weight_variances)
    forward, moment = [], input_moment
    for k in range(layers):
        forward.append(sizes[k] * weight_variances[k] * moment)
        moment = kept * forward[k]
    backward = [gradient_moment] * layers
    for k in reversed(range(layers - 1)):
        backward[k] = kept * sizes[k + 2] * weight_variances[k + 1] * backward[k + 1]
    return forward, backward
    ### END SOLUTION


# %% exercise="initialization.variances" role="check"
check("initialization.variances", variances)

# %% [markdown]
# ### 2. Measure it
#
# A prediction wants a measurement beside it. Write `measure(weights, x, gradient, slope)`: `weights` is a list of tensors
# `(out, in)`, `x` the data `(N, n₀)`, `gradient` the gradient at the last layer's $z$, of the same shape as that. Send `x` through the
# layers (no biases, `F.leaky_relu(z, slope)` between them), send the gradient back, and return the same two lists as before,
# measured: mean squares over the batch and the units. (To begin with a gradient that is given, differentiate `(z * gradient).sum()`,
# with the last layer's `z`: its gradient at `z` is just that.)


# %% exercise="initialization.measure" role="solution"
def measure(weights, x, gradient, slope):
    """(forward, backward): measured mean squares of each layer's z, and of the gradient at it."""
    ### BEGIN SOLUTION
    h, z = x.clone().requires_grad_(), []
    for weight in weights:
        z.append(h @ weight.T)
        h = F.leaky_relu(z[-1], slope)
    gradients = torch.autograd.grad((z[-1] * gradient).sum(), z)
    return [a.detach().square().mean() for a in z], [g.square().mean() for g in gradients]
    ### END SOLUTION


# %% exercise="initialization.measure" role="check"
check("initialization.measure", measure)

# %% [markdown]
# Both together (the course's own functions), on real digits and a net whose width goes up and down. Lines are predicted, bands
# measured over eight draws.

# %% role="demo"
sizes = [784, *[256, 32, 128] * 3]
predicted_by, measured_by = (exercises.get(f"initialization.{name}").reference for name in ("variances", "measure"))
x = test_data[0][:200].flatten(1)
x = (x - x.mean()) / x.std()
layers = list(range(1, len(sizes)))
found = {"He, fan_in": [], "Glorot": []}
for name, values in found.items():
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        deviations = [(2 / n_in if name != "Glorot" else 2 / (n_in + n_out)) ** 0.5 for n_in, n_out in pairwise(sizes)]
        weights = [
            torch.randn(n_out, n_in, generator=generator) * std
            for n_in, n_out, std in zip(sizes[:-1], sizes[1:], deviations, strict=True)
        ]
        gradient = torch.randn(len(x), sizes[-1], generator=generator)
        values.append(torch.stack([torch.stack(list(part)) for part in measured_by(weights, x, gradient, 0.0)]))
    predicted = predicted_by(sizes, [std**2 for std in deviations], 0.0, 1.0, 1.0)
    found[name] = (torch.stack(values).double().numpy(), predicted)
plots.series(
    layers,
    {
        **{f"{name}, signal, measured": values[:, 0] for name, (values, _) in found.items()},
        **{f"{name}, signal, predicted": [predicted[0]] for name, (_, predicted) in found.items()},
    },
    xlabel="layer",
    ylabel="mean square of z",
    logy=True,
    alt="; ".join(
        f"{name}: predicted {predicted[0][-1]:.1e} at the last layer, measured {values[:, 0, -1].mean():.1e}"
        for name, (values, predicted) in found.items()
    ),
    caption="The signal's mean square by layer, predicted by the recursion and measured (mean and range of eight draws). "
    "He's draw keeps it whatever the widths; Glorot's keeps the share fan_in / (fan_in + fan_out) in each layer under ReLU. A narrow layer adds chance: "
    "few units are a small sample.",
)

# %% role="demo"
plots.series(
    layers,
    {
        **{f"{name}, gradient, measured": values[:, 1] for name, (values, _) in found.items()},
        **{f"{name}, gradient, predicted": [predicted[1]] for name, (_, predicted) in found.items()},
    },
    xlabel="layer",
    ylabel="mean square of the gradient at z",
    logy=True,
    alt="; ".join(
        f"{name}: predicted {predicted[1][0]:.1e} at the first layer, measured {values[:, 1, 0].mean():.1e}"
        for name, (values, predicted) in found.items()
    ),
    caption="The gradient's mean square, from the last layer (right) back to the first. With fan_in the gradient moves with the "
    "widths: the factors fan_out/fan_in of the layers multiply, and cancel where the widths come back.",
)

# %% [markdown]
# The last caption hides good news: with He's rule a layer multiplies the gradient's mean square by fan_out/fan_in, and over the
# whole net all widths but the last and the first cancel. So fan_in or fan_out, one of the two is enough; nobody needs both.
#
# ### 3. Count the fans
#
# Everything hangs on fan_in, and that is where most mistakes are made. For a dense layer it is the number of inputs. One
# output of a **convolution** sums over all input maps *and* over all places of the field (9 in one of 3 × 3): fan_in = maps × field.
# Four kinds of kernels, and how they are kept; `*field` stands for its sides, of which there may be one, two or more:
#
# | kernel | PyTorch keeps | Keras keeps |
# |---|---|---|
# | `"dense"` | (out, in) | (in, out) |
# | `"conv"`, with its maps in `groups` | (out, in / groups, \*field) | (\*field, in / groups, out) |
# | `"transposed"`: a convolution run backward, to enlarge maps | (in, out / groups, \*field) | (\*field, out / groups, in) |
# | `"depthwise"`: each map has filters of its own | (in × m, 1, \*field) | (\*field, in, m) |
#
# In a **grouped** convolution maps are split into groups, and an output sees its own group only. In a **depthwise** one every
# map is a group of its own and makes m maps (`groups` is then the number of input maps, in both layouts).
#
# Write `fans(shape, layout, kind, groups)`; `layout` is `"torch"` or `"keras"`. Return `(fan_in, fan_out)`: the
# connections that are there, counted within the group. A PyTorch convolution of shape `(32, 8, 3, 3)` with `groups=4` has
# fan_in 8 · 9 = 72 and fan_out 8 · 9 = 72: there are 32 / 4 = 8 outputs to a group.


# %% exercise="initialization.fans" role="solution"
def fans(shape, layout, kind, groups):
    """(fan_in, fan_out) of a kernel of this shape."""
    ### BEGIN SOLUTION
    if layout == "keras":
        field, inward, outward = int(np.prod(shape[:-2])), shape[-2], shape[-1]
        if kind == "depthwise":
            return field, outward * field
    else:
        field, inward, outward = int(np.prod(shape[2:])), shape[1], shape[0]
    fan_in, fan_out = inward * field, outward // groups * field
    return (fan_out, fan_in) if kind == "transposed" else (fan_in, fan_out)
    ### END SOLUTION


# %% exercise="initialization.fans" role="check"
check("initialization.fans", fans)

# %% [markdown]
# ### 4. Glorot's draw
#
# The rule names a variance. Two draws have it: a normal one of deviation $\sqrt{2/(\mathrm{fan\_in} + \mathrm{fan\_out})}$, and a
# **uniform** one between $-b$ and $b$. Mind the difference between a bound and a deviation: a uniform variable on $[-b, b]$ has
# the variance $b^2/3$, so $b = \sqrt3 \cdot$ deviation $= \sqrt{6/(\mathrm{fan\_in} + \mathrm{fan\_out})}$.
#
# To keep chance out of it you get the random numbers. Write `glorot(sample, fan_in, fan_out, distribution)`: with
# `"normal"` the sample holds standard normal numbers, with `"uniform"` numbers from $[0, 1)$, as `torch.rand` gives them.
# Return the weights, in the sample's shape and dtype.


# %% exercise="initialization.glorot" role="solution"
def glorot(sample, fan_in, fan_out, distribution):
    """Weights by Glorot's rule, from the numbers that were drawn."""
    ### BEGIN SOLUTION
    if distribution == "normal":
        return sample * (2 / (fan_in + fan_out)) ** 0.5
    return (2 * sample - 1) * (6 / (fan_in + fan_out)) ** 0.5
    ### END SOLUTION


# %% exercise="initialization.glorot" role="check"
check("initialization.glorot", glorot)

# %% [markdown]
# ### 5. The gain
#
# What the activation takes away, the weights have to give back. The factor on their *deviation* is called the **gain**: √2 for
# ReLU. Write `leaky_gain(slope)` for a leaky ReLU of any slope: the factor that keeps the mean square.


# %% exercise="initialization.gain" role="solution"
def leaky_gain(slope):
    """The gain for a leaky ReLU: √2 for slope 0, 1 for slope 1."""
    ### BEGIN SOLUTION
    return (2 / (1 + slope**2)) ** 0.5
    ### END SOLUTION


# %% exercise="initialization.gain" role="check"
check("initialization.gain", leaky_gain)

# %% [markdown]
# ### 6. He's draw
#
# Deviation gain/√fan_in. Write `he(sample, fan_in, fan_out, slope, distribution)`, with the sample as before. (fan_out is
# there because the function is called in the same way as the others.)


# %% exercise="initialization.he" role="solution"
def he(sample, fan_in, fan_out, slope, distribution):
    """Weights by He's rule for a leaky ReLU of this slope."""
    ### BEGIN SOLUTION
    std = (2 / (1 + slope**2) / fan_in) ** 0.5
    return sample * std if distribution == "normal" else (2 * sample - 1) * 3**0.5 * std
    ### END SOLUTION


# %% exercise="initialization.he" role="check"
check("initialization.he", he)

# %% role="demo"
torch.manual_seed(0)
default = nn.Linear(400, 400).weight.detach()
drawn = {
    "He, normal": initializers.he_normal_(torch.empty(400, 400)),
    "He, uniform": initializers.he_uniform_(torch.empty(400, 400)),
    "nn.Linear as it comes": default,
}
plots.histograms(
    {name: {"weights": values.numpy()} for name, values in drawn.items()},
    xlabel="weight (400 inputs)",
    alt="Histograms of weights: " + "; ".join(f"{name}: deviation {v.std():.4f}" for name, v in drawn.items()),
    caption="The same variance in two shapes, and what a PyTorch layer starts with. Deviations: "
    + ", ".join(f"{name} {values.std():.4f}" for name, values in drawn.items())
    + ".",
)

# %% role="demo"
reveal("torch_default", float(default.std() / (2 / 400) ** 0.5))

# %% [markdown]
# `nn.Linear` draws its weights uniformly between ±1/√fan_in. So a deep ReLU net made of plain `nn.Linear` layers loses five sixths of
# the signal's mean square in each layer (what their random biases add aside). It is one more reason why people put normalization between
# layers, or initialize by hand.
#
# ### 7. Without its tails
#
# A normal draw has **tails**: now and then a weight is four deviations large. Keras cuts them off: what lies beyond
# two deviations is drawn again. But then the deviation of what is left is smaller, for a cut at $c$
#
# $$ d = \sqrt{1 - \frac{2 c\, \varphi(c)}{2\Phi(c) - 1}}, \qquad \varphi(c) = \frac{e^{-c^2/2}}{\sqrt{2\pi}}, \qquad
# 2\Phi(c) - 1 = \mathrm{erf}(c/\sqrt2) $$
#
# ($\varphi$ is the normal curve's height, $2\Phi(c) - 1$ the share of it between $-c$ and $c$; Python has `math.erf`.) Write
# `truncated(z, std, cutoff)`, where `z` holds standard normal numbers already cut off at ±`cutoff`. Return `d` and the weights:
# `z` scaled to the deviation `std`.


# %% exercise="initialization.truncated_normal" role="solution"
def truncated(z, std, cutoff):
    """(d, weights): the deviation left by the cut, and z scaled so that its distribution has the deviation std."""
    ### BEGIN SOLUTION
    import math

    density = math.exp(-(cutoff**2) / 2) / math.sqrt(2 * math.pi)
    d = math.sqrt(1 - 2 * cutoff * density / math.erf(cutoff / math.sqrt(2)))
    return d, z * (std / d)
    ### END SOLUTION


# %% exercise="initialization.truncated_normal" role="check"
check("initialization.truncated_normal", truncated)

# %% [markdown]
# ### 8. Orthogonal
#
# A random matrix keeps the size of a signal *on average*; some directions it stretches, others it shrinks, and after many
# layers one direction is nearly all that is left. A matrix whose rows (or columns, if they are fewer) are **orthonormal**, at right angles and of
# length 1, stretches none. To draw one: take a normal matrix $A$ and its **QR decomposition**, $A = QR$ with $Q$ orthonormal and
# $R$ triangular (zeros below its diagonal). Two catches:
#
# - QR wants at least as many rows as columns: otherwise decompose the transpose, and turn $Q$ back.
# - QR is only unique up to signs, and library routines choose them by a rule of their own. Then some matrices come more often than
#   others. Multiply each column of $Q$ by the sign of its entry on $R$'s diagonal, and all are equally likely: if you turn $A$,
#   $Q$ turns with it.
#
# Write `orthogonal(gaussian, gain)`. `gaussian` is a kernel of normal numbers, `(out, in)` or `(out, in, *field)`; the latter counts
# as a matrix of `out` rows. Return `gain` times the orthonormal one, in the same shape. (`torch.linalg.qr(a)` returns `q, r`.)


# %% exercise="initialization.orthogonal" role="solution"
def orthogonal(gaussian, gain):
    """gain times a matrix with orthonormal rows or columns, in the kernel's shape."""
    ### BEGIN SOLUTION
    flat = gaussian.flatten(1)
    wide = flat.shape[0] < flat.shape[1]
    q, r = torch.linalg.qr(flat.T if wide else flat)
    q = q * r.diagonal().sign()
    return gain * (q.T if wide else q).reshape(gaussian.shape)
    ### END SOLUTION


# %% exercise="initialization.orthogonal" role="check"
check("initialization.orthogonal", orthogonal)

# %% role="demo"
generator = torch.Generator().manual_seed(0)
spread = {"normal, variance 1/fan_in": [], "orthogonal": []}
for _ in range(6):
    products = {name: torch.eye(64, dtype=torch.float64) for name in spread}
    curves = {name: [] for name in spread}
    for _ in range(30):
        draws = {
            "normal, variance 1/fan_in": torch.randn(64, 64, dtype=torch.float64, generator=generator) / 8,
            "orthogonal": initializers.orthogonal_(torch.empty(64, 64, dtype=torch.float64), generator=generator),
        }
        for name, draw in draws.items():
            products[name] = draw @ products[name]
            stretches = torch.linalg.svdvals(products[name])
            curves[name].append(float(stretches.square().sum() ** 2 / stretches.pow(4).sum()))
    for name, curve in curves.items():
        spread[name].append(curve)
left_over = {name: np.mean([curve[-1] for curve in curves]) for name, curves in spread.items()}
plots.series(
    list(range(1, 31)),
    spread,
    xlabel="layers (64 units each, no activation)",
    ylabel="directions left",
    alt=f"Directions left after 1 to 30 layers: orthogonal {left_over['orthogonal']:.0f}, normal "
    f"{left_over['normal, variance 1/fan_in']:.1f} after thirty.",
    caption="How many directions of the input share the signal's size (the squared sum of the squared stretches over the sum of "
    f"their fourth powers). Of 64, thirty normal layers leave {left_over['normal, variance 1/fan_in']:.1f}: two inputs then look "
    "nearly alike. Orthogonal layers lose none, as long as nothing bends in between.",
)

# %% [markdown]
# ### 9. Ask the data: LSUV
#
# The formulas assume a lot: mean 0, independence, one kind of activation. You can also just measure. **Layer-sequential unit
# variance** (Mishkin and Matas, 2016) starts from orthogonal weights and goes through the net once: run a batch through the first layer,
# divide its weights by the deviation of its output; run on through the activation to the second layer, and so on.
#
# Write `lsuv(net, x)`. `net` is an `nn.Sequential` whose layers have weights already, and biases of 0. Rescale the weights of every
# `nn.Linear` and `nn.Conv2d` (the last layer too) in place, so that this layer's output on `x`, before its activation, has variance 1,
# over the batch and all units and places together: `.var(correction=0)`. Change nothing else; nothing is returned.


# %% exercise="initialization.lsuv" role="solution"
def lsuv(net, x):
    """Rescale each layer's weights in place so that its output on x has variance 1."""
    ### BEGIN SOLUTION
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight /= layer(x).var(correction=0).sqrt()
            x = layer(x)
    ### END SOLUTION


# %% exercise="initialization.lsuv" role="check"
check("initialization.lsuv", lsuv)

# %% [markdown]
# ### 10. The last bias
#
# One number you do know before training: how common each class is. If the last layer's weights send next to nothing, the net
# predicts softmax(bias) for everybody. With a bias of 0 that is the same probability for each class, and the first steps are spent on
# learning that some are rare.
#
# Write `output_bias(counts, units)`. `counts` is a tensor with the number of training examples of each class, none of them 0. With one
# output for each class (`units` is their number), return a bias `(classes,)` for which softmax gives the classes' shares. (There are many:
# softmax takes no notice of a constant added to all.) With `units == 1` there is one logistic unit
# for two classes, and `counts` is (negatives, positives): return the bias `(1,)` for which $1/(1 + e^{-b})$ is the share of positives.


# %% exercise="initialization.output_bias" role="solution"
def output_bias(counts, units):
    """The output layer's bias, of shape (units,), that predicts the classes' shares."""
    ### BEGIN SOLUTION
    shares = counts / counts.sum()
    if units == 1:
        return (shares[1:] / shares[:1]).log()
    return shares.log()
    ### END SOLUTION


# %% exercise="initialization.output_bias" role="check"
check("initialization.output_bias", output_bias)

# %% role="demo"
rare = torch.cat([torch.where(train_data[1] == k)[0][: (100 if k == 0 else 5)] for k in range(10)])
uneven = train_data[0][rare], train_data[1][rare]
counts = torch.bincount(uneven[1], minlength=10)
losses = {}
for name in ("bias 0", "bias from the shares"):
    net = deep_net(starts["variance 2/fan_in"], hidden=2)
    with torch.no_grad():
        net[-1].weight.mul_(0.01)
        if name != "bias 0":
            initializers.output_bias_(net[-1].bias, counts)
        losses[name] = float(F.cross_entropy(net(uneven[0]), uneven[1]))
Markdown(
    f"{len(rare)} digits, {int(counts[0])} of them zeros and {int(counts[1])} of each other class. The loss before the first step: "
    + ", ".join(f"{name} **{loss:.2f}**" for name, loss in losses.items())
    + f" nats. (log 10 = {np.log(10):.2f}; the least that one and the same answer for all can have, the **entropy** of the shares, is "
    f"{float(torch.special.entr(counts / counts.sum()).sum()):.2f}.)"
)

# %% [markdown]
# ## Trust: yours against the frameworks
#
# A random draw can be compared number by number where both sides begin with the same random numbers: the same seed for PyTorch's
# generator, and for Keras the same seed of its truncated normal.

# %% role="demo"
keras = load_keras()  # some seconds


def seeded(call):
    return call(torch.Generator().manual_seed(3))


uniform_numbers = seeded(lambda g: torch.rand(60, 40, generator=g))
normal_numbers = seeded(lambda g: torch.randn(60, 40, generator=g))
kernel = nn.Conv2d(12, 8, 5).weight
keras_normal = torch.tensor(np.asarray(keras.random.truncated_normal((40, 60), seed=3)))
keras_he = torch.tensor(np.asarray(keras.initializers.HeNormal(seed=3)((40, 60))))
trust.table(
    [
        trust.Row(
            "glorot, uniform",
            "nn.init.xavier_uniform_ (PyTorch)",
            lambda: glorot(uniform_numbers, 40, 60, "uniform"),
            seeded(lambda g: nn.init.xavier_uniform_(torch.empty(60, 40), generator=g)),
        ),
        trust.Row(
            "glorot, normal",
            "nn.init.xavier_normal_ (PyTorch)",
            lambda: glorot(normal_numbers, 40, 60, "normal"),
            seeded(lambda g: nn.init.xavier_normal_(torch.empty(60, 40), generator=g)),
        ),
        trust.Row(
            "he, uniform, slope 0.3",
            "nn.init.kaiming_uniform_(a=0.3) (PyTorch)",
            lambda: he(uniform_numbers, 40, 60, 0.3, "uniform"),
            seeded(lambda g: nn.init.kaiming_uniform_(torch.empty(60, 40), a=0.3, generator=g)),
        ),
        trust.Row(
            "he, normal",
            "nn.init.kaiming_normal_ (PyTorch)",
            lambda: he(normal_numbers, 40, 60, 0.0, "normal"),
            seeded(lambda g: nn.init.kaiming_normal_(torch.empty(60, 40), generator=g)),
        ),
        trust.Row(
            "leaky_gain(0.2)",
            "nn.init.calculate_gain (PyTorch)",
            lambda: torch.tensor(leaky_gain(0.2)),
            torch.tensor(nn.init.calculate_gain("leaky_relu", 0.2)),
        ),
        trust.Row(
            "fans of a convolution",
            "what nn.init counts (PyTorch)",
            lambda: torch.tensor([float(n) for n in fans(tuple(kernel.shape), "torch", "conv", 1)]),
            torch.tensor([float(n) for n in nn.init._calculate_fan_in_and_fan_out(kernel)]),
        ),
        trust.Row(
            "orthogonal, 60 × 40",
            "nn.init.orthogonal_ (PyTorch)",
            lambda: orthogonal(normal_numbers, 1.0),
            seeded(lambda g: nn.init.orthogonal_(torch.empty(60, 40), generator=g)),
        ),
        trust.Row(
            "truncated, cut at 2",
            "initializers.HeNormal (Keras)",
            lambda: truncated(keras_normal, (2 / 40) ** 0.5, 2.0)[1],
            keras_he,
        ),
    ]
)

# %% [markdown]
# ## In the frameworks
#
# | to do | PyTorch | Keras 3 |
# |---|---|---|
# | initialize a layer | after making it: `nn.init.kaiming_normal_(layer.weight)`, `nn.init.zeros_(layer.bias)` | when making it: `Dense(64, kernel_initializer="he_normal")` |
# | Glorot | `xavier_uniform_`, `xavier_normal_` | `GlorotUniform` (the default), `GlorotNormal` |
# | He, for ReLU | `kaiming_normal_(w, nonlinearity="relu")` | `HeNormal` |
# | He, for a leaky slope a | `kaiming_normal_(w, a)` | `VarianceScaling(2 / (1 + a**2))` |
# | orthogonal | `orthogonal_(w, gain)` | `Orthogonal(gain)` |
# | all layers of a model | `model.apply(function)`, called for every module | each layer's own arguments |
#
# And where the two differ. The numbers in this table are read from the versions that are installed here. (An **embedding** is a layer
# that keeps a row of weights for each word, or other thing, of a list.)

# %% role="demo"
rows = [c for c in conventions.CONVENTIONS.values() if c.id.startswith("initializers.")]
Markdown(
    "| what | PyTorch | Keras | the trap |\n|---|---|---|---|\n"
    + "\n".join(f"| {c.what} | {c.torch()} | {c.keras(keras)} | {c.trap} |" for c in rows)
)

# %% [markdown]
# ### 11. One initializer for all rules
#
# Keras draws all of these by one class, `keras.initializers.VarianceScaling(scale, mode, distribution, seed=seed)`: the variance is
# scale / fan, `mode` names the fan (`"fan_in"`, `"fan_out"`, or `"fan_avg"` for the mean of both), and `distribution` is
# `"uniform"`, `"truncated_normal"` or `"untruncated_normal"`.
#
# Write `variance_scaling(rule, seed)`: the `VarianceScaling` that draws what `rule` draws. The rules are Keras's `"GlorotUniform"`,
# `"GlorotNormal"`, `"HeUniform"`, `"HeNormal"`, `"LecunUniform"`, `"LecunNormal"` (with this seed, the very same numbers), and
# PyTorch's `"torch xavier_normal_"`, `"torch kaiming_normal_"` (as it is called for ReLU) and `"torch nn.Linear"` (the layer's default
# weights): the same distribution. Import `keras` inside.


# %% exercise="initialization.variance_scaling" role="solution"
def variance_scaling(rule, seed):
    """A keras.initializers.VarianceScaling equal to the rule."""
    ### BEGIN SOLUTION
    import keras

    scale, mode, distribution = {
        "GlorotUniform": (1.0, "fan_avg", "uniform"),
        "GlorotNormal": (1.0, "fan_avg", "truncated_normal"),
        "HeUniform": (2.0, "fan_in", "uniform"),
        "HeNormal": (2.0, "fan_in", "truncated_normal"),
        "LecunUniform": (1.0, "fan_in", "uniform"),
        "LecunNormal": (1.0, "fan_in", "truncated_normal"),
        "torch xavier_normal_": (1.0, "fan_avg", "untruncated_normal"),
        "torch kaiming_normal_": (2.0, "fan_in", "untruncated_normal"),
        "torch nn.Linear": (1 / 3, "fan_in", "uniform"),
    }[rule]
    return keras.initializers.VarianceScaling(scale, mode, distribution, seed=seed)
    ### END SOLUTION


# %% exercise="initialization.variance_scaling" role="check"
check("initialization.variance_scaling", variance_scaling)

# %% [markdown]
# ## Clinic
#
# Two nets came in this morning. Find out what is wrong with them, and mend what can be mended.
#
# ### 12. Eight units that do the work of one
#
# "I wanted my runs to be reproducible, so I start every weight at the same number. The net trains, but more units make it no better."

# %% role="demo"
learned = {}
for name, start in {
    "all 0": starts["all weights 0"],
    "all 0.05": lambda w, g: w.fill_(0.05),
    "He": starts["variance 2/fan_in"],
}.items():
    net = deep_net(start, hidden=1, width=8)
    before = net[1].weight.detach().clone()
    run = course_training.train(net, train_data, valid_data, epochs=5, seed=1, progress=False)
    learned[name] = (
        net[1].weight.detach(),
        run.valid_accuracy[-1],
        float((net[1].weight.detach() - before).abs().max()),
    )
pictures = torch.cat([weight.reshape(8, 28, 28) for weight, _, _ in learned.values()])
pictures = 0.5 + 0.5 * pictures / pictures.abs().amax((1, 2), keepdim=True).clamp_min(1e-9)
plots.grid(
    pictures.numpy(),
    [name if k == 0 else "" for name in learned for k in range(8)],
    columns=8,
    alt="The weights of eight hidden units after training, as pictures. "
    + "; ".join(f"{name}: {share:.0%} of the validation digits right" for name, (_, share, _) in learned.items()),
    caption="The weights of all eight hidden units after five epochs, one picture a unit (grey is 0). Validation digits right: "
    + ", ".join(f"{name} {share:.0%}" for name, (_, share, _) in learned.items())
    + ". From 0 they never move; from 0.05 they move, all in the same way; from random numbers each finds something of its own.",
)

# %% role="demo"
weight, _, moved = learned["all 0"]
apart = float((weight - weight[:1]).abs().max())
reveal("zero_start", "nothing" if moved == 0 else "copies" if apart < 1e-6 else "slow")

# %% [markdown]
# Write a diagnosis. `diagnose_start(model, x, y)` gets an `nn.Sequential` of a dense layer, an activation and another dense layer. Take **three
# steps** of plain gradient descent at the rate 0.1 (each weight and bias ← itself − 0.1 · its gradient of `F.cross_entropy(model(x), y)`)
# on a **copy** of the model (`copy.deepcopy(model)`), since the first gradient alone can mislead, and return two things:
#
# 1. `"nothing moves"` where no weight of the hidden layer (`model[0].weight`) has changed by 1e-6 or more; else `"copies"` where two or more hidden
#    units still have the same weights in; else `"learns"`;
# 2. how many different hidden units there are after the three steps.
#
# Two units count as the same where none of their incoming weights differ by 1e-6 or more. The model itself must stay as it came.


# %% exercise="initialization.clinic_symmetry" role="solution"
def diagnose_start(model, x, y):
    """("nothing moves", "copies" or "learns"; the number of different hidden units after three steps)."""
    ### BEGIN SOLUTION
    import copy

    twin = copy.deepcopy(model)
    for _ in range(3):
        gradients = torch.autograd.grad(F.cross_entropy(twin(x), y), list(twin.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    before, after = model[0].weight.detach(), twin[0].weight.detach()
    units = []
    for row in after:
        if all((row - other).abs().max() >= 1e-6 for other in units):
            units.append(row)
    if (after - before).abs().max() < 1e-6:
        return "nothing moves", len(units)
    return "learns" if len(units) == len(after) else "copies", len(units)
    ### END SOLUTION


# %% exercise="initialization.clinic_symmetry" role="check"
check("initialization.clinic_symmetry", diagnose_start)

# %% [markdown]
# If you looked at the cases: a net whose *last* layer alone starts at 0 does learn (its hidden layer from the second step on), and so
# does one whose hidden units start alike but are read with different weights. It is equal weights in *and* out that tie units
# together.
#
# ### 13. The conv net with an absurd first loss
#
# "I initialize by He's rule, as everybody says, and the loss before the first step is absurd." Here is the code, and what it does:


# %% role="demo"
def broken_initialize(model, generator):
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data.normal_(0, (2 / module.in_channels) ** 0.5, generator=generator)
        elif isinstance(module, nn.Linear):
            module.weight.data.normal_(0, (2 / module.in_features) ** 0.5, generator=generator)


def conv_net():
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=4), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3)]
    return nn.Sequential(
        *(part for conv in convs for part in (conv, nn.ReLU())), nn.Flatten(), nn.Linear(16 * 24**2, 8)
    )


emoji_images, emoji_labels = datasets.as_tensors(*emoji.test)
emoji_images = (emoji_images - emoji_images.mean()) / emoji_images.std()
sizes_by_start = {}
for name in ("the code above", "true fan_in"):
    net = conv_net()
    generator = torch.Generator().manual_seed(0)
    if name == "the code above":
        broken_initialize(net, generator)
    else:
        noise = {key: torch.randn(value.shape, generator=generator) for key, value in net.named_parameters()}
        exercises.get("initialization.clinic_fans").reference(net, noise)
    with torch.no_grad():
        h, sizes = emoji_images[:100], []
        for part in net:
            h = part(h)
            if isinstance(part, nn.Conv2d | nn.Linear):
                sizes.append(float(h.square().mean()))
        sizes_by_start[name] = sizes, float(F.cross_entropy(h, emoji_labels[:100]))
plots.series(
    [1, 2, 3, 4, 5],
    {name: [sizes] for name, (sizes, _) in sizes_by_start.items()},
    xlabel="layer (four convolutions, one dense)",
    ylabel="mean square of z",
    logy=True,
    alt="; ".join(f"{name}: {sizes[0]:.3g} to {sizes[-1]:.3g}" for name, (sizes, _) in sizes_by_start.items()),
    caption="The mean square of each layer's output before any training. The loss at that moment: "
    + ", ".join(f"{name} {loss:.1f}" for name, (_, loss) in sizes_by_start.items())
    + f" (a guess has log 8 = {np.log(8):.2f}).",
)

# %% [markdown]
# It counts the wrong inputs, more than once, and leaves PyTorch's random biases in place. Write `initialize(model, noise)`: the weights of
# every `nn.Conv2d`, `nn.ConvTranspose2d` and `nn.Linear` in the model become noise · √(2 / fan_in), with the fan_in that an output really
# has (grouped and transposed kernels too), their biases 0. Leave `nn.BatchNorm2d` layers as they are: their `weight` is no kernel. `noise`
# maps the name of each parameter, as `model.named_parameters()` gives it (a module's name and `.weight` or `.bias`, as in `"0.weight"`), to
# standard normal numbers of its shape. Change the model in place; nothing is returned. (The layers have `in_channels`, `out_channels`,
# `kernel_size` and `groups`, and every layer here has a bias.)


# %% exercise="initialization.clinic_fans" role="solution"
def initialize(model, noise):
    """He's draw for every conv and dense layer, from the noise of its parameter's name; biases 0. In place."""
    ### BEGIN SOLUTION
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                fan_in = module.weight[0].numel()
                if isinstance(module, nn.ConvTranspose2d):
                    fan_in = module.weight[:, 0].numel() // module.groups
                module.weight.copy_(noise[f"{name}.weight"] * (2 / fan_in) ** 0.5)
                module.bias.zero_()
    ### END SOLUTION


# %% exercise="initialization.clinic_fans" role="check"
check("initialization.clinic_fans", initialize)

# %% [markdown]
# ## What does a random filter see?
#
# One of the questions at the top was: the first layer should find edges; how can it, if it starts with random numbers? An old answer says
# that a random filter acts much like an edge detector already. Look for yourself, beside filters that are **pretrained**, taken from a net
# that was trained on other pictures. Each filter below is 3 × 3 pixels in three
# colours; beside it stands what it makes of one picture.

# %% role="demo"
banks = {
    "random (He's draw)": filters.random_bank(0),
    "pretrained on photographs": filters.stem_filters(),
    "designed for edges": filters.edge_bank(),
}
picture = emoji.test.images[emoji.test.labels == emoji.classes.index("animal")][5:6]
ink = 1 - datasets.as_tensors(picture)
tiles, names = [], []
for name, bank in banks.items():
    for k in (0, 5, 11, 17):
        kernel = bank[k] / bank[k].abs().max()
        shown = F.interpolate(0.5 + 0.5 * kernel[None], (32, 32))[0].permute(1, 2, 0)
        answer = F.conv2d(ink, (bank[k] / bank[k].norm())[None], padding=1)[0, 0]
        answer = (0.5 + 0.5 * answer / answer.abs().max())[..., None].expand(-1, -1, 3)
        tiles += [shown, answer]
        names += [name.split(" ")[0] if k == 0 else "", ""]
plots.grid(
    torch.stack(tiles).numpy(),
    names,
    columns=8,
    alt="Four filters of each kind, each with its answer to one emoji: the designed ones draw outlines, the random and the pretrained "
    "ones fill areas as well.",
    caption="Rows: random filters, filters of a trained net's first layer, filters designed for edges. Each is followed by its answer to "
    "one emoji (grey is 0). All of them change at outlines. Designed ones are grey inside; random ones, and many learned ones, keep the area's "
    "colour too.",
)

# %% [markdown]
# Now as numbers: show each filter a step from dark to bright, turned through all angles, and note its strongest answer. A detector for edges
# of one direction answers some angles and not others, and does not answer an even area at all.

# %% role="demo"
quarter = filters.ANGLES // 4
angles = np.arange(-quarter, quarter + 1) * 360 / filters.ANGLES
turned, flat = {}, {}
for name, bank in banks.items():
    answers = filters.answers_by_angle(bank)
    best = answers.argmax(0)
    # every filter's curve turned so that its best angle stands in the middle
    aligned = [answers[:, k].roll(quarter - int(best[k])) / answers[:, k].max() for k in range(answers.shape[1])]
    turned[name] = torch.stack(aligned)[:, : len(angles)].numpy()
    flat[name] = float(filters.selectivity(bank)[1].mean())
plots.series(
    angles,
    {name: curves.mean(0) for name, curves in turned.items()},
    xlabel="angle of the edge, from the filter's best (degrees)",
    ylabel="answer, share of the best",
    alt="Mean answer by angle: "
    + "; ".join(f"{name} falls to {curves.mean(0).min():.2f} of its best" for name, curves in turned.items()),
    caption="Each filter's strongest answer to an edge, by its angle, averaged over the filters. To an even area they answer with "
    + ", ".join(f"{share:.2f} ({name})" for name, share in flat.items())
    + " of their best.",
)

# %% [markdown]
# So is it an edge detector? By its answers only in part: it prefers some angles, but answers even areas as well, and so do the learned ones. What
# counts is what the next layer can make of it. Card I6 puts a linear classifier on top of each set of filters.

# %% role="demo"
reveal("random_filters", claims.load("I6").interval.mean)

# %% [markdown]
# ## Evidence
#
# What this lesson says, and what people say about initialization, each put to the test on real images, with at least five seeds.
# Where starts compete, each chose its learning rate on validation images with the same budget. *Does not hold* means that the rule written on the card
# was not met, in small nets and short training; read the rule. `course evidence I3` in a terminal measures one again on your own machine.
#
# Some words on the cards: $N(0, 0.01^2)$ is the normal distribution of mean 0 and deviation 0.01. A **95% interval** says how precisely the
# seeds settle a mean: another set of seeds would mostly have given a mean in there. It is **paired** where two ways are compared seed by
# seed. A linear **head** is a linear classifier on top of something else.
#
# **Must the variances be equal?** I1 is the figure from above with training behind it: how far from 1 may a layer's factor be?

# %% role="demo"
claims.evidence("I1")

# %% [markdown]
# **Which rule for which activation?** I2 tries Glorot's draw where its authors had trouble, with the logistic function; look at the start that is
# four times as wide. I3 sets Glorot against He. For ELU, an activation that is $e^z - 1$ below 0, look at what He's draw does to the signal after 50
# layers: a rule made for ReLU is not made for all its relatives.

# %% role="demo"
claims.evidence("I2")

# %% role="demo"
claims.evidence("I3")

# %% [markdown]
# **Convolutions, and an old tutorial.** I4 counts fan_in in four ways, the frameworks' own two among them. I5 is the range ±1/fan_in (without
# the root), which a widely read tutorial gave for LeNet, one of the first convolutional nets.

# %% role="demo"
claims.evidence("I4")

# %% role="demo"
claims.evidence("I5")

# %% [markdown]
# **Filters, random or learned.** I6 was the question about edges. I7 begins with the first three blocks of layers of a net that was trained on
# photographs, instead of random numbers; everything trains on from there. Read it with I6 in mind: where random filters do as well, there is
# little to gain. What the *deeper* layers of a pretrained net are worth is the question of lesson 5.

# %% role="demo"
claims.evidence("I6")

# %% role="demo"
claims.evidence("I7")

# %% [markdown]
# ## Explain
#
# ### 14. In your own words
#
# A colleague writes: "My first attempt had all weights at zero, and the net learned next to nothing. Now I draw every weight from a normal distribution with
# deviation 0.01, since small numbers seem safe. Five layers train, twenty do not: the loss stays at log 10." Explain both failures to
# them, how they can see each of them before any training, and what to use instead. Ten sentences are enough. In a class a teacher reads this one; on your
# own, write it first, and then open what a teacher would look for, below.

# %% [markdown] exercise="initialization.explain" role="explain"
# ### BEGIN SOLUTION
# With all weights at zero, the units of a layer are copies: they compute the same number, get the same gradient, and stay equal. Behind a
# ReLU it is worse: the outputs are 0 and the weights leading on are 0, so that no gradient arrives at all, and only the last bias learns the
# classes' shares. Random numbers break this symmetry.
#
# But their size matters too. A unit sums fan_in products, so a layer multiplies the signal's variance by fan_in · Var(w), and a ReLU
# takes half of it away. With 64 inputs and a deviation of 0.01 that is about 0.003 for every layer. Five layers still get somewhere, since
# training can make up for it; after twenty, nothing of the input is left, and the gradient fades on its way back in the same manner. The net
# then predicts the same for every picture: log 10.
#
# You see it before any training: send one batch through and print the variance of each layer's output, and of the gradient at each layer. They should be
# level. For ReLU layers draw the weights with the variance 2/fan_in (He), with the fan_in of each layer (for a convolution: input maps times the
# field), and set the biases to 0. The deviation is then different in every layer; no single number such as 0.01 fits all.
# ### END SOLUTION

# %% role="demo"
rubric = exercises.get("initialization.explain").rubric
Markdown(
    "<details><summary>What a teacher looks for</summary>\n\n"
    + "\n".join(f"- {what} ({points:g})" for what, points in rubric.items())
    + "\n\n</details>"
)

# %% [markdown]
# ## Summary
#
# - A layer multiplies the signal's mean square by fan_in · Var(w), times what the activation leaves of it; the gradient by the same with fan_out.
#   Over many layers only a factor near 1 survives.
# - LeCun: 1/fan_in. Glorot: the mean of both fans. He: 2/fan_in, for ReLU. A uniform draw with that variance ends at √3 deviations.
# - fan_in of a convolution is input maps × field, within the group. The frameworks' own count is wrong for some kernels.
# - Equal weights make copies; random numbers break the symmetry. Biases may be 0; the last one can hold the classes' shares.
# - Frameworks' defaults differ, and none is He's. Print the variances of the first batch before you train for an hour.
# - What was measured:

# %% role="demo"
Markdown(
    "\n".join(
        f"- *{r.statement}* **{' '.join(filter(None, (r.verdict, r.condition)))}.** {r.headline}"
        for r in map(claims.load, ("I1", "I3", "I5", "I6", "I7"))
    )
)

# %% [markdown]
# ## Sources
#
# - LeCun, Bottou, Orr, Müller: *Efficient BackProp*, 1998.
# - Glorot, Bengio: *Understanding the difficulty of training deep feedforward neural networks*, AISTATS 2010.
# - He, Zhang, Ren, Sun: *Delving deep into rectifiers*, 2015, arXiv:1502.01852.
# - Saxe, McClelland, Ganguli: *Exact solutions to the nonlinear dynamics of learning in deep linear neural networks*, 2014, arXiv:1312.6120.
# - Mishkin, Matas: *All you need is a good init*, 2016, arXiv:1511.06422 (LSUV).
# - Mezzadri: *How to generate random matrices from the classical compact groups*, 2007, arXiv:math-ph/0609050.
# - Data: MNIST, and emoji by Google (Noto), Twitter (Twemoji) and Microsoft (Fluent); licences stand beside the files
#   in `course_lib/datasets`. The pretrained filters are EfficientNet-Lite0's; see `course_lib/pretrained`.
