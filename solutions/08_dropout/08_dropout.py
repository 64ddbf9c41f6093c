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
# # Dropout in training and in test
#
# *Lesson 8 of Training Deep Nets. About three hours; eleven exercises that check themselves and one graded by hand.
# You need Python and linear regression. The words of the trade are explained where they first appear.*
#
# People ask it like this:
#
# > The Keras documentation says that dropout behaves differently in the training and in the test phase. Nobody says
# > what the difference is. I expect the layer to set some units to 0. **Why should that depend on the phase?**
#
# And soon afterwards:
#
# > My training loss is *above* my validation loss. Is that a bug?
#
# > How do I turn dropout off for prediction, or leave it on on purpose, in Keras and in PyTorch?
#
# > Nobody seems to use dropout on convolutional layers. What do I use there?
#
# By the end you will have written every piece yourself, seen it agree with PyTorch and Keras up to
# rounding, mended an evaluation, judged a run that only looks broken, and read the measurements behind each rule of
# thumb.

# %% role="setup"
import numpy as np
import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from autograder.check import check
from course_lib import claims, datasets, plots, trust
from course_lib import dropout as course_dropout
from course_lib import training as course_training
from course_lib.predictions import predict, reveal
from course_lib.quiet import load_keras
from course_lib.widgets import dropout as widgets

torch.set_num_threads(1)  # small nets run faster on one thread

# %% [markdown]
# ## The words you need
#
# A **layer** takes a row of numbers $x$ for each example and computes $z = W x + b$, the same sum as in linear
# regression, once for each of its **units**. An **activation** then bends $z$, mostly by
# $\mathrm{ReLU}(z) = \max(0, z)$, and what comes out is the next layer's $x$. The numbers of the last layer are the
# **logits**, one for each class; **softmax** turns them into probabilities that sum to 1. The **loss** is small where
# the right class has a high probability, and **training** moves the weights $W$ and $b$ a little so that the loss falls,
# one small **batch** of examples after another.
#
# A net that knows its training examples by heart and fails on new ones **overfits**. We measure that on a
# **validation set**: examples that it has never trained on.
#
# The value $z$, before the activation bends it, is called a **pre-activation**. Losses and uncertainties are given in
# **nats**: natural logarithms of probabilities. Once training is over, the net is put to use; *test*, *evaluation*,
# *inference* and *prediction* all name that second phase.
#
# **Dropout** is meant as a brake on overfitting; whether it pays depends on the net and the data, and the cards at the
# end measure it. For every example, in every training step, each unit is switched off with probability $p$: its output
# is replaced by 0. The choice is drawn afresh each time. The list of zeros and ones that says who stays is the **mask**:
#
# $$ y = m \odot x, \qquad m_i = \begin{cases} 0 & \text{with probability } p \quad\text{(dropped)} \\
# 1 & \text{with probability } 1-p \quad\text{(kept)} \end{cases} $$
#
# Here is what it does to real pictures: each column is one picture, each row another draw of the mask.

# %% role="demo"
digits = datasets.load("mnist5k")
emoji = datasets.load("emoji8")
some = datasets.as_tensors(digits.test.images[:8])
rows = [some] + [some * course_dropout.sample_mask(some.shape, 0.5) for _ in range(2)]
plots.grid(
    torch.cat(rows)[:, 0].numpy(),
    [digits.classes[i] for i in digits.test.labels[:8]] + [""] * 16,
    columns=8,
    alt=f"Handwritten digits {', '.join(digits.classes[i] for i in digits.test.labels[:8])}; below, the same twice with a "
    "random half of the pixels set to 0: the strokes are dotted but keep their shape.",
    caption="Handwritten digits, whole (top), and with half of the pixels dropped in two draws. You can still read "
    "them: a net that sees them so must learn not to rely on any single pixel.",
)

# %% [markdown]
# ### The PyTorch you need
#
# A **tensor** is an array, as in numpy: `x * mask`, `x @ weight.T`, `x.sum(1)`, `x[:, None]` mean the same. Two things are
# new. A tensor can remember how it was computed; this memory is called the **graph**, and through it PyTorch finds the
# **gradient**, how the loss changes with each number that went in. Operations on tensors keep the graph; changing a tensor
# in place, or leaving PyTorch for numpy, breaks it; inside `with torch.no_grad():` none is kept, which saves time where
# nothing is learned. And every tensor has a **dtype** (`torch.float32`, …) and a **device** (processor or GPU);
# `torch.rand_like(x)` draws numbers between 0 and 1 in the shape, dtype and device of `x`.
#
# A layer is an **`nn.Module`**: a class whose `__init__` first calls `super().__init__()`, and whose `forward(self, x)`
# computes the output; then `layer(x)` calls it. `nn.Sequential(a, b, c)` puts layers in a row, `model.modules()` lists a
# model and all modules inside, and `isinstance(module, nn.Dropout)` says what kind one is. `F.cross_entropy(logits, labels)`
# is the loss, averaged over the batch it gets (`reduction="sum"` adds it up instead).
#
# The pictures are 5,000 handwritten digits (`mnist5k`), emoji in eight classes by three artists (`emoji8`) and, in some
# measurements at the end, silhouettes of animals (`animalshape`). All come with the course.

# %% [markdown]
# ## Predict
#
# Commit to an answer before you read on. A guess that turns out wrong teaches more than a right answer that you only
# read. Nothing here is graded or sent anywhere.

# %% role="demo"
predict("scale_without_rescaling")

# %% role="demo"
predict("dropout_left_on_at_test")

# %% role="demo"
predict("scaled_net_is_average")

# %% role="demo"
predict("training_loss_above_validation")

# %% [markdown]
# ## See
#
# The figure sends real digits through a net that was trained with dropout, and shows what a unit of the next layer
# receives, in training and at test. Move the sliders, change the rule, and reach the goal that the figure sets you. The
# weights stay those that the net learned at $p = 0.5$; only the dropping changes.

# %% role="demo"
signal_images, signal_labels = map(torch.tensor, digits.train)
nets = {
    "trained with dropout": widgets.train_signal_net(signal_images, signal_labels),
    "random weights": widgets.random_signal_net(784),
}
widgets.SignalFigure(signal_images, nets)

# %% [markdown]
# ## Derive: what the next layer expects
#
# Take one unit of the next layer, $z = \sum_i w_i x_i$. In training it receives $\sum_i w_i m_i x_i$ instead. On average
# over the masks,
#
# $$ \mathbb{E}\Big[\sum_i w_i m_i x_i\Big] = \sum_i w_i\, \mathbb{E}[m_i]\, x_i = (1-p) \sum_i w_i x_i . $$
#
# With $p = 0.5$ the weights are learned with half of the signal. At test you want every unit, since each has learned
# something, but then the signal is $1/(1-p)$ times what the weights are used to. **That is why the layer must know its
# phase.** There are two remedies. Both
# make the average of the next $z$ equal in the two phases:
#
# | form | in training | at test |
# |---|---|---|
# | **classic** (Hinton and others, 2012) | $m \odot x$ | $(1-p)\,x$ |
# | **inverted** (what PyTorch and Keras do) | $m \odot x / (1-p)$ | $x$ |
#
# Through several layers the match is close, not exact, because ReLU bends $z$ in between. Scaling the output by $1-p$, or
# the weights that read it, comes to the same. Inverted dropout leaves the net at test free of dropout altogether, which is why it won. Careful with the letter:
# here, in PyTorch and in Keras, $p$ is the share that is **dropped**; some lecture notes use it for the share kept.

# %% [markdown]
# ## Build
#
# ### 1. Inverted dropout
#
# Write `inverted_dropout(x, p, mask)`. `mask` has the shape of `x` and holds 1 where a unit is kept. Use tensor
# operations only, and leave `x` itself as it is: the gradient has to find its way back through your result.
#
# With `x = [1, 2, 3, 4]`, `p = 0.2` and `mask = [1, 0, 1, 1]` the answer is `[1.25, 0, 3.75, 5]`. In all exercises of
# this part, PyTorch's own dropout is not allowed: write it from plain tensor operations.


# %% exercise="dropout.inverted_dropout" role="solution"
def inverted_dropout(x, p, mask):
    """x with the units dropped where mask is 0, and the others scaled so that the mean stays. Same shape as x."""
    ### BEGIN SOLUTION
    return x * mask / (1 - p)
    ### END SOLUTION


# %% exercise="dropout.inverted_dropout" role="check"
check("dropout.inverted_dropout", inverted_dropout)

# %% [markdown]
# The gradient took the same road as the signal: backward, it is multiplied by the same $m/(1-p)$. A unit that is
# dropped for an example learns nothing from that example, and a kept one learns as if it stood for its dropped
# neighbours too.
#
# ### 2. Classic dropout
#
# The first published form. In training it drops and does not scale; at test it drops nothing and scales by the share that
# was kept in training. Write `classic_dropout(x, p, mask, training)`, where `training` is true or false.
#
# With `x = [1, 2, 3, 4]` and `p = 0.2` the answer at test is `[0.8, 1.6, 2.4, 3.2]`.


# %% exercise="dropout.classic_dropout" role="solution"
def classic_dropout(x, p, mask, training):
    """The output in training (training=True) or at test (training=False, the mask is then not looked at)."""
    ### BEGIN SOLUTION
    if training:
        return x * mask
    return x * (1 - p)
    ### END SOLUTION


# %% exercise="dropout.classic_dropout" role="check"
check("dropout.classic_dropout", classic_dropout)

# %% [markdown]
# ### 3. The expected signal, and its noise
#
# The averages agree, but a random mask also adds **noise**: for one example, $z$ now varies from step to step. How much?
# The masks of the units are independent, so the variances of the terms add up. One term is $w_i x_i m_i/(1-p)$, and
# $m_i$ is 0 or 1 with variance $p(1-p)$. A constant factor comes out of a variance squared:
# $\mathrm{Var}(a\,m) = a^2\,\mathrm{Var}(m)$.
#
# Write `expected_signal(x, weight, p)` for inverted dropout of `x`, of shape `(N, in)`, before a layer `weight`, of
# shape `(out, in)`. Return the mean and the variance of the layer's output over all masks, each of shape `(N, out)`.
# No random numbers: work the two formulas out on paper first.


# %% exercise="dropout.expected_signal" role="solution"
def expected_signal(x, weight, p):
    """(mean, variance) of weight @ inverted_dropout(x) over the masks, each (N, out)."""
    ### BEGIN SOLUTION
    mean = x @ weight.T
    variance = p / (1 - p) * x.square() @ weight.square().T
    return mean, variance
    ### END SOLUTION


# %% exercise="dropout.expected_signal" role="check"
check("dropout.expected_signal", expected_signal)

# %% [markdown]
# Now the first prediction: four layers that each drop half of their inputs, and nobody scales anything. We follow the
# signal through the net of the figure above, which was trained without scaling, and through one with random
# weights.

# %% role="demo"
grown = {
    name: widgets.measure_signal(signal_images, net, p=0.5, depth=4, rule="none").ratios[:4]
    for name, net in nets.items()
}
last = {name: ratios[-1] for name, ratios in grown.items()}
plots.series(
    [1, 2, 3, 4],
    {"twice for each layer": [[2, 4, 8, 16]], **{name: [ratios] for name, ratios in grown.items()}},
    xlabel="dropouts passed (layers)",
    ylabel="signal at test ÷ in training",
    alt="The signal at test over that in training, without scaling, after 1 to 4 layers: "
    + "; ".join(f"{name} {', '.join(f'{ratio:.1f}' for ratio in ratios)}" for name, ratios in grown.items()),
    caption="p = 0.5, real digits, nothing scaled. "
    + "; ".join(f"{name}: {ratio:.1f} × after four layers" for name, ratio in last.items())
    + ". A net falls short of doubling where ReLU cuts off the negative half of the masks' noise: what is left of the "
    "noise is positive, and adds to the signal in training.",
)

# %% role="demo"
reveal("scale_without_rescaling", last["trained with dropout"])

# %% [markdown]
# ### 4. A layer that knows its phase
#
# In PyTorch every module carries a flag, `self.training`. `model.train()` sets it on the model and all modules inside,
# `model.eval()` clears it; a single module's `module.training` can be read and set too.
# `torch.no_grad()` does **not** touch it: it only stops recording for the gradient.
#
# Write the module. It draws a fresh mask at every call while training, independently for every element of `x`, and
# returns `x` unchanged in evaluation. A `p` outside $[0, 1]$ is a mistake of the caller's: raise `ValueError` in
# `__init__`. (`p = 1` keeps nothing, and is not asked here.) Keep the device and the dtype of `x`. You may call your `inverted_dropout`.


# %% exercise="dropout.module" role="solution"
class Dropout(nn.Module):
    """Inverted dropout in training, the identity in evaluation."""

    def __init__(self, p=0.5):
        super().__init__()
        ### BEGIN SOLUTION
        if not 0 <= p <= 1:
            raise ValueError(f"p must lie between 0 and 1, not {p}")
        self.p = p
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        if not self.training:
            return x
        mask = (torch.rand_like(x) >= self.p).to(x.dtype)
        return x * mask / (1 - self.p)
        ### END SOLUTION


# %% exercise="dropout.module" role="check"
check("dropout.module", Dropout)

# %% [markdown]
# ### 5. Dropout for feature maps
#
# A convolutional layer outputs **feature maps**: pictures of shape `(N, C, H, W)`, `C` maps for each of `N` examples.
# Neighbouring pixels of a map say nearly the same thing, so dropping single pixels hides less than you would think: the
# neighbours still tell. **Spatial dropout** drops whole maps.
#
# Write `spatial_dropout(x, p, mask)` with `mask` of shape `(N, C)`: one decision for each map of each example. Scale as
# before.


# %% exercise="dropout.spatial_dropout" role="solution"
def spatial_dropout(x, p, mask):
    """x (N, C, H, W) with whole maps dropped where mask (N, C) is 0, the others scaled by 1/(1 − p)."""
    ### BEGIN SOLUTION
    return x * mask[:, :, None, None] / (1 - p)
    ### END SOLUTION


# %% exercise="dropout.spatial_dropout" role="check"
check("dropout.spatial_dropout", spatial_dropout)

# %% role="demo"
generator = torch.Generator().manual_seed(194)  # filters whose maps all show something
wolf = emoji.test.images[emoji.test.labels == emoji.classes.index("animal")][5:6]
ink = 1 - datasets.as_tensors(wolf)  # so that the white ground is 0
maps = F.conv2d(ink, torch.randn(6, 3, 3, 3, generator=generator), padding=1).relu()
maps = maps / maps.amax((2, 3), keepdim=True)
pixels = maps * course_dropout.sample_mask(maps.shape, 0.5, generator)
whole = maps * course_dropout.sample_mask((1, 6), 0.5, generator)[:, :, None, None]
plots.grid(
    torch.cat([maps[0], pixels[0], whole[0]]).numpy(),
    ["whole"] + [""] * 5 + ["pixels"] + [""] * 5 + ["maps"] + [""] * 5,
    columns=6,
    alt="Six feature maps of one picture: whole; with single pixels dropped; with whole maps dropped.",
    caption="Six feature maps of one emoji (top), with half of the pixels dropped (middle), with half of the maps "
    "dropped (bottom). In the middle row outlines survive; in the bottom row a dropped map leaves nothing.",
)

# %% [markdown]
# Does it help? Measure before you believe it: card D9 below compares it with plain dropout, drop path, stochastic pooling
# and batch normalization on one conv net.

# %% [markdown]
# ## A trained net is the average of many
#
# Each mask selects a **thinned net**. With $n$ units there are $2^n$ of them, all sharing their weights, and every step
# of training works on as many of them as the batch has examples. At test you would like to ask all of them and average. That is too many, so you use the whole
# net once, with its weights scaled by $1-p$. Is that the same?
#
# ### 6. Ask all the thinned nets
#
# Take the smallest case: softmax regression, whose inputs are dropped **without** scaling. For one mask $m$ the net
# predicts $\mathrm{softmax}(W (m \odot x) + b)$, and that mask comes with probability
# $\prod_i (1-p)^{m_i} p^{1-m_i}$. `masks` has the shape `(2ⁿ, n)` and holds them all.
#
# Write `thinned_nets(x, weight, bias, p, masks)` and return three predictions, each of shape `(N, classes)`:
#
# 1. `arithmetic`: the mean of the thinned nets' probabilities, each weighted with its mask's probability;
# 2. `geometric`: their weighted geometric mean, $\exp(\sum_m P(m) \log q_m)$, scaled to sum to 1;
# 3. `scaled`: the prediction of the one net whose *weights* (not the bias) are multiplied by $1-p$.
#
# In the mean, some $q$ can be so small that they are 0 in `float32`, and $\log 0$ is no number: take `F.log_softmax` of the
# logits for $\log q$. `x * masks[:, None, :]` makes all masked inputs at once, of shape `(2ⁿ, N, n)`.


# %% exercise="dropout.thinned_nets" role="solution"
def thinned_nets(x, weight, bias, p, masks):
    """(arithmetic, geometric, scaled): x (N, n), weight (classes, n), bias (classes,), masks (2ⁿ, n)."""
    ### BEGIN SOLUTION
    kept = masks.sum(1)
    probability = (1 - p) ** kept * p ** (masks.shape[1] - kept)
    log_q = F.log_softmax((x * masks[:, None, :]) @ weight.T + bias, dim=-1)  # (2ⁿ, N, classes)
    probability = probability[:, None, None]
    arithmetic = (probability * log_q.exp()).sum(0)
    geometric = F.softmax((probability * log_q).sum(0), dim=-1)
    scaled = F.softmax(x @ (weight * (1 - p)).T + bias, dim=-1)
    return arithmetic, geometric, scaled
    ### END SOLUTION


# %% exercise="dropout.thinned_nets" role="check"
check("dropout.thinned_nets", thinned_nets)

# %% [markdown]
# The second and the third are **equal**, up to rounding: for softmax regression the scaled net *is* the geometric mean of
# all $2^n$ nets. Why? $\log q = z - \log \sum e^z$. The second part is the same for every class, so it cancels when the
# result is scaled to sum to 1; and the mean of $z = W(m \odot x) + b$ over the masks is $(1-p) W x + b$, the logits of the
# scaled net. The arithmetic mean is something else, close by. Deeper nets keep neither promise exactly,
# because a ReLU stands in between. Let us train a net on digits, with dropout and without, and then measure how close.

# %% role="demo"
train_data = datasets.as_tensors(*digits.subset(100))
valid_data, test_data = datasets.as_tensors(*digits.valid), datasets.as_tensors(*digits.test)


def dense_net(p, width=256, seed=0):
    """Two hidden layers of ReLU units, dropout at rate p before the second and the last layer."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, width),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Linear(width, 10),
    )


plain, dropping = dense_net(0.0), dense_net(0.5)
plain_run = course_training.train(plain, train_data, valid_data, epochs=25, seed=1)
dropping_run = course_training.train(dropping, train_data, valid_data, epochs=25, seed=1)
plots.history(
    {
        "validation loss, no dropout": plain_run.valid_loss,
        "validation loss, p = 0.5": dropping_run.valid_loss,
        "loss on the training images, no dropout": plain_run.train_loss,
        "loss on the training images, p = 0.5": dropping_run.train_loss,
    },
    alt="Loss by epoch on the training and the validation digits, of the same net without dropout and with p = 0.5.",
    caption=f"The same net, trained on {len(train_data[1])} digits, with and without dropout (all losses with dropout off). Best and last "
    f"validation loss without: {min(plain_run.valid_loss):.2f} and {plain_run.valid_loss[-1]:.2f}; with: "
    f"{min(dropping_run.valid_loss):.2f} and {dropping_run.valid_loss[-1]:.2f}. One seed; D6 below has several.",
)

# %% role="demo"
samples = course_dropout.mc_dropout(dropping, test_data[0], 64)  # (64, N, 10): the logits of 64 thinned nets
labels = test_data[1]


def accuracy(probability):
    return float((probability.argmax(-1) == labels).float().mean())


probabilities = samples.softmax(-1)
counts = [1, 2, 4, 8, 16, 32, 64]
of_mean = [accuracy(probabilities[:k].mean(0)) for k in counts]
single = [accuracy(q) for q in probabilities]
with torch.no_grad():
    whole_net = accuracy(dropping.eval()(test_data[0]))
plots.series(
    counts,
    {"mean of K thinned nets": [of_mean], "the whole net, once": [[whole_net] * len(counts)]},
    xlabel="thinned nets asked, K",
    ylabel="test accuracy (share)",
    logx=True,
    alt=f"Test accuracy of the mean of K thinned nets, from {of_mean[0]:.1%} for one to {of_mean[-1]:.1%} for {counts[-1]}; "
    f"the whole net has {whole_net:.1%}.",
    caption=f"One thinned net gets {np.mean(single):.1%} of the test digits right on average, the whole net {whole_net:.1%} "
    "in a single pass. The mean of {counts[-1]} thinned nets gets {of_mean[-1]:.1%}, at {counts[-1]} times the price. Steps of a few "
    "tenths of a point are chance here; D2 below has more seeds.",
)

# %% [markdown]
# One run proves little, so the second prediction is held against card D3: nets like this one, trained with several seeds.

# %% role="demo"
reveal("dropout_left_on_at_test", claims.load("D3").interval.mean)

# %% [markdown]
# How close is "close"? Take a net so small that *all* its thinned nets can be asked: ten units can be dropped, which
# gives 1024 masks, and one more hidden layer follows. Once with ReLU, and once without any bend. This time we average
# logits, not probabilities.

# %% role="demo"
gap = {}
every = course_dropout.all_masks(10)  # (1024, 10)
for name, bend in [("linear", nn.Identity), ("deep, with ReLU", nn.ReLU)]:
    torch.manual_seed(0)
    small = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 10), bend(), nn.Dropout(0.5), nn.Linear(10, 32), bend(), nn.Linear(32, 10)
    )
    course_training.train(small, train_data, valid_data, epochs=20, seed=1, progress=False)
    with torch.no_grad():
        features = small[:3](test_data[0][:200])
        mean = torch.stack([small[4:](features * mask / 0.5) for mask in every]).mean(0)
        once = small.eval()(test_data[0][:200])
    gap[name] = float((mean - once).norm() / mean.norm())
Markdown(
    "Logits of the whole net, once, against their exact mean over all 1024 thinned nets; distance relative to the mean: "
    + ", ".join(f"**{name}** {100 * value:.2g}%" for name, value in gap.items())
    + "."
)

# %% role="demo"
reveal("scaled_net_is_average", "linear" if gap["linear"] < 1e-5 < gap["deep, with ReLU"] else "neither")

# %% [markdown]
# ## Leaving dropout on, on purpose
#
# The hope: thinned nets agree about an easy picture, and disagree about an unusual one. (Card D7 measures how much this adds
# to a single pass.) **Monte
# Carlo (MC) dropout** makes use of that: keep the masks random at test, ask $K$ times, and look at how much the answers
# differ.
#
# ### 7. What the net does not know
#
# **Entropy** measures how spread out probabilities are: 0 for (1, 0), and largest, $\log 2$, for (½, ½).
#
# Given the logits of $K$ thinned nets, of shape `(K, N, C)`, compute for each of the $N$ examples:
#
# - the **mean probability** $\bar q = \frac1K \sum_k \mathrm{softmax}(\text{logits}_k)$, shape `(N, C)`;
# - its **predictive entropy** $H(\bar q) = -\sum_c \bar q_c \log \bar q_c$: all the uncertainty that the average shows, `(N,)`;
# - the **mutual information** $H(\bar q) - \frac1K \sum_k H(q_k)$: the part that comes from disagreement, `(N,)`. It is 0
#   where all thinned nets say the same, even if what they say is "half this, half that".
#
# Two thinned nets, two classes: if both say (½, ½), the predictive entropy is $\log 2 = 0.69$ and the mutual information 0:
# the picture itself is undecided. If one says (1, 0) and the other (0, 1), the mean is again (½, ½) and the entropy 0.69,
# but now all of it is disagreement: the mutual information is 0.69 as well.
#
# Use the natural logarithm. A probability can be exactly 0, and $0 \log 0$ counts as 0: your code must not turn it into
# NaN. (`torch.special.entr(q)` is $-q \log q$, and 0 at 0.) Logits may be as large as $\pm 10^4$: use `softmax`, since `exp` by
# hand overflows.


# %% exercise="dropout.uncertainty" role="solution"
def uncertainty(logits):
    """(mean probability (N, C), predictive entropy (N,), mutual information (N,)) from logits (K, N, C)."""
    ### BEGIN SOLUTION
    log_q = F.log_softmax(logits, dim=-1)
    mean = log_q.exp().mean(0)
    total = torch.special.entr(mean).sum(-1)
    each = torch.special.entr(log_q.exp()).sum(-1).mean(0)
    return mean, total, total - each
    ### END SOLUTION


# %% exercise="dropout.uncertainty" role="check"
check("dropout.uncertainty", uncertainty)

# %% [markdown]
# ### 8. Ask K times, without breaking anything else
#
# `model.train()` switches dropout on, but it also puts **batch normalization** layers into training: those keep running
# averages of what they see, which a call in training mode changes for good, and they would then normalize each example
# by its neighbours in the batch.
#
# Write `mc_logits(model, x, samples)`. It returns the logits of `samples` passes, of shape `(samples, N, classes)`, with
# a fresh mask in each, and keeps no graph for the gradient. Only the dropout layers (`nn.Dropout`, `nn.Dropout2d`) are
# in training mode; when you are done, every module is in the mode in which you found
# it, even if that differed from module to module.


# %% exercise="dropout.mc_logits" role="solution"
def mc_logits(model, x, samples):
    """The logits of `samples` passes with only dropout random: (samples, N, classes)."""
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module, _ in modes:
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.train()
    try:
        with torch.no_grad():
            return torch.stack([model(x) for _ in range(samples)])
    finally:
        for module, training in modes:
            module.training = training
    ### END SOLUTION


# %% exercise="dropout.mc_logits" role="check"
check("dropout.mc_logits", mc_logits)

# %% [markdown]
# Which test digits do the thinned nets disagree about the most?

# %% role="demo"
disagreement = course_dropout.mutual_information(samples)
hardest = disagreement.argsort(descending=True)[:20]
said = probabilities.mean(0).argmax(-1)
wrong = said != labels
with torch.no_grad():
    plain_entropy = torch.special.entr(dropping.eval()(test_data[0]).softmax(-1)).sum(-1)  # no sampling at all
plots.grid(
    test_data[0][hardest, 0].numpy(),
    [int(labels[i]) for i in hardest],
    predicted=[int(said[i]) for i in hardest],
    columns=10,
    alt="The twenty test digits with the highest disagreement. Labels, and the net's answer where wrong: "
    + ", ".join(f"{int(labels[i])}" + (f" ({int(said[i])})" if wrong[i] else "") for i in hardest),
    caption=f"The 20 digits with the highest mutual information; the mean of the thinned nets gets {int(wrong[hardest].sum())} of them wrong, "
    f"against {float(wrong.float().mean()) * 20:.1f} among 20 digits taken at random and {int(wrong[plain_entropy.argsort(descending=True)[:20]].sum())} "
    "among the 20 with the highest entropy of one plain pass. A cross marks what it said instead.",
)

# %% [markdown]
# ## Trust: yours against the frameworks
#
# PyTorch and Keras draw masks of their own. They can be read off the output: what is not 0 was kept. Feed that mask
# to *your* function, and every number must come out the same, up to rounding.

# %% role="demo"
keras = load_keras()  # some seconds
keras.utils.set_random_seed(0)
signal = torch.rand(64, 32) + 0.1
torch_out = F.dropout(signal, 0.3, training=True)
keras_out = torch.tensor(np.asarray(keras.layers.Dropout(0.3)(signal.numpy(), training=True)))
feature_maps = torch.rand(4, 8, 5, 5) + 0.1
torch_maps = F.dropout2d(feature_maps, 0.3, training=True)
channels_last = feature_maps.permute(0, 2, 3, 1).numpy()
keras_maps = torch.tensor(np.asarray(keras.layers.SpatialDropout2D(0.3)(channels_last, training=True))).permute(
    0, 3, 1, 2
)


def gradient_of(function):
    x = signal.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def kept(maps):
    return (maps.amax((2, 3)) != 0).float()


trust.table(
    [
        trust.Row(
            "inverted_dropout",
            "F.dropout (PyTorch)",
            lambda: inverted_dropout(signal, 0.3, (torch_out != 0).float()),
            torch_out,
        ),
        trust.Row(
            "inverted_dropout, its gradient",
            "F.dropout (PyTorch)",
            lambda: gradient_of(lambda x: inverted_dropout(x, 0.3, (torch_out != 0).float())),
            torch_out.ne(0) / 0.7,
        ),
        trust.Row(
            "inverted_dropout",
            "layers.Dropout (Keras)",
            lambda: inverted_dropout(signal, 0.3, (keras_out != 0).float()),
            keras_out,
        ),
        trust.Row(
            "spatial_dropout",
            "F.dropout2d (PyTorch)",
            lambda: spatial_dropout(feature_maps, 0.3, kept(torch_maps)),
            torch_maps,
        ),
        trust.Row(
            "spatial_dropout",
            "SpatialDropout2D (Keras)",
            lambda: spatial_dropout(feature_maps, 0.3, kept(keras_maps)),
            keras_maps,
        ),
        trust.Row(
            "Dropout, in evaluation",
            "nn.Dropout (PyTorch)",
            lambda: Dropout(0.3).eval()(signal),
            nn.Dropout(0.3).eval()(signal),
        ),
    ]
)

# %% [markdown]
# ## In the frameworks
#
# | what | PyTorch | Keras 3 |
# |---|---|---|
# | who decides | the module's flag `training` | the argument `training=` of the call |
# | switch to training | `model.train()` | `fit`, or `model(x, training=True)` |
# | switch to test | `model.eval()` | `evaluate`, `predict`, or `model(x, training=False)` |
# | a bare `model(x)` | whatever the flag says; a new module is in **training** mode | **inference** |
# | `p` / `rate` | the share dropped | the share dropped |
# | whole feature maps | `nn.Dropout2d`, maps are axis 1 | `SpatialDropout2D`, maps are the last axis |
# | no gradients wanted | `torch.no_grad()`: the masks stay random | `training=False` says nothing about gradients |
# | frozen layers | `requires_grad = False` changes neither: in training mode dropout drops, running averages move | `trainable = False`: batch norm runs in inference even under `training=True`; dropout ignores it |
# | traps | `F.dropout(x, 0.5)` inside `forward` drops always: pass `training=self.training`. A dropout layer made inside `forward` is always in training mode | `training=True` written into a functional model is overruled by `predict`. A subclassed model whose `call` has no `training` argument never drops in `fit` |
#
# Each line of this table is checked by a test of the course against the versions that are installed here.
#
# The same trained net in both frameworks: the weights of our PyTorch net go into a Keras net of the same layers, and the
# test digits through both.

# %% role="demo"
keras_net = keras.Sequential(
    [
        keras.Input((1, 28, 28)),
        keras.layers.Flatten(),
        keras.layers.Dense(256, activation="relu"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(256, activation="relu"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(10),
    ]
)
weights = [parameter.detach().numpy() for parameter in dropping.parameters()]
keras_net.set_weights([w.T if w.ndim == 2 else w for w in weights])  # Keras keeps (in, out), PyTorch (out, in)
images, answers = test_data[0].numpy(), labels.numpy()


def share_right(logits):
    return f"{(np.asarray(logits).argmax(-1) == answers).mean():.1%}"


with torch.no_grad():
    off, on = dropping.eval()(test_data[0]), dropping.train()(test_data[0])
dropping.eval()
keras_off = np.asarray(keras_net(images, training=False))
Markdown(
    "| the same weights | dropout off | dropout on |\n|---|---|---|\n"
    f"| PyTorch: `model.eval()`, `model.train()` | {share_right(off)} | {share_right(on)} |\n"
    f"| Keras: `training=False`, `training=True` | {share_right(keras_off)} | {share_right(keras_net(images, training=True))} |\n\n"
    f"Largest difference between their logits with dropout off: {np.abs(keras_off - off.numpy()).max():.1e}."
)

# %% [markdown]
# ### 9. Four situations in Keras
#
# (To **fine-tune** is to go on training a trained net; a part whose weights stay fixed is **frozen**.)
#
# Write `run_keras(model, x, situation)`. The model has a trunk, `model.get_layer("trunk")`, with batch normalization and
# dropout inside (its parts stand in `trunk.layers`), and a head, `model.get_layer("head")`, with dropout of its own and a
# dense layer. A part can be called alone, as in `trunk(x, training=False)`, and any layer's `trainable` can be set and put
# back. Return the model's output for `x`
#
# - `"train"`: as in a training step. Dropout is random everywhere, batch norm uses the batch;
# - `"predict"`: for a prediction. Nothing is random, batch norm uses its running averages;
# - `"mc"`: for Monte Carlo dropout. Dropout is random everywhere, batch norm uses its running averages;
# - `"frozen"`: for fine-tuning on top of a frozen trunk. The whole trunk runs as in a prediction, and the head's dropout
#   is random.
#
# Leave the model as you found it: `trainable` flags and running averages too (except that `"train"` moves the averages,
# as training does).


# %% exercise="dropout.keras_phase" role="solution"
def run_keras(model, x, situation):
    """The output of the Keras model for x, in the phase that the situation asks for."""
    ### BEGIN SOLUTION
    import keras

    trunk = model.get_layer("trunk")
    if situation in ("train", "predict"):
        return model(x, training=situation == "train")
    if situation == "frozen":
        return model.get_layer("head")(trunk(x, training=False), training=True)
    norms = [layer for layer in trunk.layers if isinstance(layer, keras.layers.BatchNormalization)]
    flags = [layer.trainable for layer in norms]
    for layer in norms:
        layer.trainable = False  # in Keras that puts batch norm into inference
    try:
        return model(x, training=True)
    finally:
        for layer, flag in zip(norms, flags, strict=True):
            layer.trainable = flag
    ### END SOLUTION


# %% exercise="dropout.keras_phase" role="check"
check("dropout.keras_phase", run_keras)

# %% [markdown]
# ## Clinic
#
# Two runs came in this morning. Find out what is wrong with them, if anything, and mend it.
#
# ### 10. The net that is worse than it was
#
# "I wrote an evaluation function. Every call gives me another number, each lower than I hoped, and my colleague's function
# gives a third one." Here it is, at work on our net:


# %% role="demo"
def broken_evaluate(model, images, labels, batch_size):
    losses, accuracies = [], []
    with torch.no_grad():
        model.train()
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = model(x)
            losses.append(F.cross_entropy(logits, y))
            accuracies.append((logits.argmax(1) == y).float().mean())
    return torch.stack(losses).mean().item(), torch.stack(accuracies).mean().item()


Markdown(
    "Three calls in a row: "
    + ", ".join("loss {:.4f}, accuracy {:.2%}".format(*broken_evaluate(dropping, *test_data, 300)) for _ in range(3))
    + f". For comparison, the whole net: accuracy {whole_net:.2%}."
)

# %% [markdown]
# It has more than one fault. Write `evaluate(model, images, labels, batch_size)`, which returns the mean loss **over the
# examples** (cross-entropy) and the share of right answers, between 0 and 1. The last batch may be smaller than the others. The model
# comes in any mode, its modules perhaps in different ones, and each leaves in its own. Build no graph, and feed no batch
# larger than `batch_size`.


# %% exercise="dropout.clinic_evaluate" role="solution"
def evaluate(model, images, labels, batch_size):
    """(mean cross-entropy over the examples, share of right answers), two floats, dropout off."""
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    loss, right = 0.0, 0
    try:
        with torch.no_grad():
            for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
                logits = model(x)
                loss += F.cross_entropy(logits, y, reduction="sum").item()
                right += (logits.argmax(1) == y).sum().item()
    finally:
        for module, training in modes:
            module.training = training
    return loss / len(labels), right / len(labels)
    ### END SOLUTION


# %% exercise="dropout.clinic_evaluate" role="check"
check("dropout.clinic_evaluate", evaluate)

# %% [markdown]
# ### 11. The training loss above the validation loss
#
# "My training loss is higher than my validation loss, in every epoch. I have looked for the bug for two days." This is
# their run, repeated on digits, with $p = 0.7$ so that the effect is plain:

# %% role="demo"
clinic_run = course_training.train(
    dense_net(0.7, width=128), datasets.as_tensors(*digits.train), valid_data, epochs=10, seed=1, progress=False
)
logged, clean, valid = (
    np.array(loss) for loss in (clinic_run.running_loss, clinic_run.train_loss, clinic_run.valid_loss)
)
plots.history(
    {
        "loss in training, as logged": logged,
        "loss on the training images, dropout off": clean,
        "validation loss": valid,
    },
    alt=f"Three loss curves by epoch. Logged training loss above the validation loss in {(logged > valid).sum()} of "
    f"{len(valid)} epochs, with dropout off in {(clean > valid).sum()}.",
    caption=f"One run, three curves. The logged training loss lies above the validation loss in {(logged > valid).sum()} of "
    f"{len(valid)} epochs; measured again on the same images with dropout off, in {(clean > valid).sum()}.",
)

# %% role="demo"
reveal("training_loss_above_validation", "modes" if (logged > valid).mean() > 0.5 > (clean > valid).mean() else "small")

# %% [markdown]
# The log has a second, smaller fault: it is averaged over an epoch in which the weights still move. So before you hunt for
# a bug, measure both losses again at the same weights; then dropout is the only difference left. Write `explain_gap(model, train, valid)`, where `train` and
# `valid` are pairs `(images, labels)`. Return four things:
#
# 1. `logged`: the mean training loss in one pass with the dropout layers **on**, and everything else (batch norm) in
#    evaluation, so that dropout is the only difference to the next one;
# 2. `clean`: the mean training loss with dropout off;
# 3. `valid_loss`: the mean validation loss with dropout off;
# 4. the cause, a text: `"dropout"` where `logged` is above `valid_loss` but `clean` is not; `"data"` where `clean` is
#    above `valid_loss` too, so that the validation examples are easier, or few and lucky; `"none"` where
#    `logged` is not above `valid_loss` at all.
#
# Measuring must change nothing: neither the modes nor any running average of batch norm.


# %% exercise="dropout.clinic_gap" role="solution"
def explain_gap(model, train, valid):
    """(logged, clean, valid_loss, cause): three floats and "dropout", "data" or "none"."""
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in model.modules()]

    def loss(data, dropout):
        model.eval()
        for module, _ in modes:
            if dropout and isinstance(module, nn.Dropout | nn.Dropout2d):
                module.train()
        with torch.no_grad():
            return F.cross_entropy(model(data[0]), data[1]).item()

    try:
        logged, clean, valid_loss = loss(train, True), loss(train, False), loss(valid, False)
    finally:
        for module, training in modes:
            module.training = training
    if logged <= valid_loss:
        return logged, clean, valid_loss, "none"
    return logged, clean, valid_loss, "data" if clean > valid_loss else "dropout"
    ### END SOLUTION


# %% exercise="dropout.clinic_gap" role="check"
check("dropout.clinic_gap", explain_gap)

# %% [markdown]
# ## Evidence
#
# What this lesson says, and what people say about dropout, each put to the test on real images, with at least five seeds.
# Where methods compete (D6, D9) each was tuned with the same budget. *Does not hold* means that the rule written on the card
# was not met, in small nets and short training; read the rule. `course evidence D4` in a terminal measures one again on
# your own machine.
#
# **The two phases.** D1 measures what you derived. In D4 look at the loss and at the error: the signal is many times too
# large, and still most answers stay right. Every logit grows at once, so the largest one stays the largest; it is the
# *loss*, the net's confidence, that suffers.

# %% role="demo"
claims.evidence("D1")

# %% role="demo"
claims.evidence("D4")

# %% [markdown]
# **All units, or a sample?** D3 is the price of a forgotten `eval()`. D2 asks whether the whole net is the average of the
# thinned ones: look at where the equality ends.

# %% role="demo"
claims.evidence("D3")

# %% role="demo"
claims.evidence("D2")

# %% [markdown]
# ## Where, and how much?
#
# Textbooks say: drop in any layer but the output, half of the units. D5 tries each place at each rate. D6 asks for the gain
# that dropout is famous for, against the size of the data. Look for where it *harms*: in a net with few units nothing can
# be spared.

# %% role="demo"
claims.evidence("D5")

# %% role="demo"
claims.evidence("D6")

# %% [markdown]
# Why should it help at all? The first paper says: units stop **co-adapting**, leaning on particular neighbours, since any
# neighbour may be missing. D7 takes half of the units away from trained nets, and measures how alike the units of a layer
# are. It also asks whether the thinned nets' disagreement finds the net's own errors, or images of another kind; its scale
# is the **AUROC**, the probability that a wrong answer looks less sure than a right one: 0.5 is chance, 1 is perfect. Always
# compare it with the plain net's entropy, which costs one pass.

# %% role="demo"
claims.evidence("D7")

# %% [markdown]
# **Convolutional layers.** Spatial dropout is one answer. Others are to skip a whole block of layers at random (**drop
# path**), to let each pooling window pass on a random one of its values instead of the largest (**stochastic pooling**), or
# batch normalization, whose statistics are noisy by themselves.

# %% role="demo"
claims.evidence("D9")

# %% [markdown]
# **The switch.** D8 is the long form of the table of traps: every way that we know of to set the phase, or to miss it.

# %% role="demo"
claims.evidence("D8")

# %% [markdown]
# ## Explain
#
# ### 12. In your own words
#
# A colleague writes: "I trained a net with dropout. My training loss is above my validation loss, and when I ask the
# model about one and the same picture twice, I get two different answers." Explain both to them, how they can check that you
# are right, what to change, and what to leave. Ten sentences are enough. In a class a teacher reads this one; on your own, write it first, and then
# open what a teacher would look for, below.

# %% [markdown] exercise="dropout.explain" role="explain"
# ### BEGIN SOLUTION
# The logged training loss is taken while dropout is on: it belongs to thinned nets with half of their units missing, and
# it is averaged over an epoch in which the weights still improve. The validation loss is taken with the whole net, after
# the epoch. They are measured under different conditions, so one may well lie above the other: no bug. To compare
# them, measure the loss on the training images again with dropout off; if that is still above the validation loss, look
# at the data instead.
#
# Two different answers for one picture show that dropout is on while they predict: the model is still in training mode.
# Call `model.eval()` before predicting in PyTorch (`torch.no_grad()` does not do it), or use `predict` or
# `training=False` in Keras, and go back to `model.train()` before training on. At test we want all units: the kept ones
# were scaled up by 1/(1 − p) in training, so that the whole net now sees the signal it expects. Leave dropout itself
# where it is, unless they want several answers on purpose, to see how unsure the net is.
# ### END SOLUTION

# %% role="demo"
from autograder import exercises

rubric = exercises.get("dropout.explain").rubric
Markdown(
    "<details><summary>What a teacher looks for</summary>\n\n"
    + "\n".join(f"- {what} ({points:g})" for what, points in rubric.items())
    + "\n\n</details>"
)

# %% [markdown]
# ## Summary
#
# - Dropout differs between the phases because the weights are learned with a fraction $1-p$ of the signal. Inverted dropout
#   makes up for it in training, so that nothing is left to do at test.
# - At test, use all units. One thinned net is worse than the average of many, and the whole net comes close to that
#   average at the price of one.
# - The phase is a flag (`model.train()`, `model.eval()`) in PyTorch and an argument (`training=`) in Keras. Neither `no_grad`
#   nor freezing switches dropout off.
# - With dropout the logged training loss may lie above the validation loss without any bug. Measure both with dropout off
#   before you worry.
# - Dropout on at test gives a second opinion on what the net is unsure of. Compare it with the plain net's entropy.
# - Dropout is no sure gain. What was measured:

# %% role="demo"
Markdown(
    "\n".join(
        f"- *{claims.load(id).statement}* **{claims.load(id).verdict}.** {claims.load(id).headline}"
        for id in ("D5", "D6", "D9")
    )
)

# %% [markdown]
# ## Sources
#
# - Hinton, Srivastava, Krizhevsky, Sutskever, Salakhutdinov: *Improving neural networks by preventing co-adaptation of
#   feature detectors*, 2012, arXiv:1207.0580.
# - Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: *Dropout: a simple way to prevent neural networks from
#   overfitting*, Journal of Machine Learning Research 15, 2014.
# - Tompson, Goroshin, Jain, LeCun, Bregler: *Efficient object localization using convolutional networks*, 2015,
#   arXiv:1411.4280 (spatial dropout).
# - Gal, Ghahramani: *Dropout as a Bayesian approximation*, 2016, arXiv:1506.02142 (Monte Carlo dropout).
# - Data: MNIST, and emoji by Google (Noto), Twitter (Twemoji) and Microsoft (Fluent); licences stand beside the files
#   in `course_lib/datasets`.
