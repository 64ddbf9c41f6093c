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
# # Batch normalization
#
# *Lesson 4 of Training Deep Nets. About three and a half hours; twelve exercises that check themselves and one graded by
# hand. You need Python and linear regression. The words of the trade are explained where they first appear.*
#
# People ask it like this:
#
# > The textbook says: batch normalization zero-centres and normalizes the inputs of each layer, then scales and shifts them
# > again. **Why undo what was just done? And what does that have to do with vanishing gradients?**
#
# And soon afterwards:
#
# > My net gives one answer for a picture alone and another for the same picture in a batch. Who is right?
#
# > I copied a net from a forum: conv → batch norm → PReLU → pool → dense → batch norm → PReLU → dropout. It works. What
# > does each piece do?
#
# > I froze the batch norm before fine-tuning, and the old net has become worse all the same. How can that be?
#
# By the end you will have written the operation, its gradient by hand, and the layer that keeps running statistics; folded
# it away; carried it over to Keras; mended two runs; and read the measurements behind each of the promises that are made
# for it. Not all of them hold.

# %% role="setup"
import copy

import numpy as np
import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from autograder.check import check
from course_lib import accounts, claims, conventions, datasets, plots, trust
from course_lib import normalization as course_norm
from course_lib import training as course_training
from course_lib.architectures import expression_net
from course_lib.predictions import predict, reveal
from course_lib.quiet import load_keras
from course_lib.widgets.batch_norm import NormFigure

torch.set_num_threads(1)  # small nets run faster on one thread

# %% [markdown]
# ## The words you need
#
# A **layer** takes a row of numbers $x$ for each example and computes $z = W x + b$, the same sum as in linear regression,
# once for each of its **units**. An **activation** then bends $z$: the **sigmoid** $1/(1 + e^{-z})$ squeezes it between 0
# and 1, **tanh** between −1 and 1, $\mathrm{ReLU}(z) = \max(0, z)$ cuts the negative half off. What comes out is the next
# layer's $x$. The value $z$, before the activation bends it, is a **pre-activation**. The last layer's numbers are the
# **logits**, one for each class; **softmax** turns them into probabilities that sum to 1.
#
# The **loss** is small where the right class has a high probability. It is minus the natural logarithm of that
# probability, so it is given in **nats**; guessing evenly among ten classes costs $\log 10 = 2.3$. The **gradient** says
# how the loss changes with each weight. **Training** takes a small **batch** of examples, moves each weight a little
# against its gradient, and goes on with the next batch; how far it moves is the **learning rate** (this plain rule is
# called **SGD**; others, such as **Adam**, adapt the step to each weight). One pass over all examples is an **epoch**.
# Examples on which the net has never trained are the **validation** and the **test** set; a net that knows its training
# examples by heart and fails on those **overfits**, and what keeps it from that **regularizes** it. Once training is
# over, the net is put to use: *test*, *evaluation*, *inference* and *prediction* all name that second phase. To
# **fine-tune** is to go on training a trained net on other data; a part that is kept as it is is called **frozen**, often
# all layers but the last: those are then the **trunk**, the last one the **head**. Weights start at random; a **seed**
# fixes the draw, and what one seed shows is one draw.
#
# The gradient is computed from the last layer backward, layer by layer, each multiplying what it gets. Where the factors
# are below 1 it **vanishes** on the way to the first layers; where they are above, it **explodes**. A sigmoid whose $z$ is
# far from 0 is flat there (it is **saturated**), and passes on next to nothing.
#
# Of $N$ numbers, the **mean** $\mu$ is their sum over $N$, the **variance** $\sigma^2$ the mean of $(x - \mu)^2$, its root
# $\sigma$ the **standard deviation** or *spread*. This variance is called **biased**, since it comes out a little smaller
# than that of the population the numbers were drawn from; dividing by $N - 1$ instead of $N$ makes it **unbiased**.
#
# **Batch normalization** does this, for each unit by itself, over the batch:
#
# $$ \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \qquad y = \gamma\, \hat x + \beta . $$
#
# $\varepsilon$ is a small constant, so that a unit that says the same for all examples does not divide by 0. $\gamma$
# (*scale*) and $\beta$ (*shift*) are learned, like weights. While it trains, the layer also collects **running statistics**,
# means and variances averaged over many batches; once training is over, they take the place of $\mu$ and $\sigma^2$.
#
# Here is one batch of 64 digits in a layer with random weights: three of its units, before and after.

# %% role="demo"
digits = datasets.load("mnist5k")
emoji = datasets.load("emoji8")
train_data = datasets.as_tensors(*digits.subset(100))
valid_data, test_data = datasets.as_tensors(*digits.valid), datasets.as_tensors(*digits.test)
generator = torch.Generator().manual_seed(3)
first_layer = torch.randn(3, 784, generator=generator) * torch.tensor([[0.05], [0.02], [0.1]])
pre_activations = train_data[0][:: len(train_data[1]) // 64][:64].flatten(1) @ first_layer.T + torch.tensor(
    [1.0, -2.0, 0.5]
)
normalized, _, _ = course_norm.batch_norm(pre_activations)
before_spread, before_mean = torch.std_mean(pre_activations, 0, correction=0)
plots.histograms(
    {
        "before": {f"unit {i + 1}": pre_activations[:, i].numpy() for i in range(3)},
        "after": {f"unit {i + 1}": normalized[:, i].numpy() for i in range(3)},
    },
    xlabel="pre-activation z of a digit",
    bins=40,
    alt="Histograms of three units' pre-activations over 64 digits. Before: means "
    + ", ".join(f"{m:.1f}" for m in before_mean)
    + "; spreads "
    + ", ".join(f"{s:.1f}" for s in before_spread)
    + ". After: mean 0, spread 1.",
    caption="Three units over the same 64 digits. Before, means of "
    + ", ".join(f"{m:.1f}" for m in before_mean)
    + " and spreads of "
    + ", ".join(f"{s:.1f}" for s in before_spread)
    + "; after, all have mean 0 and spread 1. Which digit is left or right of which, within a unit, has not changed.",
)

# %% [markdown]
# ### The PyTorch you need
#
# A **tensor** is an array, as in numpy: `x.mean(0)`, `x @ weight.T`, `x[:, None]` mean the same. What is new: a
# tensor can remember how it was computed; this memory is the **graph**, through which PyTorch finds the gradient.
# `x.detach()` is `x` without that memory, and inside `with torch.no_grad():` none is kept. `x.var(0)` divides by $N - 1$,
# and `x.var(0, correction=0)` by $N$. `x.mean((0, 2, 3), keepdim=True)` averages over three axes and leaves them as size 1,
# ready to be subtracted from `x`.
#
# A layer is an **`nn.Module`**: a class whose `__init__` first calls `super().__init__()`, and whose `forward(self, x)`
# computes the output; then `layer(x)` calls it. `nn.Parameter(tensor)` marks what is learned,
# `self.register_buffer("name", tensor)` what is only kept. Every module has a flag `self.training`: `model.train()` sets it
# on the model and all modules inside, `model.eval()` clears it. `module.requires_grad_(False)` asks for no gradients of its
# parameters, so that no optimizer moves them. `nn.Sequential(a, b, c)` puts layers in a row,
# `model.modules()` lists a model and all modules inside, and `isinstance(module, nn.BatchNorm1d)` says what kind one is.
#
# A **convolutional** layer (**conv**) slides small **filters** over a picture. Each filter makes one **feature map**,
# itself a picture, of shape `(H, W)`; for a batch the shape is `(N, C, H, W)`: $N$ examples, $C$ maps, also called
# **channels**.
#
# The pictures are 5,000 handwritten digits (`mnist5k`), emoji in eight classes by three artists (`emoji8`) and silhouettes
# of animals (`animalshape`). All come with the course.

# %% [markdown]
# ## Predict
#
# Commit to an answer before you read on. A guess that turns out wrong teaches more than a right answer that you only
# read. Nothing here is graded or sent anywhere.

# %% role="demo"
predict("batch_of_two")

# %% role="demo"
predict("gradient_of_larger_weights")

# %% role="demo"
predict("alone_without_eval")

# %% role="demo"
predict("frozen_statistics")

# %% [markdown]
# ## See
#
# First, why anybody wanted it. Ten layers of sigmoid units, trained on digits, without and with batch norm before each
# sigmoid; same starting weights, same batches:


# %% role="demo"
def deep_sigmoid_net(normed):
    """Ten hidden layers of 64 sigmoid units, each after a batch norm where `normed`."""
    torch.manual_seed(0)
    layers, inputs = [nn.Flatten()], 784
    for _ in range(10):
        linear = nn.Linear(inputs, 64)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, *([nn.BatchNorm1d(64)] if normed else []), nn.Sigmoid()]
        inputs = 64
    return nn.Sequential(*layers, nn.Linear(64, 10))


deep_runs = {
    name: course_training.train(deep_sigmoid_net(normed), train_data, valid_data, epochs=8, lr=3e-3, seed=1)
    for name, normed in (("without batch norm", False), ("with batch norm", True))
}
plots.history(
    {f"training loss, {name}": run.train_loss for name, run in deep_runs.items()},
    alt="Training loss by epoch of a net of ten sigmoid layers. "
    + "; ".join(f"{name}: from {run.train_loss[0]:.2f} to {run.train_loss[-1]:.2f}" for name, run in deep_runs.items()),
    caption=f"Ten sigmoid layers, {len(train_data[1])} digits, Adam. After {len(deep_runs['with batch norm'].train_loss)} "
    f"epochs the training loss is {deep_runs['without batch norm'].train_loss[-1]:.2f} nats without batch norm (guessing "
    f"costs {np.log(10):.2f}) and {deep_runs['with batch norm'].train_loss[-1]:.2f} with it. One seed; B3 below has more.",
)

# %% [markdown]
# What goes on inside? The figure sends digits through eight ReLU layers with random weights (drawn with variance 2 over
# the number of inputs, the usual start for ReLU, named after **He**; lesson 2), and shows what enters each activation.
# Scale the weights, shift everything, make the batch smaller, and reach the goal that the figure sets you.

# %% role="demo"
NormFigure(digits.train.images)

# %% [markdown]
# ## Derive: what is taken away, and what is given back
#
# Batch norm takes two numbers out of every unit: where its values lie, and how widely they spread. Shift all $x$ by a
# constant, or multiply them by a positive one, and $\hat x$ is the same. Three things follow.
#
# **No layer can starve or flood the next.** Whatever the weights before it, $\hat x$ has mean 0 and spread 1 over the
# batch. In the figure the blue curve stays at 1 while the orange one vanishes or explodes. For a sigmoid that means: most
# values stay where it is steep.
#
# **$\gamma$ and $\beta$ give back what was taken**, and that is no contradiction. A sigmoid that only ever sees values
# around 0 is nearly a straight line; a layer may well need values further out. Before, mean and spread hung on all the
# weights of all the layers below, and changed whenever any of these did. Now they are two numbers of the unit's own,
# $\beta$ and $\gamma$, which the gradient reaches directly. With $\gamma = \sigma$ and $\beta = \mu$ everything would be
# undone, if that were best.
#
# **A bias before a batch norm does nothing.** It shifts all $x$ alike, and is taken out again. $\beta$ does its work.

# %% [markdown]
# ## Build
#
# ### 1. Batch norm in training
#
# Write `batch_norm(x, weight, bias, eps)` for rows: `x` of shape `(N, C)`, `weight` ($\gamma$) and `bias` ($\beta$) of
# shape `(C,)`. PyTorch calls them so too. Mean and variance are taken over the batch, for each of the `C` features by
# itself; the variance is the biased one. Return a new tensor of the shape of `x`. Use tensor operations only, so that the
# gradient finds its way through **everything**, the statistics too.
#
# With `x = [[1], [3]]`, `weight = [2]`, `bias = [5]` and `eps = 0` the answer is `[[3], [7]]`. In all exercises of this
# part PyTorch's own norms are not allowed, nor is `course_lib.normalization`.


# %% exercise="batch_norm.forward" role="solution"
def batch_norm(x, weight, bias, eps):
    """x (N, C) normalized over the batch, times weight (C,), plus bias (C,). Same shape as x."""
    ### BEGIN SOLUTION
    mean = x.mean(0)
    var = (x - mean).square().mean(0)
    return (x - mean) / (var + eps).sqrt() * weight + bias
    ### END SOLUTION


# %% exercise="batch_norm.forward" role="check"
check("batch_norm.forward", batch_norm)

# %% [markdown]
# Take the smallest batch that has a spread: two different pictures.

# %% role="demo"
two = test_data[0][:2].flatten(1) @ torch.randn(784, 200, generator=generator)
from_two, _, _ = course_norm.batch_norm(two)
share_of_ones = float((from_two.abs() > 0.999).float().mean())
plots.histograms(
    {
        "before": {"two digits, 200 units": (two / two.std()).numpy()},
        "after batch norm": {"two digits, 200 units": from_two.numpy()},
    },
    xlabel="value of a unit",
    alt=f"Histograms over 200 units and two digits: before, broad; after, {share_of_ones:.0%} of the values at −1 or +1.",
    caption=f"Two digits in 200 units with random weights: {share_of_ones:.0%} of the normalized values are −1 or +1 to "
    "three digits. Statistics of a small batch say more about its members than about the unit.",
)

# %% role="demo"
reveal("batch_of_two", "ones" if share_of_ones > 0.9 else "free")

# %% [markdown]
# ### 2. Backward, by hand
#
# PyTorch has just found the gradient for you. To see what it does, find it yourself. Call `grad` the gradient of the loss
# at the output $y$, and $g = \gamma \cdot \text{grad}$ that at $\hat x$; $dx$, $d\gamma$, $d\beta$ are those by $x$,
# $\gamma$ and $\beta$. For one unit:
#
# - $y_i = \gamma \hat x_i + \beta$, with the same $\gamma$ and $\beta$ for all examples, so what each example has to say
#   adds up: $d\beta = \sum_i \text{grad}_i$ and $d\gamma = \sum_i \text{grad}_i\, \hat x_i$.
# - If $\mu$ and $\sigma$ were constants, $dx_i$ would be $g_i / \sqrt{\sigma^2 + \varepsilon}$. But they are made from the
#   $x_i$. Shift all $x_i$ by the same amount: $\hat x$ does not change, so $dx$ must sum to 0: **subtract the mean of $g$.**
#   Stretch all $x_i$ away from the mean: $\hat x$ does not change (but for $\varepsilon$), so $dx$ must have no part along
#   $\hat x$: **subtract that part**, which is $\hat x_i$ times the mean of $g \hat x$, since $\hat x$ has mean square 1.
#
# $$ dx_i = \frac{1}{\sqrt{\sigma^2 + \varepsilon}} \Big( g_i - \overline{g} - \hat x_i\, \overline{g \hat x} \Big) $$
#
# (The bars are means over the batch. Working it out by the chain rule gives exactly this, with $\varepsilon$ in place.)
#
# Write `batch_norm_backward(grad, x, weight, eps)`, which returns `dx` of shape `(N, C)`, and the gradients of weight and
# bias, in this order, each of shape `(C,)`. It runs where no graph is recorded: the formula has to be yours.


# %% exercise="batch_norm.backward" role="solution"
def batch_norm_backward(grad, x, weight, eps):
    """(dx, dweight, dbias) from grad, the gradient at the output of batch_norm: shapes (N, C), (C,), (C,)."""
    ### BEGIN SOLUTION
    inv_std = (x.var(0, correction=0) + eps).rsqrt()
    x_hat = (x - x.mean(0)) * inv_std
    g = grad * weight
    dx = (g - g.mean(0) - x_hat * (g * x_hat).mean(0)) * inv_std
    return dx, (grad * x_hat).sum(0), grad.sum(0)
    ### END SOLUTION


# %% exercise="batch_norm.backward" role="check"
check("batch_norm.backward", batch_norm_backward)

# %% [markdown]
# ### 3. The scale of the weights
#
# If the output does not change when the weights $w$ before a batch norm are multiplied by $\alpha > 0$ (leave $\varepsilon$
# aside), then neither does the loss: $L(\alpha w) = L(w)$ for each unit. Two consequences, and you can work out both:
#
# - differentiate both sides by $w$: what is the gradient at $\alpha w$, if it is $g$ at $w$?
# - differentiate by $\alpha$ instead, at $\alpha = 1$: $w \cdot g = 0$. The gradient is at **right angles** to the weights.
#   An SGD step goes sideways, so weights under batch norm only ever grow longer; what counts is the angle by which they
#   turn.
#
# Write `rescaled(weight, gradient, alpha, lr)`: `weight` of shape `(out, in)`, one row a unit; `gradient`, the gradient
# at these weights, of the same shape; `alpha` of shape `(out,)`, one factor a unit. Return the gradient at the rescaled
# weights, `(out, in)`, and the angle in radians by which one SGD step of rate `lr` **taken there** turns each row,
# `(out,)`: the angle itself, not its value for small steps.


# %% exercise="batch_norm.rescale" role="solution"
def rescaled(weight, gradient, alpha, lr):
    """(gradient at alpha · weight (out, in), angle in radians by which an SGD step there turns each row (out,))."""
    ### BEGIN SOLUTION
    at_scaled = gradient / alpha[:, None]
    turn = torch.atan(lr * at_scaled.norm(dim=1) / (alpha * weight.norm(dim=1)))
    return at_scaled, turn
    ### END SOLUTION


# %% exercise="batch_norm.rescale" role="check"
check("batch_norm.rescale", rescaled)

# %% [markdown]
# Now measure it in a real layer: the same layer and digits, its weights times 10.


# %% role="demo"
def gradient_behind_norm(scale):
    """The gradient of a cross-entropy by the weights of a layer that a batch norm follows, the weights times `scale`."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.BatchNorm1d(10, eps=1e-9))
    with torch.no_grad():
        layer[1].weight.mul_(scale)
    F.cross_entropy(layer(train_data[0][:200]), train_data[1][:200]).backward()
    return layer[1].weight.grad, layer[1].weight.detach()


(at_one, weights_at_one), (at_ten, _) = gradient_behind_norm(1.0), gradient_behind_norm(10.0)
times = float(at_ten.norm() / at_one.norm())
along = float((at_one * weights_at_one).sum(1).abs().max() / (at_one.norm(dim=1) * weights_at_one.norm(dim=1)).max())
Markdown(
    f"Weights × 10: the gradient is **{times:.3f} ×** what it was. Largest cosine between a unit's weights and its gradient: "
    f"{along:.0e} (at right angles it is 0)."
)

# %% role="demo"
reveal("gradient_of_larger_weights", times)

# %% [markdown]
# So the angle by which a small SGD step turns the weights goes with $1/\alpha^2$. Large initial weights do no harm to the
# signal under batch norm, but they **stiffen** the layer: at ten times the scale it turns a hundred times more slowly.
# Keep that in mind for card B4 (the cards with the measurements come at the end).
#
# ## What to do at test
#
# At test there may be no batch: one picture comes, and an answer is wanted that does not depend on who else came along. So
# while it trains the layer collects **running statistics**: an average of the batches' means and variances in which old
# batches fade away. At test it normalizes by these, and all it does then is multiply and add constants.
#
# ### 4. Running statistics, in both conventions
#
# The two frameworks agree on the idea and differ in two details:
#
# | | PyTorch | Keras |
# |---|---|---|
# | `momentum` is the weight of | the **new** value: $(1-m)\,\text{old} + m\,\text{new}$ | the **old** value: $m\,\text{old} + (1-m)\,\text{new}$ |
# | the new variance divides by | $N - 1$ (unbiased) | $N$ (biased) |
#
# (To normalize the batch itself both divide by $N$.)
#
# Write `update_running(running_mean, running_var, x, momentum, convention)`, where `x` is a batch of shape `(N, C)` and
# `convention` is `"torch"` or `"keras"`. Return the new mean and the new variance, and leave the old tensors as they are.
# `x` may carry a graph; the results must not.


# %% exercise="batch_norm.running_statistics" role="solution"
def update_running(running_mean, running_var, x, momentum, convention):
    """The new (running_mean, running_var), each (C,), after the batch x (N, C)."""
    ### BEGIN SOLUTION
    x = x.detach()
    if convention == "torch":
        old, new, var = 1 - momentum, momentum, x.var(0)
    else:
        old, new, var = momentum, 1 - momentum, x.var(0, correction=0)
    return old * running_mean + new * x.mean(0), old * running_var + new * var
    ### END SOLUTION


# %% exercise="batch_norm.running_statistics" role="check"
check("batch_norm.running_statistics", update_running)

# %% [markdown]
# What a momentum does, on the mean of one unit over batches of 16 digits (PyTorch's convention):

# %% role="demo"
order = torch.randperm(len(train_data[1]), generator=torch.Generator().manual_seed(0))
batch_means = [float((batch.flatten(1) @ first_layer[0]).mean()) + 1 for batch in train_data[0][order].split(16)][:60]
true_mean = float((train_data[0].flatten(1) @ first_layer[0]).mean()) + 1
tracks = {"each batch's own": [0.0, *batch_means]}
for momentum in (0.5, 0.1, 0.01):
    track = [0.0]
    for value in batch_means:
        track.append(float(course_norm.running_update(torch.tensor(track[-1]), torch.tensor(value), momentum)))
    tracks[f"running, momentum {momentum:g}"] = track
plots.series(
    range(len(batch_means) + 1),
    {name: [track] for name, track in tracks.items()},
    xlabel="batches seen",
    ylabel="mean of the unit",
    reference=true_mean,
    alt="The mean of one unit by batch, and its running averages. After the last batch: "
    + "; ".join(f"{name} {track[-1]:.2f}" for name, track in tracks.items())
    + f". The mean over all digits is {true_mean:.2f}.",
    caption=f"The mean over all digits is {true_mean:.2f} (dashed). Momentum 0.5 follows every batch, 0.01 (Keras's 0.99) is "
    f"smooth and after {len(batch_means)} batches still on its way: {tracks['running, momentum 0.01'][-1]:.2f}. A net that "
    "is evaluated too early may look bad for that reason alone.",
)

# %% [markdown]
# ### 5. The layer
#
# Write the module for rows `(N, C)`, as PyTorch's: `BatchNorm(num_features, eps=1e-5, momentum=0.1)` with parameters
# `weight` (ones at first) and `bias` (zeros), and buffers `running_mean` (zeros) and `running_var` (ones). In training it
# normalizes by the batch and updates the running statistics, on which no graph may hang; in evaluation it normalizes by
# these and changes nothing. What decides is `self.training`, not whether gradients are wanted. A **buffer** is saved with
# the model and moves with it to another device, but no optimizer touches it. You may call your own functions.


# %% exercise="batch_norm.module" role="solution"
class BatchNorm(nn.Module):
    """Batch norm of (N, C): by the batch in training, by the running statistics in evaluation."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        ### BEGIN SOLUTION
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)  # old + momentum · (new − old), in place
                self.running_var.lerp_(x.var(0), self.momentum)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias
        ### END SOLUTION


# %% exercise="batch_norm.module" role="check"
check("batch_norm.module", BatchNorm)

# %% [markdown]
# ### 6. Feature maps
#
# A filter looks for the same thing at all places of a picture, so its map is **one** feature, and every pixel of every
# picture in the batch is an example of it. For `x` of shape `(N, C, H, W)` the statistics are taken over $N$, $H$ and $W$:
# `C` means and `C` variances.
#
# Write `batch_norm_2d(x, weight, bias, eps)`, as in training. Return the output, the mean and the biased variance, the two
# last of shape `(C,)`, as running statistics would need them. Mind the shapes: a tensor of shape `(C,)` is matched with the
# *last* axis of `x`, the columns; `[:, None, None]` turns it into `(C, 1, 1)`.


# %% exercise="batch_norm.maps" role="solution"
def batch_norm_2d(x, weight, bias, eps):
    """(y, mean, var): x (N, C, H, W) normalized channel by channel; mean and biased var are (C,)."""
    ### BEGIN SOLUTION
    mean = x.mean((0, 2, 3))
    centred = x - mean[:, None, None]
    var = centred.square().mean((0, 2, 3))
    y = centred / (var + eps).sqrt()[:, None, None] * weight[:, None, None] + bias[:, None, None]
    return y, mean, var
    ### END SOLUTION


# %% exercise="batch_norm.maps" role="check"
check("batch_norm.maps", batch_norm_2d)

# %% [markdown]
# ### 7. Four norms, one function
#
# Take the statistics over other axes, and you have another norm. For `x` of shape `(N, C, H, W)`:
#
# | norm | who shares a mean | needs a batch? |
# |---|---|---|
# | **batch** | one channel, of all examples | yes |
# | **layer** | all channels and places of one example | no |
# | **instance** | one channel of one example | no |
# | **group** | a group of neighbouring channels of one example; `groups` such groups | no |
#
# The three others treat an example the same whoever is with it, in training and at test, and keep no running statistics.
#
# Write `normalize(x, kind, groups, eps)`, which returns $\hat x$ in the shape of `x`, without scale and shift; all four
# use the biased variance. `kind` is one of the four words; only `"group"` looks at `groups`.
# `x.unflatten(1, (groups, -1))` cuts axis 1 into two.


# %% exercise="batch_norm.norms" role="solution"
def normalize(x, kind, groups, eps):
    """x (N, C, H, W) normalized by the norm of that kind; same shape."""
    ### BEGIN SOLUTION
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3), "group": (2, 3, 4)}[kind]
    z = x.unflatten(1, (groups, -1)) if kind == "group" else x  # (N, groups, C/groups, H, W)
    mean = z.mean(axes, keepdim=True)
    var = z.var(axes, correction=0, keepdim=True)
    return ((z - mean) / (var + eps).sqrt()).reshape(x.shape)
    ### END SOLUTION


# %% exercise="batch_norm.norms" role="check"
check("batch_norm.norms", normalize)

# %% role="demo"
some = datasets.as_tensors(emoji.test.images[emoji.test.labels == emoji.classes.index("animal")][[5, 9, 20, 30]])
dimmed = some * torch.tensor([1.0, 0.5, 0.25, 1.0]).view(4, 1, 1, 1)  # two of them darkened
rows = {
    "as they are": dimmed,
    "batch": course_norm.batch_norm(dimmed)[0],
    "instance": course_norm.instance_norm(dimmed),
    "layer": course_norm.layer_norm(dimmed, dimmed.shape[1:]),
}
shown = torch.cat(
    [(rows[name] - (0 if name == "as they are" else -2)) / (1 if name == "as they are" else 4) for name in rows]
)
brightness = {name: round(float(x[2].mean()), 2) + 0.0 for name, x in rows.items()}
plots.grid(
    shown.clamp(0, 1).permute(0, 2, 3, 1).numpy(),
    [name if i == 0 else "" for name in rows for i in range(4)],
    columns=4,
    alt="Four emoji, two of them darkened, and the same after batch, instance and layer norm. After batch norm the dark ones "
    "are still darker; after the two others they are not.",
    caption="Four emoji, two of them darkened (after a norm, values −2 to 2 are shown from black to white). Mean brightness of the third after "
    f"batch norm {brightness['batch']:.2f}, after instance norm {brightness['instance']:.2f}, after layer "
    f"norm {brightness['layer']:.2f}: only batch norm lets you see that it is darker than the others.",
)

# %% [markdown]
# ### 8. Fold it away
#
# In evaluation batch norm multiplies and adds constants, and so does the convolution before it. Two straight lines in a row
# are one: a trained net needs no batch norm at all. Nets on phones are shipped so.
#
# Write `fold(conv, norm)`: `conv` is an `nn.Conv2d`, perhaps without a bias (`conv.bias` is then `None`) and perhaps with
# `groups` (nothing to worry about: its weight is `(out, in/groups, kH, kW)`); `norm` is an `nn.BatchNorm2d` in evaluation,
# perhaps with `affine=False` (`norm.weight` and `norm.bias` are then `None`). Return a new `nn.Conv2d` whose output is that
# of `norm(conv(x))` up to 1e-5, and leave both layers as they are. (`copy.deepcopy(conv)` makes a copy; a parameter is
# replaced by `layer.weight = nn.Parameter(tensor)`.)


# %% exercise="batch_norm.fold" role="solution"
def fold(conv, norm):
    """A new nn.Conv2d that gives what norm(conv(x)) gives in evaluation."""
    ### BEGIN SOLUTION
    scale = (norm.running_var + norm.eps).rsqrt()
    shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    if norm.affine:
        scale = scale * norm.weight
    bias = shift * scale + (norm.bias if norm.affine else 0)
    folded = copy.deepcopy(conv)
    folded.weight = nn.Parameter((conv.weight * scale[:, None, None, None]).detach())
    folded.bias = nn.Parameter(bias.detach())
    return folded
    ### END SOLUTION


# %% exercise="batch_norm.fold" role="check"
check("batch_norm.fold", fold)

# %% [markdown]
# ## A net from a forum, piece by piece
#
# Somebody asked about this net, for faces of 48 × 48 pixels in three colours and seven expressions:
#
# > `Convolution2D(32, 3, 3)` → `BatchNormalization()` → `PReLU()` → `MaxPooling2D((2, 2))` → `Flatten()` → `Dense(256)` →
# > `BatchNormalization()` → `PReLU()` → `Dropout(0.5)` → `Dense(nb_output)` → `softmax`
#
# What each piece learns (*parameters*), how large a patch of the picture one of its numbers depends on (*sees*), and what
# it costs: multiplications, the bytes of its output for one face, and the bytes that training has to keep for the
# gradient.

# %% role="demo"
accounts.account(expression_net(), (3, 48, 48))

# %% role="demo"
kept = {
    layer.name: layer.statistics for layer in accounts.account(expression_net(), (3, 48, 48)).layers if layer.statistics
}
Markdown(
    "Running means and variances, which are kept and not learned: "
    + ", ".join(f"{count} in {name}" for name, count in kept.items())
    + "."
)

# %% [markdown]
# - **conv**: 32 filters of 3 × 3 pixels in three colours, the same at all places. Few numbers, but each is multiplied
#   at every place.
# - **batch norm**: for each map one mean and one variance over the batch and all places, one scale, one shift. The conv's
#   own bias, 32 numbers, is taken out again by the mean: it does nothing.
# - **PReLU**: $\max(0, z) + a \min(0, z)$. A ReLU whose slope $a$ on the negative side is learned. Keras learns one for
#   every pixel of every map, which is why it has so many; PyTorch learns one for all, or one a map.
# - **max pooling**: of every 2 × 2 pixels the largest stays. Nothing is learned; a quarter of the numbers goes on.
# - **flatten** and **dense**: all pixels of all maps in one row, and 256 weighted sums of it (a plain layer $W x + b$).
#   Nearly all of the net's numbers are here, and most of the multiplications.
# - **batch norm, PReLU** again, now for rows: one mean, variance, scale, shift and slope a unit.
# - **dropout**: in training half of the 256 numbers are set to 0 at random, the others doubled (lesson 8).
# - **dense** and **softmax**: one number a class, turned into probabilities.
#
# Here is a narrower one, trained on emoji; then one emoji on its way through.

# %% role="demo"
emoji_train = datasets.as_tensors(*emoji.subset(60))
emoji_valid, emoji_test = datasets.as_tensors(*emoji.valid), datasets.as_tensors(*emoji.test)
torch.manual_seed(0)
asked = expression_net(3, len(emoji.classes), image_size=32, width=8, hidden=48)
for module in asked.modules():
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.momentum = 0.1  # Keras's 0.99 (0.01 here) would need many more steps
asked_run = course_training.train(asked, emoji_train, emoji_valid, epochs=10, lr=2e-3, seed=1)

stages, signal = {}, emoji_test[0][:200]
with torch.no_grad():
    for name, module in asked.named_children():
        signal = module(signal)
        stages[name] = signal
first_maps = torch.cat([stages[name][:1, :6] for name in ("conv", "norm1", "prelu1")]).flatten(0, 1)
scale = first_maps.abs().amax()
learned_slopes = asked.prelu1.weight.detach()
plots.grid(
    ((first_maps / scale).clamp(-1, 1) / 2 + 0.5).numpy(),
    ["conv"] + [""] * 5 + ["norm"] + [""] * 5 + ["PReLU"] + [""] * 5,
    columns=6,
    alt="Six maps of one emoji after the conv, after the batch norm and after the PReLU. Grey is 0, white positive, black "
    "negative.",
    caption="Six maps of one emoji after conv, batch norm and PReLU; grey is 0, white positive, black negative. Batch norm "
    "brings faint and loud maps nearer to one strength. PReLU's slopes began at 0, as a ReLU's, and after this short training "
    f"lie between {float(learned_slopes.min()):.2f} and {float(learned_slopes.max()):.2f}: hardly any of the black passes.",
)

# %% role="demo"
plots.histograms(
    {
        name: {label: stages[stage].flatten(1).numpy()[:, ::7]}
        for name, stage, label in (
            ("after the conv", "conv", "maps"),
            ("after its batch norm", "norm1", "maps"),
            ("after the dense layer", "dense", "units"),
            ("after its batch norm ", "norm2", "units"),
        )
    },
    xlabel="value",
    alt="Distributions over 200 test emoji after conv, batch norm, dense layer, batch norm. Standard deviations: "
    + ", ".join(f"{name} {float(stages[name].std()):.2f}" for name in ("conv", "norm1", "dense", "norm2")),
    caption="Values over 200 test emoji, in evaluation. Standard deviations: "
    + ", ".join(
        f"{words} {float(stages[name].std()):.2f}"
        for words, name in (
            ("after the conv", "conv"),
            ("after its batch norm", "norm1"),
            ("after the dense layer", "dense"),
            ("after its batch norm", "norm2"),
        )
    )
    + ".",
)

# %% [markdown]
# What happens without each piece is measured, with several seeds on two data sets, in card B8 below.
#
# ## Trust: yours against the frameworks
#
# The same numbers through your functions and through PyTorch's and Keras's layers: they must agree up to rounding.

# %% role="demo"
keras = load_keras()  # some seconds
keras.utils.set_random_seed(0)
torch.manual_seed(0)
batch, scale_, shift_ = torch.randn(32, 6) * 2 + 1, torch.rand(6) + 0.5, torch.randn(6)
maps = torch.randn(4, 6, 5, 5) * 2 + 1
slopes = torch.randn(32, 6)


def torch_layer(momentum=0.1):
    layer = nn.BatchNorm1d(6, momentum=momentum)
    with torch.no_grad():
        layer.weight.copy_(scale_)
        layer.bias.copy_(shift_)
    return layer


def keras_layer(x, momentum=0.9):
    layer = keras.layers.BatchNormalization(momentum=momentum, epsilon=1e-5)
    layer.build(x.shape)
    layer.set_weights([scale_.numpy(), shift_.numpy(), np.zeros(6, "float32"), np.ones(6, "float32")])
    out = np.asarray(layer(x, training=True))
    return torch.tensor(out), torch.tensor(
        np.stack([np.asarray(w) for w in (layer.moving_mean, layer.moving_variance)])
    )


trained = torch_layer()
in_training = trained(batch)
leaf = batch.clone().requires_grad_()
their_dx = torch.autograd.grad((torch_layer()(leaf) * slopes).sum(), leaf)[0]
keras_out, keras_moving = keras_layer(batch.numpy())
conv, norm = nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6)
norm(conv(maps))  # moves its statistics away from 0 and 1
norm.eval()


def own_layer():
    layer = BatchNorm(6)
    layer.load_state_dict(torch_layer().state_dict(), strict=False)
    return layer


zeros, ones = torch.zeros(6), torch.ones(6)
trust.table(
    [
        trust.Row(
            "batch_norm",
            "nn.BatchNorm1d (PyTorch)",
            lambda: batch_norm(batch, scale_, shift_, 1e-5),
            in_training.detach(),
        ),
        trust.Row(
            "batch_norm", "BatchNormalization (Keras)", lambda: batch_norm(batch, scale_, shift_, 1e-5), keras_out
        ),
        trust.Row(
            "batch_norm_backward, dx",
            "PyTorch's graph",
            lambda: batch_norm_backward(slopes, batch, scale_, 1e-5)[0],
            their_dx,
        ),
        trust.Row(
            "update_running, torch",
            "nn.BatchNorm1d (PyTorch)",
            lambda: torch.stack(update_running(zeros, ones, batch, 0.1, "torch")),
            torch.stack([trained.running_mean, trained.running_var]),
        ),
        trust.Row(
            "update_running, keras",
            "BatchNormalization (Keras)",
            lambda: torch.stack(update_running(zeros, ones, batch, 0.9, "keras")),
            keras_moving,
        ),
        trust.Row(
            "BatchNorm, in evaluation",
            "nn.BatchNorm1d (PyTorch)",
            lambda: own_layer().eval()(batch).detach(),
            torch_layer().eval()(batch).detach(),
        ),
        trust.Row(
            "batch_norm_2d",
            "F.batch_norm (PyTorch)",
            lambda: batch_norm_2d(maps, scale_, shift_, 1e-5)[0],
            F.batch_norm(maps, None, None, scale_, shift_, training=True),
        ),
        trust.Row(
            "normalize, group",
            "F.group_norm (PyTorch)",
            lambda: normalize(maps, "group", 3, 1e-5),
            F.group_norm(maps, 3),
        ),
        trust.Row(
            "normalize, layer",
            "F.layer_norm (PyTorch)",
            lambda: normalize(maps, "layer", 1, 1e-5),
            F.layer_norm(maps, maps.shape[1:]),
        ),
        trust.Row(
            "fold", "norm(conv(x)) (PyTorch)", lambda: fold(conv, norm)(maps).detach(), norm(conv(maps)).detach()
        ),
    ]
)

# %% [markdown]
# ## In the frameworks
#
# What differs, read from the versions that are installed here:

# %% role="demo"
Markdown(
    "| what | PyTorch | Keras | the trap |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {c.what} | {c.torch()} | {c.keras(keras)} | {c.trap} |"
        for c in conventions.CONVENTIONS.values()
        if c.id.startswith("normalization.")
    )
)

# %% [markdown]
# And what has to be known about the switch:
#
# | what | PyTorch | Keras 3 |
# |---|---|---|
# | who decides between batch and running statistics | the module's flag `training` | the argument `training=` of the call, **and** the layer's `trainable` |
# | a bare `model(x)` | whatever the flag says; a new module is in **training** mode | **inference** |
# | freeze $\gamma$ and $\beta$ | `requires_grad_(False)`; the statistics still move | `trainable = False`; the statistics stand still too |
# | freeze the statistics | `norm.eval()`, which the next `model.train()` undoes | `trainable = False` |
# | no gradients wanted | `torch.no_grad()`: the statistics move all the same | `training=False` says nothing about gradients |
#
# Freeze one of each, and train on. Whose running statistics move?

# %% role="demo"
frozen_torch = nn.BatchNorm1d(6).requires_grad_(False)
frozen_torch(batch)
frozen_keras = keras.layers.BatchNormalization()
frozen_keras.build(batch.shape)
frozen_keras.trainable = False
frozen_keras(batch.numpy(), training=True)
moved = {
    "torch": bool(frozen_torch.running_mean.abs().max() > 0),
    "keras": bool(np.abs(np.asarray(frozen_keras.moving_mean)).max() > 0),
}
reveal(
    "frozen_statistics",
    {(1, 0): "torch", (0, 1): "keras", (1, 1): "both", (0, 0): "neither"}[moved["torch"], moved["keras"]],
)

# %% [markdown]
# ### 9. Carry a batch norm over to Keras
#
# Write `to_keras_norm(norm, input_shape)`: `norm` is a PyTorch `nn.BatchNorm1d` or `nn.BatchNorm2d`, perhaps with
# `affine=False`; `input_shape` is the shape of Keras's input, such as `(None, 6)` or `(None, 4, 5, 2)`, with the channels
# last. Return a `keras.layers.BatchNormalization`, built for that shape (`layer.build(input_shape)`), that gives the same
# outputs in inference and moves its mean as the PyTorch layer would. Its arguments are `momentum`, `epsilon`, `center`
# (is there a $\beta$?) and `scale` (is there a $\gamma$?); `layer.set_weights([...])` takes numpy arrays
# (`tensor.detach().numpy()`), in the order $\gamma$, $\beta$, mean, variance, as far as they exist. (That Keras keeps the
# biased variance can't be changed.) `import keras` inside the function.


# %% exercise="batch_norm.keras_transfer" role="solution"
def to_keras_norm(norm, input_shape):
    """A Keras BatchNormalization, built for input_shape, that does what the PyTorch layer does."""
    ### BEGIN SOLUTION
    import keras

    layer = keras.layers.BatchNormalization(
        momentum=1 - norm.momentum, epsilon=norm.eps, center=norm.affine, scale=norm.affine
    )
    layer.build(input_shape)
    learned = [norm.weight, norm.bias] if norm.affine else []
    layer.set_weights([tensor.detach().numpy() for tensor in (*learned, norm.running_mean, norm.running_var)])
    return layer
    ### END SOLUTION


# %% exercise="batch_norm.keras_transfer" role="check"
check("batch_norm.keras_transfer", to_keras_norm)

# %% [markdown]
# ### 10. What `training` and `trainable` change
#
# `training` belongs to a **call**, `trainable` to a **layer**. Write `run_norm(model, x, situation)`. The model's layers
# are called `dense`, `norm` (a batch norm), `dropout` and `head` (`model.layers`, `layer.name`,
# `model.get_layer("norm")`). Set `trainable` of the layers for the training to come, make **one** call of the model, and
# return its output:
#
# - `"train"`: everything learns, as from the start;
# - `"predict"`: a prediction; nothing random, no statistics moved, every `trainable` left as it is;
# - `"frozen"`: the head alone is trained, on top of what was learned before. Dense layer and batch norm stand still,
#   statistics included; dropout works as in training;
# - `"norm_only"`: the batch norm alone adapts to new data, with its statistics, its $\gamma$ and its $\beta$; dropout works
#   as in training.


# %% exercise="batch_norm.keras_phases" role="solution"
def run_norm(model, x, situation):
    """The model's output for x, called as the situation needs, with `trainable` set for the training to come."""
    ### BEGIN SOLUTION
    if situation == "predict":
        return model(x, training=False)
    if situation in ("frozen", "norm_only"):
        learns = {"frozen": "head", "norm_only": "norm"}[situation]
        for layer in model.layers:
            layer.trainable = layer.name == learns
    return model(x, training=True)
    ### END SOLUTION


# %% exercise="batch_norm.keras_phases" role="check"
check("batch_norm.keras_phases", run_norm)

# %% [markdown]
# ## Clinic
#
# Two cases came in this morning. Find out what is wrong, and mend it.
#
# ### 11. Answers, one picture at a time
#
# "Our service gets one picture at a time. At first PyTorch raised an error. We feed every picture twice now, and take the
# first answer. No error any more, but the answers are much worse than in our tests." Here is the service, at work with the
# emoji net from above:


# %% role="demo"
def broken_service(model, image):
    with torch.no_grad():
        return model(torch.stack([image, image]))[0]


forgotten = copy.deepcopy(asked).train()
try:
    forgotten(emoji_test[0][:1])
    said = "no error"
except ValueError as error:
    said = str(error)
pictures, truth = emoji_test[0][:200], emoji_test[1][:200]
twice = torch.stack([broken_service(forgotten, image) for image in pictures]).argmax(1)
with torch.no_grad():
    tested = asked.eval()(pictures).argmax(1)
    statistics_drift = float((forgotten.norm2.running_var / asked.norm2.running_var).median())
Markdown(
    f"Alone: *{said}*\n\nTwice: **{float((twice == truth).float().mean()):.1%}** right, in their tests "
    f"{float((tested == truth).float().mean()):.1%}. After {len(pictures)} answers the dense layer's running variances are "
    f"{statistics_drift:.2g} × what they were."
)

# %% [markdown]
# Write `answer_one_by_one(model, images)`: the logits, of shape `(N, classes)`, each picture fed alone, as
# `model(image[None])`. The answer for a picture must not depend on what came before or comes with it. The model comes in
# any mode, its modules perhaps in different ones; leave each as you found it, and leave the running statistics alone.
# Build no graph.


# %% exercise="batch_norm.clinic_one_by_one" role="solution"
def answer_one_by_one(model, images):
    """The logits (N, classes), each picture fed alone; the model is left as it was."""
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return torch.cat([model(image[None]) for image in images])
    finally:
        for module, training in modes:
            module.training = training
    ### END SOLUTION


# %% exercise="batch_norm.clinic_one_by_one" role="check"
check("batch_norm.clinic_one_by_one", answer_one_by_one)

# %% [markdown]
# In a conv net whose batch norms all stand on maps there is no error to warn you: a map has many pixels, and one picture is
# normalized by its own. Card B7 has the price; the prediction is held against it.

# %% role="demo"
reveal("alone_without_eval", claims.load("B7").interval.mean)

# %% [markdown]
# ### 12. Frozen, and yet it drifts
#
# "We took a net that reads digits, froze everything in it with `requires_grad_(False)`, and trained a new head on top, for
# silhouettes of animals on white paper. The new head works. But the old net reads digits much worse than before, although
# none of its weights has changed. We compared them, bit by bit." Here it is again:


# %% role="demo"
def conv_trunk():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Flatten(),
    )


torch.manual_seed(0)
trunk, digit_head, animal_head = conv_trunk(), nn.Linear(144, 10), nn.Linear(144, 10)
course_training.train(nn.Sequential(trunk, digit_head), train_data, valid_data, epochs=3, lr=3e-3, seed=1)
animals = datasets.load("animalshape")


def on_white_paper(part):
    images, labels = datasets.as_tensors(*part)
    return 1 - images, labels  # the digits are white on black, these are black on white


animal_train, animal_valid = on_white_paper(animals.subset(40)), on_white_paper(animals.valid)
before_digits = course_training.evaluate(nn.Sequential(trunk, digit_head), test_data).accuracy
weights_before = [p.detach().clone() for p in trunk.parameters()]
trunk.requires_grad_(False)
animal_run = course_training.train(
    nn.Sequential(trunk, animal_head), animal_train, animal_valid, epochs=3, lr=3e-3, seed=1, progress=False
)
after_digits = course_training.evaluate(nn.Sequential(trunk, digit_head), test_data).accuracy
unchanged = all(torch.equal(a, b) for a, b in zip(weights_before, trunk.parameters(), strict=True))
Markdown(
    f"Digits read before: {before_digits:.1%}; after training the head for animals: **{after_digits:.1%}**. "
    f"All weights of the trunk {'unchanged' if unchanged else 'CHANGED'}, bit by bit."
)

# %% [markdown]
# Write `freeze_norms(model)`, which makes every `nn.BatchNorm1d` and `nn.BatchNorm2d` in the model stand still for good,
# and returns the model. It must survive anybody's training loop, which calls `model.train()` at the start of each epoch
# and `model.eval()` at its end, and hands all parameters to its optimizer. In training too the batch norms normalize by
# their running statistics; weight, bias and statistics stay as they are. All else, dropout included, goes on as usual.
#
# (`model.train()` does one thing: it calls `train(mode)` on each module inside. A module may decline; you can give an
# object a method of its own, as in `module.train = lambda mode=True, module=module: module`.)


# %% exercise="batch_norm.clinic_frozen" role="solution"
def freeze_norms(model):
    """The model, with its batch norms in evaluation for good: statistics, weight and bias stand still."""
    ### BEGIN SOLUTION
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.requires_grad_(False)
            module.eval()
            module.train = lambda mode=True, module=module: module
    return model
    ### END SOLUTION


# %% exercise="batch_norm.clinic_frozen" role="check"
check("batch_norm.clinic_frozen", freeze_norms)

# %% [markdown]
# ## Evidence
#
# What people promise of batch norm, each put to the test on real images, with at least five seeds. A **95% interval**
# says how far the choice of seeds may have moved a mean; in a *paired* one differences are taken seed by seed, and one
# that contains 0 settles nothing. Where methods compete each was tuned with the same budget. *Does not hold* means that
# the rule on the card (under *All measurements*) was not met, in small nets and short training, *holds when …* that it
# was met in part; read the rule. `course evidence B4` in a terminal measures one again on your own machine.
#
# **The operation.** B1 holds the formulas against both frameworks.

# %% role="demo"
claims.evidence("B1")

# %% [markdown]
# **Vanishing gradients and initialization.** B3 takes the net of ten layers. Look at both activations: tanh, started
# well, has no vanishing gradient to cure. B4 multiplies all initial weights by a hundredth up to a hundred. Look at the
# right end: the signal is fine there, and still next to nothing is learned. You know why: at $\alpha$ times the scale the
# weights turn $\alpha^2$ times more slowly. Tuning the rate for it does not help much; a likely reason, which the card does
# not test, is that the last layer, which no batch norm follows, wants another rate than the stiff ones.

# %% role="demo"
claims.evidence("B3")

# %% role="demo"
claims.evidence("B4")

# %% [markdown]
# **Learning rates and speed.** B5 looks for the largest rate that still learns, and for the number of steps to a loss, each
# net at its own best rate. A step with batch norm also takes longer: look at the time before you call it faster.

# %% role="demo"
claims.evidence("B5")

# %% [markdown]
# **Regularization.** In training each example is normalized together with others drawn at random: that is noise, more of it
# in small batches. Does it help on new data, and is dropout still worth anything then?

# %% role="demo"
claims.evidence("B6")

# %% [markdown]
# **Where to put it.** The first paper puts batch norm before the activation. Is after worse? Look at the first row too: in
# nets as shallow as these, well started and trained on few images, the best place may be none.

# %% role="demo"
claims.evidence("B2")

# %% [markdown]
# **The two phases.** What it costs to forget `eval()`, by size and make-up of the batch.

# %% role="demo"
claims.evidence("B7")

# %% [markdown]
# **The net from the forum**, without each of its pieces. It keeps Keras's momentum of 0.99: after as few steps as here its
# running statistics still lag behind, so part of what batch norm costs on the digits may be that and not the idea.

# %% role="demo"
claims.evidence("B8")

# %% [markdown]
# ## Explain
#
# ### 13. In your own words
#
# A colleague writes: "My net calls this picture a cat when it comes alone, and a dog when it comes in a batch with
# others. I use `torch.no_grad()`. And after a day of predictions it is worse than in the morning, although nobody has
# trained it." Explain both to them, what to change, how to repair the net, and how they can check that you are right. Ten
# sentences are enough. In a class a teacher reads this one; on your own, write it first, and then open what a teacher
# would look for, below.

# %% [markdown] exercise="batch_norm.explain" role="explain"
# ### BEGIN SOLUTION
# The model is still in training mode. There batch norm normalizes by the mean and variance of the batch that it is given,
# so the same picture is shifted and scaled by its company: alone by its own pixels, in a batch by the others too. That is
# meant for training. For predictions batch norm has running statistics, averages collected while it trained, which are
# the same for everybody.
#
# Call `model.eval()` before predicting (in Keras: `predict`, or `training=False`), and `model.train()` before training
# on. `torch.no_grad()` only switches off the recording for gradients; it does not change the mode. That is also why the
# net got worse: every call in training mode has mixed the day's batches into the running statistics. No weight has
# changed. Load the saved model again, which has the old statistics among its buffers, or, without one, run the training
# data through it in training mode, without training, until they are right again.
#
# To check: feed the picture alone and in two different batches. In evaluation all three answers agree up to rounding, and
# `running_mean` is the same before and after; in training mode neither is so.
# ### END SOLUTION

# %% role="demo"
from autograder import exercises

rubric = exercises.get("batch_norm.explain").rubric
Markdown(
    "<details><summary>What a teacher looks for</summary>\n\n"
    + "\n".join(f"- {what} ({points:g})" for what, points in rubric.items())
    + "\n\n</details>"
)

# %% [markdown]
# ## Summary
#
# - Batch norm takes mean and spread out of every unit, over the batch, and gives two learned numbers in their place.
# - Its gradient flows through the statistics too: it has no part along a shift or a stretch of the unit's values.
# - The scale of the weights before it does not matter to the output. It does matter to the step: the gradient goes with
#   $1/\alpha$, the turn of the weights with $1/\alpha^2$.
# - In training it uses the batch, at test its running statistics. The switch is a flag (`model.train()`, `model.eval()`) in
#   PyTorch, and `training=` together with `trainable` in Keras. `no_grad` and `requires_grad` do not touch it.
# - In evaluation it is a straight line, and can be folded into the layer before it.
# - Layer, instance and group norm are the same over other axes, and need no batch.
# - What was measured of its promises:

# %% role="demo"
Markdown(
    "\n".join(
        f"- *{claims.load(id).statement}* **{claims.load(id).verdict}"
        + (f"**, namely when {claims.load(id).condition}. " if claims.load(id).condition else ".** ")
        + claims.load(id).headline
        for id in ("B3", "B4", "B5", "B6", "B2")
    )
)

# %% [markdown]
# ## Sources
#
# - Ioffe, Szegedy: *Batch normalization: accelerating deep network training by reducing internal covariate shift*, 2015,
#   arXiv:1502.03167.
# - Santurkar, Tsipras, Ilyas, Mądry: *How does batch normalization help optimization?*, 2018, arXiv:1805.11604.
# - van Laarhoven: *L2 regularization versus batch and weight normalization*, 2017, arXiv:1706.05350 (the scale of the
#   weights).
# - Ba, Kiros, Hinton: *Layer normalization*, 2016, arXiv:1607.06450. Ulyanov, Vedaldi, Lempitsky: *Instance normalization*,
#   2016, arXiv:1607.08022. Wu, He: *Group normalization*, 2018, arXiv:1803.08494.
# - He, Zhang, Ren, Sun: *Delving deep into rectifiers*, 2015, arXiv:1502.01852 (PReLU).
# - Data: MNIST, emoji by Google (Noto), Twitter (Twemoji) and Microsoft (Fluent), and animal silhouettes; licences stand
#   beside the files in `course_lib/datasets`.
