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
# # Regularization
#
# *Lesson 7 of Training Deep Nets. About four hours; seventeen exercises that check themselves and one graded by hand.
# You need Python and linear regression. The words of the trade are explained where they first appear.*
#
# People ask it like this:
#
# > I have tried dropout, an L2 penalty and a smaller net, and my conv net still overfits. **What else is there, and
# > what helps?**
#
# And with it come these:
#
# > If I have a validation split, do I still need dropout?
#
# > My validation loss rises after the first epoch, while the training loss falls. Can a net overfit that soon?
#
# > My validation accuracy is *above* my training accuracy since I use augmentation. Is that a bug?
#
# > What exactly does Keras's `validation_split` split off? And when do I use k folds?
#
# By the end you will have written the usual ways to hold a net back yourself, seen them agree with PyTorch and Keras up
# to rounding, told two causes of a rising loss apart, found copies of training images among the validation images, and
# read what nine ways against overfitting are worth, measured on one net.

# %% role="setup"
import math

import numpy as np
import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from autograder.check import check
from course_lib import claims, datasets, plots, trust
from course_lib import regularizers as course_regularizers
from course_lib import training as course_training
from course_lib.predictions import predict, reveal
from course_lib.quiet import load_keras
from course_lib.widgets import regularization as widgets

torch.set_num_threads(1)  # small nets run faster on one thread

# %% [markdown]
# ## The words you need
#
# A **layer** takes a row of numbers $x$ for each example and computes $W x + b$, the same sum as in linear regression,
# once for each of its **units**; the numbers in $W$ are its **weights**, those in $b$ its **biases**. A layer whose
# every unit sees every input is called **dense**; a **convolutional** one, in a *conv net*, slides small patches of
# weights over a picture (exercise 9). Layers in a row make a **net**, and all their weights and biases together are its
# **parameters**. Between the layers an **activation** bends the numbers, mostly $\mathrm{ReLU}(z) = \max(0, z)$. What
# the last layer gives are the **logits**, one for each class; **softmax** turns them into probabilities that sum to 1.
# The **loss** is small where the right class has a high probability: the **cross-entropy** is $-\log p$ of the right
# class, averaged over the examples, in **nats** (natural logarithms).
#
# **Training** takes **steps**: each looks at a small **batch** of examples and moves every parameter a little against
# the loss's **gradient**, by the **learning rate** (lr) times the gradient. This plain rule is called **gradient
# descent**; **Adam** is another one, which divides each gradient by its own usual size (lesson 6). One pass over all
# training examples is an **epoch**.
#
# The **training error** is the share of training examples that the net gets wrong. What we want is a small
# **generalization error**: the share of wrong answers on examples that it has never seen. A net with many parameters
# can learn its training examples by heart, noise and all; then the first is small and the second is not. That is
# **overfitting**. The opposite, a net that can't even fit what it was shown, is **underfitting**.
#
# To see it happen, examples are put aside. The **validation set** is looked at while you still decide something (when
# to stop, which net to take). The **test set** is looked at once, at the end: a number by which you have chosen comes
# out too good, since you took the net that was lucky there.
#
# **Regularization** is whatever is done to lower the generalization error and not the training error: it keeps the net
# from fitting noise. Some ways make the weights small, some stop early, some add noise (**dropout** switches units off
# at random while the net trains), some show more examples, some take a net that has less to fit with. They hold the net
# back, and below they are called **brakes** for short. This lesson builds them one after the other.
#
# ### The PyTorch you need
#
# A **tensor** is an array, as in numpy: `x * y`, `x @ weight.T`, `x.sum(1)`, `x[:, None]` mean the same, and `x[mask]`
# takes the rows where a tensor of True and False is true. A tensor can remember how it was computed (its **graph**),
# and through that PyTorch finds gradients; `.detach()`, `.item()` and `with torch.no_grad():` leave the graph.
#
# A net is an **`nn.Module`**, and so is each of its layers: `model.parameters()` gives its parameters, `p.dim()` says
# how many axes one has, `model.modules()` lists the model and all modules inside it, `model.state_dict()` gives all its
# numbers by name and `model.load_state_dict(state)` puts them back. Besides parameters these are its **buffers**, such
# as the running averages that **batch normalization** keeps (a layer that normalizes each unit by the batch in
# training, and by these averages afterwards). `model.train()` and `model.eval()` tell all layers in which phase they
# are; each has a flag `module.training`. `F.cross_entropy(logits, labels)` is the loss.
#
# The pictures are 5,000 handwritten digits (`mnist5k`) and, in the measurements at the end, emoji (`emoji8`),
# silhouettes of animals (`animalshape`) and printed letters (`glyph26`). All come with the course.

# %% role="demo"
digits = datasets.load("mnist5k")
train_all = datasets.as_tensors(*digits.train)
valid_data, test_data = datasets.as_tensors(*digits.valid), datasets.as_tensors(*digits.test)
few = datasets.as_tensors(*digits.subset(30))
noisy_labels = few[1].clone()
liars = torch.rand(len(noisy_labels), generator=torch.Generator().manual_seed(0)) < 0.2
noisy_labels[liars] = (noisy_labels[liars] + 1 + torch.arange(int(liars.sum())) % 9) % 10
noisy = few[0], noisy_labels
shown = torch.cat([torch.nonzero(liars).flatten()[:4], torch.nonzero(~liars).flatten()[:6]])
plots.grid(
    few[0][shown, 0].numpy(),
    [f"{int(noisy_labels[i])}" + (f" (a {int(few[1][i])})" if liars[i] else "") for i in shown],
    columns=10,
    alt="Ten training digits with their labels; the first four labels are wrong.",
    caption=f"What a net should not learn by heart: of {len(noisy_labels)} training digits {int(liars.sum())} got a wrong "
    "label (the first four here; what they really are stands in brackets).",
)

# %% [markdown]
# ## Predict
#
# Commit to an answer before you read on. A guess that turns out wrong teaches more than a right answer that you only
# read. Nothing here is graded or sent anywhere.

# %% role="demo"
predict("l1_zeros_by_gradient")

# %% role="demo"
predict("epochs_for_more_data")

# %% role="demo"
predict("validation_split_sorted")

# %% role="demo"
predict("validation_above_training")

# %% [markdown]
# ## See
#
# Fifteen noisy points, and a net with 80 ReLU units: more than enough to run through every point. Two brakes hold it
# back. A **penalty** makes large weights cost something; **early stopping** ends the training before the net has fitted
# everything. Move the strength from none to full, watch both errors, and reach the goal.

# %% role="demo"
widgets.BrakeFigure()

# %% [markdown]
# Take two things along. The training error never tells you how much brake is right: it only grows with it. And the two
# brakes do nearly the same: under both the net learns first what the points say most clearly, and less, or not at all,
# what only a few of them say.
#
# ## Derive: what a penalty does to a step
#
# Add to the loss $L$ a **penalty** on the weights. The **ℓ2 penalty** is their sum of squares, times a strength
# $\lambda$ ("lambda"):
#
# $$ L(w) + \frac{\lambda}{2} \sum_i w_i^2 , \qquad \text{with the gradient} \quad \frac{\partial L}{\partial w_i} +
# \lambda w_i , $$
#
# where $\partial L / \partial w_i$ is the gradient of the loss alone. (The half is there to make the gradient simple.
# The sum of squares is also written $w^\top w$; not everybody writes the half, so always ask whose $\lambda$ it is.)
# One step with learning rate $\eta$ then reads
#
# $$ w_i \leftarrow w_i - \eta \Big(\frac{\partial L}{\partial w_i} + \lambda w_i\Big)
#    = (1 - \eta\lambda)\, w_i - \eta \frac{\partial L}{\partial w_i} : $$
#
# each weight first shrinks by a factor a little below 1. That is why the same thing is called **weight decay**. A
# weight stays large only if the loss's gradient pushes it up again, step after step.
#
# For gradient descent the penalty and the shrinking are the same thing. For Adam they are not: it divides the penalty's
# gradient too, by the usual size of the whole gradient. `AdamW` shrinks the weights beside the step, where nothing is
# divided. Card R2, at the end, measures how much the two differ.
#
# ## Build
#
# ### 1. The ℓ2 penalty of a net
#
# Write `l2_penalty(model, strength)`, where `strength` is $\lambda$. Return $\lambda/2$ times the sum of the squares of
# all **weights** of the model, as a tensor without axes that keeps its graph, so that it can be added to a loss. Biases
# stay out, and so do the scales and shifts of batch normalization: count as a weight what has two axes or more.


# %% exercise="regularization.l2_penalty" role="solution"
def l2_penalty(model, strength):
    """strength / 2 · Σ w² over all parameters with two axes or more: a tensor without axes."""
    ### BEGIN SOLUTION
    return strength / 2 * sum(p.square().sum() for p in model.parameters() if p.dim() > 1)
    ### END SOLUTION


# %% exercise="regularization.l2_penalty" role="check"
check("regularization.l2_penalty", l2_penalty)

# %% [markdown]
# Why not the biases? A bias only moves a threshold: it can't make the net wiggle between its examples. Whether that
# matters in practice is another question; card R3 has an answer.
#
# ### 2. ℓ1: weights that become exactly 0
#
# The **ℓ1 penalty** is $\lambda \sum_i |w_i|$. Its gradient is $\lambda\,\mathrm{sign}(w_i)$: a pull towards 0 of the
# same strength, however small the weight is, while ℓ2's pull fades as the weight gets small. So ℓ1 can make weights
# exactly 0, which tells you that an input is not needed. But not by plain gradient steps: near 0 they jump across. Do
# it in two moves instead:
#
# 1. a gradient step on the loss alone: $v = w - \eta\, g$, where $g$ is the loss's gradient;
# 2. pull each $v_i$ towards 0 by $\eta\lambda$, and stop at 0 if you get there (the **soft threshold**).
#
# Write `l1_step(weight, grad, lr, strength)`, where `weight` and `grad` ($g$) are tensors of one shape, `lr` is $\eta$
# and `strength` is $\lambda$. Return the new weight, and leave the old one as it is. With `weight = [1.0, -0.3, 0.05]`,
# `grad = [0, 0, 0]`, `lr = 0.1` and `strength = 1` the answer is `[0.9, -0.2, 0]`.


# %% exercise="regularization.l1_step" role="solution"
def l1_step(weight, grad, lr, strength):
    """The weight after a gradient step on the loss and a pull of lr · strength towards 0, of weight's shape."""
    ### BEGIN SOLUTION
    moved = weight - lr * grad
    return moved.sign() * (moved.abs() - lr * strength).clamp(min=0)
    ### END SOLUTION


# %% exercise="regularization.l1_step" role="check"
check("regularization.l1_step", l1_step)

# %% role="demo"
generator = torch.Generator().manual_seed(0)
inputs = torch.randn(100, 200, generator=generator)
matter = torch.zeros(200)
matter[:10] = torch.tensor([1.0, -1.0] * 5)
targets = inputs @ matter + 0.1 * torch.randn(100, generator=generator)
lr, strength = 0.05, 0.1
by_gradient, by_threshold = torch.zeros(200), torch.zeros(200)
for _ in range(3000):
    grad = inputs.T @ (inputs @ by_gradient - targets) / 100
    by_gradient = by_gradient - lr * (grad + strength * by_gradient.sign())
    grad = inputs.T @ (inputs @ by_threshold - targets) / 100
    by_threshold = course_regularizers.soft_threshold(by_threshold - lr * grad, lr * strength)
zeros = {"by its gradient": by_gradient, "by the soft threshold": by_threshold}
counted = {name: int((w == 0).sum()) for name, w in zeros.items()}
plots.series(
    list(range(1, 201)),
    {name: [w.abs().sort(descending=True).values.clamp(min=1e-5).tolist()] for name, w in zeros.items()},
    xlabel="weights, the largest first",
    ylabel="size of the weight (0 drawn at 0.00001)",
    logy=True,
    alt="Sizes of 200 weights, sorted, after training with an ℓ1 penalty in two ways. Exactly zero: "
    + ", ".join(f"{name} {count}" for name, count in counted.items()),
    caption="A linear model with 200 inputs of which ten matter, trained with the same ℓ1 penalty in two ways. Exactly 0 at "
    "the end: "
    + "; ".join(f"{count} weights {name}" for name, count in counted.items())
    + ". By the gradient the useless weights jump around 0 for ever.",
)

# %% role="demo"
reveal("l1_zeros_by_gradient", counted["by its gradient"])

# %% [markdown]
# ### 3. Max-norm: a limit instead of a pull
#
# A third way does nothing until a unit's weights get too large. The **norm** of a unit's weights is the root of their
# sum of squares. After every step **max-norm** looks at each unit: where the norm is above a limit, it scales the
# unit's weights down, by one factor, until their norm is the limit; all other units stay as they are. In PyTorch a
# weight has the shape `(out, in)` for a dense layer and `(out, in, height, width)` for a convolution: what belongs to
# unit $j$ is `weight[j]`.
#
# Write `max_norm(weight, limit)`, with a `weight` of either shape. Return a new tensor of the same shape. A unit whose
# weights are all 0 is within any limit.


# %% exercise="regularization.max_norm" role="solution"
def max_norm(weight, limit):
    """weight (out, in, …) with each unit's norm at most `limit`; the same shape."""
    ### BEGIN SOLUTION
    norm = weight.flatten(1).norm(dim=1).clamp(min=1e-30)
    factor = (limit / norm).clamp(max=1)
    return weight * factor.view(-1, *[1] * (weight.dim() - 1))
    ### END SOLUTION


# %% exercise="regularization.max_norm" role="check"
check("regularization.max_norm", max_norm)

# %% [markdown]
# ### 4. Early stopping
#
# Watch the validation loss, and stop when it no longer gets better. Losses go up and down, so one bad epoch is no
# reason: wait for some epochs in a row, the **patience**. By then the net is past its best, so keep the best epoch's
# numbers and put them back.
#
# Write the class. `step(loss, model)` is called after each epoch with that epoch's validation loss, a float, and
# returns `True` or `False`: whether to stop. An epoch **improves** if its loss is below the best so far by more than
# `min_delta`; only then does the best change. The first epoch improves, since nothing came before it; a NaN ("not a
# number", what comes out when training blows up) never does. Stop as soon as `patience` epochs (at least 1) in a row
# have not improved. `restore(model)` puts the best epoch's state, buffers too, into a model of the same shape: the one
# that was trained, or another. (Training changes a model's tensors in place, so a state that you want to keep has to be
# copied, `tensor.clone()`.)


# %% exercise="regularization.early_stopping" role="solution"
class EarlyStopping:
    """Stops after `patience` epochs in a row without an improvement by more than min_delta; keeps the best state."""

    def __init__(self, patience, min_delta=0.0):
        ### BEGIN SOLUTION
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.state = math.inf, 0, None
        ### END SOLUTION

    def step(self, loss, model):
        """Take in one epoch's validation loss; whether to stop now."""
        ### BEGIN SOLUTION
        if loss < self.best - self.min_delta:
            self.best, self.wait = loss, 0
            self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        else:
            self.wait += 1
        return self.wait >= self.patience
        ### END SOLUTION

    def restore(self, model):
        """Put the best epoch's state into the model."""
        ### BEGIN SOLUTION
        model.load_state_dict(self.state)
        ### END SOLUTION


# %% exercise="regularization.early_stopping" role="check"
check("regularization.early_stopping", EarlyStopping)

# %% [markdown]
# Here is what early stopping would have done for a net that learns the digits of the first figure, wrong labels and
# all:


# %% role="demo"
def dense_net(width=128, p=0.0, seed=0):
    """784 pixels → ReLU units, dropped with probability p in training → 10 logits."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Dropout(p), nn.Linear(width, 10))


run = course_training.train(dense_net(), noisy, valid_data, epochs=25, lr=3e-3, batch_size=32, seed=1, progress=False)
stopping = course_regularizers.EarlyStopping(patience=5)
stopped_at = next((e + 1 for e, loss in enumerate(run.valid_loss) if stopping.step(loss)), len(run.valid_loss))
best_at = stopping.best_epoch + 1
plots.history(
    {"training loss": run.train_loss, "validation loss": run.valid_loss},
    alt=f"Training and validation loss by epoch; the validation loss is lowest after epoch {best_at}, then rises.",
    caption=f"The validation loss is lowest after epoch {best_at}; with a patience of 5 the training stops after epoch "
    f"{stopped_at}, and the weights of epoch {best_at} are put back: {run.valid_accuracy[best_at - 1]:.1%} of the "
    f"validation digits are right with them. After epoch {len(run.valid_loss)} it is {run.valid_accuracy[-1]:.1%}, and "
    f"{run.train_accuracy[-1]:.1%} of the training labels, right and wrong ones, are learned by heart.",
)

# %% [markdown]
# How many epochs are right for one training set says little about another. The same net on 100 and on 3,000 digits
# (with right labels):

# %% role="demo"
lengths = {}
for examples, epochs in ((100, 60), (len(train_all[1]), 16)):
    part = train_all[0][:examples], train_all[1][:examples]
    history = course_training.train(
        dense_net(64), part, valid_data, epochs=epochs, batch_size=32, seed=1, progress=False
    )
    best_epoch = int(np.argmin(history.valid_loss)) + 1
    lengths[examples] = best_epoch, best_epoch * math.ceil(examples / 32)
(small_epochs, small_steps), (large_epochs, large_steps) = lengths.values()
Markdown(
    "Lowest validation loss: "
    + "; ".join(f"with **{n} images** after {e} epochs, which are {s} steps" for n, (e, s) in lengths.items())
    + ". One seed; card R5 has several, and two sets of images."
)

# %% role="demo"
kinds = {(True, True): "fewer", (True, False): "fewer_both", (False, True): "more", (False, False): "same"}
reveal("epochs_for_more_data", kinds[large_epochs < small_epochs, large_steps > small_steps])

# %% [markdown]
# ## More examples, softer targets
#
# ### 5. Augmentation, on the right side of the split
#
# More data would help, but often there are no more. **Augmentation** makes more out of what you have: shifted,
# mirrored, recoloured copies that keep their label (a mirrored 3 is no 3, so not every change is allowed). There are
# two rules. Only training images are copied: a copy of a validation image in the training set would tell the net the
# answer. And the validation images stay as they are, since they stand for what the net will meet.
#
# Write `grow_training_set(images, labels, is_valid, shifts)`. `images` is `(N, H, W)`, and `labels` `(N,)`. `is_valid`
# `(N,)` holds True for each image that validates, and False for each that trains. `shifts` `(copies, N)` holds whole
# numbers: in copy $k$, image $n$ is moved by `shifts[k, n]` columns to the right, or to the left where that is
# negative; what comes in is 0, what leaves is lost. Return four tensors: the training images (first the originals in
# their order, then the first copy of all of them, then the second, …), their labels in the same order, the validation
# images, and their labels.


# %% exercise="regularization.grow_training_set" role="solution"
def grow_training_set(images, labels, is_valid, shifts):
    """(training images, training labels, validation images, validation labels)."""
    ### BEGIN SOLUTION
    width = images.shape[2]
    train, train_labels = images[~is_valid], labels[~is_valid]
    padded = F.pad(train, (width, width))
    parts = [train]
    for row in shifts[:, ~is_valid].tolist():
        parts.append(torch.stack([x[:, width - s : 2 * width - s] for x, s in zip(padded, row, strict=True)]))
    return torch.cat(parts), train_labels.repeat(len(parts)), images[is_valid], labels[is_valid]
    ### END SOLUTION


# %% exercise="regularization.grow_training_set" role="check"
check("regularization.grow_training_set", grow_training_set)

# %% [markdown]
# ### 6. Mixup
#
# **Mixup** shows the net blends of two examples: $\lambda x_i + (1-\lambda) x_j$, with both labels, in the same shares.
# (This $\lambda$ is no strength but a share between 0 and 1, drawn for each batch.) The net is taught to change its
# mind gradually between examples, instead of jumping.
#
# Write `mixup_loss(model, x, labels, lam, order)`. `x` holds N images and `labels` `(N,)` what they are; `lam` is
# $\lambda$, a number; `order` `(N,)` holds the numbers 0 to N − 1, mixed: image $i$ is blended with image `order[i]`,
# and counts $\lambda$ itself. Call the model once, on the blends; it returns logits. Return $\lambda$ times the
# cross-entropy against `labels` plus $1-\lambda$ times that against the other images' labels, a tensor without axes.

# %% role="demo"
pair = torch.stack([test_data[0][3, 0], test_data[0][17, 0]])
blends = [lam * pair[0] + (1 - lam) * pair[1] for lam in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)]
first, second = (int(test_data[1][i]) for i in (3, 17))
plots.grid(
    torch.stack(blends).numpy(),
    [f"λ = {lam:g}" for lam in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)],
    columns=6,
    alt=f"Blends of a {first} and a {second}, from all of the one to all of the other.",
    caption=f"A {first}, a {second}, and four blends between: λ times the {first} and 1 − λ times the {second}, in the "
    "image and in the label.",
)


# %% exercise="regularization.mixup_loss" role="solution"
def mixup_loss(model, x, labels, lam, order):
    """The loss on lam · x + (1 − lam) · x[order] against both labels, in the same shares."""
    ### BEGIN SOLUTION
    logits = model(lam * x + (1 - lam) * x[order])
    return lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, labels[order])
    ### END SOLUTION


# %% exercise="regularization.mixup_loss" role="check"
check("regularization.mixup_loss", mixup_loss)

# %% [markdown]
# ### 7. Label smoothing
#
# However sure the net is of the right class, being surer still lowers the cross-entropy; so the weights go on growing.
# **Label smoothing** asks for a little doubt, $s$. Of $K$ classes the right one gets the target $t = 1 - s + s/K$ and
# each other one $s/K$; with $p_c$ for the probability that the net gives class $c$, the loss is $-\sum_c t_c \log p_c$,
# averaged over the examples.
#
# Write `smooth_loss(logits, labels, smoothing)`, with `logits` `(N, K)`, `labels` `(N,)` and `smoothing` $s$ from 0 to
# 1, from plain tensor operations, without `F.cross_entropy`. Return a tensor without axes. Logits may be as large as
# $\pm 10^4$: `log_softmax` stays finite where `softmax().log()` does not.


# %% exercise="regularization.smooth_loss" role="solution"
def smooth_loss(logits, labels, smoothing):
    """Mean over the batch of −Σ t log p, t the smoothed targets; logits (N, K), labels (N,)."""
    ### BEGIN SOLUTION
    log_p = logits.log_softmax(1)
    right = log_p.gather(1, labels[:, None])[:, 0]
    return -((1 - smoothing) * right + smoothing * log_p.mean(1)).mean()
    ### END SOLUTION


# %% exercise="regularization.smooth_loss" role="check"
check("regularization.smooth_loss", smooth_loss)

# %% [markdown]
# ## Noise inside the net, and a net with less to fit with
#
# **Dropout** (lesson 8) switches each unit off with probability $p$, afresh for each example in each step, and scales
# the others up by $1/(1-p)$, so that the next layer's average input stays. Two relatives do the same elsewhere.
#
# ### 8. DropConnect
#
# **DropConnect** drops single *weights*, each with probability $p$. Write `drop_connect(x, weight, bias, p, mask)` for
# a dense layer in training: `x` is `(N, in)`, `weight` `(out, in)`, `bias` `(out,)`, and `mask` `(N, out, in)` says
# what was drawn: 1 where example $n$ keeps a weight, and 0 where it is dropped. Scale the kept weights by $1/(1-p)$;
# the bias is neither dropped nor scaled. Return what the layer computes, `(N, out)`.


# %% exercise="regularization.drop_connect" role="solution"
def drop_connect(x, weight, bias, p, mask):
    """(N, out): each example through its own thinned weights, scaled by 1/(1 − p), plus the bias."""
    ### BEGIN SOLUTION
    thinned = weight * mask / (1 - p)  # (N, out, in)
    return torch.einsum("ni,noi->no", x, thinned) + bias
    ### END SOLUTION


# %% exercise="regularization.drop_connect" role="check"
check("regularization.drop_connect", drop_connect)

# %% [markdown]
# ### 9. Stochastic pooling
#
# A **convolutional** layer slides small filters over a picture; its output is a stack of **feature maps**, of shape
# `(N, C, H, W)`: `C` maps for each of `N` pictures. **Pooling** makes them smaller, mostly by taking the largest value
# of each window of 2 × 2 pixels. **Stochastic pooling** draws one of the four at random, each with probability
# $p_i = a_i / \sum_j a_j$, in proportion to its value (after a ReLU none is negative). At test nothing may be random:
# there it takes what the draw gives on average, $\sum_i p_i a_i$.
#
# Write `stochastic_pool(x, u, training)` for maps `x` `(N, C, H, W)`, cut into windows of 2 × 2; `H` and `W` are even.
# `training` is `True` or `False`. So that it can be checked, the random numbers are given: `u` `(N, C, H/2, W/2)` holds
# one between 0 and 1 for each window. In training add up the window's probabilities row by row (top left, top right,
# bottom left, bottom right), and take the first value at which the sum exceeds `u`; at test `u` is not used. A window
# of nothing but 0 gives 0. Return a tensor of the shape of `u`. For the window `[[1, 0], [3, 4]]` the sums are 0.125,
# 0.125, 0.5, 1: `u = 0.4` draws the 3, and at test the answer is 3.25.


# %% exercise="regularization.stochastic_pool" role="solution"
def stochastic_pool(x, u, training):
    """(N, C, H/2, W/2): the value that u draws in training, the average of the draw at test."""
    ### BEGIN SOLUTION
    a = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)  # (N, C, H/2, W/2, 4), row by row
    total = a.sum(-1, keepdim=True)
    p = a / torch.where(total > 0, total, 1)
    if not training:
        return (p * a).sum(-1)
    drawn = (p.cumsum(-1) <= u[..., None]).sum(-1, keepdim=True).clamp(max=3)
    return a.gather(-1, drawn)[..., 0]
    ### END SOLUTION


# %% exercise="regularization.stochastic_pool" role="check"
check("regularization.stochastic_pool", stochastic_pool)

# %% [markdown]
# ### 10. A head of averages
#
# In older conv nets most parameters sit in the **head**: the dense layer at the end that sees every pixel of every map.
# **Global average pooling** replaces it: average each map to one number, and compute the logits from these `C` numbers
# by a small dense layer.
#
# Write `gap_head(maps, weight, bias)`, with `maps` `(N, C, H, W)`, and `weight` `(K, C)` and `bias` `(K,)` of that
# small layer, for $K$ classes. Return three things: the logits `(N, K)`; how many parameters this head has; and how
# many a dense head from all pixels of all maps to the $K$ logits would have. Biases count in both.


# %% exercise="regularization.gap_head" role="solution"
def gap_head(maps, weight, bias):
    """(logits (N, K), parameters of this head, parameters of a dense head on the same maps)."""
    ### BEGIN SOLUTION
    _, c, h, w = maps.shape
    k = len(bias)
    return maps.mean((2, 3)) @ weight.T + bias, c * k + k, c * h * w * k + k
    ### END SOLUTION


# %% exercise="regularization.gap_head" role="check"
check("regularization.gap_head", gap_head)

# %% [markdown]
# ## Honest numbers
#
# Whether a brake helps, only a number can say, and only one that you can trust. Here are three exercises on where such
# numbers come from.
#
# ### 11. Folds without a leak
#
# With few examples a validation set is small, and what it says is largely luck. **k-fold cross-validation** cuts the
# data into $k$ parts, the **folds**; each validates once, while the others train, and the $k$ numbers are averaged.
# **Stratified** folds share out each class evenly. And whatever is computed from the data, such as the mean and
# deviation by which inputs are **standardized** (made to have mean 0 and deviation 1), must come from the training part
# alone; otherwise something of the validation examples gets into training. That is called a **leak**.
#
# Write `standardized_folds(x, labels, k)`, with `x` `(N, D)`: `D` numbers, or **features**, of each example; `labels`
# is `(N,)`. Number the examples of each class 0, 1, 2, … in the order of the data: number $j$ validates in fold
# $j \bmod k$ (what is left when $j$ is divided by $k$). Return a list with four tensors for each fold, fold 0 first:
# training `x`, training labels, validation `x`, validation labels; the examples in the order of the data. Standardize
# each of the `D` columns, in both parts, by the mean and the deviation of the training part: the root of the mean
# squared distance from the mean, where the sum is divided by the number of examples, not by one less. Where the
# deviation is 0, divide by 1.


# %% exercise="regularization.standardized_folds" role="solution"
def standardized_folds(x, labels, k):
    """k tuples (training x, training labels, validation x, validation labels), stratified and standardized."""
    ### BEGIN SOLUTION
    fold = torch.zeros(len(labels), dtype=torch.int64)
    for c in labels.unique():
        where = (labels == c).nonzero().flatten()
        fold[where] = torch.arange(len(where)) % k
    folds = []
    for f in range(k):
        train, valid = x[fold != f], x[fold == f]
        mean, std = train.mean(0), train.std(0, correction=0)
        std = torch.where(std > 0, std, 1)
        folds.append(((train - mean) / std, labels[fold != f], (valid - mean) / std, labels[fold == f]))
    return folds
    ### END SOLUTION


# %% exercise="regularization.standardized_folds" role="check"
check("regularization.standardized_folds", standardized_folds)

# %% [markdown]
# ### 12. What `validation_split` takes
#
# In Keras `model.fit(x, y)` trains a model, and `model.fit(x, y, validation_split=0.2)` splits the examples first. It
# trains on the first ones and validates on the **last** share of them, as they come. `shuffle=True`, which is the
# default, mixes the training part only, and only afterwards. Of $n$ examples the first $n (1 - \text{share})$, rounded
# down, train; the rest validate.
#
# Write `keras_split(labels, share)`, with `labels` `(n,)` as they come, and a `share` between 0 and 1. Return three
# things: the indices that train and the indices that validate, two tensors; and a list of the classes, ascending, that
# validate but never train.


# %% exercise="regularization.keras_split" role="solution"
def keras_split(labels, share):
    """(training indices, validation indices, classes that are never trained on)."""
    ### BEGIN SOLUTION
    at = math.floor(len(labels) * (1 - share))
    index = torch.arange(len(labels))
    missing = sorted(set(labels[at:].tolist()) - set(labels[:at].tolist()))
    return index[:at], index[at:], missing
    ### END SOLUTION


# %% exercise="regularization.keras_split" role="check"
check("regularization.keras_split", keras_split)

# %% [markdown]
# Now with Keras itself: the digits, sorted by class, and the same digits shuffled first.

# %% role="demo"
keras = load_keras()  # some seconds


# %% role="demo"
def fitted(order):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((784,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    images, labels = train_all[0][order].flatten(1).numpy(), train_all[1][order].numpy()
    log = model.fit(images, labels, validation_split=0.3, shuffle=True, epochs=5, batch_size=64, verbose=0).history
    return log["accuracy"][-1], log["val_accuracy"][-1]


in_order = fitted(train_all[1].argsort(stable=True))
mixed = fitted(torch.randperm(len(train_all[1]), generator=torch.Generator().manual_seed(0)))
Markdown(
    "| `validation_split=0.3`, `shuffle=True` | training accuracy | validation accuracy |\n|---|---|---|\n"
    f"| sorted by class | {in_order[0]:.1%} | {in_order[1]:.1%} |\n"
    f"| shuffled before `fit` | {mixed[0]:.1%} | {mixed[1]:.1%} |"
)

# %% role="demo"
reveal("validation_split_sorted", 100 * in_order[1])

# %% [markdown]
# ### 13. Another class balance
#
# On a test set of 500 sick and 500 healthy people a net is right in 90% of both. In practice one in a hundred is sick.
# What is its accuracy there? And of those whom it calls sick, how many are?
#
# The **confusion matrix** counts the test set: row $c$ holds the examples that *are* of class $c$, column $d$ those
# that the net *calls* $d$. What the net says of an example of class $c$ does not depend on how common $c$ is. So the
# shares within a row stay the same in practice; only the rows count more or less than in the test set. **Recall** of
# $c$: of those that are $c$, the share that is called so. **Precision** of $c$: of those that are called $c$, the share
# that is.
#
# Write `under_balance(confusion, balance)`: `confusion` `(K, K)` holds whole numbers, with no empty row, and `balance`
# `(K,)` the shares of the classes in practice, which add up to 1. Return, for these shares, the accuracy (a tensor
# without axes), the precision `(K,)` and the recall `(K,)`. The precision of a class that is never predicted is 0.


# %% exercise="regularization.under_balance" role="solution"
def under_balance(confusion, balance):
    """(accuracy, precision (K,), recall (K,)) where the classes come in the shares `balance`."""
    ### BEGIN SOLUTION
    rates = confusion / confusion.sum(1, keepdim=True)
    joint = balance[:, None] * rates
    predicted = joint.sum(0)
    precision = joint.diagonal() / torch.where(predicted > 0, predicted, 1)
    return joint.diagonal().sum(), precision, rates.diagonal()
    ### END SOLUTION


# %% exercise="regularization.under_balance" role="check"
check("regularization.under_balance", under_balance)

# %% role="demo"
sick = torch.tensor([[450, 50], [50, 450]])  # rows: sick, healthy
rates = sick / sick.sum(1, keepdim=True)
shares = [0.5, 0.2, 0.05, 0.01]
called = [share * rates[0, 0] / (share * rates[0, 0] + (1 - share) * rates[1, 0]) for share in shares]
Markdown(
    "| share of sick people | accuracy | of those called sick, how many are |\n|---|---|---|\n"
    + "\n".join(
        f"| {share:.0%} | {share * rates[0, 0] + (1 - share) * rates[1, 1]:.0%} | {float(precision):.0%} |"
        for share, precision in zip(shares, called, strict=True)
    )
    + "\n\nThe net is the same in every row."
)

# %% [markdown]
# ## Trust: yours against the frameworks

# %% role="demo"
torch.manual_seed(0)
weight = torch.randn(6, 5)
grad = torch.randn(6, 5)
logits, labels = torch.randn(16, 7), torch.randint(0, 7, (16,))
onehot = F.one_hot(labels, 7).float()
order = torch.randperm(16)
feature_maps, head = torch.randn(4, 6, 5, 5), nn.Linear(6, 3)
layer = nn.Linear(5, 6, bias=False)
with torch.no_grad():
    layer.weight.copy_(weight)
decayed = nn.Parameter(weight.clone())
decayed.grad = torch.zeros_like(weight)
torch.optim.SGD([decayed], lr=1.0, weight_decay=0.3).step()


def gradient_of_penalty():
    return torch.autograd.grad(l2_penalty(layer, 0.3), layer.weight)[0]


def from_keras(value):
    return torch.tensor(np.asarray(value))


trust.table(
    [
        trust.Row(
            "l2_penalty, its gradient", "SGD(weight_decay=λ) (PyTorch)", gradient_of_penalty, weight - decayed.detach()
        ),
        trust.Row(
            "l1_step",
            "F.softshrink (PyTorch)",
            lambda: l1_step(weight, grad, 0.1, 3.0),
            F.softshrink(weight - 0.1 * grad, 0.3),
        ),
        trust.Row("max_norm", "torch.renorm (PyTorch)", lambda: max_norm(weight, 1.5), torch.renorm(weight, 2, 0, 1.5)),
        trust.Row(
            "max_norm",
            "constraints.MaxNorm (Keras)",
            lambda: max_norm(weight, 1.5),
            from_keras(keras.constraints.MaxNorm(1.5, axis=0)(weight.T.numpy())).T,
        ),
        trust.Row(
            "smooth_loss",
            "F.cross_entropy(label_smoothing=s) (PyTorch)",
            lambda: smooth_loss(logits, labels, 0.2),
            F.cross_entropy(logits, labels, label_smoothing=0.2),
        ),
        trust.Row(
            "smooth_loss",
            "CategoricalCrossentropy(label_smoothing=s) (Keras)",
            lambda: smooth_loss(logits, labels, 0.2),
            from_keras(
                keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)(
                    onehot.numpy(), logits.numpy()
                )
            ),
        ),
        trust.Row(
            "mixup_loss",
            "F.cross_entropy on blended targets (PyTorch)",
            lambda: mixup_loss(lambda x: x, logits, labels, 0.7, order),
            F.cross_entropy(0.7 * logits + 0.3 * logits[order], 0.7 * onehot + 0.3 * onehot[order]),
        ),
        trust.Row(
            "gap_head",
            "nn.AdaptiveAvgPool2d (PyTorch)",
            lambda: gap_head(feature_maps, head.weight, head.bias)[0],
            head(nn.AdaptiveAvgPool2d(1)(feature_maps).flatten(1)).detach(),
        ),
        trust.Row(
            "gap_head",
            "GlobalAveragePooling2D (Keras)",
            lambda: gap_head(feature_maps, torch.eye(6), torch.zeros(6))[0],
            from_keras(keras.layers.GlobalAveragePooling2D()(feature_maps.permute(0, 2, 3, 1).numpy())),
        ),
    ]
)

# %% [markdown]
# ## In the frameworks
#
# | what | PyTorch | Keras 3 |
# |---|---|---|
# | ℓ2 | `weight_decay=` of the optimizer: all parameters that it is given, biases too | `kernel_regularizer=` of the layer: its weights (Keras calls them the **kernel**) alone |
# | leave the biases out | give the optimizer two lists of parameters (groups), the biases in one with `weight_decay=0` | they are out, unless `bias_regularizer=` is given |
# | where the penalty is | nowhere: the step adds its gradient, the loss you print has none of it | in `model.losses`, and in the loss that `fit` prints |
# | decay beside Adam's step | `AdamW` | `AdamW`, or `weight_decay=` of any optimizer |
# | max-norm | `torch.renorm` by hand after each step | `kernel_constraint=MaxNorm(limit)` |
# | early stopping | none: write it | `EarlyStopping(restore_best_weights=True)`: without that it keeps the last weights |
# | augmentation | in the data set's transform | layers such as `RandomTranslation`: active in `fit`, idle in `evaluate` and `predict` |
# | a validation set | yours to split | `validation_data=`, or `validation_split=`: the last ones |
#
# Here one name means two things. What stands in this table is read from the versions that are installed here, by
# running them. (A **class weight** is a number by which the loss of all examples of a class is multiplied.)

# %% role="demo"
from course_lib.conventions import regularizers as conventions

Markdown(
    "| what | PyTorch | Keras | the trap |\n|---|---|---|---|\n"
    + "\n".join(f"| {c.what} | {c.torch()} | {c.keras(keras)} | {c.trap} |" for c in conventions.CONVENTIONS)
)

# %% [markdown]
# ### 14. The penalty in Keras, by hand and attached
#
# You get a Keras model that is already built: its layers have their weights, but nothing penalizes them yet.
# `model.trainable_weights` lists the variables that training changes (those of frozen layers, with `trainable = False`,
# are not among them); `variable.shape` and `variable.numpy()` give shape and values.
#
# Write `penalize(model, strength)`, where `strength` is $\lambda$. It does two things:
#
# 1. compute $\lambda/2 \sum w^2$ over all trainable kernels (what has two axes or more) by hand, and return it, a
#    float;
# 2. see to it that the model adds the same penalty to its own loss from now on: afterwards the sum of `model.losses`
#    has to be the number that you return. Each variable has an attribute `regularizer`, a function of the variable, or
#    `None`; `keras.regularizers.L2(a)` makes one that returns $a \sum w^2$.
#
# Leave the weights as they are.


# %% exercise="regularization.keras_penalty" role="solution"
def penalize(model, strength):
    """λ/2 Σ w² over the trainable kernels; afterwards sum(model.losses) is the same."""
    ### BEGIN SOLUTION
    import keras

    total = 0.0
    for variable in model.trainable_weights:
        if len(variable.shape) > 1:
            variable.regularizer = keras.regularizers.L2(strength / 2)
            total += strength / 2 * float(np.sum(variable.numpy() ** 2))
    return total
    ### END SOLUTION


# %% exercise="regularization.keras_penalty" role="check"
check("regularization.keras_penalty", penalize)

# %% [markdown]
# ## Clinic
#
# Three runs came in this morning. Find out what is wrong with them, if anything is.
#
# ### 15. Validation above training
#
# "Since I use augmentation my validation accuracy is above my training accuracy, in every epoch. Are the two swapped?"
# This is their run, repeated on 3,000 digits that are shifted by up to 3 pixels whenever they are trained on:


# %% role="demo"
def train_shifted(largest, epochs=10, seed=0):
    """(logged, plain training, plain validation, shifted validation) accuracy by epoch."""
    net, generator = dense_net(seed=seed), torch.Generator().manual_seed(seed)
    rule = torch.optim.Adam(net.parameters(), lr=1e-3)
    images, answers = train_all
    moved = course_regularizers.random_shift(valid_data[0], largest, generator)
    rows = []
    for _ in range(epochs):
        right = 0
        for batch in torch.randperm(len(answers), generator=generator).split(50):
            out = net(course_regularizers.random_shift(images[batch], largest, generator))
            right += int((out.argmax(1) == answers[batch]).sum())
            rule.zero_grad()
            F.cross_entropy(out, answers[batch]).backward()
            rule.step()
        parts = ((images, answers), valid_data, (moved, valid_data[1]))
        rows.append((right / len(answers), *(course_training.evaluate(net, part).accuracy for part in parts)))
    return np.array(rows).T


shifted = train_shifted(3)
plots.history(
    {
        "accuracy in training, as logged": shifted[0],
        "accuracy in validation": shifted[2],
        "accuracy in validation, shifted alike": shifted[3],
    },
    alt="Three accuracy curves by epoch: in training as logged, in validation, and in validation with shifted images.",
    caption=f"Validation is above the logged training accuracy in {(shifted[2] > shifted[0]).sum()} of {shifted.shape[1]} epochs. "
    f"With validation images that are shifted in the same way it is above in {(shifted[3] > shifted[0]).sum()} "
    "(the logged accuracy is that of a net which still improves during the epoch; that shows most in the first ones).",
)

# %% role="demo"
last = shifted[:, -3:].mean(1)
turned = "turns" if last[3] < last[0] else "wider" if last[3] > last[2] else "stays"
reveal("validation_above_training", turned)

# %% [markdown]
# Nothing is swapped. Keras, and this loop, log the training accuracy on the images as they are trained on, and these
# were shifted: they are harder. There are two tests of that explanation, and each changes one thing only: take the
# augmentation away from the training images, or give it to the validation images.
#
# Write `explain_augmented_gap(model, train, valid, augment)`, where `train` and `valid` are pairs `(images, labels)`
# and `augment(images)` returns augmented images. Return five things, four accuracies (shares between 0 and 1) and a
# cause:
#
# 1. `logged`: on the augmented training images;
# 2. `clean`: on the plain training images;
# 3. `plain`: on the plain validation images;
# 4. `augmented`: on the augmented validation images;
# 5. the cause, a word: `"none"` where `plain` is not above `logged`, so that there is nothing to explain; otherwise
#    `"augmentation"` where `clean` is at least `plain`, and `"data"` where it is below: then the validation images are
#    easier, augmentation or not.
#
# Measure all four in evaluation (`model.eval()`), so that dropout and batch normalization have no part in it, and leave
# each module in the phase in which you found it.


# %% exercise="regularization.clinic_augmentation" role="solution"
def explain_augmented_gap(model, train, valid, augment):
    """(logged, clean, plain, augmented, cause): four accuracies and "augmentation", "data" or "none"."""
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in model.modules()]

    def accuracy(images, labels):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).float().mean().item()

    model.eval()
    try:
        logged, clean = accuracy(augment(train[0]), train[1]), accuracy(*train)
        plain, augmented = accuracy(*valid), accuracy(augment(valid[0]), valid[1])
    finally:
        for module, training in modes:
            module.training = training
    cause = "none" if plain <= logged else "augmentation" if clean >= plain else "data"
    return logged, clean, plain, augmented, cause
    ### END SOLUTION


# %% exercise="regularization.clinic_augmentation" role="check"
check("regularization.clinic_augmentation", explain_augmented_gap)

# %% [markdown]
# Dropout alone makes such a gap too (it is on in training and off in validation), and so does the log itself, which
# averages over an epoch in which the net still improves. Card R8 measures these as well.
#
# ### 16. A loss that rises from the second epoch
#
# "My training set is balanced, with as many examples of each class. After the first epoch my validation loss rises
# while the training loss falls. Could it overfit that soon? Or is it because my validation set is *not* balanced?" Both
# can happen, and they can be told apart: weight the validation examples so that each class counts as much as it does in
# training. If the loss still rises, the net overfits. If the rise is gone, the net got better at what it was trained
# for, and the validation set asks for something else.
#
# Write `explain_rise(logits, labels, balance)`: `logits` `(epochs, N, K)` holds what the net said about the validation
# set after each epoch, `labels` `(N,)` what is right, and `balance` `(K,)` the classes' shares in training, which add
# up to 1. Return three things:
#
# 1. the validation loss (cross-entropy) after each epoch, `(epochs,)`;
# 2. the same with each class weighted to its share in training: the mean loss of each class, times its share in
#    training, added up;
# 3. the cause, a word: `"none"` where the first curve does not end higher than it began; otherwise `"balance"` where
#    the second curve does not, and `"overfitting"` where it does.
#
# Every class occurs in the validation set.


# %% exercise="regularization.clinic_rising" role="solution"
def explain_rise(logits, labels, balance):
    """(plain loss by epoch, loss in the training balance by epoch, "none", "balance" or "overfitting")."""
    ### BEGIN SOLUTION
    losses = torch.stack([F.cross_entropy(epoch, labels, reduction="none") for epoch in logits])  # (epochs, N)
    plain = losses.mean(1)
    weighted = sum(share * losses[:, labels == c].mean(1) for c, share in enumerate(balance))
    if plain[-1] <= plain[0]:
        return plain, weighted, "none"
    return plain, weighted, "balance" if weighted[-1] <= weighted[0] else "overfitting"
    ### END SOLUTION


# %% exercise="regularization.clinic_rising" role="check"
check("regularization.clinic_rising", explain_rise)

# %% [markdown]
# ### 17. Too good to be true
#
# "My validation accuracy is far better than what I see in use. I mirrored all images first, to have more of them, and
# then split off a third." So they have copies on both sides of the split.
#
# Write `find_leak(train, valid, predicted, labels)`. `train` and `valid` are images, `(N, H, W)` and `(M, H, W)`;
# `predicted` and `labels`, both `(M,)`, are what the net said of the validation images, and what is right. A validation
# image **leaks** if it, or its mirror image (left and right exchanged), is among the training images, equal in every
# pixel. Return three things: which validation images leak, `(M,)` of True and False; the accuracy as reported, on all
# of them; and the honest one, on those that do not leak (there are some). Both accuracies are shares between 0 and 1,
# tensors without axes.


# %% exercise="regularization.clinic_leak" role="solution"
def find_leak(train, valid, predicted, labels):
    """(which validation images leak (M,), accuracy on all, accuracy on those that do not)."""
    ### BEGIN SOLUTION
    known = torch.cat([train, train.flip(-1)])
    leaked = (valid[:, None] == known[None]).flatten(2).all(2).any(1)
    right = (predicted == labels).float()
    return leaked, right.mean(), right[~leaked].mean()
    ### END SOLUTION


# %% exercise="regularization.clinic_leak" role="check"
check("regularization.clinic_leak", find_leak)

# %% [markdown]
# In practice leaked images are seldom equal in every pixel: they are two photographs of one patient, two frames of one
# film, two scans of one form. No comparison of pixels finds those; put all images of one patient, film or form on the
# same side of the split.
#
# ## Evidence
#
# What this lesson says, and what people say about regularization, put to the test on real images, each with at least
# five **seeds** (a seed fixes everything random in a run: where the weights start, which images, in which order;
# another seed is another run). A **95% interval** says how far the choice of seeds may have moved a mean; in a *paired*
# one differences are taken seed by seed, and one that contains 0 settles nothing. An **arm** is one of the ways
# compared. *Does not hold* means that the rule on the card (under *All measurements*) was not met, in small nets and
# short training, *holds when …* that it was met in part; read the rule. `course evidence R10` in a terminal measures
# one again on your own machine.

# %% [markdown]
# **Both errors.** R1 asks whether weight decay lowers the generalization error, and what it does to the training error;
# look at the training sets with wrong labels. R2 turns λ up until it is too much, and compares the penalty in the loss
# with the decay beside the step, under gradient descent and under Adam.

# %% role="demo"
claims.evidence("R1")

# %% role="demo"
claims.evidence("R2")

# %% [markdown]
# **Which penalty, on what?** R3 compares ℓ1, ℓ2 and both, counts the zeros, and penalizes the biases too or leaves them
# out; its table shows how each framework collects a penalty, and one way that collects nothing.

# %% role="demo"
claims.evidence("R3")

# %% [markdown]
# **When to stop.** R4 tries early stopping alone, and together with ℓ2 or dropout. R5 asks how the best number of
# epochs changes with the number of training images.

# %% role="demo"
claims.evidence("R4")

# %% role="demo"
claims.evidence("R5")

# %% [markdown]
# **A meter and a brake.** In R6 a fifth of the images is held out; in some arms it is only measured, in others it
# decides when to stop, with dropout and without.

# %% role="demo"
claims.evidence("R6")

# %% [markdown]
# **Gaps that look like bugs.** R7 brings about each of the two causes of a rising validation loss alone. Look at the
# loss *and* at the error. R8 runs both tests of the clinic's first case over several seeds, and tries two causes that
# have nothing to do with augmentation. Look at whether both data sets show the gap at all: a net is also worse on new
# images than on those that it trained on, and that makes the gap smaller.

# %% role="demo"
claims.evidence("R7")

# %% role="demo"
claims.evidence("R8")

# %% [markdown]
# **Splits.** R9 compares the error that different splits find with the error on a large test set; its table shows which
# examples Keras took.

# %% role="demo"
claims.evidence("R9")

# %% [markdown]
# ## What helps?
#
# R10 answers the question at the top: one conv net, each way alone at its best of three strengths, and then the best
# of them together. These are put together one by one, from the way that lowers the validation error most; each next
# one stays only if the error falls again. Look at the training errors too, under *All measurements*: where one is far
# above 0, the net no longer learns its own images, and a brake on a net that underfits makes it worse. And look at how
# wide the intervals are: with so few images a way has to help a lot before anybody can see it.

# %% role="demo"
claims.evidence("R10")

# %% [markdown]
# **Many labels.** “27 classes, so of course it overfits,” somebody wrote, and was contradicted. R11 takes more and more
# classes: once with the same number of examples of each, once with the same number in all.

# %% role="demo"
claims.evidence("R11")

# %% [markdown]
# **Seven ways to improve a net**, from a list by Thoma (see *Sources*). R12 measures one before and one after for each:
# brakes are not the only way; an easier problem, better data and a better training set-up are others.

# %% role="demo"
claims.evidence("R12")

# %% [markdown]
# ## Explain
#
# ### 18. In your own words
#
# A colleague writes: "I use `validation_split=0.2`, so I don't need dropout, do I? My data come sorted by hospital. I
# standardized and augmented everything first. The validation loss rises from the second epoch, so I stop there, and
# report that validation accuracy." Tell them what a validation split does and does not do, what is wrong with this one,
# how they can find out why the loss rises, and which number to report. Ten sentences are enough. In a class a teacher
# reads this one; on your own, write it first, and then open what a teacher would look for, below.

# %% [markdown] exercise="regularization.explain" role="explain"
# ### BEGIN SOLUTION
# A validation split measures; it changes no weight, so by itself it prevents no overfitting. Dropout, penalties and
# augmentation change what is learned. Stopping by the validation loss is a brake too, but then the split has been used
# to choose, and its accuracy is a little too good: report the accuracy on a test set that was looked at once.
#
# `validation_split` takes the last fifth without shuffling. Your data are sorted by hospital, so you validate on
# hospitals that you never trained on; either that is what you want to know, or you must split in a stratified way
# first. Standardizing and augmenting came before the split: the mean knows the validation examples, and copies of them
# are in the training set. Split first.
#
# A rise of the validation loss may be overfitting, if the training loss falls and the error does not improve, or
# another class balance: weight the validation examples by their classes' shares in training and look whether it still
# rises. A rising loss with a steady accuracy means that the net gets surer of its errors.
# ### END SOLUTION

# %% role="demo"
from autograder import exercises

rubric = exercises.get("regularization.explain").rubric
Markdown(
    "<details><summary>What a teacher looks for</summary>\n\n"
    + "\n".join(f"- {what} ({points:g})" for what, points in rubric.items())
    + "\n\n</details>"
)

# %% [markdown]
# ## Summary
#
# - Regularization is for the generalization error. The training error mostly grows with it, and can't tell you how much
#   is right.
# - A penalty shrinks weights at each step; ℓ1 with a soft threshold makes some of them exactly 0. Always ask whose λ it
#   is, with the half or without, and which parameters it reaches.
# - Early stopping keeps the best epoch's weights. When that epoch comes depends on the data, in steps even more than in
#   epochs.
# - Augment the training images only, after the split; whatever is computed from data comes from the training part.
# - A validation split only measures. Dropout, penalties, augmentation and stopping are brakes.
# - Validation above training, or a loss that rises early, need not be bugs: change one thing at a time, and measure
#   again.
# - What was measured:

# %% role="demo"
settled = [claims.load(id) for id in ("R10", "R4", "R2", "R8")]
Markdown("\n".join(f"- *{result.statement}* **{result.verdict}.** {result.headline}" for result in settled if result))

# %% [markdown]
# ## Sources
#
# - Hoerl, Kennard: *Ridge regression*, 1970 (ℓ2); Tibshirani: *Regression shrinkage and selection via the lasso*, 1996
#   (ℓ1).
# - Loshchilov, Hutter: *Decoupled weight decay regularization*, 2019, arXiv:1711.05101.
# - Prechelt: *Early stopping, but when?*, 1998.
# - Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: *Dropout*, Journal of Machine Learning Research 15, 2014
#   (max-norm too).
# - Wan, Zeiler, Zhang, LeCun, Fergus: *Regularization of neural networks using DropConnect*, 2013.
# - Zeiler, Fergus: *Stochastic pooling*, 2013, arXiv:1301.3557. Lin, Chen, Yan: *Network in network*, 2013,
#   arXiv:1312.4400 (global average pooling).
# - Szegedy and others: *Rethinking the Inception architecture*, 2016, arXiv:1512.00567 (label smoothing).
# - Zhang, Cissé, Dauphin, Lopez-Paz: *mixup*, 2018, arXiv:1710.09412.
# - Thoma: *Analysis and optimization of convolutional neural network architectures*, 2017, arXiv:1707.09725 (seven ways
#   to improve a net).
# - Data: MNIST, emoji by Google (Noto), Twitter (Twemoji) and Microsoft (Fluent), animal shapes, and free fonts;
#   licences stand beside the files in `course_lib/datasets`.
