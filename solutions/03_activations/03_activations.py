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
# # Activations: which bend, and what it costs
#
# *Lesson 3 of Training Deep Nets. About three hours; twelve exercises that check themselves and one graded by hand.
# You need Python and linear regression. The words of the trade are explained where they first appear.*
#
# People ask it like this:
#
# > Every tutorial uses ReLU, some papers ELU, the newest nets GELU or SiLU. **Which one should I take**, and does it
# > matter?
#
# And soon afterwards:
#
# > My loss stands still, and half of the numbers in my hidden layers are 0. **Are my units dead?** Will leaky ReLU revive
# > them?
#
# > I read that ELU > leaky ReLU > ReLU > tanh > logistic, "in general". Who has measured that?
#
# > My net ends in a softmax, and its loss won't go below about one and a half. Is it stuck?
#
# By the end you will have written each of these functions and its slope, seen them agree with PyTorch and Keras up to
# rounding, counted dead units the right way, mended two broken runs, and read the measurements behind each rule of thumb.

# %% role="setup"
import copy
import math

import numpy as np
import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from autograder.check import check
from course_lib import activations as course_activations
from course_lib import claims, conventions, datasets, diagnostics, initializers, plots, trust
from course_lib import training as course_training
from course_lib.architectures import mlp
from course_lib.predictions import predict, reveal
from course_lib.quiet import load_keras
from course_lib.widgets import activations as widgets

torch.set_num_threads(1)  # small nets run faster on one thread

# %% [markdown]
# ## The words you need
#
# A **layer** takes a row of numbers $x$ for each example and computes $z = W x + b$, the same sum as in linear
# regression, once for each of its **units**; $W$ are its **weights** and $b$ its **biases**. An **activation** $f$ then
# bends each $z$ by itself, and $h = f(z)$ is the next layer's $x$. What goes in, $z$, is the **pre-activation**. Layers
# between the input and the last are **hidden**. The numbers of the last layer are the **logits**, one for each class;
# **softmax** turns them into probabilities that sum to 1: $e^{z_c} / \sum_j e^{z_j}$ for class $c$. The **loss** (here
# **cross-entropy**, $-\log$ of the right class's probability) is small where the right class is likely. Being a natural
# logarithm, it is given in **nats**; guessing evenly among ten classes costs $\log 10 = 2.3$.
#
# **Training** moves weights and biases a little, step by step, so that the loss falls; each step looks at a small **batch**
# of examples, and an **epoch** is once through all of them. How the loss changes with each
# number is its **gradient**; a step goes against it, times the **learning rate**. The gradient of a weight is found
# backward through the net, and on its way it is multiplied by the **slope** $f'(z)$ of every activation that it passes.
# That is why this lesson is about slopes as much as about values. What a net is worth, its **accuracy** (the share it gets
# right) or its **error** (the rest), is measured on **validation** and **test** images, on which it never trains.
#
# **Initialization** is how the weights are drawn before training, at random; a **seed** fixes the draw, and what one seed
# shows is one draw. **He**'s has the variance $2/n$ for a unit with $n$ inputs and goes with ReLU, **Glorot**'s suits
# tanh and the logistic function, **LeCun**'s is $1/n$ (lesson 2 says why). **SGD** is the plain step just described;
# **Adam** is a popular rule that scales each number's step by itself (lesson 6). **Batch normalization** shifts and
# scales each $z$ over a batch of examples, so that it has mean 0 and variance 1 (lesson 4).
#
# The activations of this lesson, in the order in which they came:
#
# | name | $f(z)$ | since |
# |---|---|---|
# | logistic, or sigmoid, $\sigma$ | $1/(1+e^{-z})$, from 0 to 1 | before 2010 |
# | tanh | $(e^z - e^{-z})/(e^z + e^{-z})$, from −1 to 1 | before 2010 |
# | ReLU | $\max(0, z)$ | 2010 |
# | leaky ReLU | $z$ for $z>0$, else $\alpha z$, mostly with $\alpha = 0.01$ | 2013 |
# | PReLU | the same, $\alpha$ learned | 2015 |
# | ELU | $z$ for $z>0$, else $\alpha(e^z - 1)$, mostly with $\alpha = 1$ | 2015 |
# | GELU | $z\,\Phi(z)$, $\Phi$ the normal distribution function (exercise 8) | 2016 |
# | SELU | ELU, with two special constants (exercise 6) | 2017 |
# | SiLU, or swish | $z\,\sigma(z)$ | 2016–2018 |

# %% [markdown]
# ### The PyTorch you need
#
# A **tensor** is an array, as in numpy: `z * 2`, `z @ weight.T`, `z.sum(0)`, `z[:, None]` mean the same.
# `torch.where(z > 0, a, b)` takes `a` where the condition is true, `b` elsewhere; `z.clamp(min=0)` cuts at 0;
# `(z > 0).any(0)` asks for each column whether some row is positive, `.all(0)` whether every one is. A tensor can
# remember how it was computed, and **autograd** then finds gradients through it: `loss.backward()` **adds** the gradient
# of each weight `w` to `w.grad`, and `model.zero_grad()` clears them. Changing a tensor in place can break that, and
# `with torch.no_grad():` switches it off. Every tensor has a **dtype**, `torch.float32` or `torch.float64`: results
# should keep that of their input.
#
# A layer is an **`nn.Module`**. `nn.Sequential(a, b, c)` puts modules in a row: `for module in model: h = module(h)` sends
# `h` through them one by one, `isinstance(module, nn.ReLU)` says what kind one is, and `model.parameters()` gives all
# weights and biases, the **parameters**. `F.cross_entropy(logits, labels)` is the loss, averaged over the batch; `labels`
# are the numbers of the right classes. `x.split(batch_size)` cuts `x` into batches, of which the last may be smaller.
#
# The pictures are 5,000 handwritten digits (`mnist5k`) and, in the measurements at the end, silhouettes of animals
# (`animalshape`). Both come with the course.

# %% role="demo"
digits = datasets.load("mnist5k")
train_data = datasets.as_tensors(*digits.subset(150))
valid_data = datasets.as_tensors(*digits.valid)
plots.grid(
    digits.test.images[:10],
    [digits.classes[i] for i in digits.test.labels[:10]],
    alt=f"Ten handwritten digits: {', '.join(digits.classes[i] for i in digits.test.labels[:10])}.",
    caption=f"What the nets of this lesson see. They train on {len(train_data[1])} such digits here, and on more in the "
    "measurements at the end.",
)

# %% [markdown]
# ## Predict
#
# Commit to an answer before you read on. A guess that turns out wrong teaches more than a right answer that you only
# read. Nothing here is graded or sent anywhere.

# %% role="demo"
predict("large_rate_kills")

# %% role="demo"
predict("leak_wakes")

# %% role="demo"
predict("best_activation")

# %% role="demo"
predict("softmax_twice_floor")

# %% [markdown]
# ## See
#
# The figure sends real digits through a layer of random weights, and then through the activation of your choice. Shift
# the bias of all units, change α, and reach the goal that the figure sets you. A unit whose slope is 0 for every image
# learns from none of them: no gradient passes it. Such a unit is called **dead**.

# %% role="demo"
widgets.LayerFigure(datasets.as_tensors(digits.train.images[:300]))

# %% [markdown]
# ## Derive: what an activation is for, and what its slope does
#
# **Without a bend, depth is worth nothing.** Two layers without activation compute $W_2(W_1 x + b_1) + b_2 = (W_2 W_1)x +
# (W_2 b_1 + b_2)$: one layer again. Any bend will do to break that. So what makes one bend better than another?
#
# **The slope is a factor on the way back.** Let $g$ be the gradient of the loss at a unit's output. At its pre-activation
# it is $g\,f'(z)$, at its weight $w_i$ it is $g\,f'(z)\,x_i$, and what goes on to the layer below is multiplied by
# $f'(z)$ too. Through ten layers that makes ten slopes multiplied. The logistic function's slope is $\sigma(1-\sigma)$: at
# most ¼, and near 0 on both sides: there the unit is **saturated**. ReLU's slope is 1 for every positive $z$, however
# large, and 0 for every negative one.
#
# **And where it is exactly 0, nothing is learned.** If $z \le 0$ for *every* example, every one of the unit's gradients is
# 0. It stays where it is.
#
# **The mean matters as well.** ReLU's outputs are never negative, so their mean is positive, and each layer passes a
# constant on to the next, which its biases have to take away again. ELU lets outputs go down to $-\alpha$ to bring the
# mean nearer to 0.

# %% role="demo"
z = torch.linspace(-8, 8, 161)
shown = {"logistic": "sigmoid", "tanh": "tanh", "ReLU": "relu", "ELU, α = 1": "elu", "GELU": "gelu"}
slopes = {name: course_activations.ACTIVATIONS[key].derivative(z).tolist() for name, key in shown.items()}
plots.series(
    z.tolist(),
    slopes,
    xlabel="pre-activation z",
    ylabel="slope f′(z)",
    alt="The slopes of five activations. At z = 8: " + ", ".join(f"{name} {s[-1]:.2g}" for name, s in slopes.items()),
    caption="Slopes. At z = 8: "
    + ", ".join(f"{name} {s[-1]:.2g}" for name, s in slopes.items())
    + ". At z = −8: "
    + ", ".join(f"{name} {s[0]:.2g}" for name, s in slopes.items())
    + ". Only ReLU is exactly 0 over a whole range; GELU's slope is negative for a while, and above 1 for another.",
)

# %% [markdown]
# ## Build
#
# Each activation that you write here returns both its value and its slope, so that you can check one against the other.
# PyTorch's own activation of that name is not allowed, nor is `course_lib.activations`. Leave the tensors that you are given
# as they are.
#
# ### 1. Leaky ReLU
#
# Write `leaky_relu(z, alpha)`, which returns the pair `(value, slope)`, both in the shape and dtype of `z`: $z$ and 1 where
# $z > 0$, else $\alpha z$ and $\alpha$. At 0 itself there is a kink and no slope; take the one from the left, as the
# frameworks do. `alpha` may be any number, also above 1. (Some books print $\max(\alpha z, z)$. When is that something
# else?)
#
# With `z = [2, 0, -3]` and `alpha = 0.1` the answer is `[2, 0, -0.3]` and `[1, 0.1, 0.1]`.


# %% exercise="activations.leaky_relu" role="solution"
def leaky_relu(z, alpha):
    """(value, slope) of leaky ReLU at z, each of z's shape and dtype."""
    ### BEGIN SOLUTION
    return torch.where(z > 0, z, alpha * z), torch.where(z > 0, torch.ones_like(z), alpha)
    ### END SOLUTION


# %% exercise="activations.leaky_relu" role="check"
check("activations.leaky_relu", leaky_relu)

# %% [markdown]
# ### 2. ELU, for any α
#
# Write `elu(z, alpha)` in the same way: $z$ and 1 where $z>0$, else $\alpha(e^z - 1)$ and $\alpha e^z$; at 0 the slope from
# the left.
#
# Two things go wrong here in many published versions. `torch.where` computes *both* sides everywhere and then picks. At
# $z = 10^4$ the side that is not picked holds $e^{10000}$, which is infinite in floating point; on the way back autograd
# multiplies its infinite slope by 0, and $0 \cdot \infty$ is **NaN**, "not a number", which then spreads to every weight.
# So let the exponential see negative numbers only. And near 0, $e^z - 1$ is the difference of two numbers that are nearly
# equal: most digits cancel. `torch.expm1(z)` is $e^z - 1$ without that loss.
#
# With `z = [2, 0, -1]` and `alpha = 2` the answer is about `[2, 0, -1.264]` and `[1, 2, 0.736]`.


# %% exercise="activations.elu" role="solution"
def elu(z, alpha):
    """(value, slope) of ELU at z, each of z's shape and dtype, finite in value and gradient at ±1e4."""
    ### BEGIN SOLUTION
    low = z.clamp(max=0)
    value = torch.where(z > 0, z, alpha * torch.expm1(low))
    return value, torch.where(z > 0, torch.ones_like(z), alpha * low.exp())
    ### END SOLUTION


# %% exercise="activations.elu" role="check"
check("activations.elu", elu)

# %% [markdown]
# Textbooks call ELU "smooth everywhere": its slope should nowhere jump. Look at it near 0 for three values of α:

# %% role="demo"
near = torch.linspace(-2, 1, 121, dtype=torch.float64)
by_alpha = {f"α = {a:g}": course_activations.elu_derivative(near, a).tolist() for a in (0.5, 1.0, 2.0)}
sides = torch.tensor([-1e-9, 1e-9], dtype=torch.float64)
jumps = {
    name: round(abs(float(course_activations.elu_derivative(sides, a).diff())), 6)
    for name, a in zip(by_alpha, (0.5, 1, 2), strict=True)
}
plots.series(
    near.tolist(),
    by_alpha,
    xlabel="pre-activation z",
    ylabel="slope of ELU",
    alt="ELU's slope around 0. " + "; ".join(f"{name}: it jumps by {jump:.2g} at 0" for name, jump in jumps.items()),
    caption="ELU's slope around 0. The jump at 0: "
    + ", ".join(f"{jump:.2g} for {name}" for name, jump in jumps.items())
    + ". ELU is smooth for α = 1 alone.",
)

# %% [markdown]
# ### 3. Which units are dead, and which can come back?
#
# A ReLU that outputs 0 for an example is merely *off* for it: nearly every unit is off for about half of the examples,
# and that is no fault. **Dead** is a unit that is off for **every** example of the data set. One batch can't show that: a
# unit may wait for a kind of image that is not in it.
#
# And can a dead unit come back? Its slope is 0 on all data, so its own weights and bias get no gradient and stand still.
# Then its $z$ can change only if its *inputs* change:
#
# - in the **first** hidden layer the inputs are the data. They never change: the unit is lost;
# - in a **deeper** layer the inputs are the outputs of the layer below, and as long as that still learns, the unit may be
#   woken by chance;
# - if **any** layer is wholly dead, no gradient passes it: nothing below it moves any more; and everything above sees the
#   same constant for every example. Then every dead unit of the net is lost.
#
# (This is so for steps along the gradient alone. A penalty that shrinks all weights can still move a dead unit, and so can
# a rule such as Adam, which goes on for a while in the direction of earlier steps.)
#
# Write `dead_units(model, x, batch_size)` for an `nn.Sequential` of linear layers with `nn.ReLU` between. Return two lists
# with one boolean tensor for each ReLU, in order, one entry a unit: which units are dead, and which of these are lost by the
# rules above. A $z$ of exactly 0 is off too. Send no more than `batch_size` examples at a time through the net.


# %% exercise="activations.dead_units" role="solution"
def dead_units(model, x, batch_size):
    """(dead, lost): two lists of boolean tensors (units,), one for each ReLU of the model."""
    ### BEGIN SOLUTION
    fired = {}
    with torch.no_grad():
        for h in x.split(batch_size):
            for i, module in enumerate(model):
                h = module(h)
                if isinstance(module, nn.ReLU):
                    fires = (h > 0).any(0)
                    fired[i] = fired[i] | fires if i in fired else fires
    dead = [~fires for fires in fired.values()]
    blocked = any(bool(layer.all()) for layer in dead)
    return dead, [layer & (blocked or i == 0) for i, layer in enumerate(dead)]
    ### END SOLUTION


# %% exercise="activations.dead_units" role="check"
check("activations.dead_units", dead_units)

# %% [markdown]
# Now train one net at a usual rate and one at a large one, and count in three ways: outputs that are 0, units silent in one
# batch, units dead on the whole set.

# %% role="demo"
he = lambda weight: initializers.kaiming_normal_(weight)


def count(net, data):
    """Shares of outputs that are 0, of units silent on the first 32 images, and of units dead on all of data."""
    h, off, first = data[0], [], []
    with torch.no_grad():
        for module in net:
            h = module(h)
            if isinstance(module, nn.ReLU):
                off.append((h == 0).float().mean())
                first.append((h[:32] == 0).all(0).float().mean())
    found = [s.dead for s in diagnostics.layer_statistics(net, data) if s.dead is not None]
    return [float(torch.stack(off).mean()), float(torch.stack(first).mean()), float(np.mean(found))]


lines = [
    "| net | outputs that are 0 | silent in one batch of 32 | dead on the whole set | validation accuracy |",
    "|---|---|---|---|---|",
]
for lr in (None, 1e-3, 3e-2):
    torch.manual_seed(0)
    net = mlp(784, 10, depth=2, width=100, init=he)
    if lr is not None:
        course_training.train(net, train_data, valid_data, epochs=6, lr=lr, seed=1, progress=False)
    counts = " | ".join(f"{value:.0%}" for value in count(net, train_data))
    score = course_training.evaluate(net, valid_data)
    name = "untrained" if lr is None else f"after 6 epochs of Adam, rate {lr:g}"
    lines.append(f"| {name} | {counts} | {score.accuracy:.0%} |")
Markdown("\n".join(lines))

# %% [markdown]
# Zeros are many in every net, and silence in one batch is not death: only the count over the whole set tells. Compare
# the two rates there, and look at the last column too: a wide net has units to spare, and dead ones alone need not be a
# disaster. Your first prediction is held against card A2 below, which has several seeds, rates, and optimizers:

# %% role="demo"
death = claims.load("A2")
adam = next(series for series in death.series if series.name == "dead units, Adam, mnist5k")
reveal("large_rate_kills", adam.mean("after 400 steps", 0.03))

# %% [markdown]
# ### 4. PReLU: the leak is learned
#
# If α may be chosen, why not let the loss choose it? In **PReLU** α is a parameter like a weight, and needs a gradient.
# How does the loss change with α? For one negative $z$ the output is $\alpha z$, which changes by $z$ when α changes by 1;
# for a positive one it does not change at all. One α acts on many values, and their contributions **add up**:
#
# $$ \frac{\partial L}{\partial \alpha} = \sum_{\text{values that share } \alpha} g \cdot \min(z, 0) . $$
#
# Write `prelu_backward(grad, z, alpha)`. `z` and `grad` (the gradient at the output, $g$) have the shape `(N, C)` or
# `(N, C, H, W)`: `C` **channels**, which are units or, where a **convolutional** layer slides small filters over a picture,
# **feature maps**: each filter makes one, itself a picture of $H \times W$ values. `alpha` has the shape
# `(1,)`, one slope for all, or `(C,)`, one for each channel. Return the gradient by `z`, of its shape, and the gradient by
# `alpha`, of its shape. At 0 take the slope from the left. `alpha.view(1, -1, 1, 1)` lines `alpha` up with the channels of
# maps.


# %% exercise="activations.prelu_backward" role="solution"
def prelu_backward(grad, z, alpha):
    """(gradient by z, gradient by alpha), of the shapes of z and alpha."""
    ### BEGIN SOLUTION
    slopes = alpha.view(1, -1, *[1] * (z.dim() - 2))
    to_z = grad * torch.where(z > 0, torch.ones_like(z), slopes)
    shared = [axis for axis in range(z.dim()) if axis != 1 or len(alpha) == 1]
    to_alpha = (grad * z.clamp(max=0)).sum(shared).view_as(alpha)
    return to_z, to_alpha
    ### END SOLUTION


# %% exercise="activations.prelu_backward" role="check"
check("activations.prelu_backward", prelu_backward)

# %% [markdown]
# ### 5. The mean that a layer passes on
#
# Take the outputs of one hidden layer for all examples. Let $m_k$ be the mean of unit $k$'s output, and $s_k$ the mean of
# its square. What a unit sends on splits into a constant, $m_k$, and what changes from example to example. The share of the
# layer's mean square that is constant is
#
# $$ \frac{\sum_k m_k^2}{\sum_k s_k} , $$
#
# 0 where every unit has mean 0, and 1 where no output ever changes. A constant tells the next layer nothing about the
# example; it acts like one more bias, and the gradients of all weights that read it pull the same way.
#
# Write `layer_means(model, x, batch_size)` for an `nn.Sequential` that alternates `nn.Linear` with an activation
# of any kind and ends in an `nn.Linear`. Return two tensors with one entry for each activation: the mean over all its
# outputs, and the constant share. Both are over the whole data set; the last batch may be smaller.


# %% exercise="activations.layer_means" role="solution"
def layer_means(model, x, batch_size):
    """(mean, constant share) of each activation's outputs over all of x, two tensors (layers,)."""
    ### BEGIN SOLUTION
    sums, squares = {}, {}
    with torch.no_grad():
        for h in x.split(batch_size):
            for i, module in enumerate(model):
                h = module(h)
                if not isinstance(module, nn.Linear):
                    sums[i] = sums.get(i, 0) + h.double().sum(0)
                    squares[i] = squares.get(i, 0) + h.double().square().sum(0)
    means = [total / len(x) for total in sums.values()]
    shares = [m.square().sum() / (s.sum() / len(x)) for m, s in zip(means, squares.values(), strict=True)]
    return torch.stack([m.mean() for m in means]), torch.stack(shares)
    ### END SOLUTION


# %% exercise="activations.layer_means" role="check"
check("activations.layer_means", layer_means)

# %% role="demo"
kinds = {"ReLU": nn.ReLU, "leaky ReLU": nn.LeakyReLU, "ELU": nn.ELU, "GELU": nn.GELU, "tanh": nn.Tanh}
pictures = datasets.as_tensors(digits.valid.images[:500]).flatten(1)
pictures = (pictures - pictures.mean()) / pictures.std()
by_layer, last = {}, {}
for name, kind in kinds.items():
    torch.manual_seed(0)
    net = mlp(784, 10, depth=6, width=64, activation=kind, init=he)
    statistics = [s for s in diagnostics.layer_statistics(net, (pictures, valid_data[1][:500])) if s.dead is not None]
    by_layer[name] = [round(s.mean, 2) + 0.0 for s in statistics]  # + 0.0: no "-0.00"
    last[name] = f"{by_layer[name][-1]:.2f} ± {statistics[-1].std:.2f}"
plots.series(
    range(1, 7),
    by_layer,
    xlabel="hidden layer",
    ylabel="mean output",
    reference=0,
    alt="Mean output by layer in untrained nets. In the last: "
    + ", ".join(f"{name} {values[-1]:.2f}" for name, values in by_layer.items()),
    caption="Mean output of each hidden layer before training, the same weights (He) for all. In the last layer, ± the "
    "standard deviation of the outputs: "
    + ", ".join(f"{name} {words}" for name, words in last.items())
    + ". How much a mean weighs depends on that deviation: compare by the constant share. Card A5 measures both, after "
    "training too, over several seeds.",
)

# %% [markdown]
# ### 6. SELU: two constants from two equations
#
# If mean 0 is good, and variance 1 too, could an activation keep both by itself? Suppose that $z$ is normally distributed
# with mean 0 and variance 1, as a sum of many small terms is. Let $f(z) = \text{scale} \cdot \mathrm{ELU}_\alpha(z)$, and
# ask that $f(z)$ have mean 0 and variance 1 again. Two unknowns, two equations:
#
# 1. **mean 0**: the positive part must cancel the negative: $\mathbb{E}[\max(z,0)] = \alpha\,\mathbb{E}[1 - e^z;\ z<0]$,
#    where $\mathbb{E}$ is the mean and "$;\ z<0$" means that all other $z$ count as 0 in it. Scale does not matter here,
#    so this gives α;
# 2. **variance**: with that α, $\text{scale}^2 \cdot \mathrm{Var}(\mathrm{ELU}_\alpha(z))$ must be the variance of $z$.
#
# Then mean 0 and variance 1 are a **fixed point**: what goes into a layer with them comes out with them, through any
# number of layers, if the weights are drawn with variance $1/n$ for $n$ inputs.
#
# Write `selu_constants(z, weight)` and return `(alpha, scale)`, two numbers. To keep it free of integrals, the distribution
# comes as a list of values `z` and their probabilities `weight`, which sum to 1; so a mean is `(weight * f).sum()`. The
# mean of `z` is 0, and its variance need not be 1: ask that the variance stay what it is. Do not quote the constants: the
# check has other distributions too.


# %% exercise="activations.selu_constants" role="solution"
def selu_constants(z, weight):
    """(alpha, scale) with which scale · ELU keeps mean 0 and the variance of the values z with probabilities weight."""
    ### BEGIN SOLUTION
    positive, gap = z.clamp(min=0), -torch.expm1(z.clamp(max=0))
    alpha = (weight * positive).sum() / (weight * gap).sum()
    unscaled = positive - alpha * gap
    scale = ((weight * z.square()).sum() / (weight * unscaled.square()).sum()).sqrt()
    return alpha, scale
    ### END SOLUTION


# %% exercise="activations.selu_constants" role="check"
check("activations.selu_constants", selu_constants)

# %% [markdown]
# Does it hold in a real net? Here is the variance, layer by layer, of 50 layers without any training. The input is real
# digits.

# %% role="demo"
depth, width = 50, 128
x0 = (pictures - pictures.mean(0)) / (pictures.std(0) + 1e-3)
spread = {}
for name, kind, variance in (
    ("SELU, variance 1/n", nn.SELU(), 1.0),
    ("SELU, variance 2/n", nn.SELU(), 2.0),
    ("ELU, variance 2/n", nn.ELU(), 2.0),
    ("ReLU, variance 2/n", nn.ReLU(), 2.0),
    ("tanh, variance 1/n", nn.Tanh(), 1.0),
):
    h, generator, found = x0, torch.Generator().manual_seed(0), []
    for _ in range(depth):
        h = kind(h @ (torch.randn(h.shape[1], width, generator=generator) * (variance / h.shape[1]) ** 0.5))
        found.append(float(h.var()))
    spread[name] = found
plots.series(
    range(1, depth + 1),
    spread,
    xlabel="layer",
    ylabel="variance of the outputs",
    logy=True,
    reference=1.0,
    alt="Variance of the outputs through 50 untrained layers. In the last: "
    + ", ".join(f"{name} {values[-1]:.2g}" for name, values in spread.items()),
    caption="Variance of all outputs of a layer, untrained. In the last layer: "
    + ", ".join(f"{name} {values[-1]:.2g}" for name, values in spread.items())
    + ". SELU stays near 1 with the initialization that it was made for, and not with another.",
)

# %% [markdown]
# ### 7. SiLU: a gate made of z itself
#
# A **gate** is a number between 0 and 1 that says how much passes. ReLU is $z$ times a gate that is 0 or 1. **SiLU** takes
# the logistic function for a gate, $z\,\sigma(z)$: it opens gradually, and below 0 it lets a little of the negative
# through.
#
# Write `silu(z)`, which returns the value and the slope. Use the product rule, and $\sigma' = \sigma(1-\sigma)$.
# `torch.sigmoid` is allowed here.


# %% exercise="activations.silu" role="solution"
def silu(z):
    """(value, slope) of z σ(z), each of z's shape and dtype."""
    ### BEGIN SOLUTION
    s = torch.sigmoid(z)
    return z * s, s + z * s * (1 - s)
    ### END SOLUTION


# %% exercise="activations.silu" role="check"
check("activations.silu", silu)

# %% [markdown]
# ### 8. GELU, exact and nearly
#
# **GELU** takes another gate: $\Phi(z)$, the share of a standard normal variable that lies below $z$. In terms of the error
# function, $\Phi(z) = \tfrac12\big(1 + \mathrm{erf}(z/\sqrt2)\big)$, and its derivative is the bell curve
# $\varphi(z) = e^{-z^2/2}/\sqrt{2\pi}$. Many published nets use an approximation instead, from a time when erf was slow:
#
# $$ \Phi(z) \approx \tfrac12\Big(1 + \tanh\big(\sqrt{2/\pi}\,(z + 0.044715\,z^3)\big)\Big) , $$
#
# and some a plainer one, $\sigma(1.702\,z)$.
#
# Write `gelu(z)` and return three tensors: the exact value, the value by tanh, and the slope of the exact one. `torch.erf`,
# `torch.tanh`, `torch.exp` are allowed.


# %% exercise="activations.gelu" role="solution"
def gelu(z):
    """(exact, by tanh, slope of the exact one), each of z's shape and dtype."""
    ### BEGIN SOLUTION
    share = 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    gate = 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    return z * share, z * gate, share + z * density
    ### END SOLUTION


# %% exercise="activations.gelu" role="check"
check("activations.gelu", gelu)

# %% role="demo"
fine = torch.linspace(-5, 5, 1001, dtype=torch.float64)
exact = course_activations.gelu(fine)
off = {
    "by tanh": course_activations.gelu_tanh(fine) - exact,
    "by z σ(1.702 z)": fine * torch.sigmoid(1.702 * fine) - exact,
}
worst = {name: float(error.abs().max()) for name, error in off.items()}
lowest = int(exact.argmin())
plots.series(
    fine.tolist(),
    {name: error.tolist() for name, error in off.items()},
    xlabel="pre-activation z",
    ylabel="error of the approximation",
    alt="Errors of two approximations of GELU: " + ", ".join(f"{name} at most {e:.1e}" for name, e in worst.items()),
    caption="How far two approximations lie from GELU: "
    + ", ".join(f"{name} by at most {e:.1e}" for name, e in worst.items())
    + f". GELU itself has a dip: its lowest value is {float(exact[lowest]):.3f}, at z = {float(fine[lowest]):.2f}.",
)

# %% [markdown]
# ### 9. Three functions that must not overflow
#
# In `float32` the largest number is about $3 \cdot 10^{38}$, and $e^z$ is beyond it from $z \approx 89$ on. Logits get
# there. Write `stable(z)` for `z` of shape `(N, C)`, and return three tensors of that shape:
#
# 1. the **logistic function** $\sigma(z) = 1/(1+e^{-z})$;
# 2. **softplus**, $\log(1+e^z)$, a smooth ReLU;
# 3. **log-softmax** of each row, $\log\big(e^{z_c} / \sum_j e^{z_j}\big)$.
#
# All three must be right at $\pm 10^4$, in value *and* in the gradient that autograd finds through your code, and keep
# their digits: softplus(−20) is about $2 \cdot 10^{-9}$, not 0. The built-in versions and `torch.logsumexp` are not
# allowed; `torch.exp`, `torch.log`, `torch.log1p` (that is $\log(1+x)$ without the loss of digits near 0), `torch.tanh`,
# `torch.where`, `abs`, `clamp` and `amax` are. The trick is always the same: rewrite the formula on paper, until only
# exponentials of numbers up to 0 are left. For the gradient remember exercise 2.


# %% exercise="activations.stable" role="solution"
def stable(z):
    """(σ(z), softplus(z), log-softmax of each row), each of z's shape (N, C) and dtype."""
    ### BEGIN SOLUTION
    small = torch.exp(-z.abs())  # between 0 and 1
    sigmoid = torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
    softplus = z.clamp(min=0) + torch.log1p(small)
    shifted = z - z.amax(-1, keepdim=True)  # a constant added to a row changes nothing
    log_softmax = shifted - shifted.exp().sum(-1, keepdim=True).log()
    return sigmoid, softplus, log_softmax
    ### END SOLUTION


# %% exercise="activations.stable" role="check"
check("activations.stable", stable)

# %% [markdown]
# ## Trust: yours against the frameworks
#
# Your functions beside PyTorch's and Keras's, on the same numbers. "The same" means: up to rounding.

# %% role="demo"
keras = load_keras()  # some seconds
torch.manual_seed(0)
signal, maps = torch.randn(64, 32) * 3, torch.randn(4, 3, 5, 5)
grid = torch.linspace(-10, 10, 100_001, dtype=torch.float64)
bell = torch.exp(-grid.square() / 2)


def of_keras(function, values, **options):
    return torch.tensor(np.asarray(function(values.numpy(), **options)))


def slope_of(function, values):
    """PyTorch's own gradient of a function, entry by entry."""
    x = values.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def prelu_by_torch(values, slopes):
    a = slopes.clone().requires_grad_()
    return torch.autograd.grad(F.prelu(values, a).square().sum(), a)[0]


slopes = torch.tensor([0.1, 0.25, 0.7])
ends = of_keras(keras.activations.selu, torch.tensor([1.0, -60.0]))  # scale, and −scale · α
trust.table(
    [
        trust.Row(
            "leaky_relu", "F.leaky_relu (PyTorch)", lambda: leaky_relu(signal, 0.2)[0], F.leaky_relu(signal, 0.2)
        ),
        trust.Row(
            "leaky_relu",
            "activations.leaky_relu (Keras)",
            lambda: leaky_relu(signal, 0.2)[0],
            of_keras(keras.activations.leaky_relu, signal, negative_slope=0.2),
        ),
        trust.Row("elu", "F.elu (PyTorch)", lambda: elu(signal, 1.5)[0], F.elu(signal, 1.5)),
        trust.Row(
            "elu",
            "activations.elu (Keras)",
            lambda: elu(signal, 1.5)[0],
            of_keras(keras.activations.elu, signal, alpha=1.5),
        ),
        trust.Row(
            "elu, its slope",
            "autograd (PyTorch)",
            lambda: elu(signal, 1.5)[1],
            slope_of(lambda x: F.elu(x, 1.5), signal),
        ),
        trust.Row(
            "prelu_backward, by alpha",
            "autograd (PyTorch)",
            lambda: prelu_backward(2 * F.prelu(maps, slopes), maps, slopes)[1],
            prelu_by_torch(maps, slopes),
        ),
        trust.Row(
            "selu_constants, of a normal z",
            "read off selu(1) and selu(−60) (Keras)",
            lambda: torch.tensor([float(constant) for constant in selu_constants(grid, bell / bell.sum())]),
            torch.stack([-ends[1] / ends[0], ends[0]]),
        ),
        trust.Row("silu", "F.silu (PyTorch)", lambda: silu(signal)[0], F.silu(signal)),
        trust.Row("silu, its slope", "autograd (PyTorch)", lambda: silu(signal)[1], slope_of(F.silu, signal)),
        trust.Row("gelu, exact", "F.gelu (PyTorch)", lambda: gelu(signal)[0], F.gelu(signal)),
        trust.Row(
            "gelu, exact", "activations.gelu (Keras)", lambda: gelu(signal)[0], of_keras(keras.activations.gelu, signal)
        ),
        trust.Row(
            "gelu, by tanh",
            'F.gelu(approximate="tanh") (PyTorch)',
            lambda: gelu(signal)[1],
            F.gelu(signal, approximate="tanh"),
        ),
        trust.Row("stable: softplus", "F.softplus (PyTorch)", lambda: stable(signal)[1], F.softplus(signal)),
        trust.Row(
            "stable: log-softmax", "F.log_softmax (PyTorch)", lambda: stable(signal)[2], F.log_softmax(signal, -1)
        ),
        trust.Row(
            "stable: log-softmax",
            "log_softmax (Keras)",
            lambda: stable(signal)[2],
            of_keras(keras.activations.log_softmax, signal),
        ),
    ]
)

# %% [markdown]
# ## In the frameworks
#
# The same name need not mean the same function. Every value in this table is read from the versions installed here:

# %% role="demo"
topics = [c for c in conventions.CONVENTIONS.values() if c.id.startswith("activations.")]
Markdown(
    "| what | PyTorch | Keras 3 | the trap |\n|---|---|---|---|\n"
    + "\n".join(f"| {c.what} | `{c.torch()}` | `{c.keras(keras)}` | {c.trap} |" for c in topics)
)

# %% [markdown]
# And where to put it:
#
# | what | PyTorch | Keras 3 |
# |---|---|---|
# | in a row of layers | `nn.ELU(alpha=0.5)` | `layers.ELU(alpha=0.5)`, or `Dense(64, activation="elu")` (a linear layer with its activation), which has α = 1 |
# | as a function | `F.elu(z, 0.5)` | `keras.activations.elu(z, alpha=0.5)` |
# | initialization that fits ReLU | not the default: `nn.init.kaiming_normal_(weight)` | not the default: `kernel_initializer="he_normal"` |
# | softmax and the loss | the loss wants logits: no softmax at the end | the loss wants probabilities unless `from_logits=True` |
#
# ### 10. An activation of your own in Keras
#
# Is it ELU's mean near 0 that helps? One could test that with a ReLU that is merely lowered: $\max(z, 0) - s$. Keras has no
# such layer, so you write one. A layer of your own must survive `model.save` and `load_model`, **in a process that has
# never seen your variables**: what Keras stores of a layer is the name of its class, and a **config**, a dictionary of
# plain values with which it is built again.
#
# Write `shifted_relu(shift)`, which returns a Keras layer that computes `max(z, 0) - shift`, element by element. A layer is
# a class derived from `keras.layers.Layer`: `call(self, z)` computes, and `get_config(self)` returns the config, whose
# entries are handed to `__init__` by name when it is built again (the parent's own config holds the name). Use
# `keras.ops` inside, register the class (`@keras.saving.register_keras_serializable(package="course")`), and see to it that
# the shift comes back, as well as the layer's name. (In a project of your own the class stands in a module of its own,
# which is imported wherever a model is loaded.)


# %% exercise="activations.keras_activation" role="solution"
def shifted_relu(shift):
    """A Keras layer that computes max(z, 0) − shift, and can be saved and loaded."""
    ### BEGIN SOLUTION
    import keras

    @keras.saving.register_keras_serializable(package="course")
    class ShiftedReLU(keras.layers.Layer):
        def __init__(self, shift, **kwargs):
            super().__init__(**kwargs)
            self.shift = shift

        def call(self, z):
            return keras.ops.maximum(z, 0) - self.shift

        def get_config(self):
            return {**super().get_config(), "shift": self.shift}

    return ShiftedReLU(shift)
    ### END SOLUTION


# %% exercise="activations.keras_activation" role="check"
check("activations.keras_activation", shifted_relu)

# %% [markdown]
# ## Clinic
#
# Two runs came in this morning. Find out what is wrong with them, and mend it.
#
# ### 11. Dead after one step
#
# "My ReLU net learned nothing to speak of. I wanted to be quick, so I took a large rate for the first step and a small one
# from then on. Half of my activations are 0." Here is their run, with plain SGD:

# %% role="demo"
batch = tuple(part[:128] for part in train_data)


def fresh(activation=nn.ReLU):
    torch.manual_seed(0)
    return mlp(784, 10, depth=2, width=50, activation=activation, init=he)


def sgd_step(net, rate):
    loss = F.cross_entropy(net(batch[0]), batch[1])
    net.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= rate * parameter.grad


def dead_shares(net):
    """By layer, over all training images."""
    return [s.dead for s in diagnostics.layer_statistics(net, train_data) if s.dead is not None]


def said(shares):
    return " and ".join(f"{share:.0%}" for share in shares)


def small_steps(net):
    return course_training.train(
        net, train_data, valid_data, epochs=5, seed=1, progress=False, optimizer=lambda p: torch.optim.SGD(p, lr=0.05)
    )


LARGE = 30.0
patient = fresh()
before = dead_shares(patient)
sgd_step(patient, LARGE)
after = dead_shares(patient)
ill, well = small_steps(patient), small_steps(fresh())
plots.history(
    {"validation loss, after one large step": ill.valid_loss, "validation loss, without it": well.valid_loss},
    alt=f"Validation loss over five epochs: with the large step it ends at {ill.valid_loss[-1]:.2f}, without at "
    f"{well.valid_loss[-1]:.2f}.",
    caption=f"One step at rate {LARGE:g}, then a small rate. Dead units in the two hidden layers before that step: "
    f"{said(before)}; after it: {said(after)}. "
    f"Five epochs later the accuracy is {ill.valid_accuracy[-1]:.0%}, against {well.valid_accuracy[-1]:.0%} of the same net "
    "without the large step.",
)

# %% [markdown]
# Which rate would have been safe? Write `largest_safe_rate(model, x, labels, rates, limit)`. For each rate in the list, take
# **one** step of plain gradient descent from the model as it is given (`F.cross_entropy` over all of `x`), and measure the
# share of the net's hidden units that are then dead on `x`: all ReLU layers together, each unit counting the same. Return
# the list of shares, in the order of `rates`, and the largest rate whose share is at most `limit`, or `0.0` where there is
# none. The model is an `nn.Sequential` of linear layers and `nn.ReLU`; it must come back as it was. `copy.deepcopy(model)`
# makes a copy to experiment on.


# %% exercise="activations.clinic_dead" role="solution"
def largest_safe_rate(model, x, labels, rates, limit):
    """(dead shares, one for each rate; the largest rate with a share of at most limit, or 0.0)."""
    ### BEGIN SOLUTION
    shares = []
    for rate in rates:
        net = copy.deepcopy(model)
        net.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= rate * parameter.grad
            dead, h = [], x
            for module in net:
                h = module(h)
                if isinstance(module, nn.ReLU):
                    dead.append((h <= 0).all(0))
        shares.append(float(torch.cat(dead).double().mean()))
    return shares, max((rate for rate, share in zip(rates, shares, strict=True) if share <= limit), default=0.0)
    ### END SOLUTION


# %% exercise="activations.clinic_dead" role="check"
check("activations.clinic_dead", largest_safe_rate)

# %% [markdown]
# And the remedies? A first step from the same weights, in five ways, then the same small steps:

# %% role="demo"
rows = ["| the first step | dead after it, by layer | accuracy five epochs later |", "|---|---|---|"]
for name, activation, rate in (
    ("ReLU, rate as above", nn.ReLU, LARGE),
    ("leaky ReLU (α = 0.01), the same rate", nn.LeakyReLU, LARGE),
    ("ELU, the same rate", nn.ELU, LARGE),
    ("ReLU, a tenth of that rate", nn.ReLU, LARGE / 10),
    ("ReLU, a hundredth", nn.ReLU, LARGE / 100),
):
    net = fresh(activation)
    sgd_step(net, rate)
    shares = dead_shares(net)
    rows.append(f"| {name} | {said(shares)} | {small_steps(net).valid_accuracy[-1]:.0%} |")
Markdown("\n".join(rows))

# %% [markdown]
# An activation that keeps some slope for negative $z$ has no dead units by definition. Look at the accuracy to see how
# much that helped: the step threw the weights far off, and it was the step that had to be mended. Dead units are a
# symptom as well as a disease. Who wants large steps later on starts with small ones, and lets the rate grow over the
# first hundred or so: that is a **warm-up** (lesson 6).
#
# ### 12. The loss that won't fall
#
# "My accuracy is fine, I think, but the loss gets stuck far above 0, and training is slow." The net ends in a softmax. The
# same net, with and without:

# %% role="demo"
runs = {}
for name, ending in (("softmax twice", [nn.Softmax(dim=1)]), ("softmax once", [])):
    torch.manual_seed(0)
    body = mlp(784, 10, depth=1, width=64, init=he)
    runs[name] = course_training.train(
        nn.Sequential(*body, *ending), train_data, valid_data, epochs=10, seed=1, progress=False
    )
plots.history(
    {f"{name} {kind}": getattr(run, f"train_{kind}") for name, run in runs.items() for kind in ("loss", "accuracy")},
    alt="Training loss and accuracy by epoch, with softmax applied twice and once. Last losses: "
    + ", ".join(f"{name} {run.train_loss[-1]:.2f}" for name, run in runs.items()),
    caption="Loss and accuracy on the training images, by epoch, as F.cross_entropy gives them. Last: "
    + "; ".join(
        f"{name} {run.train_loss[-1]:.2f} nats, {run.train_accuracy[-1]:.1%} right" for name, run in runs.items()
    )
    + ".",
)

# %% [markdown]
# `F.cross_entropy` takes logits: it applies log-softmax itself. (`F.nll_loss` takes logarithms of probabilities, and
# neither takes probabilities.) Write `diagnose_outputs(outputs, labels)` for whatever a net has put out, of shape `(N, C)`.
# Return three things:
#
# 1. what the outputs are, a text: `"probabilities"` (no value below 0, and each row sums to 1), `"log-probabilities"` (no
#    value above 0, and the exponentials of each row sum to 1), or else `"logits"`;
# 2. the mean cross-entropy that they deserve, taken rightly: $-\log$ of the right class's probability;
# 3. the floor: the lowest value that `F.cross_entropy(outputs, labels)` could ever reach with outputs of that kind and `C`
#    classes, if they were as sure and as right as can be. For logits and for log-probabilities it is 0. For probabilities
#    work it out.
#
# Allow for rounding where a row should sum to 1: 1e-4 will do.


# %% exercise="activations.clinic_softmax" role="solution"
def diagnose_outputs(outputs, labels):
    """(kind, loss, floor): a text and two numbers."""
    ### BEGIN SOLUTION
    classes = outputs.shape[1]
    near_one = lambda rows: bool(((rows.sum(1) - 1).abs() < 1e-4).all())
    if (outputs >= 0).all() and near_one(outputs):
        return "probabilities", F.nll_loss(outputs.log(), labels), math.log(math.e + classes - 1) - 1
    if (outputs <= 0).all() and near_one(outputs.exp()):
        return "log-probabilities", F.nll_loss(outputs, labels), 0.0
    return "logits", F.cross_entropy(outputs, labels), 0.0
    ### END SOLUTION


# %% exercise="activations.clinic_softmax" role="check"
check("activations.clinic_softmax", diagnose_outputs)

# %% role="demo"
sure = torch.zeros(1, 10)
sure[0, 0] = 1.0  # the surest answer that a softmax can give
reveal("softmax_twice_floor", float(F.cross_entropy(sure, torch.tensor([0]))))

# %% [markdown]
# ## Evidence
#
# What this lesson says, and what people say about activations, each put to the test on real images, with several seeds. A
# **95% interval** says how far the choice of seeds may have moved a mean; in a *paired* one differences are taken seed by
# seed, and one that contains 0 settles nothing. Where activations compete, each starts from its fitting initialization and
# tries the same four rates. *Does not hold* means that the rule on the card (under *All measurements*) was not met, in small
# nets and short training, *holds when …* that it was met in part; read the rule. `course evidence A6` in a
# terminal measures one again on your own machine.
#
# **Saturation and speed.** A1 counts the steps to a given loss. Look at what depth does: with one hidden layer the logistic
# function multiplies one slope of at most ¼, with four layers four.

# %% role="demo"
claims.evidence("A1")

# %% [markdown]
# **Death.** A2 follows the share of dead units over rates and steps. Look at how many die within ten steps, and at the
# settings in which the dead became fewer again, most of all SGD at its largest rate on `animalshape`. In the first layer SGD
# brings none back, so those were deeper units whose inputs changed.

# %% role="demo"
claims.evidence("A2")

# %% [markdown]
# **The leak.** Leaky ReLU can't be dead by the letter: its slope is never 0. But is a unit that is below 0 for every image,
# with a slope of 0.01, of any use? A3 calls such a unit *silent*, asks how many silent units wake up again, and for which α.
# With α = 0 it is ReLU: units of the deeper layer can be woken there too, as you found in exercise 3. Compare the test
# errors as well: fewer silent units need not make a better net.

# %% role="demo"
claims.evidence("A3")

# %% role="demo"
reveal("leak_wakes", claims.load("A3").figures["woken"])

# %% [markdown]
# **The mean, and the kink.** A5 measures the mean output and the constant share of exercise 5, before and after training,
# and the jump of the slope at 0 of exercise 2.

# %% role="demo"
claims.evidence("A5")

# %% [markdown]
# ## Which one, then?
#
# A4 is the claim of ELU's paper in a small setting: against the variants of ReLU, by the step and by the second. A step
# with ELU takes longer, since an exponential costs more than a comparison; how much longer depends on the net and the
# machine, and the card says what it was here. Under *All measurements* stand the rates that each chose: one that took the
# smallest or the largest of the four might have done better with a rate beyond.

# %% role="demo"
claims.evidence("A4")

# %% [markdown]
# And A6 is the whole order, with what came later beside it: two data sets, with and without batch norm. Look at how far the
# intervals of neighbours overlap, at whether batch norm brings them together, and at whether the order is the same on both
# sets.

# %% role="demo"
claims.evidence("A6")

# %% role="demo"
ranking = claims.load("A6")
contest = next(series for series in ranking.series if series.name == "test error, mnist5k, without batch norm")
five = ("ELU", "leaky ReLU", "ReLU", "tanh", "logistic")
reveal("best_activation", min(five, key=lambda arm: contest.mean(arm, contest.x[-1])))

# %% [markdown]
# ## Explain
#
# ### 13. In your own words
#
# A colleague writes: "I trained a ReLU net. After the first epoch the loss stands still, and when I print the hidden layers,
# half of the numbers are 0. A forum says that my units are dead and that I should use leaky ReLU, since ELU > leaky ReLU >
# ReLU." Advise them: what the zeros say and what they don't, how to find out whether units are dead and why those don't
# recover, what the cause may be and how to test it, and what to change. Ten sentences are enough. In a class a teacher reads
# this one; on your own, write it first, and then open what a teacher would look for, below.

# %% [markdown] exercise="activations.explain" role="explain"
# ### BEGIN SOLUTION
# That half of the numbers are 0 says nothing yet: a healthy ReLU is off for about half of the examples, another half for
# each unit. A unit is dead only if it outputs 0 for every example, so send the whole data set through the net and count the
# units that never fire; one batch is too few.
#
# If there are many, this is why they don't recover: their slope is 0 for every example, so their own weights and biases get
# no gradient. In a deeper layer changing inputs may wake one by chance, in the first layer nothing can, and if a whole layer
# is dead the net can't learn any more at all.
#
# The likely cause is a step that was too large, early on, or biases far below 0. Test it: start again from the same
# initialization, take one step at several rates, and count dead units after each. Then take a smaller rate or a warm-up,
# and an initialization that fits (He). An activation that keeps some slope for negative z (leaky ReLU, ELU) takes away
# death by definition, but not the wrong step. The order that the forum quotes is no law: the differences are small and
# depend on the data and on batch norm, and they mean something only where each activation had its own tuned rate.
# ### END SOLUTION

# %% role="demo"
from autograder import exercises

rubric = exercises.get("activations.explain").rubric
Markdown(
    "<details><summary>What a teacher looks for</summary>\n\n"
    + "\n".join(f"- {what} ({points:g})" for what, points in rubric.items())
    + "\n\n</details>"
)

# %% [markdown]
# ## Summary
#
# - An activation keeps layers from collapsing into one. On the way back its slope is a factor at every layer: where it is
#   small the gradient shrinks, where it is 0 nothing is learned.
# - A ReLU that outputs 0 is off; a unit that is off for every example of the data set is dead. It can come back only if its
#   inputs change: never in the first layer, and not at all where a whole layer is dead.
# - A leak takes death away by definition. Whether silent units wake up is another question, and depends on α.
# - ELU is smooth for α = 1 alone. Compute it with `expm1` on clamped values: `torch.where` does not keep the other side's
#   overflow out of the gradient.
# - `F.cross_entropy` takes logits. A softmax before it leaves a floor under the loss.
# - Names differ between frameworks in what they compute: read the defaults.
# - Compare activations only with tuned rates, fitting initialization, and several seeds. What was measured:

# %% role="demo"
Markdown(
    "\n".join(
        f"- *{claims.load(id).statement}* **{claims.load(id).verdict}"
        + (f"**, namely when {claims.load(id).condition}. " if claims.load(id).condition else ".** ")
        + claims.load(id).headline
        for id in ("A2", "A4", "A6")
    )
)

# %% [markdown]
# ## Sources
#
# - Nair, Hinton: *Rectified linear units improve restricted Boltzmann machines*, 2010 (ReLU).
# - Maas, Hannun, Ng: *Rectifier nonlinearities improve neural network acoustic models*, 2013 (leaky ReLU).
# - He, Zhang, Ren, Sun: *Delving deep into rectifiers*, 2015, arXiv:1502.01852 (PReLU, and the initialization).
# - Clevert, Unterthiner, Hochreiter: *Fast and accurate deep network learning by exponential linear units (ELUs)*, 2015,
#   arXiv:1511.07289.
# - Hendrycks, Gimpel: *Gaussian error linear units (GELUs)*, 2016, arXiv:1606.08415 (GELU, and SiLU).
# - Klambauer, Unterthiner, Mayr, Hochreiter: *Self-normalizing neural networks*, 2017, arXiv:1706.02515 (SELU).
# - Elfwing, Uchibe, Doya: *Sigmoid-weighted linear units*, 2018, arXiv:1702.03118 (SiLU).
# - Data: MNIST and animal silhouettes; licences stand beside the files in `course_lib/datasets`.
