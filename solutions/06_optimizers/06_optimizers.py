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
# # Optimizers and learning-rate schedules
#
# *Lesson 6 of Training Deep Nets. About three and a half hours; seventeen exercises that check themselves and one
# graded by hand. You need Python and linear regression. The words of the trade are explained where they first appear.*
#
# People ask it like this:
#
# > When I compile a Keras model I give it metrics (such as accuracy) and a loss. **Which of the two does the model
# > optimize?** Does it maximize the accuracy, or minimize the loss?
#
# And soon afterwards:
#
# > Everybody says: use Adam. Is it really better than plain gradient descent, and do I still need a learning-rate
# > schedule?
#
# > I lower the rate every three epochs, but the loss looks as if I did not. Here is my code:
# > `alpha = initAlpha * (factor ** np.floor((1 + epoch) / dropEvery))` with `initAlpha = 0.01`, `factor = 1`,
# > `dropEvery = 3`.
#
# > Which rate do I start with?
#
# By the end you will have written the usual optimizers and schedules yourself, seen them agree with PyTorch and Keras
# up to rounding, found what is wrong with three training runs, and read the measurements behind each rule of thumb.

# %% role="setup"
import copy
import math

import numpy as np
import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from autograder.check import check
from course_lib import claims, conventions, datasets, plots, schedules, trust
from course_lib.predictions import predict, reveal
from course_lib.quiet import load_keras
from course_lib.widgets import optimizers as widgets

torch.set_num_threads(1)  # small nets run faster on one thread

# %% [markdown]
# ## The words you need
#
# A **layer** takes a row of numbers for each example and computes weighted sums of them, as in linear regression, one
# sum for each of its **units**. Between layers an **activation** bends each number, mostly
# $\mathrm{ReLU}(z) = \max(0, z)$. Layers in a row make a **net**. What it learns are its **parameters**: the weights in
# the sums, and the biases added to them. Where the difference does not matter, this lesson says *weights* for all of
# them. The last layer gives one number for each **class** (here the digits 0 to 9), and **softmax** turns these into
# probabilities that sum to 1.
#
# The **loss** says how bad the outputs are for some examples. Ours is the **cross-entropy**: minus the natural
# logarithm of the probability that the right class got, averaged over the examples. Its unit is the **nat**. The
# **gradient** $g$ of the loss has one number for each weight: how fast the loss rises if that weight rises. So going
# *against* the gradient lowers the loss:
#
# $$ w \leftarrow w - \eta\, g . $$
#
# That is **gradient descent**. The factor $\eta$ ("eta") is the **learning rate**, `lr`, or just *rate*. Linear
# regression can be fitted in this way too, but there a formula gives the answer at once. For a net there is no formula,
# so steps are all we have, and everything in this lesson is about taking better ones.
#
# The gradient is computed on a small **batch** of examples at a time, another one in each **step** (or *update*);
# gradient descent by batches is called **SGD**, stochastic gradient descent. Once all the training examples have been
# seen, an **epoch** is over. An **optimizer** is the rule that turns gradients into steps. A **schedule** changes the
# rate as training goes on. A **metric** is any further number that Keras computes as it trains, such as the
# **accuracy**, the share of right answers.
#
# Two distinctions matter all the time. **Training loss** says how well the net fits the examples that it has seen;
# **test accuracy** (or **test error**, the share of wrong answers) how well it does on new ones. A third set, for
# **validation**, serves for choices on the way, such as that of the rate. And **steps** are not **seconds**: a clever
# step may cost more.
#
# The **norm** of some numbers is the root of the sum of their squares, $\lVert w \rVert = \sqrt{\sum_i w_i^2}$: their
# length, if they are taken for an arrow. Weights start at random, and batches come in a random order; a **seed** fixes
# both, and another seed is another run.
#
# The pictures are 5,000 handwritten digits (`mnist5k`) and, in the measurements at the end, silhouettes of animals
# (`animalshape`). Both come with the course.
#
# ### The PyTorch you need
#
# A **tensor** is an array, as in numpy: `x * y`, `x ** 2`, `x.sqrt()` work number by number. `x -= y` changes a tensor
# in place, for everybody who holds it; `x = x - y` makes a new one, and so does `x.clone()`. `torch.zeros_like(x)` is a
# tensor of zeros of the same shape, and `torch.stack(list)` makes one tensor of a list of equal ones. `x.dim()` says
# how many axes it has, and `x.norm()` is its norm.
#
# `nn.Linear(a, b)` is a layer from `a` numbers to `b` units; its weight has two axes, its bias one. `nn.Sequential`
# puts layers in a row, `model(x)` gives the outputs, and `model.parameters()` all tensors that are learned (a
# **frozen** one, with `requires_grad` false, stays as it is). `F.cross_entropy(outputs, labels)` is the loss, averaged
# over the batch (`reduction="sum"` adds it up instead); it applies the softmax itself.
#
# PyTorch records how a tensor was computed. `loss.backward()` goes back along that record, computes the gradient of the
# loss and **adds** it to `.grad` of every parameter; `optimizer.zero_grad()` or `model.zero_grad()` clears it;
# `optimizer.step()` applies the rule. `with torch.no_grad():` records nothing: there you may change weights yourself.
# `loss.item()` is the number alone, as a float, without the record; `x.detach()` is the tensor without it, and still
# shares the numbers with `x`.

# %% [markdown]
# ## Predict
#
# Commit to an answer before you read on. A guess that turns out wrong teaches more than a right answer that you only
# read. Nothing here is graded or sent anywhere. Two names, in short; you will build both. **Momentum** keeps a
# velocity: what is left of the step before, μ ("mu", mostly 0.9) times its length, and the new gradient's push on top.
# **Adam** is an optimizer that gives every single weight a rate of its own.

# %% role="demo"
predict("coasting_after_the_cut")

# %% role="demo"
predict("first_step_of_adam")

# %% role="demo"
predict("adam_against_momentum")

# %% role="demo"
predict("metrics_move_weights")

# %% [markdown]
# ## See
#
# A loss over two weights can be drawn like a map, with lines of equal height. Choose among four maps: a **ravine** (60
# times as steep across as along), the same ravine **turned**, a **saddle** (a pass between two hollows; on the pass the
# slope is 0), and a real one: the loss of a small net on handwritten digits. That net has many more weights than two,
# so the map shows a slice: its weights move together along two directions only, and the loss is measured point by
# point. Six optimizers start at the ring. You steer one; the others run at their best of 41 rates. Reach the goal that
# the figure sets you. (Nesterov, AdaGrad and RMSProp come with the exercises; here, just watch where they go.)

# %% role="demo"
digits = datasets.load("mnist5k")
few = datasets.as_tensors(*digits.subset(20))
net_slice = widgets.measure_slice(F.avg_pool2d(few[0], 2), few[1])
widgets.PathFigure({"a net's loss": net_slice})

# %% [markdown]
# Now choose the turned ravine. It is the same landscape, turned on the map. Gradient descent, momentum and Nesterov
# treat all directions alike: their paths turn with the ravine, and they arrive as low as before. AdaGrad, RMSProp and
# Adam keep a rate for *each weight*, that is for each axis of the map: that helps most where the ravine happens to run
# along an axis.

# %% [markdown]
# ## Derive: why a ravine is slow, and what momentum does
#
# Near the bottom of a hollow the loss along one direction is about $\tfrac{c}{2} w^2$, where $w$ is the distance from
# the bottom, and $c$ is large where the walls are steep. The gradient there is $c\,w$, and a step of gradient descent
# gives
#
# $$ w \leftarrow w - \eta\, c\, w = (1 - \eta c)\, w . $$
#
# The distance shrinks if $|1 - \eta c| < 1$, that is $\eta < 2/c$. This must be so in all directions, so **the steepest
# direction sets the highest rate**: $\eta < 2/c_{\max}$. Put that rate into the flattest direction: of its distance, a
# step leaves $1 - \eta\, c_{\min}$, which is $1 - 2\,c_{\min}/c_{\max}$. In our ravine $c_{\max}$ is 60 times
# $c_{\min}$, so along its floor a step takes off 2/60 of the distance, less than 4%. Too high a rate fails at once, too
# low a one never arrives, and the room in between is set by a ratio that you can't choose.
#
# **Momentum** adds up gradients, and each counts $\mu$ times less with every step that passes. Across the ravine they
# change sign and cancel; along it they agree, and their sum grows to $1 + \mu + \mu^2 + \dots = 1/(1-\mu)$ times a
# single one: 10 times for $\mu = 0.9$.
#
# **Adaptive** methods (AdaGrad, RMSProp, Adam) divide each weight's gradient by the typical size of *its own*
# gradients, so that steep and flat weights move alike.

# %% [markdown]
# ## Build
#
# In exercises 1 to 12 the frameworks' own optimizers and schedules are not allowed: write the rules from plain
# operations. In exercises 1 to 6, `param`, the gradient and whatever is remembered from step to step are tensors of one
# shape; rates, `momentum`, `alpha`, `betas` and `eps` are plain numbers. Return new tensors, and leave those that you
# are given as they are.
#
# ### 1. Momentum, twice
#
# The two frameworks keep different things:
#
# | | what is kept | the step |
# |---|---|---|
# | **PyTorch** | a buffer of gradients, $b \leftarrow \mu\, b + g$ | $w \leftarrow w - \eta\, b$ |
# | **Keras** | a velocity that carries the rate, $v \leftarrow \mu\, v - \eta\, g$ | $w \leftarrow w + v$ |
#
# While the rate stays the same, $v = -\eta\, b$, and both take the same path. When a schedule changes the rate, they
# part.
#
# Write `two_momenta(param, grads, rates, momentum)`. `param`, of shape `(n,)`, is the start; `grads`, of shape
# `(T, n)`, holds the gradient of each step (given, wherever the parameter is), and `rates` is a list of T numbers, the
# rate of each step. `momentum` is $\mu$. Return two tensors `(T, n)`: where the parameter is after each step, first by
# PyTorch's rule, then by Keras's. Buffer and velocity start at 0. With `param = [1.]`, `grads = [[1.], [0.]]`,
# `rates = [0.5, 0.0]` and `momentum = 0.5` they are `[[0.5], [0.5]]` and `[[0.5], [0.25]]`.


# %% exercise="optimizers.two_momenta" role="solution"
def two_momenta(param, grads, rates, momentum):
    """The parameter after each step by PyTorch's and by Keras's rule: grads (T, n) -> two tensors (T, n)."""
    ### BEGIN SOLUTION
    torch_path, keras_path = [], []
    w, buffer = param, torch.zeros_like(param)
    u, velocity = param, torch.zeros_like(param)
    for grad, lr in zip(grads, rates, strict=True):
        buffer = momentum * buffer + grad
        w = w - lr * buffer
        velocity = momentum * velocity - lr * grad
        u = u + velocity
        torch_path.append(w)
        keras_path.append(u)
    return torch.stack(torch_path), torch.stack(keras_path)
    ### END SOLUTION


# %% exercise="optimizers.two_momenta" role="check"
check("optimizers.two_momenta", two_momenta)

# %% [markdown]
# Now the first prediction. Both frameworks' own SGD run at momentum 0.9 until they are at full speed; then the rate is
# set to 0.

# %% role="demo"
keras = load_keras()  # some seconds
torch_weight = torch.zeros(1, requires_grad=True)
torch_sgd = torch.optim.SGD([torch_weight], lr=0.1, momentum=0.9)
keras_weight, keras_sgd = keras.Variable([0.0]), keras.optimizers.SGD(0.1, momentum=0.9)
torch_places, keras_places = [0.0], [0.0]
for step in range(160):
    if step == 80:
        torch_sgd.param_groups[0]["lr"], keras_sgd.learning_rate = 0.0, 0.0
    torch_weight.grad = torch.ones(1)
    torch_sgd.step()
    keras_sgd.apply([keras.ops.ones(1)], [keras_weight])
    torch_places.append(-torch_weight.item())
    keras_places.append(-float(keras_weight[0]))
full_speed = keras_places[80] - keras_places[79]
coasted = {
    "PyTorch": (torch_places[-1] - torch_places[80]) / full_speed,
    "Keras": (keras_places[-1] - keras_places[80]) / full_speed,
}
plots.series(
    list(range(60, 121)),
    {"PyTorch's SGD": [torch_places[60:121]], "Keras's SGD": [keras_places[60:121]]},
    xlabel="steps",
    ylabel="distance travelled",
    alt="Distance travelled by step; from step 80 on the rate is 0. After that PyTorch's SGD travels "
    f"{coasted['PyTorch']:.2f} and Keras's {coasted['Keras']:.2f} times a full step.",
    caption=f"The rate is 0.1 up to step 80, then 0; the gradient is 1 all the time. PyTorch stops at once, Keras coasts on for "
    f"{coasted['Keras']:.2f} times a full step.",
)

# %% role="demo"
reveal("coasting_after_the_cut", coasted["Keras"])

# %% [markdown]
# ### 2. Nesterov: look ahead before you turn
#
# Momentum is about to carry the parameter by $\mu v$, whatever the gradient says. So take the gradient *there*, not
# here; $\nabla(w)$ stands for the gradient at $w$:
#
# $$ v \leftarrow \mu\, v - \eta\, \nabla(w + \mu\, v), \qquad w \leftarrow w + v . $$
#
# Write `nesterov_step(gradient, param, velocity, lr, momentum)`, where `gradient` is a function: `gradient(w)` is the
# gradient at `w`, a tensor of the same shape. Call it once. Return the new `(param, velocity)`.
#
# (A training loop computes the gradient at the stored parameter, and nowhere else. So both frameworks store the point
# ahead, $w + \mu v$, in its place, and rewrite the rule for it. The table under *Trust* compares the two.)


# %% exercise="optimizers.nesterov" role="solution"
def nesterov_step(gradient, param, velocity, lr, momentum):
    """The new (param, velocity), each of param's shape."""
    ### BEGIN SOLUTION
    velocity = momentum * velocity - lr * gradient(param + momentum * velocity)
    return param + velocity, velocity
    ### END SOLUTION


# %% exercise="optimizers.nesterov" role="check"
check("optimizers.nesterov", nesterov_step)

# %% [markdown]
# ### 3. AdaGrad
#
# AdaGrad gives each parameter a rate of its own: it divides by the root of the sum of all its squared gradients so far,
#
# $$ s \leftarrow s + g^2, \qquad w \leftarrow w - \eta\, \frac{g}{\sqrt{s} + \varepsilon} . $$
#
# Squares and roots are taken number by number; a tiny $\varepsilon$ ("epsilon", `eps`) is there so that a parameter
# without any gradient does not divide 0 by 0. The sum only grows, so the rates only fall, in a long training perhaps
# too soon.
#
# Write `adagrad_step(param, grad, total, lr, eps)`, where `total` is $s$ before the step; return the new
# `(param, total)`.


# %% exercise="optimizers.adagrad" role="solution"
def adagrad_step(param, grad, total, lr, eps):
    """The new (param, total), each of param's shape."""
    ### BEGIN SOLUTION
    total = total + grad**2
    return param - lr * grad / (total.sqrt() + eps), total
    ### END SOLUTION


# %% exercise="optimizers.adagrad" role="check"
check("optimizers.adagrad", adagrad_step)

# %% [markdown]
# ### 4. RMSProp
#
# Let the sum forget: take a **running average** instead, in which the old average counts $\alpha$ ("alpha", mostly 0.9
# or 0.99) and the new square $1 - \alpha$,
#
# $$ v \leftarrow \alpha\, v + (1-\alpha)\, g^2 . $$
#
# As in AdaGrad the step is $\eta g$ divided by a root: by $\sqrt v + \varepsilon$ in PyTorch, and by
# $\sqrt{v + \varepsilon}$ in Keras. The difference is larger than it looks. With $\varepsilon = 10^{-7}$ *inside* the
# root, $v = g^2$ has to be larger than $10^{-7}$ to count, so every gradient below about
# $\sqrt{10^{-7}} \approx 3 \cdot 10^{-4}$ takes a smaller step.
#
# Write `rmsprop_step(param, grad, square_avg, lr, alpha, eps, eps_inside)`, where `square_avg` is $v$ before the step,
# and `eps_inside` is `True` for Keras's form and `False` for PyTorch's; return the new `(param, square_avg)`.


# %% exercise="optimizers.rmsprop" role="solution"
def rmsprop_step(param, grad, square_avg, lr, alpha, eps, eps_inside):
    """The new (param, square_avg), each of param's shape."""
    ### BEGIN SOLUTION
    square_avg = alpha * square_avg + (1 - alpha) * grad**2
    root = (square_avg + eps).sqrt() if eps_inside else square_avg.sqrt() + eps
    return param - lr * grad / root, square_avg
    ### END SOLUTION


# %% exercise="optimizers.rmsprop" role="check"
check("optimizers.rmsprop", rmsprop_step)

# %% [markdown]
# ### 5. Adam
#
# Adam puts momentum and RMSProp together. It keeps two running averages, called **moments**: $m$ of the gradients, and
# $v$ of their squares:
#
# $$ m \leftarrow \beta_1 m + (1-\beta_1)\, g, \qquad v \leftarrow \beta_2 v + (1-\beta_2)\, g^2 . $$
#
# Both start at 0, so after one step $m$ is only $(1-\beta_1)\, g$: at first such averages are too small, **biased**
# towards 0. In an average the shares should add up to 1. After $t$ steps (counted from 1) the newest gradient has the
# share $1-\beta$, the one before $(1-\beta)\beta$, and so on; together that is $1 - \beta^t$. Divide by it:
#
# $$ \hat m = \frac{m}{1-\beta_1^t}, \qquad \hat v = \frac{v}{1-\beta_2^t}, \qquad
# w \leftarrow w - \eta\, \frac{\hat m}{\sqrt{\hat v} + \varepsilon} . $$
#
# Write `adam_step(param, grad, m, v, step, lr, betas, eps)`, where `betas` is the pair $(\beta_1, \beta_2)$ and `step`
# is $t$, 1 in the first step; return the new `(param, m, v)`, the moments as they are *before* that division.


# %% exercise="optimizers.adam" role="solution"
def adam_step(param, grad, m, v, step, lr, betas, eps):
    """The new (param, m, v), each of param's shape; step counts from 1."""
    ### BEGIN SOLUTION
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    return param - lr * m_hat / (v_hat.sqrt() + eps), m, v
    ### END SOLUTION


# %% exercise="optimizers.adam" role="check"
check("optimizers.adam", adam_step)

# %% role="demo"
pair = torch.zeros(2, requires_grad=True)
pair.grad = torch.tensor([1000.0, 0.001])
torch.optim.Adam([pair], lr=0.001).step()
first_steps = -pair.detach()
Markdown(
    f"PyTorch's Adam, first step, rate 0.001. The gradient 1000 moves its parameter by {first_steps[0]:.6f}, the gradient "
    f"0.001 by {first_steps[1]:.6f}."
)

# %% role="demo"
reveal("first_step_of_adam", float(first_steps[0] / first_steps[1]))

# %% [markdown]
# ### 6. AdamW is not Adam with an ℓ2 penalty
#
# **Weight decay** pulls weights towards 0, which can help against overfitting (lesson 7). There are two ways to do it,
# with a strength $\lambda$ ("lambda"). As a **penalty** $\tfrac{\lambda}{2}\lVert w\rVert^2$, called ℓ2, it is added to
# the loss; that adds $\lambda w$ to the gradient. **Decoupled**, it shrinks the weight itself, beside the gradient:
#
# | way | what it does |
# |---|---|
# | penalty (Adam) | $g \leftarrow g + \lambda w$, then Adam's step |
# | decoupled (AdamW) | $w \leftarrow (1 - \eta\lambda)\, w$, then Adam's step with the bare $g$ |
#
# For plain gradient descent the two are the same. For Adam they are not: the penalty's part of the gradient is divided
# by $\sqrt{\hat v}$ like the rest, so that weights with large gradients hardly decay.
#
# Write `decayed_step(param, grad, m, v, step, lr, weight_decay, decoupled)`, where `weight_decay` is $\lambda$ and
# `decoupled` is `True` or `False`, with `betas = (0.9, 0.999)` and `eps = 1e-8`; return the new `(param, m, v)`. You
# may call your `adam_step`.


# %% exercise="optimizers.two_decays" role="solution"
def decayed_step(param, grad, m, v, step, lr, weight_decay, decoupled):
    """The new (param, m, v): AdamW where decoupled, Adam on an ℓ2 penalty otherwise."""
    ### BEGIN SOLUTION
    if decoupled:
        param = param * (1 - lr * weight_decay)
    else:
        grad = grad + weight_decay * param
    return adam_step(param, grad, m, v, step, lr, (0.9, 0.999), 1e-8)
    ### END SOLUTION


# %% exercise="optimizers.two_decays" role="check"
check("optimizers.two_decays", decayed_step)

# %% [markdown]
# ### 7. A large batch in small pieces
#
# If a batch does not fit into memory, feed it in pieces and let `backward()` add the gradients up: **gradient
# accumulation**. It gives the gradient of the whole batch, if every image counts the same in the sum.
#
# Write `accumulate(model, images, labels, size)`: feed at most `size` images at a time, in their order; leave the
# gradient of the **mean** cross-entropy over *all* images in `.grad` of every parameter, and return that mean as a
# float. Old gradients may still be there at the start: clear them. The last piece may be smaller. Make no step.
# (`images.split(size)` gives the pieces, `labels.split(size)` their labels.)


# %% exercise="optimizers.accumulate" role="solution"
def accumulate(model, images, labels, size):
    """The mean loss over all images, a float; its gradient stands in .grad afterwards."""
    ### BEGIN SOLUTION
    model.zero_grad()
    total = 0.0
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        loss = F.cross_entropy(model(x), y, reduction="sum") / len(labels)
        loss.backward()
        total += loss.item()
    return total
    ### END SOLUTION


# %% exercise="optimizers.accumulate" role="check"
check("optimizers.accumulate", accumulate)

# %% [markdown]
# ## Schedules: the rate over time
#
# Far from the goal long steps are good; near it they jump over it. Besides, each batch's gradient is a little off from
# that of all examples, and this keeps the weights trembling, the more the higher the rate. So, people say, start high
# and come down (card O3 puts it to the test). A schedule is just a function from the step to the rate. These are usual
# ones:

# %% role="demo"
total = 400
named_schedules = {
    "by steps": [schedules.step_decay(s, lr=1.0, step_size=100, gamma=0.5) for s in range(total)],
    "exponential": [schedules.exponential(s, lr=1.0, gamma=0.5, decay_steps=100) for s in range(total)],
    "warm-up and cosine": [
        schedules.warmup_cosine(s, lr=1.0, warmup_steps=40, total_steps=total) for s in range(total)
    ],
    "1cycle": [schedules.one_cycle(s, max_lr=1.0, total_steps=total) for s in range(total)],
}
plots.series(
    list(range(total)),
    {name: [rates] for name, rates in named_schedules.items()},
    xlabel="steps",
    ylabel="rate ÷ highest rate",
    alt="Four schedules over 400 steps: stairs that halve the rate every 100 steps, the smooth curve through them, a line up "
    "and half a cosine down, and 1cycle, which rises for 30% of the steps and falls to nearly 0.",
    caption="The rate by step. Look at where each is highest: the first two at the very start, the other two after a "
    "warm-up, in which the net's first, wildest gradients do less harm.",
)

# %% [markdown]
# ### 8. In stairs, and smoothly
#
# Two schedules that start at `lr` and fall to `gamma` times as much in every `drop_every` **epochs**, one at a blow and
# one smoothly. After $k$ such drops the rate is $\mathrm{lr} \cdot \gamma^k$ ($\gamma$ is "gamma"). The number of drops
# is $k = \lfloor t / T \rfloor$, rounded down, for the stairs, and $k = t / T$, with its fraction, for the smooth one;
# $t$ is the step, counted from 0, and $T$ the number of **steps** in `drop_every` epochs.
#
# Write `falling_rates(step, lr, gamma, drop_every, steps_per_epoch)`; return two numbers, the rate in stairs and the
# smooth one. With `lr = 1`, `gamma = 0.25`, `drop_every = 2`, `steps_per_epoch = 10`, step 10 gives `(1, 0.5)`.


# %% exercise="optimizers.falling_rates" role="solution"
def falling_rates(step, lr, gamma, drop_every, steps_per_epoch):
    """(rate in stairs, smooth rate) of one update, counted from 0."""
    ### BEGIN SOLUTION
    span = drop_every * steps_per_epoch
    return lr * gamma ** (step // span), lr * gamma ** (step / span)
    ### END SOLUTION


# %% exercise="optimizers.falling_rates" role="check"
check("optimizers.falling_rates", falling_rates)

# %% [markdown]
# ### 9. Warm up, then half a cosine down
#
# At the start the weights are random and gradients can be wild, so some let the rate rise in a **warm-up** first. Write
# `warmup_cosine(step, lr, warmup_steps, total_steps, min_lr)`, which returns the rate of one step, a number:
#
# 1. a straight line from 0 at step 0 up to `lr` at step `warmup_steps` (which may be 0: then there is none);
# 2. then half a wave of a cosine, from `lr` down to `min_lr` at step `total_steps`. In $\tfrac12(1 + \cos \pi s)$ it
#    goes from 1 down to 0 while $s$ goes from 0 to 1; stretch it to the two rates. `total_steps` is larger than
#    `warmup_steps`;
# 3. after that `min_lr` for ever.
#
# `math.cos` and `math.pi` are there.


# %% exercise="optimizers.warmup_cosine" role="solution"
def warmup_cosine(step, lr, warmup_steps, total_steps, min_lr):
    """The rate of one update, counted from 0."""
    ### BEGIN SOLUTION
    if step < warmup_steps:
        return lr * step / warmup_steps
    share = min((step - warmup_steps) / (total_steps - warmup_steps), 1)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share)) / 2
    ### END SOLUTION


# %% exercise="optimizers.warmup_cosine" role="check"
check("optimizers.warmup_cosine", warmup_cosine)

# %% [markdown]
# ### 10. One cycle
#
# Smith's **1cycle** starts at `max_lr / div_factor`, rises by half a cosine to `max_lr` at step
# `pct_start * total_steps - 1` (the peak, which need not fall on a whole step), and falls by half a cosine to *the
# first rate* divided by `final_div_factor`, which it reaches at the last step, number `total_steps - 1`.
#
# Write `one_cycle(step, max_lr, total_steps, pct_start, div_factor, final_div_factor)`, which returns the rate of one
# step, a number; the peak comes after step 0 and before the last. With `max_lr = 1`, `total_steps = 10`,
# `pct_start = 0.3`, `div_factor = 10` and `final_div_factor = 100` the rate is 0.1 at step 0, 0.55 at step 1, 1 at step
# 2 and 0.001 at step 9.


# %% exercise="optimizers.one_cycle" role="solution"
def one_cycle(step, max_lr, total_steps, pct_start, div_factor, final_div_factor):
    """The rate of one update, counted from 0."""
    ### BEGIN SOLUTION
    low, peak = max_lr / div_factor, pct_start * total_steps - 1
    if step <= peak:
        start, end, share = low, max_lr, step / peak
    else:
        start, end = max_lr, low / final_div_factor
        share = (step - peak) / (total_steps - 1 - peak)
    return start + (end - start) * (1 - math.cos(math.pi * share)) / 2
    ### END SOLUTION


# %% exercise="optimizers.one_cycle" role="check"
check("optimizers.one_cycle", one_cycle)

# %% [markdown]
# ### 11. On a plateau
#
# This schedule looks at the loss: it lowers the rate when the loss no longer falls, on a **plateau**. An epoch is
# **good** if its loss lies below the best one so far by more than `min_delta`, and **bad** otherwise. A good epoch's
# loss becomes the best one, and the count of bad epochs goes back to 0; a bad epoch leaves the best one as it is. The
# first epoch is good, since nothing came before it. A loss of NaN ("not a number", what comes out when training blows
# up) makes an epoch bad.
#
# As soon as *more than* `patience` epochs in a row have been bad, the rate is multiplied by `factor`, but never set
# below `min_lr`, and the count starts anew. (PyTorch counts so; Keras lowers the rate one bad epoch earlier.)
#
# Write `on_plateau(losses, lr, factor, patience, min_delta, min_lr)`, where `losses` is a list with one number an epoch
# and `lr` the first rate. Return a list as long as that: the rate *after* each epoch's loss has been looked at.


# %% exercise="optimizers.on_plateau" role="solution"
def on_plateau(losses, lr, factor, patience, min_delta, min_lr):
    """The rate after each epoch, a list as long as losses."""
    ### BEGIN SOLUTION
    best, bad, rates = float("inf"), 0, []
    for loss in losses:
        if loss < best - min_delta:
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            lr, bad = max(lr * factor, min_lr), 0
        rates.append(lr)
    return rates
    ### END SOLUTION


# %% exercise="optimizers.on_plateau" role="check"
check("optimizers.on_plateau", on_plateau)

# %% [markdown]
# ### 12. A range test that picks a rate
#
# Which rate to start with? Try them all in one short run: let the rate grow by a constant factor in each step, and
# watch the loss. While the rate is too small it stays where it is, then it falls, and in the end it explodes.
#
# Write `range_test(model, batches, min_lr, max_lr, steps)`, where `batches` is a list of pairs `(x, y)`. Work on a copy
# of the model, `copy.deepcopy(model)`. In each of the `steps` steps
#
# 1. take the next batch; after the last one begin again with the first;
# 2. compute its cross-entropy, and if that is not finite (infinite or NaN), end the test here;
# 3. note the rate and the loss;
# 4. make one plain step of gradient descent with that rate, on this batch's gradient alone.
#
# The first rate is `min_lr` and the last, in step `steps - 1`, `max_lr`; from step to step the rate grows by the same
# factor. Return the list of rates and the list of losses that you noted (floats), and a suggestion: a tenth of the rate
# noted beside the lowest loss. (`torch.isfinite(loss)` asks whether it is finite.)


# %% exercise="optimizers.range_test" role="solution"
def range_test(model, batches, min_lr, max_lr, steps):
    """(rates, losses, suggestion); the model stays as it was."""
    ### BEGIN SOLUTION
    model = copy.deepcopy(model)
    rates, losses = [], []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        loss = F.cross_entropy(model(x), y)
        if not torch.isfinite(loss):
            break
        lr = min_lr * (max_lr / min_lr) ** (step / (steps - 1))
        rates.append(lr)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
    return rates, losses, rates[losses.index(min(losses))] / 10
    ### END SOLUTION


# %% exercise="optimizers.range_test" role="check"
check("optimizers.range_test", range_test)

# %% [markdown]
# The course's own range test on real digits. Since single batches differ, it also smooths the loss, by a running
# average:

# %% role="demo"
train_images, train_labels = datasets.as_tensors(*digits.subset(100))
order = torch.randperm(len(train_labels), generator=torch.Generator().manual_seed(0))
digit_batches = [(train_images[i], train_labels[i]) for i in order.split(50)]


def digit_net(seed=0):
    """Two layers: 784 pixels to 64 units to 10 classes."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


swept = schedules.rate_range_test(digit_net(), digit_batches, min_lr=1e-4, max_lr=30.0, steps=120)
plots.series(
    swept.rates,
    {"loss of the next batch": [swept.losses], "smoothed": [swept.smoothed]},
    xlabel="learning rate",
    ylabel="loss (nats)",
    logx=True,
    logy=True,
    alt=f"Loss against a rate that grows from 0.0001: flat, then falling, then rising; smoothed it is lowest at a rate of "
    f"{10 * swept.suggestion:.2g}.",
    caption=f"A range test on {len(train_labels)} digits, plain gradient descent. Suggested: {swept.suggestion:.2g}, a tenth of the rate at which the smoothed loss "
    "is lowest. A start for tuning, no more.",
)

# %% [markdown]
# ## Trust: yours against the frameworks
#
# The same parameter, the same five gradients, your step functions beside PyTorch's and Keras's optimizers; then your
# schedules beside theirs, step by step. The numbers have 16 digits (double precision); where Keras keeps a rate in
# single precision, with 7 digits, its row is compared in that. *The same* means: equal up to rounding.

# %% role="demo"
generator = torch.Generator().manual_seed(0)
start = torch.randn(6, generator=generator, dtype=torch.float64)
five = torch.randn(5, 6, generator=generator, dtype=torch.float64)
falling = [0.1, 0.1, 0.05, 0.02, 0.02]


def curved(w):
    """The gradient of a bowl, five times as steep along one weight as along another."""
    return w * torch.linspace(1, 5, 6, dtype=torch.float64)


def ahead(lr, momentum):
    """Five of your Nesterov steps down the bowl, and the point that frameworks store: the one ahead."""
    w, v = start, torch.zeros_like(start)
    for _ in range(5):
        w, v = nesterov_step(curved, w, v, lr, momentum)
    return w + momentum * v


def torch_ahead(lr, momentum):
    weight = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([weight], lr, momentum, nesterov=True)
    for _ in range(5):
        weight.grad = curved(weight.detach())
        optimizer.step()
    return weight.detach()


def by_torch(make, rates=None):
    weight = start.clone().requires_grad_()
    optimizer = make([weight])
    for i, gradient in enumerate(five):
        if rates:
            optimizer.param_groups[0]["lr"] = rates[i]
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


def by_keras(optimizer, rates=None):
    weight = keras.Variable(start.numpy(), dtype="float64")
    for i, gradient in enumerate(five):
        if rates:
            optimizer.learning_rate = rates[i]
        optimizer.apply([keras.ops.convert_to_tensor(gradient.numpy())], [weight])
    return torch.tensor(keras.ops.convert_to_numpy(weight))


def by_steps(step_function, *state):
    weight, state = start, list(state)
    for i, gradient in enumerate(five):
        weight, *state = step_function(weight, gradient, *state, i + 1)
    return weight


def rates_of(schedule, steps=40):
    return torch.tensor([float(schedule(step)) for step in range(steps)], dtype=torch.float64)


def torch_rates(kind, steps=40, losses=None, **options):
    """The rates that a scheduler of PyTorch sets, from 1; one that looks at losses, after each of them."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, rates = kind(optimizer, **options), []
    for step in range(steps):
        if losses:
            scheduler.step(losses[step])
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not losses:
            scheduler.step()
    return torch.tensor(rates, dtype=torch.float64)


torch_schedulers, keras_schedules = torch.optim.lr_scheduler, keras.optimizers.schedules
stalled = [1.0, 0.8, 0.8, 0.9, 0.7, 0.7, 0.7, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6]
zeros = torch.zeros(6, dtype=torch.float64)
rms = {"lr": 0.01, "alpha": 0.9, "eps": 1e-3}
keras_rates = [float(np.float32(rate)) for rate in falling]  # Keras keeps a rate in float32
trust.table(
    [
        trust.Row(
            "two_momenta, the first",
            "SGD(momentum=0.9), falling rate (PyTorch)",
            lambda: two_momenta(start, five, falling, 0.9)[0][-1],
            by_torch(lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), falling),
        ),
        trust.Row(
            "two_momenta, the second",
            "SGD(momentum=0.9), falling rate (Keras)",
            lambda: two_momenta(start, five, keras_rates, float(np.float32(0.9)))[1][-1].float(),
            by_keras(keras.optimizers.SGD(0.1, momentum=0.9), falling).float(),
        ),
        trust.Row(
            "nesterov_step, the point ahead",
            "SGD(nesterov=True) (PyTorch)",
            lambda: ahead(0.1, 0.9),
            torch_ahead(0.1, 0.9),
        ),
        trust.Row(
            "adagrad_step",
            "Adagrad (PyTorch)",
            lambda: by_steps(lambda w, g, s, t: adagrad_step(w, g, s, 0.1, 1e-10), zeros),
            by_torch(lambda p: torch.optim.Adagrad(p, 0.1, eps=1e-10)),
        ),
        trust.Row(
            "rmsprop_step, eps outside",
            "RMSprop (PyTorch)",
            lambda: by_steps(lambda w, g, v, t: rmsprop_step(w, g, v, 0.01, 0.9, 1e-3, False), zeros),
            by_torch(lambda p: torch.optim.RMSprop(p, **rms)),
        ),
        trust.Row(
            "rmsprop_step, eps inside",
            "RMSprop (Keras)",
            lambda: by_steps(lambda w, g, v, t: rmsprop_step(w, g, v, 0.01, 0.9, 1e-3, True), zeros).float(),
            by_keras(keras.optimizers.RMSprop(0.01, rho=0.9, epsilon=1e-3)).float(),
        ),
        trust.Row(
            "adam_step",
            "Adam (PyTorch)",
            lambda: by_steps(lambda w, g, m, v, t: adam_step(w, g, m, v, t, 0.01, (0.9, 0.999), 1e-8), zeros, zeros),
            by_torch(lambda p: torch.optim.Adam(p, 0.01)),
        ),
        trust.Row(
            "decayed_step, decoupled",
            "AdamW (PyTorch)",
            lambda: by_steps(lambda w, g, m, v, t: decayed_step(w, g, m, v, t, 0.01, 0.1, True), zeros, zeros),
            by_torch(lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)),
        ),
        trust.Row(
            "decayed_step, penalty",
            "Adam(weight_decay=…) (PyTorch)",
            lambda: by_steps(lambda w, g, m, v, t: decayed_step(w, g, m, v, t, 0.01, 0.1, False), zeros, zeros),
            by_torch(lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1)),
        ),
        trust.Row(
            "falling_rates, in stairs",
            "StepLR (PyTorch)",
            lambda: rates_of(lambda step: falling_rates(step, 1.0, 0.5, 2, 5)[0]),
            torch_rates(torch_schedulers.StepLR, step_size=10, gamma=0.5),
        ),
        trust.Row(
            "falling_rates, smooth",
            "ExponentialDecay (Keras)",
            lambda: rates_of(lambda step: falling_rates(step, 1.0, 0.5, 2, 5)[1]).float(),
            rates_of(keras_schedules.ExponentialDecay(1.0, 10, 0.5)).float(),
        ),
        trust.Row(
            "warmup_cosine",
            "CosineDecay(warmup_target=…) (Keras)",
            lambda: rates_of(lambda step: warmup_cosine(step, 1.0, 10, 40, 0.0)).float(),
            rates_of(keras_schedules.CosineDecay(0.0, 30, warmup_target=1.0, warmup_steps=10)).float(),
        ),
        trust.Row(
            "one_cycle",
            "OneCycleLR (PyTorch)",
            lambda: rates_of(lambda step: one_cycle(step, 1.0, 40, 0.3, 25.0, 1e4)),
            torch_rates(torch_schedulers.OneCycleLR, max_lr=1.0, total_steps=40),
        ),
        trust.Row(
            "on_plateau",
            "ReduceLROnPlateau (PyTorch)",
            lambda: torch.tensor(on_plateau(stalled, 1.0, 0.5, 2, 0.05, 0.0), dtype=torch.float64),
            torch_rates(
                torch_schedulers.ReduceLROnPlateau,
                len(stalled),
                stalled,
                factor=0.5,
                patience=2,
                threshold=0.05,
                threshold_mode="abs",
            ),
        ),
    ]
)

# %% [markdown]
# ## In the frameworks
#
# | what | PyTorch | Keras 3 |
# |---|---|---|
# | one step | `optimizer.zero_grad()`, `loss.backward()`, `optimizer.step()` | inside `fit`, or `train_on_batch` |
# | change the rate | `optimizer.param_groups[0]["lr"] = …` | `optimizer.learning_rate = …` |
# | a schedule | a scheduler object, whose `step()` you call; after every epoch or every batch is up to you | a schedule in place of the rate, counted in **batches**; or a callback, called after every **epoch** |
# | gradients | add up until cleared | fresh in each step |
# | weight decay of `Adam` | `weight_decay=` is a penalty; `AdamW` decouples | `weight_decay=` decouples, in `Adam` too |
#
# And where the two differ in detail; what stands in this table is read from the versions that are installed here, by
# running them. (`cooldown` is a rest of some epochs after each fall of the rate, in which no bad epoch is counted. To
# **clip** a gradient is to scale it down where its norm is above a limit.)

# %% role="demo"
rows = [c for c in conventions.CONVENTIONS.values() if c.id.startswith("optimizers.")]
Markdown(
    "| what | PyTorch | Keras | the trap |\n|---|---|---|---|\n"
    + "\n".join(f"| {c.what} | {c.torch()} | {c.keras(keras)} | {c.trap} |" for c in rows)
)

# %% [markdown]
# ### 13. What does Keras optimize? Prove it, bit for bit
#
# Back to the first question. The documentation says: the loss. Do not believe it; make the experiment that could show
# it wrong. Train twice, with everything the same but the settings, and compare the weights, **bit for bit**.
#
# In Keras, `model.compile(optimizer, loss=…, metrics=[…])` settles how a model is to be trained. Then
# `model.fit(x, y, epochs=…)` trains it, and `model.train_on_batch(x, y)` makes a single step on one batch. `keras` was
# loaded above.
#
# Write `same_weights(make_model, compile_first, compile_second, x, y, steps)`. `make_model()` returns a new model with
# random weights, and with a dropout layer inside (in training it sets units to 0 at random). `compile_first(model)` and
# `compile_second(model)` compile a model, each with its own settings. Make two models, compile one with each, and train
# both by `steps` calls of `model.train_on_batch(x, y)`. Everything random has to be the same for both:
# `keras.utils.set_random_seed(0)` sets all seeds, also those that new layers take when they are made.
#
# Return two things: whether all trained weights (`model.get_weights()`, a list of numpy arrays) are exactly equal,
# `True` or `False`; and the largest absolute difference of any two, a float.


# %% exercise="optimizers.loss_not_metrics" role="solution"
def same_weights(make_model, compile_first, compile_second, x, y, steps):
    """(whether the weights are equal bit for bit, the largest difference)."""
    ### BEGIN SOLUTION
    import keras

    ends = []
    for compile_model in (compile_first, compile_second):
        keras.utils.set_random_seed(0)
        model = make_model()
        compile_model(model)
        for _ in range(steps):
            model.train_on_batch(x, y)
        ends.append(model.get_weights())
    pairs = list(zip(*ends, strict=True))
    return all(np.array_equal(a, b) for a, b in pairs), max(float(np.abs(a - b).max()) for a, b in pairs)
    ### END SOLUTION


# %% exercise="optimizers.loss_not_metrics" role="check"
check("optimizers.loss_not_metrics", same_weights)

# %% [markdown]
# The same experiment on digits, done for you:

# %% role="demo"
flat, one_hot = few[0].flatten(1).numpy(), np.eye(10, dtype="float32")[few[1].numpy()]
ends = {}
for name, options in {
    "no metrics": {},
    "with accuracy": {"metrics": ["accuracy"]},
    "a loss larger by a millionth": {"loss_weights": [1 + 1e-6]},
}.items():
    keras.utils.set_random_seed(0)
    keras_net = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, activation="softmax")])
    keras_net.compile(keras.optimizers.SGD(0.1), loss="categorical_crossentropy", **options)
    keras_net.fit(flat, one_hot, epochs=3, verbose=0)
    ends[name] = keras_net.get_weights()
gaps = {
    name: max(float(np.abs(a - b).max()) for a, b in zip(ends["no metrics"], end, strict=True))
    for name, end in ends.items()
}
Markdown(
    "Largest difference of any weight from the training without metrics: "
    + ", ".join(f"**{name}** {gap:.1e}" for name, gap in gaps.items() if name != "no metrics")
    + "."
)

# %% role="demo"
reveal(
    "metrics_move_weights",
    "bits" if gaps["with accuracy"] == 0 else "nearly" if gaps["with accuracy"] < 1e-4 else "other",
)

# %% [markdown]
# ### 14. The one way a metric steers: a callback
#
# A **callback** is an object whose methods Keras calls during training: `on_train_begin(self, logs=None)` when a `fit`
# starts, and `on_epoch_end(self, epoch, logs=None)` after each epoch, where `logs["val_loss"]` is the loss on the
# validation set. In these methods `float(self.model.optimizer.learning_rate)` is the rate, and
# `self.model.optimizer.learning_rate = …` sets it.
#
# Write `plateau_callback(factor, patience, min_delta, min_lr)`. Inside, write a class derived from
# `keras.callbacks.Callback`, and return one object of it. It follows the validation loss by the rule of exercise 11,
# with **Keras's** count: the rate falls as soon as `patience` epochs in a row have been bad (at least 1). When a second
# `fit` starts with the same object, it forgets the best loss and the count of the first. (Keras has such a callback,
# `ReduceLROnPlateau`; write your own.)


# %% exercise="optimizers.keras_plateau" role="solution"
def plateau_callback(factor, patience, min_delta, min_lr):
    """A Keras callback that lowers the rate when the validation loss stalls."""
    ### BEGIN SOLUTION
    import keras

    class Lower(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.best, self.bad = float("inf"), 0

        def on_epoch_end(self, epoch, logs=None):
            if logs["val_loss"] < self.best - min_delta:
                self.best, self.bad = logs["val_loss"], 0
                return
            self.bad += 1
            if self.bad >= patience:
                rate = float(self.model.optimizer.learning_rate)
                self.model.optimizer.learning_rate = max(rate * factor, min_lr)
                self.bad = 0

    return Lower()
    ### END SOLUTION


# %% exercise="optimizers.keras_plateau" role="check"
check("optimizers.keras_plateau", plateau_callback)

# %% [markdown]
# ## Clinic
#
# Three runs came in this morning.
#
# ### 15. The step decay that never decays
#
# "I lower my rate every three epochs, but my curves look as if I did not." This is the asker's schedule, as it was
# posted. Before you run the cell: why does the rate not fall?


# %% role="demo"
def asked_decay(epoch, initAlpha=0.01, factor=1, dropEvery=3):
    return float(initAlpha * (factor ** np.floor((1 + epoch) / dropEvery)))


asked_rates = [asked_decay(epoch) for epoch in range(30)]
halved_rates = [asked_decay(epoch, factor=0.5) for epoch in range(30)]
plots.series(
    list(range(30)),
    {"as asked, factor = 1": [asked_rates], "factor = 0.5": [halved_rates]},
    xlabel="epoch",
    ylabel="learning rate",
    logy=True,
    alt=f"Rate by epoch: as asked it stays at {asked_rates[0]:g}; with a factor of 0.5 it falls in stairs to {halved_rates[-1]:.2g}.",
    caption="Plot a schedule before you train with it: one line of code, and the fault is plain. (Also, 1 + epoch makes the first stair "
    "one epoch shorter than the others.)",
)

# %% [markdown]
# A schedule that does nothing raises no error. Write a test for schedules: `inspect_schedule(schedule, epochs)` calls
# `schedule(epoch)`, which returns a rate, for the epochs 0 to `epochs - 1` of a run, and returns three things:
#
# 1. the epochs whose rate differs from that of the epoch before, a list of whole numbers in order;
# 2. the last rate divided by the first;
# 3. a word: `"constant"` (it never changes), `"falls"` (it changes, and only downwards), `"rises"` (only upwards) or
#    `"both"`.


# %% exercise="optimizers.clinic_schedule" role="solution"
def inspect_schedule(schedule, epochs):
    """(epochs of change, last rate / first rate, "constant", "falls", "rises" or "both")."""
    ### BEGIN SOLUTION
    rates = [schedule(epoch) for epoch in range(epochs)]
    changes = [epoch for epoch in range(1, epochs) if rates[epoch] != rates[epoch - 1]]
    up = any(rates[epoch] > rates[epoch - 1] for epoch in changes)
    down = any(rates[epoch] < rates[epoch - 1] for epoch in changes)
    words = {(False, False): "constant", (False, True): "falls", (True, False): "rises", (True, True): "both"}
    return changes, rates[-1] / rates[0], words[up, down]
    ### END SOLUTION


# %% exercise="optimizers.clinic_schedule" role="check"
check("optimizers.clinic_schedule", inspect_schedule)

# %% [markdown]
# ### 16. The loss that goes down, and then up and up
#
# "For the first steps all is well. Then the loss swings up and down, wider and wider." Here is the loop that they use,
# at work on digits. Read it, and find the fault before you go on:


# %% role="demo"
def broken_epoch(model, optimizer, batches):
    losses = []
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def eight_epochs(loop):
    net = digit_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    return [loss for _ in range(8) for loss in loop(net, optimizer, digit_batches)]


broken_losses = eight_epochs(broken_epoch)
plots.series(
    list(range(len(broken_losses))),
    {"as it came in": [broken_losses]},
    xlabel="steps",
    ylabel="loss of the next batch (nats)",
    alt=f"Loss by step, as it came in: lowest {min(broken_losses):.2f}, last {broken_losses[-1]:.2f} nats.",
    caption=f"Eight epochs of plain gradient descent. The loss falls to {min(broken_losses):.2f} nats, and ends at "
    f"{broken_losses[-1]:.2f}.",
)

# %% [markdown]
# Write the loop as it should be: `train_epoch(model, optimizer, batches)` makes one step for each batch `(x, y)` of the
# list, on that batch's gradient alone, and returns the list of their losses (floats), each measured before the step on
# it. Gradients from elsewhere may be there when you start.


# %% exercise="optimizers.clinic_zero_grad" role="solution"
def train_epoch(model, optimizer, batches):
    """The loss of each batch, before the step on it, as floats."""
    ### BEGIN SOLUTION
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
    ### END SOLUTION


# %% exercise="optimizers.clinic_zero_grad" role="check"
check("optimizers.clinic_zero_grad", train_epoch)

# %% [markdown]
# The same net, data and rate, with one line more in the loop:


# %% role="demo"
def mended_epoch(model, optimizer, batches):
    losses = []
    for x, y in batches:
        model.zero_grad()  # this one
        losses += broken_epoch(model, optimizer, [(x, y)])
    return losses


mended_losses = eight_epochs(mended_epoch)
plots.series(
    list(range(len(mended_losses))),
    {"as it came in": [broken_losses], "mended": [mended_losses]},
    xlabel="steps",
    ylabel="loss of the next batch (nats)",
    alt=f"Loss by step. As it came in: lowest {min(broken_losses):.2f}, last {broken_losses[-1]:.2f} nats; mended: last "
    f"{mended_losses[-1]:.2f}.",
    caption=f"As it came in, the last loss is {broken_losses[-1]:.2f} nats; mended, {mended_losses[-1]:.2f}. Without that "
    "line each step follows the sum of all gradients so far: momentum that never forgets.",
)

# %% [markdown]
# ### 17. A rate 100 times too high
#
# "My net learns nothing, from the very first epoch." You need not wait for an epoch: **one** step shows it. Compare how
# far a weight matrix moves in the step, $\Delta w$, with how large it was: $\lVert \Delta w \rVert / \lVert w \rVert$.
# A ratio near $10^{-3}$ is a common guide line; above $10^{-2}$ a rate is suspect.
#
# Write `update_ratios(model, optimizer, x, y)`. Make one training step on the batch `x`, `y` (clear old gradients
# first), and return two things:
#
# 1. the list of ratios (floats), one for each parameter that is trained (`requires_grad` is true) and has at least two
#    axes, in the order of `model.parameters()`. Both norms go over the whole tensor, and $w$ is the weight *before* the
#    step;
# 2. a word, by the **median** of the ratios: `"too high"` above 1e-2, `"too low"` below 1e-4, otherwise `"fair"`.


# %% exercise="optimizers.clinic_ratio" role="solution"
def update_ratios(model, optimizer, x, y):
    """(ratios, "too high", "fair" or "too low"); the model has made one step afterwards."""
    ### BEGIN SOLUTION
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ratios = [((w.detach() - b).norm() / b.norm()).item() for w, b in zip(weights, before, strict=True)]
    middle = float(np.median(ratios))
    return ratios, "too high" if middle > 1e-2 else "too low" if middle < 1e-4 else "fair"
    ### END SOLUTION


# %% exercise="optimizers.clinic_ratio" role="check"
check("optimizers.clinic_ratio", update_ratios)

# %% [markdown]
# Does the ratio of one step tell where training ends? Adam on digits, at rates over five powers of ten:

# %% role="demo"
adam_rates = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
first_ratios, last_losses = [], []
for lr in adam_rates:
    net = digit_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    old = [weight.detach().clone() for weight in (net[1].weight, net[3].weight)]
    mended_epoch(net, optimizer, digit_batches[:1])
    moved = [(w.detach() - b).norm() / b.norm() for w, b in zip((net[1].weight, net[3].weight), old, strict=True)]
    first_ratios.append(float(np.median([float(ratio) for ratio in moved])))
    for _ in range(3):
        mended_epoch(net, optimizer, digit_batches)
    with torch.no_grad():
        last_losses.append(float(F.cross_entropy(net(train_images), train_labels)))
Markdown(
    "| rate | update ÷ weight, first step | training loss after three epochs (nats) |\n|---|---|---|\n"
    + "\n".join(
        f"| {lr:g} | {ratio:.1e} | {loss:.3f} |"
        for lr, ratio, loss in zip(adam_rates, first_ratios, last_losses, strict=True)
    )
)

# %% [markdown]
# What would the guide line have said of each row, and which rates train well in the end? One step, of one net, is a
# hint where to look, no more.
#
# ## Evidence
#
# What this lesson says, and what people say about optimizers, each put to the test with several seeds. Wherever
# optimizers compete, each was tuned over eight rates of **its own**, with the same number of runs. A **95% interval**
# says how far the choice of seeds may have moved a mean; in a *paired* one differences are taken seed by seed, and one
# that contains 0 settles nothing. *Does not hold* means that the rule on the card (under *All measurements*) was not
# met, in small nets and short training, *holds when …* that it was met in part; read the rule. `course evidence O2` in
# a terminal measures one again on your own machine.
#
# **Faster than gradient descent?** O1 lets tuned gradient descent train for a fixed number of steps, and takes the
# training loss that it ends with as the mark. How many steps does each optimizer need to get down to it, and how much
# processor time?

# %% role="demo"
claims.evidence("O1")

# %% [markdown]
# **Is Adam the best?** O2 asks twice: which optimizer has the lowest training loss after a short run, and which the
# lowest test error after a long one? The third prediction is scored below the card.

# %% role="demo"
claims.evidence("O2")

# %% role="demo"
error = next(series for series in claims.load("O2").series if series.name == "test error, mnist5k")
reveal("adam_against_momentum", error.mean("Adam") - error.mean("momentum"))

# %% [markdown]
# **Which rate, and does it have to fall?** O3 sweeps the rate of momentum over five powers of ten, and then lets
# schedules compete with the best constant rate. O4 adds schedules to the adaptive methods, of which a textbook says
# that they reduce the rate by themselves. Look at training loss and test error separately.

# %% role="demo"
claims.evidence("O3")

# %% role="demo"
claims.evidence("O4")

# %% [markdown]
# **The loss or the metrics?** O5 is exercise 13, over several seeds and with more settings.

# %% role="demo"
claims.evidence("O5")

# %% [markdown]
# **The schedule of exercise 15.** O6 trains with it, beside a constant rate and beside factors that do fall.

# %% role="demo"
claims.evidence("O6")

# %% [markdown]
# ## Explain
#
# ### 18. In your own words
#
# A colleague writes: "I compared SGD and Adam, both with a rate of 0.001, one run each. Adam's training loss is far
# lower after ten epochs, so I now use Adam everywhere. I also put accuracy into the metrics, so that Keras optimizes
# it." Tell them what is wrong with the comparison and with the conclusion, what accuracy among the metrics does, and
# what they should do instead. Ten sentences are enough. In a class a teacher reads this one; on your own, write it
# first, and then open what a teacher would look for, below.

# %% [markdown] exercise="optimizers.explain" role="explain"
# ### BEGIN SOLUTION
# The comparison is not fair. 0.001 is Adam's default, and for SGD it is far too low: Adam divides by the size of the
# gradients, so the same number means another step. Each optimizer has to be tuned over a grid of its own, both with the
# same number of trials, and the best of each compared. One run each proves nothing either: take at least five seeds,
# the same ones for both, and look at the interval of the differences.
#
# Training loss after ten epochs is one question; test accuracy at the end is another, and the answer may differ. So may
# steps and seconds, since a step of Adam costs more.
#
# Metrics are only reported. Keras minimizes the loss; with and without accuracy among the metrics, the weights come out
# equal to the last bit. A metric can only act through a callback, such as ReduceLROnPlateau, that changes the rate when
# it stalls.
# ### END SOLUTION

# %% role="demo"
from autograder import exercises

rubric = exercises.get("optimizers.explain").rubric
Markdown(
    "<details><summary>What a teacher looks for</summary>\n\n"
    + "\n".join(f"- {what} ({points:g})" for what, points in rubric.items())
    + "\n\n</details>"
)

# %% [markdown]
# ## Summary
#
# - The steepest direction limits the rate, and the flattest one takes the time. Momentum adds up gradients that agree;
#   adaptive methods give each weight a rate of its own.
# - PyTorch's momentum buffer holds no rate, Keras's velocity does: they part when the rate changes.
# - Adam's averages start at 0 and have to be corrected; its first step is as long as the rate, whatever the gradient.
# - AdamW shrinks the weights beside the gradient; under Adam a penalty is divided by the gradient's size.
# - A schedule is a function of the step: plot it before you train, and ask whether it counts steps or epochs.
# - The loss is optimized; metrics are reported, unless a callback acts on them.
# - Compare optimizers only after equal tuning, over several seeds, and ask for training loss and test error separately.
#   What was measured:

# %% role="demo"
Markdown(
    "\n".join(
        f"- *{claims.load(id).statement}* **{claims.load(id).verdict}.** {claims.load(id).headline}"
        for id in ("O1", "O2", "O3", "O4")
    )
)

# %% [markdown]
# ## Sources
#
# - Polyak: *Some methods of speeding up the convergence of iteration methods*, 1964 (momentum).
# - Nesterov, 1983; Sutskever, Martens, Dahl, Hinton: *On the importance of initialization and momentum in deep
#   learning*, ICML 2013.
# - Duchi, Hazan, Singer: *Adaptive subgradient methods*, Journal of Machine Learning Research 12, 2011 (AdaGrad).
# - Tieleman, Hinton: Lecture 6.5, 2012 (RMSProp).
# - Kingma, Ba: *Adam: a method for stochastic optimization*, 2015, arXiv:1412.6980.
# - Loshchilov, Hutter: *Decoupled weight decay regularization*, 2019, arXiv:1711.05101 (AdamW); *SGDR*, 2017,
#   arXiv:1608.03983 (cosine).
# - Smith: *Cyclical learning rates for training neural networks*, 2017, arXiv:1506.01186 (range test); Smith, Topin:
#   *Super-convergence*, 2018, arXiv:1708.07120 (1cycle).
# - Data: MNIST; the licence stands beside the file in `course_lib/datasets`.
