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
# # Vanishing and exploding gradients
#
# *Lesson 1 of Training Deep Nets. About three hours; ten exercises that check themselves and one graded by hand.
# You need Python and linear regression. The words of the trade are explained where they first appear.*
#
# People ask it like this:
#
# > My net with one hidden layer learns. I made it ten layers deep, since deeper should be better, and now it answers the
# > same class for every picture. There is no error message. **What is wrong?**
#
# And soon afterwards:
#
# > They say the gradient vanishes because sigmoids saturate. So is it enough to keep them out of the flat part?
#
# > If the gradients are too small, can't I just take a larger learning rate?
#
# > Everything went well, and then the loss was NaN. Where do I look?
#
# By the end you will have written the backward pass of a layer yourself, measured what every layer does to the gradient,
# predicted it from weights and slopes, mended a net of twenty layers, found an explosion in a log, and read the
# measurements behind each of the usual remedies.

# %% role="setup"
import numpy as np
import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from autograder.check import check
from course_lib import claims, conventions, datasets, diagnostics, keras_twin, optimizers, plots, trust
from course_lib.predictions import predict, reveal
from course_lib.quiet import load_keras
from course_lib.widgets.vanishing_gradients import GradientFigure

torch.set_num_threads(1)  # small nets run faster on one thread

# %% [markdown]
# ## The words you need
#
# A **layer** takes a row of numbers $x$ for each example and computes $z = x W^\top + b$, the same sum as in linear
# regression, once for each of its **units**; $W$ holds the **weights**, a row for each unit, and $b$ the **biases**. An
# **activation** then bends each $z$, and what comes out, $y$, is the next layer's $x$. Layers whose every unit reads every
# input are called **dense**. Layers in a row make a **net**. It is **deep** if they are many; those before the last are
# **hidden**.
#
# Three activations occur in this lesson: the **sigmoid** $\sigma(z) = 1/(1+e^{-z})$, between 0 and 1; **tanh**, the same
# shape between −1 and 1; and $\mathrm{ReLU}(z) = \max(0, z)$. The **slope** of an activation is its derivative: how much
# $y$ changes with $z$. Where an activation is almost flat, the unit is called **saturated**.
#
# Our nets tell which of several **classes** a picture belongs to. The numbers of the last layer are the **logits**, one
# for each class; **softmax** turns them into probabilities that sum to 1, $e^{z_k} / \sum_j e^{z_j}$. The **loss** $L$
# of an example, its **cross-entropy**, is $-\log$ of the probability that the right class got; its unit, with natural
# logarithms, is the **nat**. A net that knows nothing about ten classes has a loss of $\log 10 = 2.30$ and is wrong
# nine times in ten: it is **at chance**.
#
# The **gradient** says how much the loss changes with each weight. Training takes a **batch** of examples, computes the
# gradient, and moves every weight a little against it: weight − **learning rate** × gradient. That is one **step** of
# **SGD**, stochastic gradient descent. Gradients are found from the last layer to the first, by the chain rule:
# **backpropagation**. The **norm** of a gradient is its length, $\lVert g \rVert = \sqrt{\sum g_i^2}$: one number for
# how strongly the loss pulls at a whole layer. Weights start at random; a **seed** fixes the draw, and what one seed
# shows is one draw. $N(0, 1)$ stands for the normal distribution with mean 0 and spread (standard deviation) 1.
#
# ### The PyTorch you need
#
# A **tensor** is an array, as in numpy: `x @ weight.T`, `x.sum(0)`, `x * y` mean the same. Its numbers are `float32`,
# with about 7 digits, or `float64`, with about 16; what grows too large for them becomes infinite, and ∞ − ∞ or 0 · ∞
# is **NaN**, "not a number". A tensor can remember how it was computed, and so PyTorch finds gradients by itself, which
# is called **autograd**: `loss.backward()` adds to each weight's `.grad` the gradient of the loss. It *adds*:
# `model.zero_grad()` clears what was there. Inside `with torch.no_grad():` nothing is remembered. `t.norm()` is a
# tensor's norm, `torch.sigmoid(z)` the sigmoid.
#
# A **module** is a layer, an activation or a whole net: `module(x)` computes its output,
# `isinstance(module, nn.Linear)` asks what kind it is. `nn.Linear(n_in, n_out)` is a dense layer without activation,
# with `.weight` of shape `(n_out, n_in)` and `.bias`; `nn.Sequential(a, b, c)` puts layers in a row; `model.modules()`
# lists a model and all modules inside it. `F.cross_entropy(logits, labels)` is the loss, averaged over the batch; it
# applies the softmax itself. The functions in `nn.init`, such as `nn.init.xavier_normal_(weight)`, fill a tensor with
# random numbers of a chosen size (`xavier` and `kaiming` are the first names of Glorot and He, whom you will meet
# below); PyTorch's names end in `_` where a tensor is changed in place.
#
# ## It fails, and says nothing
#
# The pictures are handwritten digits, `mnist5k`. One net has a single hidden layer, the other ten; both are made of 100
# sigmoid units a layer, with PyTorch's default weights, and trained by SGD.

# %% role="demo"
digits = datasets.load("mnist5k")
raw, labels = datasets.as_tensors(*digits.train)
mean, std = raw.mean(), raw.std()
images = (raw.flatten(1) - mean) / std  # (N, 784), mean 0 and spread 1
test_images, test_labels = datasets.as_tensors(*digits.test)
test_images = (test_images.flatten(1) - mean) / std


def deep_net(depth, activation=nn.Sigmoid, start=None, width=100, seed=0):
    """`depth` hidden layers and the logits. `start` fills each hidden weight (biases are then 0); else PyTorch's own."""
    torch.manual_seed(seed)
    layers = []
    for i in range(depth):
        dense = nn.Linear(784 if i == 0 else width, width)
        if start is not None:
            start(dense.weight)
            nn.init.zeros_(dense.bias)
        layers += [dense, activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def train(model, steps, rate, clip=None, seed=0):
    """SGD on batches of 64; `rate` is a number or a function of the step. Losses (T,) and gradient norms (T, layers)."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses, norms = [], []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate(step) if callable(rate) else rate
        batch = torch.randint(len(images), (64,), generator=order)
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        norms.append([float(m.weight.grad.norm()) for m in model if isinstance(m, nn.Linear)])
        if clip is not None:
            optimizers.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(float(loss.detach()))
    return np.array(losses), np.array(norms)


def test_accuracy(model):
    with torch.no_grad():
        return float((model(test_images).argmax(1) == test_labels).float().mean())


def smooth(losses, window=10):
    return np.convolve(losses, np.ones(window) / window, mode="valid")


shallow, deep = deep_net(1), deep_net(10)
shallow_losses, _ = train(shallow, 300, 0.3)
deep_losses, _ = train(deep, 300, 0.3)
plots.series(
    range(10, 301),
    {"1 hidden layer": smooth(shallow_losses), "10 hidden layers": smooth(deep_losses)},
    xlabel="step",
    ylabel="training loss (nats)",
    reference=float(np.log(10)),
    alt=f"Training loss by step. One hidden layer falls to {shallow_losses[-10:].mean():.2f}; ten stay near log 10.",
    caption=f"Losses, averaged over ten steps. One hidden layer: {test_accuracy(shallow):.0%} of the test digits right. Ten: "
    f"{test_accuracy(deep):.0%}. The dashed line is the loss of a net that knows nothing. One seed; card V2 under “Evidence” has more.",
)

# %% [markdown]
# ## Predict
#
# Commit to an answer before you read on. A guess that turns out wrong teaches more than a right answer that you only
# read. Nothing here is graded or sent anywhere.
#
# Three names occur that later lessons explain. **Glorot's** initialization draws the random weights in a size that is
# fitted to the layer (lesson 2). **Batch normalization** brings each unit's $z$ to mean 0 and spread 1 over the batch,
# before the activation (lesson 4). **Adam** is a rule of training (an **optimizer**), as SGD is; it gives every weight
# a step size of its own (lesson 6).

# %% role="demo"
predict("first_layer_gradient")

# %% role="demo"
predict("factor_of_a_layer")

# %% role="demo"
predict("is_saturation_the_cause")

# %% role="demo"
predict("which_remedy_alone")

# %% [markdown]
# ## See
#
# The figure builds a net of equal hidden layers for small digits of 8 × 8 pixels, and shows the norm of the gradient for
# each layer's weights before any training. (**fan_in** is the number of inputs of a layer.) Change activation, depth and
# the size of the weights, and reach the goal that the figure sets you. Do not miss the right panel when you are there.

# %% role="demo"
small = datasets.load("digits")
GradientFigure(small.train.images, small.train.labels)

# %% [markdown]
# ## Derive: a product of many factors
#
# Take one layer, $z = x W^\top + b$ and $y = \sigma(z)$. Suppose that we know how the loss changes with the layer's
# outputs, $g_y = \partial L/\partial y$. The chain rule leads back through the activation, then through the sum:
#
# $$ g_z = g_y \odot \sigma'(z), \qquad g_W = g_z^\top x, \qquad g_b = \sum_n g_z, \qquad g_x = g_z\, W . $$
#
# ($\odot$ multiplies number by number; $x$, $y$ and their gradients have a row for each of $N$ examples, and $\sum_n$
# adds the rows up.) $g_W$ and $g_b$ move this layer's weights. $g_x$ goes on to the layer below, where it is that
# layer's $g_y$. So **each layer multiplies the gradient by its slopes and its weights**, and what arrives at the first
# of ten layers has been multiplied ten times.
#
# How large is one such factor? The sigmoid's slope is $\sigma'(z) = y(1-y)$, and that is $\tfrac14$ at most, at $z = 0$.
# How much the weights can stretch a gradient is a property of the matrix $W$: its largest **singular value**
# $\lVert W \rVert_2$, the most by which $W$ lengthens any vector. Together,
#
# $$ \lVert g_x \rVert \;\le\; \tfrac14\, \lVert W \rVert_2 \; \lVert g_y \rVert . $$
#
# That is the worst case. Now let $s_i$ be the slope of unit $i$. For a gradient that may point anywhere, the squares of the
# terms $g_i s_i W_{ij}$ add up (the mixed terms cancel on average), and the **expected** factor is
#
# $$ \rho = \sqrt{ \frac{1}{n_\text{out}} \sum_{i,j} \overline{s_i^2}\; W_{ij}^2 } , $$
#
# with $\overline{s_i^2}$ the mean of $s_i^2$ over the examples and $n_\text{out}$ the number of units. If $\rho = 0.14$
# in each of nine layers, the product is $0.14^9 \approx 2 \cdot 10^{-8}$. If it is 2, the product is $2^9 = 512$: the
# gradient **explodes**. Only near 1 do all layers learn at one pace.

# %% [markdown]
# ## Build
#
# ### 1. One layer, backward
#
# Write `dense_sigmoid_backward(x, weight, bias, grad_y)`: `x` is `(N, in)`, `weight` `(out, in)`, `bias` `(out,)`, and
# `grad_y` `(N, out)` is the gradient at the layer's output $\sigma(z)$. Return the gradients of `x`, `weight` and
# `bias`, in this order, each of the shape of what it is the gradient of. By hand, without PyTorch's autograd. Do not
# divide by N: if the loss is a mean, the factor is in `grad_y` already.


# %% exercise="vanishing_gradients.dense_sigmoid_backward" role="solution"
def dense_sigmoid_backward(x, weight, bias, grad_y):
    """(grad_x (N, in), grad_weight (out, in), grad_bias (out,)) of y = sigmoid(x Wᵀ + b)."""
    ### BEGIN SOLUTION
    y = torch.sigmoid(x @ weight.T + bias)
    grad_z = grad_y * y * (1 - y)
    return grad_z @ weight, grad_z.T @ x, grad_z.sum(0)
    ### END SOLUTION


# %% exercise="vanishing_gradients.dense_sigmoid_backward" role="check"
check("vanishing_gradients.dense_sigmoid_backward", dense_sigmoid_backward)

# %% [markdown]
# ### 2. Is a gradient right?
#
# A wrong backward pass does not crash: the net merely learns badly. So test it. The slope of $f$ along entry $i$ of $x$
# is nearly the **central difference**
#
# $$ n_i = \frac{f(x + h e_i) - f(x - h e_i)}{2h} $$
#
# ($e_i$ is 1 at entry $i$ and 0 elsewhere). Two questions decide whether the test is worth anything. *How large is $h$?*
# Too large, and the function bends between the two points; too small, and the difference of two nearly equal numbers is
# all rounding. *What counts as an error?* Gradients in deep nets can be tiny, so only the **relative** error tells:
# $|a_i - n_i| / \max(|a_i|, |n_i|)$, with $a_i$ the gradient under test. Here is $h$ at work on a function whose
# derivative we know, $e^x$ at $x = 1$:

# %% role="demo"
steps = np.logspace(-13, -1, 49)
central = [abs((np.exp(1 + h) - np.exp(1 - h)) / (2 * h) / np.e - 1) + 1e-16 for h in steps]
one_side = [abs((np.exp(1 + h) - np.exp(1)) / h / np.e - 1) + 1e-16 for h in steps]
best_step = steps[int(np.argmin(smooth(np.log(central), 5))) + 2]
plots.series(
    steps,
    {"both sides, ÷ 2h": [central], "one side, ÷ h": [one_side]},
    xlabel="step h",
    ylabel="relative error of the difference",
    logx=True,
    logy=True,
    alt=f"Relative error against h, both axes logarithmic: two V-shapes. The central difference is best around {best_step:.0e}.",
    caption=f"Right of the lowest point the curve of the function costs, left of it rounding does (float64). The central "
    f"difference is best around h = {best_step:.0e}, and far better there than the one-sided one ever is.",
)

# %% [markdown]
# Write `gradient_error(f, x, gradient)`. `f` takes a tensor of `x`'s shape and returns one number (a tensor without
# axes); `x` and `gradient` are float64, both of one shape, whichever it is: `x.numel()` is the number of entries, and
# `x.view(-1)[i]` is entry $i$ of all laid out in one row. Return one number, the **largest** of the entries' relative
# errors; an entry's is 0 where both $a_i$ and $n_i$ are 0. Choose a step yourself, one for all. Leave `x` as it was.


# %% exercise="vanishing_gradients.gradient_error" role="solution"
def gradient_error(f, x, gradient):
    """The largest |a − n| / max(|a|, |n|) over the entries of x, n by central differences of f."""
    ### BEGIN SOLUTION
    h, largest = 1e-5, 0.0
    for i in range(x.numel()):
        shift = torch.zeros_like(x)
        shift.view(-1)[i] = h
        n = float(f(x + shift) - f(x - shift)) / (2 * h)
        a = float(gradient.reshape(-1)[i])
        if a or n:
            largest = max(largest, abs(a - n) / max(abs(a), abs(n)))
    return largest
    ### END SOLUTION


# %% exercise="vanishing_gradients.gradient_error" role="check"
check("vanishing_gradients.gradient_error", gradient_error)

# %% [markdown]
# Both together: your check on your backward pass. An error around a billionth is right; a hundredth is wrong.

# %% role="demo"
generator = torch.Generator().manual_seed(0)
x64, w64, b64, g64 = (
    torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (5, 3), (5,), (4, 5))
)
try:
    found = dense_sigmoid_backward(x64, w64, b64, g64)
    functions = (
        lambda x: (g64 * torch.sigmoid(x @ w64.T + b64)).sum(),
        lambda w: (g64 * torch.sigmoid(x64 @ w.T + b64)).sum(),
        lambda b: (g64 * torch.sigmoid(x64 @ w64.T + b)).sum(),
    )
    report = ", ".join(
        f"{name} {gradient_error(f, value, gradient):.1e}"
        for name, f, value, gradient in zip(("x", "weight", "bias"), functions, (x64, w64, b64), found, strict=True)
    )
except NotImplementedError:
    report = "write exercises 1 and 2 first"
Markdown(f"Largest relative error of your gradient of: {report}.")

# %% [markdown]
# ### 3. The gradient in every layer
#
# Write `gradient_norms(model, x, labels)`: the norm of the gradient of the mean cross-entropy for the **weight** of every
# `nn.Linear` in the model, first layer first, as a tensor or a list. Whatever was in `.grad` before must not count. The
# model may hold modules within modules, and layers of other kinds too. Change no weights.


# %% exercise="vanishing_gradients.gradient_norms" role="solution"
def gradient_norms(model, x, labels):
    """The norms of the gradients of every dense layer's weight, first layer first."""
    ### BEGIN SOLUTION
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    return torch.stack([module.weight.grad.norm() for module in model.modules() if isinstance(module, nn.Linear)])
    ### END SOLUTION


# %% exercise="vanishing_gradients.gradient_norms" role="check"
check("vanishing_gradients.gradient_norms", gradient_norms)

# %% [markdown]
# The net that failed, freshly made, beside two others. (**He's** initialization is another way to choose the size of the
# random weights, meant for ReLU. In layers of equal size Glorot's weights are √3 ≈ 1.7 times as large as PyTorch's default,
# and He's √6 ≈ 2.4 times.)

# %% role="demo"
nets = {
    "sigmoid, PyTorch's default": deep_net(10),
    "sigmoid, Glorot": deep_net(10, start=nn.init.xavier_normal_),
    "ReLU, He": deep_net(10, nn.ReLU, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
}


def weight_gradients(model):
    """The course's own: norms of the weights' gradients on 500 digits, first layer first."""
    model.zero_grad()
    F.cross_entropy(model(images[:500]), labels[:500]).backward()
    found = [n.gradient_norm for n in diagnostics.gradient_norms(model) if n.name.endswith("weight")]
    model.zero_grad()
    return found


norms = {name: weight_gradients(model) for name, model in nets.items()}
failed = norms["sigmoid, PyTorch's default"]
times_smaller = failed[9] / failed[0]
plots.series(
    range(1, 12),
    {name: [values] for name, values in norms.items()},
    xlabel="layer (1 next to the input, 11 the logits)",
    ylabel="gradient norm of the weights",
    logy=True,
    alt="Gradient norm by layer on a log axis: two rising straight lines for the sigmoid nets, a nearly level one for ReLU. "
    + "; ".join(f"{name}: from {values[0]:.1e} to {values[-1]:.1e}" for name, values in norms.items()),
    caption="Before any training. A straight line on a log axis is a constant factor a layer. With PyTorch's default weights "
    f"the tenth layer's gradient is {times_smaller:.1e} times the first's; with ReLU and He's, "
    f"{norms['ReLU, He'][9] / norms['ReLU, He'][0]:.1f} times.",
)

# %% role="demo"
reveal("first_layer_gradient", times_smaller)

# %% [markdown]
# ### 4. Predict the factor
#
# Write `layer_factor(x, weight, bias)` for one sigmoid layer, its arguments as in exercise 1. Return two numbers:
#
# 1. `predicted`: the expected factor $\rho$ from the derivation above, with the mean of the squared slopes taken over the
#    examples;
# 2. `bound`: the most that any gradient can be multiplied by, whatever the input: $\tfrac14 \lVert W \rVert_2$
#    (`torch.linalg.matrix_norm(weight, 2)` is the largest singular value).
#
# For `x = [[0]]`, `weight = [[2]]`, `bias = [0]` both are 0.5: the slope is 1/4 at $z = 0$, and the weight is 2.


# %% exercise="vanishing_gradients.layer_factor" role="solution"
def layer_factor(x, weight, bias):
    """(predicted, bound) of a sigmoid layer's factor on the gradient: x (N, in), weight (out, in), bias (out,)."""
    ### BEGIN SOLUTION
    y = torch.sigmoid(x @ weight.T + bias)
    slope = y * (1 - y)
    predicted = (slope.square().mean(0) @ weight.square().sum(1) / len(weight)).sqrt()
    return predicted, torch.linalg.matrix_norm(weight, 2) / 4
    ### END SOLUTION


# %% exercise="vanishing_gradients.layer_factor" role="check"
check("vanishing_gradients.layer_factor", layer_factor)

# %% [markdown]
# Does it agree with what happens? For each hidden layer of the failed net but the first: the factor on the gradient,
# measured; predicted from slopes and weights; and the bound.


# %% role="demo"
def factors(model, x, y):
    """For the hidden layers 2 to 10: (measured, predicted, bound)."""
    hidden, h = [x], x
    for module in model:
        h = module(h)
        if not isinstance(module, nn.Linear):
            hidden.append(h)
    grads = torch.autograd.grad(F.cross_entropy(h, y), hidden[1:])
    dense = [module for module in model if isinstance(module, nn.Linear)]
    rows = []
    for i in range(1, len(grads)):
        weight = dense[i].weight.detach()
        slope = (hidden[i + 1] * (1 - hidden[i + 1])).detach()
        predicted = (slope.square().mean(0) @ weight.square().sum(1) / len(weight)).sqrt()
        bound = torch.linalg.matrix_norm(weight, 2) / 4
        rows.append([float(grads[i - 1].norm() / grads[i].norm()), float(predicted), float(bound)])
    return np.array(rows)


of_layers = factors(nets["sigmoid, PyTorch's default"], images[:500], labels[:500])
middle = of_layers[4, 0]
plots.series(
    range(2, 11),
    dict(zip(("measured", "predicted", "bound: ¼ ‖W‖₂"), of_layers.T[:, None], strict=True)),
    xlabel="hidden layer",
    ylabel="factor on the gradient's norm",
    alt=f"The factor of each hidden layer: measured {of_layers[:, 0].min():.2f} to {of_layers[:, 0].max():.2f}, predicted "
    f"{of_layers[:, 1].mean():.2f}, bound {of_layers[:, 2].mean():.2f}.",
    caption=f"What each layer multiplies the gradient by: {of_layers[:, 0].mean():.3f} measured, {of_layers[:, 1].mean():.3f} "
    f"predicted (means over the layers). Even the bound, {of_layers[:, 2].mean():.2f}, is far below 1: no gradient, whichever "
    "way it points, comes through such a layer unharmed.",
)

# %% role="demo"
reveal("factor_of_a_layer", middle)

# %% [markdown]
# ### 5. How many units are saturated?
#
# The usual explanation of the vanishing gradient is saturation: far from 0 the sigmoid is flat. Measure it. Write
# `saturated_share(model, x)`: for each `nn.Sigmoid` and each `nn.Tanh` in the model, first layer first, the share of its
# values (over examples and units together) at which the slope is **under 5% of that activation's steepest slope**. Return
# these shares, between 0 and 1, as a tensor or a list. The slope of tanh is $1 - y^2$. The model may hold modules within
# modules, and other activations, which do not count. Leave the model as you found it.
#
# To see what goes on inside a model, hang a **hook** on a module: `handle = module.register_forward_hook(f)` has PyTorch
# call `f(module, args, output)` in each **forward pass** (when the model computes its outputs), until `handle.remove()`.


# %% exercise="vanishing_gradients.saturated_share" role="solution"
def saturated_share(model, x):
    """For each Sigmoid and Tanh of the model, in order: the share of values whose slope is under 5% of its steepest."""
    ### BEGIN SOLUTION
    shares = []

    def look(module, args, y):
        relative = 4 * y * (1 - y) if isinstance(module, nn.Sigmoid) else 1 - y.square()
        shares.append((relative < 0.05).float().mean())

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return torch.stack(shares)
    ### END SOLUTION


# %% exercise="vanishing_gradients.saturated_share" role="check"
check("vanishing_gradients.saturated_share", saturated_share)


# %% role="demo"
def saturated(model):
    """The course's own, in percent, over all activations of the model."""
    found = diagnostics.layer_statistics(model, (images[:500], labels[:500]))
    return 100 * float(np.mean([layer.saturated for layer in found if layer.saturated is not None]))


wide = deep_net(10, start=nn.init.normal_)  # weights from a normal distribution of spread 1
glorot_share = saturated(nets["sigmoid, Glorot"])
lines = [
    (name, saturated(model), weight_gradients(model), factors(model, images[:500], labels[:500])[:, 0])
    for name, model in (
        ("PyTorch's default", nets["sigmoid, PyTorch's default"]),
        ("Glorot", nets["sigmoid, Glorot"]),
        ("N(0, 1): spread 1", wide),
    )
]
Markdown(
    "| ten sigmoid layers, weights | saturated units | factor of a layer | gradient, first ÷ tenth layer |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {name} | {share:.1f}% | {np.exp(np.log(rho).mean()):.2f} | {g[0] / g[9]:.1e} |"
        for name, share, g, rho in lines
    )
)

# %% role="demo"
reveal("is_saturation_the_cause", glorot_share)

# %% [markdown]
# So saturation is *a* way to lose the gradient, and not the way it is lost here. With small weights hardly any unit is
# saturated, and each layer still passes on a small part; with weights of spread 1 most units are saturated, and the few
# that are not, times the large weights, carry the gradient all the same. What counts is the **product** of slope and
# weights. (The factor is that on $g_y$, from layer to layer. The last column compares $g_W$, in which the layer's
# slopes and inputs stand as well, so it need not be a power of the factor.) Card V4 below has more seeds.
#
# ### 6. A way around: the residual block
#
# If a product of many factors is the trouble, let the gradient also take a road without factors. A **residual block** adds
# its input to its output (He and others, 2015): the input takes the usual way through layers, the **branch**, and a way
# around them, the **skip**. With one hidden layer in the branch:
#
# $$ y = x + \sigma(x W_1^\top)\, W_2^\top . $$
#
# Write `residual_block(x, w1, w2, grad_y)` and return `(y, grad_x)`: the output, and the gradient at `x` when `grad_y`
# is the gradient at `y`, both `(N, n)`. `x` and `grad_y` are `(N, n)`, `w1` is `(hidden, n)`, `w2` `(n, hidden)`. By
# hand again. Where a value goes two ways, its gradients from both ways add up.


# %% exercise="vanishing_gradients.residual_block" role="solution"
def residual_block(x, w1, w2, grad_y):
    """(y, grad_x) of y = x + σ(x W₁ᵀ) W₂ᵀ, both (N, n)."""
    ### BEGIN SOLUTION
    h = torch.sigmoid(x @ w1.T)
    y = x + h @ w2.T
    grad_x = grad_y + (grad_y @ w2 * h * (1 - h)) @ w1
    return y, grad_x
    ### END SOLUTION


# %% exercise="vanishing_gradients.residual_block" role="check"
check("vanishing_gradients.residual_block", residual_block)

# %% [markdown]
# Twenty such blocks in a row, with the addition and without it: the norm of the gradient on its way back.


# %% role="demo"
def through_blocks(skip, blocks=20, width=64, seed=0):
    """The norm of a gradient at the inputs of 20 blocks, the last block's first, over that at the output."""
    draw = torch.Generator().manual_seed(seed)
    weights = [torch.randn(2, width, width, generator=draw) / width**0.5 for _ in range(blocks)]
    states = [torch.randn(32, width, generator=draw)]
    for w1, w2 in weights:
        branch = torch.sigmoid(states[-1] @ w1.T) @ w2.T
        states.append(states[-1] + branch if skip else branch)
    grad, found = torch.randn(32, width, generator=draw), [1.0]
    size = grad.norm()
    for (w1, w2), x in zip(weights[::-1], states[-2::-1], strict=True):
        h = torch.sigmoid(x @ w1.T)
        back = (grad @ w2 * h * (1 - h)) @ w1
        grad = grad + back if skip else back
        found.append(float(grad.norm() / size))
    return found


roads = {"with the addition": through_blocks(True), "without": through_blocks(False)}
plots.series(
    range(0, 21, 4),
    {name: [values[::4]] for name, values in roads.items()},
    xlabel="blocks passed on the way back",
    ylabel="gradient norm ÷ that at the output",
    logy=True,
    alt="Gradient norm against blocks passed, log axis. "
    + "; ".join(f"{name}: {values[-1]:.1e} after 20" for name, values in roads.items()),
    caption=f"After twenty blocks {roads['with the addition'][-1]:.2g} times the gradient is there with the addition, and "
    f"{roads['without'][-1]:.1e} times without. The road around each block has a factor of 1.",
)

# %% [markdown]
# ### 7. Against explosion: clipping
#
# Factors above 1 make the gradient grow, and one step of a hundred times the usual length throws the weights far away.
# **Clipping by the global norm** limits the length of the step and keeps its direction: take the norm $\lVert g \rVert$ of
# *all* gradients together, as if they were one long vector, and multiply every one of them by
#
# $$ \min\Big(1,\; \frac{\mathrm{max\_norm}}{\lVert g \rVert + 10^{-6}}\Big) . $$
#
# Write `clip_gradients(grads, max_norm)`: `grads` is a list of tensors. Return two things, the list of clipped
# gradients and the norm that all together had **before**, for the log. Do not change the tensors that came in.
#
# For `grads = [[3, 0], [4]]` and `max_norm = 1` the norm is 5, and the clipped gradients are `[0.6, 0]` and `[0.8]`.


# %% exercise="vanishing_gradients.clip_gradients" role="solution"
def clip_gradients(grads, max_norm):
    """(the clipped gradients, the norm of all together before)."""
    ### BEGIN SOLUTION
    norm = torch.stack([g.norm() for g in grads]).norm()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return [g * factor for g in grads], norm
    ### END SOLUTION


# %% exercise="vanishing_gradients.clip_gradients" role="check"
check("vanishing_gradients.clip_gradients", clip_gradients)

# %% [markdown]
# Clipping does nothing for a gradient that vanishes: it never makes one larger. Nor does it mend the cause of an explosion;
# it keeps a run alive while the weights find their way. The clinic below shows it at work.

# %% [markdown]
# ## Trust: yours against the frameworks
#
# **Keras** is another library for nets; here it computes with **TensorFlow**, whose autograd is a **tape** that records
# what is computed. Your results beside those of both, on the same numbers:

# %% role="demo"
keras = load_keras()  # some seconds
import tensorflow as tf

layer_x, layer_w, layer_b, layer_g = (t.clone().requires_grad_() for t in (x64, w64, b64, g64))
torch_grads = torch.autograd.grad(
    (g64 * torch.sigmoid(layer_x @ layer_w.T + layer_b)).sum(), (layer_x, layer_w, layer_b)
)
keras_layer = keras.layers.Dense(5, activation="sigmoid", dtype="float64")
keras_layer.build((None, 3))
keras_layer.set_weights([w64.T.numpy(), b64.numpy()])  # Keras keeps (in, out), PyTorch (out, in)
with tf.GradientTape() as tape:
    total = tf.reduce_sum(g64.numpy() * keras_layer(x64.numpy()))
keras_kernel = torch.tensor(tape.gradient(total, keras_layer.kernel.value).numpy()).T
many = [1e3 * torch.randn(6, 4, generator=generator), 1e3 * torch.randn(6, generator=generator)]
parameters = [nn.Parameter(torch.zeros_like(g)) for g in many]
for parameter, gradient in zip(parameters, many, strict=True):
    parameter.grad = gradient.clone()
torch.nn.utils.clip_grad_norm_(parameters, 1.0)
keras_clipped = tf.clip_by_global_norm([g.numpy() for g in many], 1.0)[0]
x_skip = x64.clone().requires_grad_()
w1, w2 = w64, w64.T.contiguous()
skip_grad = torch.autograd.grad(((x_skip + torch.sigmoid(x_skip @ w1.T) @ w2.T) * x64).sum(), x_skip)[0]

trust.table(
    [
        trust.Row(
            "dense_sigmoid_backward, of x",
            "autograd (PyTorch)",
            lambda: dense_sigmoid_backward(x64, w64, b64, g64)[0],
            torch_grads[0],
        ),
        trust.Row(
            "dense_sigmoid_backward, of the weight",
            "autograd (PyTorch)",
            lambda: dense_sigmoid_backward(x64, w64, b64, g64)[1],
            torch_grads[1],
        ),
        trust.Row(
            "dense_sigmoid_backward, of the weight",
            "layers.Dense and a tape (Keras)",
            lambda: dense_sigmoid_backward(x64, w64, b64, g64)[1],
            keras_kernel,
        ),
        trust.Row(
            "residual_block, of x",
            "autograd (PyTorch)",
            lambda: residual_block(x64, w1, w2, x64)[1],
            skip_grad,
        ),
        trust.Row(
            "clip_gradients",
            "clip_grad_norm_ (PyTorch)",
            lambda: clip_gradients(many, 1.0)[0][0],
            parameters[0].grad,
        ),
        trust.Row(
            "clip_gradients",
            "clip_by_global_norm (TensorFlow)",
            lambda: clip_gradients(many, 1.0)[0][1],
            torch.tensor(keras_clipped[1].numpy()),
        ),
    ]
)

# %% [markdown]
# ## In the frameworks
#
# What differs, read just now from the versions that are installed here (the rules it names are the matter of lesson 2):

# %% role="demo"
rows = [
    conventions.get(name)
    for name in (
        "initializers.kernel_layout",
        "initializers.dense_weights",
        "initializers.dense_bias",
        "optimizers.clip_norm",
    )
]
Markdown(
    "| what | PyTorch | Keras | the trap |\n|---|---|---|---|\n"
    + "\n".join(f"| {row.what} | {row.torch()} | {row.keras(keras)} | {row.trap} |" for row in rows)
)

# %% [markdown]
# And what they share, in other words:
#
# | what | PyTorch | Keras 3 with TensorFlow |
# |---|---|---|
# | record a forward pass | always, outside of `torch.no_grad()` | inside `with tf.GradientTape() as tape:` |
# | ask for gradients | `loss.backward()`, then `weight.grad` | `tape.gradient(loss, [kernel, …])` |
# | ask twice | `.grad` **adds up** until `zero_grad()` | the tape is **empty** after one answer |
# | no way from loss to weight | `.grad` stays `None` | the gradient is `None` |
# | clip all gradients together | `nn.utils.clip_grad_norm_(model.parameters(), 1.0)` between `backward()` and `step()` | `SGD(global_clipnorm=1.0)` |
#
# ### 8. The same in Keras
#
# Write `keras_gradient_norms(model, x, labels)` with TensorFlow's `GradientTape`: the norm of the gradient for the
# `kernel` (Keras's word for the weight) of every `keras.layers.Dense` in `model.layers`, first layer first, as a list.
# The loss is the **mean** cross-entropy. `labels` are class numbers, so it is
# `keras.losses.SparseCategoricalCrossentropy`, called with labels and outputs; its option `from_logits` tells it that
# the outputs are logits, as here, and not probabilities. Call the model as in a training step:
# `model(x, training=True)`. (Batch normalization, for one, computes otherwise when training is over.) `tf.norm` is the
# norm. Import what you need inside.


# %% exercise="vanishing_gradients.keras_norms" role="solution"
def keras_gradient_norms(model, x, labels):
    """The norms of the gradients of every Dense layer's kernel, first layer first."""
    ### BEGIN SOLUTION
    import keras
    import tensorflow as tf

    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    return [float(tf.norm(gradient)) for gradient in tape.gradient(loss, kernels)]
    ### END SOLUTION


# %% exercise="vanishing_gradients.keras_norms" role="check"
check("vanishing_gradients.keras_norms", keras_gradient_norms)

# %% [markdown]
# The failed net once more, rebuilt in Keras with the same weights. Do the two frameworks see the same gradients?

# %% role="demo"
twin = keras_twin.to_keras(nets["sigmoid, Glorot"], (784,))
try:
    by_keras = keras_gradient_norms(twin, images[:500].numpy(), labels[:500].numpy())
    by_torch = norms["sigmoid, Glorot"]
    told = f"largest relative difference {max(abs(a / b - 1) for a, b in zip(by_keras, by_torch, strict=True)):.1e}"
except NotImplementedError:
    told = "write exercise 8 first"
Markdown(f"Your Keras norms against PyTorch's, eleven layers: {told}.")

# %% [markdown]
# ## Clinic
#
# Two runs came in this morning.
#
# ### 9. Twenty layers at chance
#
# "This is how I build my net. It has twenty dense layers, and after any number of steps it is right as often as a coin with
# four sides." (The task has four classes.)


# %% role="demo"
def sick_net(sizes):
    layers = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):  # noqa: RUF007
        layers += [nn.Linear(n_in, n_out), nn.Sigmoid()]
    return nn.Sequential(*layers[:-1])


torch.manual_seed(0)
sick = sick_net([784] + [24] * 19 + [10])
sick_norms = weight_gradients(sick)
Markdown(
    f"Gradient norms of its twenty layers, at the start, on digits: {sick_norms[0]:.1e} in the first, {sick_norms[9]:.1e} in "
    f"the tenth, {sick_norms[-1]:.2f} in the last. Saturated units: {saturated(sick):.1f}%."
)

# %% [markdown]
# Mend it. Write `mended_net(sizes)`: `sizes` lists the numbers of inputs, hidden units and classes, as
# `[12, 24, 24, …, 24, 4]`. The net keeps **all its dense layers, with these sizes**, and gives logits. At the start,
# the norm of the first layer's gradient must be between 1/100 and 100 times the last one's. Then it is trained for 60
# steps of Adam, with a rate that you can't choose, and must be right on over 90% of the training examples. You have a
# budget of **two changes**, out of
#
# - another activation (one kind for all layers);
# - another start of the weights (all layers alike; biases may start at 0 without counting);
# - normalization layers between (`nn.BatchNorm1d(n)` brings each unit's $z$ to mean 0 and spread 1 over the batch; lesson 4
#   is about it).
#
# Use modules for the activations, such as `nn.ReLU()`, and pass the layers of a list on to `nn.Sequential` with a star:
# `nn.Sequential(*layers)`.


# %% exercise="vanishing_gradients.clinic_depth" role="solution"
def mended_net(sizes):
    """A net with dense layers of these sizes that learns; at most two things differ from sick_net."""
    ### BEGIN SOLUTION
    layers = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):  # noqa: RUF007
        dense = nn.Linear(n_in, n_out)
        nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
        nn.init.zeros_(dense.bias)
        layers += [dense, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
    ### END SOLUTION


# %% exercise="vanishing_gradients.clinic_depth" role="check"
check("vanishing_gradients.clinic_depth", mended_net)

# %% [markdown]
# ### 10. It went well, and then it was NaN
#
# "Ten ReLU layers. I start with a small learning rate, to be careful, and from step 30 on I use the real one. Soon after,
# the loss is NaN." They logged the loss and the gradient norm of every layer. Here is such a run, and the same run with
# its gradients clipped at norm 1:


# %% role="demo"
def careful_rate(step):
    return 0.03 if step < 30 else 0.5


def exploding_net():
    return deep_net(10, nn.ReLU, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"))


run_losses, run_norms = train(exploding_net(), 100, careful_rate)
clipped_losses, clipped_norms = train(exploding_net(), 100, careful_rate, clip=1.0)
alive = int(np.isfinite(run_losses).sum())
totals = [np.sqrt((found**2).sum(1)) for found in (run_norms, clipped_norms)]
shown = min(alive, int(np.isfinite(totals[0]).sum()))
plots.series(
    range(shown),
    {"as it came": [totals[0][:shown]], "clipped at norm 1 (norm before clipping)": [totals[1][:shown]]},
    xlabel="step",
    ylabel="gradient norm, all layers",
    logy=True,
    alt=f"Gradient norm by step, log axis. As it came it shoots up to {totals[0][:shown].max():.1e} in the last steps before "
    f"step {shown}; clipped it stays below {totals[1].max():.0f}.",
    caption=f"The run as it came, up to its last finite step ({shown - 1}), and the same net, batches and rates with clipping: "
    f"that one goes on, and after 100 steps its loss is {clipped_losses[-5:].mean():.2f} nats.",
)

# %% [markdown]
# Write `find_explosion(losses, norms)`, which reads a log: `losses` is a numpy array of shape `(T,)`, `norms` of shape
# `(T, layers)` with each layer's gradient norm. Return `(step, layer, kind)`:
#
# - the **total** of a step is the norm of all layers together, the root of the sum of their squares. A step is **abnormal**
#   if its total is above 10 × the **median** of the totals of all steps before it, or is NaN. The first five steps (0
#   to 4) are never abnormal: there is nothing to compare them with. `step` is the first abnormal one;
# - `layer` is the one that has grown the most there: its norm at that step, divided by the median of its own norms before;
# - `kind` is `"spike"` if any later total is within the limit of that step again (one bad batch, say), and otherwise
#   `"explosion"`.
#
# Where no step is abnormal, return `(-1, -1, "none")`. Count from 0. In real logs the numbers end in NaN, which compares as
# false with everything; a loss can also jump for reasons of its own.


# %% exercise="vanishing_gradients.clinic_explosion" role="solution"
def find_explosion(losses, norms):
    """(step, layer, kind) of the first abnormal step in a log; (-1, -1, "none") where there is none."""
    ### BEGIN SOLUTION
    total = np.sqrt((norms**2).sum(1))
    for t in range(5, len(total)):
        limit = 10 * np.median(total[:t])
        if not total[t] <= limit:  # true for NaN too
            layer = int(np.argmax(norms[t] / np.median(norms[:t], axis=0)))
            return t, layer, "spike" if (total[t + 1 :] <= limit).any() else "explosion"
    return -1, -1, "none"
    ### END SOLUTION


# %% exercise="vanishing_gradients.clinic_explosion" role="check"
check("vanishing_gradients.clinic_explosion", find_explosion)

# %% role="demo"
try:
    step, layer, kind = find_explosion(run_losses, run_norms)
    clipped_step, _, clipped_kind = find_explosion(clipped_losses, clipped_norms)
    told = (
        f"As it came: **{kind}** from step {step}, most of all in layer {layer} (counted from 0); the first loss that is no "
        f"number comes at step {alive}. Clipped: **{clipped_kind}**{f' at step {clipped_step}' if clipped_step >= 0 else ''}."
    )
except NotImplementedError:
    told = "Write exercise 10 first."
Markdown(told)

# %% [markdown]
# ## Evidence
#
# What this lesson says, and what people say about vanishing gradients, each put to the test on real images, with at least
# five seeds. Where methods compete, each was tuned with the same budget. *Does not hold* means that the rule written on the
# card was not met, in small nets and short training; read the rule. `course evidence V4` in a terminal measures one again on
# your own machine.
#
# Some words on the cards: an **arm** is one of the ways compared. **Validation** images serve for choosing, the
# learning rate for one; the errors told come from **test** images, which serve for nothing else. A **95% interval**
# says how precisely the seeds settle a mean: another set of seeds would mostly have given a mean in there. It is
# **paired** where two arms are compared seed by seed.
#
# **It vanishes.** V1 fits the factor of a layer on the gradient for the *weights* (V4, below, that on the gradient at the
# outputs), before and after training, at three starts; look at how much it depends on the size of the weights. V2 asks what
# that costs: how far do the first layer's weights move, and where does training end, beside a shallow net and a healthy
# deep one?

# %% role="demo"
claims.evidence("V1")

# %% role="demo"
claims.evidence("V2")

# %% [markdown]
# **It explodes.** V3 raises the scale of the initial weights until the gradient explodes, and asks what clipping rescues. (A
# net whose outputs are no numbers any more is counted as wrong on every image.) *Rescues* means no more than the rule on the
# card says: look at how far the clipped runs stay behind the net that starts at a fitting scale. And compare ReLU with
# sigmoid: what cannot grow without limit on the way forward hardly explodes on the way back.

# %% role="demo"
claims.evidence("V3")

# %% [markdown]
# **Why?** V4 takes the textbook's explanation at its word.

# %% role="demo"
claims.evidence("V4")

# %% [markdown]
# **What helps?** The list of six remedies stands in many courses. V5 tries each of them *alone* on one failing net. *Reused
# layers* were trained beforehand, one by one and without labels, so that each layer's input can be computed back from its
# output; the *faster optimizer* is Adam.

# %% role="demo"
claims.evidence("V5")

# %% role="demo"
remedies = claims.load("V5").series[0]
plots.arms(
    {arm: by_set[0] for arm, by_set in remedies.arms.items()},
    xlabel=f"test error on {remedies.x[0]} (%)",
    alt="Test error of each arm: " + ", ".join(f"{arm} {remedies.mean(arm):.0f}%" for arm in remedies.arms),
    caption="Card V5's nets: a dot for each seed, a bar from the lowest to the highest. The first row is the failing net, the "
    "next six change one thing each, the last two change several.",
)

# %% role="demo"
single = {
    arm: remedies.mean(arm) for arm in ("initialization", "activation", "batch norm", "faster optimizer", "larger rate")
}
reveal("which_remedy_alone", min(single, key=single.get))

# %% [markdown]
# **And the price of depth.** A net that **overfits** knows its training examples by heart and fails on new ones; the
# gap between test and training error shows it. V6 asks whether depth and size (the number of **parameters**, weights
# and biases) bring that about. Look at its lower figures before you believe the verdict: the gap grows only until the
# net is large enough to fit the training images at all, and a larger gap goes with a *smaller* test error there.

# %% role="demo"
claims.evidence("V6")

# %% [markdown]
# ## Explain
#
# ### 11. In your own words
#
# A colleague writes: "My net has fifteen sigmoid layers and stays at chance. I have tried learning rates of 0.1, 1 and 10.
# I read about gradient clipping, so I added it. Nothing helps." Explain what is happening, why the learning rate does not
# mend it, whether clipping can, what they should measure first, and what to change. Ten sentences are enough. In a class a
# teacher reads this one; on your own, write it first, and then open what a teacher would look for, below.

# %% [markdown] exercise="vanishing_gradients.explain" role="explain"
# ### BEGIN SOLUTION
# On its way back from the loss the gradient is multiplied in each layer by the sigmoid's slope, at most 1/4, and by the
# weights. With ordinary weights each layer passes on a small part of it, so after fifteen layers hardly anything is left:
# the first layers' weights stay as they were drawn, and what they hand up is noise.
#
# A larger rate multiplies all layers' steps alike, but the layers' gradients differ by many powers of ten: a rate that moves
# the first layer throws the last one far off. Clipping only ever shortens gradients that are too long; these are too short.
#
# Measure the norm of each layer's gradient (or the update relative to the weights), at the start and after some hundred
# steps: a straight line on a log axis that falls toward the input is the sign. Then change what the factor is made of:
# ReLU and weights drawn to match it, together; or batch normalization before each sigmoid; or residual connections, which
# give the gradient a road without factors. Measure again: the line should be level.
# ### END SOLUTION

# %% role="demo"
from autograder import exercises

rubric = exercises.get("vanishing_gradients.explain").rubric
Markdown(
    "<details><summary>What a teacher looks for</summary>\n\n"
    + "\n".join(f"- {what} ({points:g})" for what, points in rubric.items())
    + "\n\n</details>"
)

# %% [markdown]
# ## Summary
#
# - On the way back each layer multiplies the gradient by its slopes and its weights. Over many layers that is a power: it
#   vanishes, it explodes, or, near a factor of 1, it comes through.
# - The sigmoid's slope is at most 1/4. With weights of ordinary size that is enough to lose the gradient, with hardly a
#   unit saturated.
# - Look at the norm of every layer's gradient on a log axis before you change anything. A straight line is a constant
#   factor.
# - No learning rate fits layers whose gradients differ by powers of ten. Change the factor: activation *and* start of the
#   weights together, normalization, or residual connections.
# - Clipping by the global norm keeps the direction, never scales up, and is against explosion only. Log the norm from
#   before.
# - A gradient check takes central differences in float64, a step around a hundred-thousandth, and relative errors.
# - What was measured:

# %% role="demo"
settled = [claims.load(id) for id in ("V1", "V4", "V5")]
Markdown(
    "\n".join(
        f"- *{r.statement}* **{' '.join(filter(None, (r.verdict, r.condition)))}.** {r.headline}" for r in settled
    )
)

# %% [markdown]
# ## Sources
#
# - Hochreiter: *Untersuchungen zu dynamischen neuronalen Netzen*, diploma thesis, TU München, 1991.
# - Bengio, Simard, Frasconi: *Learning long-term dependencies with gradient descent is difficult*, IEEE Transactions on
#   Neural Networks 5, 1994.
# - Glorot, Bengio: *Understanding the difficulty of training deep feedforward neural networks*, AISTATS 2010.
# - Pascanu, Mikolov, Bengio: *On the difficulty of training recurrent neural networks*, 2013, arXiv:1211.5063 (clipping by
#   the global norm).
# - He, Zhang, Ren, Sun: *Delving deep into rectifiers*, 2015, arXiv:1502.01852; *Deep residual learning for image
#   recognition*, 2015, arXiv:1512.03385.
# - Data: MNIST, and the digits of scikit-learn; licences stand beside the files in `course_lib/datasets`.
