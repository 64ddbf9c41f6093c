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
# # Transfer learning
#
# *Lesson 5 of Training Deep Nets. About three and a half hours; twelve exercises that check themselves and one graded by
# hand. You need Python and linear regression. The words of the trade are explained where they first appear.*
#
# People ask it like this:
#
# > I keep reading about "freezing" and "unfreezing" layers. When does one do that, **which layers, and how do I know?** If
# > I take a pretrained net for my own data, is everything frozen but the output layer?
#
# And soon afterwards:
#
# > My pictures are medical, and the net was trained on everyday photographs. Isn't that pointless? And do layers that I add
# > wreck the model?
#
# > I run out of memory. May I train one set of layers after another and freeze the rest?
#
# > I load the same weights in two ways, and the two nets behave differently. Neither seems to use the weights at all. Why?
#
# > Should I keep the dense layers of VGG19 for my documents, or cut them off?
#
# By the end you will have frozen, cut, reloaded and fine-tuned a net that somebody really trained on more than a million
# photographs; found three faults that raise no error; and read, for each rule of thumb, what came out when it was measured.

# %% role="setup"
import copy
from collections import OrderedDict
from fnmatch import fnmatchcase

import numpy as np
import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from autograder.check import check
from course_lib import claims, conventions, datasets, plots, pretrained, texts, trust
from course_lib import transfer as course_transfer
from course_lib.predictions import predict, reveal
from course_lib.quiet import load_keras
from course_lib.widgets.transfer import DecisionFigure

torch.set_num_threads(1)  # small batches run faster on one thread

# %% [markdown]
# ## The words you need
#
# A **layer** takes a row of numbers $x$ for each example and computes $z = W x + b$, the same sum as in linear regression,
# once for each of its **units**. An **activation** then bends $z$, mostly by $\mathrm{ReLU}(z) = \max(0, z)$, and what
# comes out is the next layer's $x$. The last layer's numbers are the **logits**, one for each class; **softmax** turns them
# into probabilities that sum to 1. The **loss** is small where the right class has a high probability. The **gradient** says
# how the loss changes with each weight. **Training** takes a small **batch** of examples, moves each weight a little against
# its gradient, and goes on with the next batch; how far it moves is the **learning rate**, and the rule by which it moves is
# the **optimizer** (plain gradient descent is called SGD; **Adam** and **AdamW** fit the step to each weight; **weight
# decay** pulls weights towards 0). One pass over all examples is an **epoch**. Weights start at random; a **seed** fixes the
# draw, and what one seed shows is one draw. Examples on which the net has never trained are the **validation** and the
# **test** set; a net that knows its training examples by heart and fails on those **overfits**.
#
# A picture is a table of pixels, and a **convolutional** layer (**conv**) slides small **filters** over it: a filter has 3 ×
# 3 weights, say, and at every place computes the same weighted sum of the pixels under it. Each filter makes one **feature
# map**, itself a picture that is bright where the filter fits. For a batch the maps have the shape `(N, C, H, W)`: `N`
# examples, `C` maps or **channels**, each `H` high and `W` wide. **Pooling** makes maps smaller, by the largest or the mean
# value of each little square. A layer that sees the whole row of numbers at once, as in the paragraph above, is called
# **dense** or **fully connected** (FC). **Batch norm** (lesson 4) brings each channel to a mean and a spread that are
# learned: in training by the batch's own mean and variance, in **evaluation** by **running statistics** that it collected
# before.
#
# A **pretrained** net has been trained by somebody else, for another task, mostly one with very many labelled pictures.
# **Transfer learning** uses it for yours:
#
# - the **head** is its last layer, made for the old classes. You put a fresh one in its place;
# - the **trunk** (or backbone) is all the rest. What comes out of it are the picture's **features**, also called its
#   **codes**: a row of numbers that says what is in the picture in the net's own terms;
# - a part is **frozen** when training does not change its weights. With the whole trunk frozen, only the head trains: linear
#   regression's close relative, on features instead of pixels;
# - to **fine-tune** is to let the trunk, or its upper part, train on as well. A net **from scratch** starts at random weights.
#
# Ours is EfficientNet-Lite0. It learned 1,000 classes from the photographs of a collection called **ImageNet**, and its weights come
# with the course. Here is what it says about four photographs that it has never seen.

# %% role="demo"
net = pretrained.load()
shots = pretrained.photographs()
with torch.no_grad():
    said = pretrained.top_k(net(pretrained.preprocess(shots.images, 128)), 3)
guesses = "; ".join(", ".join(f"{guess} {p:.0%}" for guess, p in row[:2]) for row in said)
plots.grid(
    shots.images[:, ::2, ::2],
    shots.names,
    columns=4,
    alt=f"Four photographs: {', '.join(shots.names)}. The net's first two guesses: {guesses}.",
    caption=f"Four photographs, each under its right class. The net's first two guesses, from left to right: {guesses}. It "
    "was made for pictures of 224 pixels and sees these at 128.",
)

# %% [markdown]
# Between the picture and those 1,000 numbers stand a first convolution (the *stem*), sixteen *blocks*, each a few
# convolutions with batch norm, a last convolution (the *top*), a mean over all places, and the classifier:

# %% role="demo"
with torch.no_grad():
    x = pretrained.preprocess(shots.images[:1], 128)
    seen = {"the picture": x, "stem": net.stem(x)}
    for at, maps in zip((4, 10, 15), pretrained.features(net, x, (4, 10, 15)), strict=True):
        seen[f"block {at}"] = maps
    seen["top"] = net.feature_maps(x)


def weights_below(name):
    parts = {"stem": [net.stem], "block 4": net.blocks[:5], "block 10": net.blocks[5:11], "block 15": net.blocks[11:]}
    return sum(p.numel() for part in parts.get(name, [net.top] if name == "top" else []) for p in part.parameters())


Markdown(
    "| after | channels | places | weights of this stretch |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {name} | {maps.shape[1]:,} | {maps.shape[2]} × {maps.shape[3]} | {weights_below(name):,} |"
        for name, maps in seen.items()
    )
    + f"\n| mean over places, classifier | 1,000 | – | {sum(p.numel() for p in net.classifier.parameters()):,} |"
)

# %% [markdown]
# ### The PyTorch you need
#
# A layer is an **`nn.Module`**, and `model.named_parameters()` lists all its weights with their names:
# `"blocks.15.project.conv.weight"`. The names are paths: `model.get_submodule("blocks.15")` is the module at the end of
# one, and `setattr(parent, "last", module)` puts another in its place. Each parameter carries a flag: where
# `parameter.requires_grad` is false no gradient is computed for it, so no optimizer moves it. `parameter.numel()` is how
# many numbers it holds. **Buffers**, such as batch norm's running statistics, are kept but not trained;
# `model.state_dict()` has both, by name.
#
# An **optimizer** is made from a list of parameters, or from *groups*:
# `torch.optim.SGD([{"params": head, "lr": 0.1}, {"params": trunk, "lr": 0.01}])`. One step is `optimizer.zero_grad()`, the
# loss, `loss.backward()`, `optimizer.step()`. The memory through which `backward` finds its way is the **graph**; inside
# `with torch.no_grad():` none is kept. Every module has a flag `self.training`; `model.train()` sets it on the model and all
# modules inside, `model.eval()` clears it.
#
# The pictures of this lesson: emoji by three artists (`emoji8`) and crops of photographs (`patch12`), both somewhat like
# what the net has learned from; handwritten digits (`mnist5k`) and capital letters in many fonts (`glyph26`), which are not.
# The net wants its pixels as $(x - 127)/128$; `pretrained.preprocess(images, size)` does that, and resizes.

# %% role="demo"
emoji, digits = datasets.load("emoji8"), datasets.load("mnist5k")
patches, glyphs = datasets.load("patch12"), datasets.load("glyph26")
examples = []
for data in (emoji, patches, digits, glyphs):
    images = pretrained.preprocess(data.test.images[:8], 48) * 128 + 127
    examples.append(images.permute(0, 2, 3, 1).round().byte().numpy())
plots.grid(
    np.concatenate(examples),
    [data.classes[i] for data in (emoji, patches, digits, glyphs) for i in data.test.labels[:8]],
    columns=8,
    alt="Eight pictures of each data set: emoji, crops of photographs, handwritten digits, capital letters.",
    caption="Four sets of pictures, one a row, each under its class: emoji8, patch12, mnist5k, glyph26.",
)

# %% [markdown]
# ## Predict
#
# Commit to an answer before you read on. A guess that turns out wrong teaches more than a right answer that you only
# read. Nothing here is graded or sent anywhere.

# %% role="demo"
predict("share_that_trains")

# %% role="demo"
predict("frozen_layer")

# %% role="demo"
predict("channels_exchanged")

# %% role="demo"
predict("who_gains_by_unfreezing")

# %% [markdown]
# ## See
#
# A textbook rule divides the world into four: few labels or many, pictures like the old ones or not. For each it has advice.
# We tried five **policies** in all four cases: a linear head on the frozen features, which are means over all places; a
# linear head on maps from an earlier block, averaged to 3 × 3 places only; fine-tuning the top five blocks, or everything,
# for a few steps, from the linear head on; and a small net from scratch. The figure shows
# what came out (claim T5, below): choose what you have, and what you can spend.

# %% role="demo"
DecisionFigure(claims.load("T5"))

# %% [markdown]
# ## Derive: why so little training can do so much
#
# **Few numbers, few examples.** A head for $K$ classes on $d$ features has $K(d+1)$ weights. Whatever settles them has to
# come from your labels; all else was settled by somebody else's.
#
# **What a step costs.** A layer's forward pass costs some $F$ operations. On the way back it needs about $F$ more for the
# gradient at its input, and $F$ more for the gradient at its weights. So with everything training a step costs about
# $3F$ summed over the layers. Freeze the lower layers, and they need only the forward $F$; freeze all of them, and nothing
# has to travel backward through the trunk at all. But note the order: to train a layer *low down*, the gradient must pass
# every layer *above* it, frozen or not. Frozen at the bottom saves; frozen at the top saves little.
#
# **What a step remembers.** Each layer's activations are kept until the gradient comes back, and every weight that trains
# has a gradient and, with Adam, two more numbers. Frozen weights still have to be in memory for the forward pass.
#
# **And if the trunk is frozen**, a picture has the same features in every epoch. Compute them once, and train the head on a
# table of numbers: linear regression's home ground.
#
# **Why the lower layers first?** Filters near the picture find edges, spots, colours: useful whatever the pictures. Those
# near the head find what told the old classes apart. That is the theory; T2 measures it.

# %% [markdown]
# ## Build
#
# ### 1. Freeze by name, and count what trains
#
# Write `freeze(model, patterns, keep)`. `patterns` and `keep` are lists of patterns over parameters' names, as in
# `"blocks.1.*"`, where `*` stands for any run of characters, dots too: `fnmatchcase(name, pattern)`, imported above, says
# whether a name fits. Freeze each parameter that a pattern of `patterns` fits and none of `keep`. Leave the others'
# flags as they are. Return how many **weights** (numbers, not tensors) still train.
#
# Two slips cost people days, so refuse them with `ValueError`, and **change nothing** when you refuse: a pattern of
# `patterns` that fits no parameter at all, and a freeze that would leave nothing to train.


# %% exercise="transfer_learning.freeze" role="solution"
def freeze(model, patterns, keep):
    """Freezes what `patterns` names and `keep` does not; returns the number of weights that still train."""
    ### BEGIN SOLUTION
    names = dict(model.named_parameters())

    def matches(name, patterns):
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in names):
            raise ValueError(f"no parameter is named {pattern}")
    frozen = [name for name in names if matches(name, patterns) and not matches(name, keep)]
    left = sum(p.numel() for name, p in names.items() if p.requires_grad and name not in frozen)
    if left == 0:
        raise ValueError("nothing would be left to train")
    for name in frozen:
        names[name].requires_grad_(False)
    return left
    ### END SOLUTION


# %% exercise="transfer_learning.freeze" role="check"
check("transfer_learning.freeze", freeze)

# %% [markdown]
# The course's own `freeze` says more. On the real net, with a head for the eight classes of emoji:

# %% role="demo"
for_emoji = copy.deepcopy(net)
course_transfer.replace_head(for_emoji, len(emoji.classes))
frozen_report = course_transfer.freeze(for_emoji, "*", keep=["classifier.*"])
trained_share = 100 * frozen_report.trainable_weights / (frozen_report.trainable_weights + frozen_report.frozen_weights)
try:
    course_transfer.freeze(copy.deepcopy(for_emoji), "classifier.*")
except course_transfer.FreezeError as error:
    refusal = str(error)
Markdown(f"{frozen_report}\n\nAnd the head frozen too:\n\n```\n{refusal}\n```")

# %% role="demo"
reveal("share_that_trains", trained_share)

# %% [markdown]
# ### 2. Batch norm inside a frozen part
#
# `requires_grad` is about gradients. A batch norm's running statistics are not found by gradients: in training mode each
# forward pass moves them, frozen or not. In Keras `trainable = False` stops that too; in PyTorch you have to.
#
# Write `start_training(model)`: put the model in training mode, but put every batch norm into evaluation whose own
# parameters are **all** frozen. A batch norm that has no parameters of its own (`affine=False`) was never frozen: it trains.
# Touch no other module: dropout, which switches units off at random in training (lesson 8), belongs in training.
# (`nn.BatchNorm1d`, `nn.BatchNorm2d` and `nn.BatchNorm3d` are the classes; `module.parameters(recurse=False)` gives a module's own parameters.)


# %% exercise="transfer_learning.start_training" role="solution"
def start_training(model):
    """The model in training mode, its frozen batch norms in evaluation."""
    ### BEGIN SOLUTION
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            own = list(module.parameters(recurse=False))
            if own and not any(p.requires_grad for p in own):
                module.eval()
    return model
    ### END SOLUTION


# %% exercise="transfer_learning.start_training" role="check"
check("transfer_learning.start_training", start_training)

# %% [markdown]
# What it is worth: we freeze the whole trunk, let some batches of digits pass in training mode, take **no training step at
# all**, and look whether the photographs above still have the features that they had.

# %% role="demo"
shot_inputs = pretrained.preprocess(shots.images, 64)
digit_inputs = pretrained.preprocess(digits.train.images[:160], 64)
drift = {}
for how, held in (("flags alone", False), ("norms held in evaluation", True)):
    trunk = copy.deepcopy(net)
    course_transfer.replace_head(trunk, 10)
    course_transfer.freeze(trunk, "*", keep=["classifier.*"], norms=held)
    start = copy.deepcopy(trunk)
    trunk.train()
    with torch.no_grad():
        for batch in digit_inputs.split(16):
            trunk(batch)
    drift[how] = course_transfer.features_moved(start, trunk, shot_inputs, ["blocks.4", "blocks.10", "top"])
del trunk, start
plots.series(
    [4, 10, 16],
    {how: [[100 * value for value in moved.values()]] for how, moved in drift.items()},
    xlabel="block (16: the top)",
    ylabel="features moved (% of their size)",
    alt="How far frozen features moved after ten batches of digits. "
    + "; ".join(f"{how}: {', '.join(f'{100 * v:.0f}%' for v in moved.values())}" for how, moved in drift.items()),
    caption="Frozen features of the photographs, after ten batches of digits in training mode and not one step of training. "
    + "; ".join(f"{how}: moved by {100 * moved['top']:.0f}% at the top" for how, moved in drift.items())
    + ". A net fine-tuned like this has lost part of what it knew, and nobody touched a weight.",
)

# %% role="demo"
reveal(
    "frozen_layer",
    "other" if drift["flags alone"]["top"] > 0.05 else "rounding" if drift["flags alone"]["top"] else "same",
)

# %% [markdown]
# ### 3. A new head
#
# Write `replace_head(model, classes)`: find the **last** `nn.Linear` in the model, at whatever depth, put a fresh
# `nn.Linear` with `classes` outputs in its place, and return its name. The new one takes as many inputs as the old one, has
# a bias where the old one had, is of its dtype (`old.weight.dtype`), and trains, even where everything else is frozen. Do
# not copy any of the old weights: your class 0 has nothing to do with theirs.


# %% exercise="transfer_learning.replace_head" role="solution"
def replace_head(model, classes):
    """The name of the last nn.Linear, which has been replaced by a fresh one with `classes` outputs."""
    ### BEGIN SOLUTION
    name, old = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    new = nn.Linear(old.in_features, classes, bias=old.bias is not None, dtype=old.weight.dtype)
    setattr(model.get_submodule(parent), last, new)
    return name
    ### END SOLUTION


# %% exercise="transfer_learning.replace_head" role="check"
check("transfer_learning.replace_head", replace_head)

# %% [markdown]
# *Keep the dense layers, or cut them?* The asker's VGG19 ends in two dense layers of 4,096 units, made for the old
# classes. Our net has a single dense layer, the classifier: "keep it" means a head on its 1,000 scores, "cut it" a head on
# the 1,280 features before them. Claim T9 below tries both, on letters as documents and on pictures.
#
# ### 4. Features, computed once
#
# With a frozen trunk every epoch would compute the same features again. Write `precompute_features(trunk, inputs,
# batch_size)`: the trunk's outputs for all inputs, **in their order**, as one tensor. At most `batch_size` inputs go through
# at once; the last batch may be smaller. The trunk comes in any mode, its modules perhaps in different ones: compute in
# evaluation, without a graph, and leave each module in its own mode.


# %% exercise="transfer_learning.precompute_features" role="solution"
def precompute_features(trunk, inputs, batch_size):
    """The trunk's outputs for all inputs, in their order: computed in evaluation, without a graph."""
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in trunk.modules()]
    trunk.eval()
    try:
        with torch.no_grad():
            return torch.cat([trunk(batch) for batch in inputs.split(batch_size)])
    finally:
        for module, training in modes:
            module.training = training
    ### END SOLUTION


# %% exercise="transfer_learning.precompute_features" role="check"
check("transfer_learning.precompute_features", precompute_features)

# %% [markdown]
# Now use it. Twenty emoji of each class; their features by the pretrained net, and by the same net with random weights; a
# linear head on each, and one on the bare pixels. The features are **standardized** first, each to mean 0 and spread 1 over
# the training pictures: they differ so much in scale that a head on raw ones trains badly, and one would blame the net.


# %% role="demo"
class Features(nn.Module):
    """The net without its head: (N, 3, H, W) → (N, 1280)."""

    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def forward(self, x):
        return self.whole.feature_maps(x).mean((2, 3))


few, held_out = emoji.subset(20), emoji.take(emoji.split.test[:240])
few_labels, held_labels = torch.tensor(few.labels), torch.tensor(held_out.labels)
few_inputs, held_inputs = (pretrained.preprocess(part.images, 64) for part in (few, held_out))
torch.manual_seed(0)
blind = pretrained.EfficientNetLite0()
for module in blind.modules():
    if isinstance(module, nn.BatchNorm2d):
        module.momentum = 0.3  # so that a few batches settle its statistics
with torch.no_grad():
    for batch in few_inputs.split(32):
        blind.train()(batch)
tables = {
    "features, pretrained": [
        course_transfer.precompute_features(Features(net), x, batch_size=16) for x in (few_inputs, held_inputs)
    ],
    "features, random weights": [
        course_transfer.precompute_features(Features(blind), x, batch_size=16) for x in (few_inputs, held_inputs)
    ],
    "pixels": [datasets.as_tensors(part.images).flatten(1) for part in (few, held_out)],
}
del blind


def linear_head(x, y, classes, steps=150, lr=3e-3, decay=0.1):
    """Standardized features and a linear layer, trained by AdamW on all examples at once."""
    torch.manual_seed(0)
    head = nn.Sequential(course_transfer.Standardize(x), nn.Linear(x.shape[1], classes))
    optimizer = torch.optim.AdamW(head[1].parameters(), lr=lr, weight_decay=decay)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(head(x), y).backward()
        optimizer.step()
    return head.eval()


def accuracy(model, x, y):
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


heads = {name: linear_head(x, few_labels, 8) for name, (x, _) in tables.items()}
right = {name: accuracy(heads[name], x, held_labels) for name, (_, x) in tables.items()}
Markdown(
    "| a linear head on | right answers on new emoji |\n|---|---|\n"
    + "\n".join(f"| {name} | {share:.1%} |" for name, share in right.items())
    + f"\n\n{len(few_labels)} labelled pictures, {len(held_labels)} new ones; guessing the most frequent class gets "
    f"{held_labels.bincount().max() / len(held_labels):.1%} right."
)

# %% [markdown]
# The last two rows are the **control**: without them you would not know whether the weights helped or the mere shape of the
# net.
#
# ### 5. A rate for each part
#
# A fresh head has everything to learn, the trunk almost nothing. So they get different learning rates. Write
# `parameter_groups(model, rates)`, where `rates` gives a rate to each pattern, as in `{"head.*": 0.1, "*": 0.01}`. Return
# groups for an optimizer, dicts with `"params"` (a list) and `"lr"`. Each parameter that trains goes to the **first** pattern
# that fits its name; frozen ones go nowhere, for an old gradient or weight decay would still move them. No group is empty. A
# parameter that trains and that no pattern fits is a slip: raise `ValueError`.


# %% exercise="transfer_learning.parameter_groups" role="solution"
def parameter_groups(model, rates):
    """Groups {"params", "lr"} for an optimizer: what trains, each at the rate of the first pattern that fits its name."""
    ### BEGIN SOLUTION
    members = {pattern: [] for pattern in rates}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pattern = next((pattern for pattern in rates if fnmatchcase(name, pattern)), None)
            if pattern is None:
                raise ValueError(f"{name} trains, but has no rate")
            members[pattern].append(parameter)
    return [{"params": found, "lr": rates[pattern]} for pattern, found in members.items() if found]
    ### END SOLUTION


# %% exercise="transfer_learning.parameter_groups" role="check"
check("transfer_learning.parameter_groups", parameter_groups)

# %% [markdown]
# Rates that fall from the head to the picture are called **discriminative** or *layer-wise*. **Gradual unfreezing** is the
# other half of the idea: the head alone first, then one stage more at a time. Here is such a plan for our net, each line
# an epoch:

# %% role="demo"
planned = copy.deepcopy(net)
course_transfer.replace_head(planned, 8)
stages = ["blocks.1[1-4].*", "blocks.15.*", "top.*", "classifier.*"]
rates = course_transfer.layerwise_rates(stages, 1e-3)
schedule = course_transfer.GradualUnfreezing(planned, dict(reversed(rates.items())))
lines = ["| epoch | weights that train | rates, from the head down |", "|---|---|---|"]
for epoch in range(5):
    plan = schedule.start_epoch(epoch)
    groups = schedule.groups(epoch)
    lines.append(
        f"| {epoch} | {plan.trainable_weights:,} | " + ", ".join(f"{group['lr']:.1e}" for group in groups) + " |"
    )
del planned
Markdown("\n".join(lines) + "\n\nWhat no stage names (the stem, blocks 0 to 10) stays frozen.")

# %% [markdown]
# ### 6. How far features move
#
# Is the trunk being improved, or destroyed? One number tells, for each layer: how far its features moved, against their own
# size. Write `features_moved(before, after)`: two dicts with the same names, each holding a layer's outputs for the same
# pictures, tensors of one shape. Return a dict of floats,
#
# $$ \frac{\lVert \text{after} - \text{before} \rVert}{\lVert \text{before} \rVert}, $$
#
# where the norm $\lVert\cdot\rVert$ is the root of the sum of all squares; 0 where nothing moved, also where a layer is
# silent before and after.


# %% exercise="transfer_learning.features_moved" role="solution"
def features_moved(before, after):
    """{layer: ‖after − before‖ / ‖before‖}, floats, 0 where nothing moved."""
    ### BEGIN SOLUTION
    found = {}
    for name, features in before.items():
        moved = (after[name] - features).norm()
        found[name] = float(moved / features.norm()) if moved > 0 else 0.0
    return found
    ### END SOLUTION


# %% exercise="transfer_learning.features_moved" role="check"
check("transfer_learning.features_moved", features_moved)

# %% [markdown]
# Twenty steps of fine-tuning with a fresh head, once with one rate for all layers, once with rates that fall from the head
# down. How far do the features of *new* emoji move?


# %% role="demo"
class MeanOverPlaces(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def upper_part():
    """A copy of blocks 5 to 15 and the top under a fresh head, batch norms in inference."""
    torch.manual_seed(0)
    parts = {f"block{i}": copy.deepcopy(net.blocks[i]) for i in range(5, 16)}
    parts |= {"top": copy.deepcopy(net.top), "mean": MeanOverPlaces(), "head": nn.Linear(1280, 8)}
    return nn.Sequential(OrderedDict(parts)).eval()


def twenty_steps(rates):
    """The upper part after 20 steps on the emoji, at these rates."""
    model = upper_part()
    optimizer = torch.optim.AdamW(course_transfer.parameter_groups(model, rates))
    order = torch.Generator().manual_seed(0)
    for _ in range(20):
        rows = torch.randint(len(few_labels), (16,), generator=order)
        optimizer.zero_grad()
        F.cross_entropy(model(few_maps[rows]), few_labels[rows]).backward()
        optimizer.step()
    return model


below = pretrained.cut(net, 4)  # what stays frozen: its maps are computed once
few_maps, new_maps = (
    course_transfer.precompute_features(below, x, batch_size=32) for x in (few_inputs, held_inputs[:64])
)
stage_names = ["block[5-7].*", "block[89].*", "block1[0-2].*", "block1[345].*", "top.*", "head.*"]
layers = ["block7", "block9", "block12", "block15", "top"]
moves = {}
for how, rates in (
    ("one rate", {"*": 3e-3}),
    ("falling rates", dict(reversed(course_transfer.layerwise_rates(stage_names, 3e-3).items()))),
):
    found = course_transfer.features_moved(upper_part(), twenty_steps(rates), new_maps, layers)
    moves[how] = [100 * value for value in found.values()]
plots.series(
    [7, 9, 12, 15, 16],
    {how: [found] for how, found in moves.items()},
    xlabel="block (16: the top)",
    ylabel="features moved (% of their size)",
    alt="How far features of new emoji moved in 20 steps. "
    + "; ".join(f"{how}: {', '.join(f'{v:.0f}%' for v in found)}" for how, found in moves.items()),
    caption=f"20 steps with a fresh head. With one rate the top's features moved by {moves['one rate'][-1]:.0f}% of their "
    f"size, with falling rates by {moves['falling rates'][-1]:.0f}%. One run; claim T7 below has more.",
)

# %% [markdown]
# ### 7. Load what fits, and say what did not
#
# Saved weights seldom fit a new net whole: another head, a layer more, other names. PyTorch's
# `load_state_dict(state, strict=False)` forgives names without a word, and still stops at a shape.
#
# Write `load_partial(model, state)`. `state` is a dict of tensors by name. Copy each into the model's tensor of the same
# name, if it has the same shape; `model.state_dict()` gives the model's own tensors, parameters and buffers, which share
# memory with it. Return four lists of names:
#
# 1. `loaded`;
# 2. `missing`: in the model, but not in the state;
# 3. `unexpected`: in the state, but not in the model;
# 4. `misshapen`: in both, with different shapes.
#
# Raise `ValueError` where **nothing** would be loaded: that is the slip by which people train from scratch for a week and
# believe otherwise.


# %% exercise="transfer_learning.load_partial" role="solution"
def load_partial(model, state):
    """Copies what fits; returns (loaded, missing, unexpected, misshapen), four lists of names."""
    ### BEGIN SOLUTION
    places = model.state_dict()
    misshapen = [name for name in state if name in places and state[name].shape != places[name].shape]
    loaded = [name for name in state if name in places and name not in misshapen]
    if not loaded:
        raise ValueError("nothing of the state fits the model")
    with torch.no_grad():
        for name in loaded:
            places[name].copy_(state[name])
    missing = [name for name in places if name not in state]
    unexpected = [name for name in state if name not in places]
    return loaded, missing, unexpected, misshapen
    ### END SOLUTION


# %% exercise="transfer_learning.load_partial" role="check"
check("transfer_learning.load_partial", load_partial)

# %% role="demo"
fresh = pretrained.EfficientNetLite0(num_classes=8)
whole = course_transfer.load_partial(fresh, net.state_dict())
three = course_transfer.load_partial(
    pretrained.EfficientNetLite0(num_classes=8),
    net.state_dict(),
    rename=lambda name: name if name.startswith(("stem.", "blocks.0.", "blocks.1.")) else None,
)
del fresh
Markdown(f"A net for 8 classes from the saved net for 1,000: {whole}\n\nOnly its first three stretches: {three}")

# %% [markdown]
# ### 8. A dense layer as a convolution
#
# Convolutions and pooling take pictures of any size. A dense layer does not: it has a weight for each channel and *place*.
# But it is a convolution in disguise. A filter as large as the maps fits in exactly one place, and computes there the very
# same sum; on larger maps it fits in more places, and gives an answer at each.
#
# Write `linear_to_conv(linear, shape)`: `linear` is an `nn.Linear` that was made for maps of `shape = (C, h, w)`, flattened
# as `nn.Flatten` does, channels first, then rows, then columns. Return an `nn.Conv2d` without padding that gives the same
# outputs, `(N, out, 1, 1)` at the old size. Copy the weights; keep the dtype, and the bias where there is one.


# %% exercise="transfer_learning.linear_to_conv" role="solution"
def linear_to_conv(linear, shape):
    """The nn.Conv2d that computes what `linear` does on maps of shape (C, h, w), at every place of larger ones."""
    ### BEGIN SOLUTION
    channels, height, width = shape
    conv = nn.Conv2d(
        channels, linear.out_features, (height, width), bias=linear.bias is not None, dtype=linear.weight.dtype
    )
    with torch.no_grad():
        conv.weight.copy_(linear.weight.view(-1, channels, height, width))
        if linear.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv
    ### END SOLUTION


# %% exercise="transfer_learning.linear_to_conv" role="check"
check("transfer_learning.linear_to_conv", linear_to_conv)

# %% [markdown]
# Our net takes the mean over places *before* its classifier. Make a 1 × 1 convolution of the classifier, and it answers at
# every place instead. Where is the cat?

# %% role="demo"
everywhere = course_transfer.linear_to_conv(net.classifier, (1280, 1, 1))
with torch.no_grad():
    maps = net.feature_maps(pretrained.preprocess(shots.images, 224))
    scores = everywhere(maps)
    gap = float((scores.mean((2, 3)) - net.classifier(maps.mean((2, 3)))).abs().max())
of_class = [scores[i, label] for i, label in enumerate(shots.labels)]
shown = []
for picture, score in zip(shots.images, of_class, strict=True):
    share = ((score - score.min()) / (score.max() - score.min()))[None, None]
    shade = F.interpolate(share, (224, 224), mode="bilinear")[0, 0].numpy()
    shown.append((picture * (0.2 + 0.8 * shade[..., None])).astype(np.uint8))
plots.grid(
    np.concatenate([shots.images, np.stack(shown)])[:, ::2, ::2],
    [*shots.names, *[""] * len(shots.names)],
    columns=4,
    alt="Four photographs, and below each again, bright where the net's score for its class is high: "
    + ", ".join(shots.names),
    caption="Above, the photographs; below, the same, lit by the score of their own class at each of "
    f"{of_class[0].shape[0]} × {of_class[0].shape[1]} places. The mean of "
    f"these scores is what the classifier gives, up to rounding (largest difference {gap:.0e}). Nobody ever told the net where "
    "things are.",
)

# %% [markdown]
# ## Trust: yours against the frameworks
#
# Your functions beside what the frameworks do with the same numbers.

# %% role="demo"
keras = load_keras()  # some seconds
dense = nn.Linear(3 * 4 * 5, 7)
small_maps = torch.randn(6, 3, 6, 6)
keras_conv = keras.layers.Conv2D(7, (4, 5))
keras_conv.build((None, 6, 6, 3))
kernel = dense.weight.detach().view(7, 3, 4, 5).permute(2, 3, 1, 0)  # Keras: height, width, in, out
keras_conv.set_weights([kernel.numpy(), dense.bias.detach().numpy()])
keras_map = torch.tensor(np.asarray(keras_conv(small_maps.permute(0, 2, 3, 1).numpy()))).permute(0, 3, 1, 2)
few_shots = pretrained.preprocess(few.images[:8], 64)
with torch.no_grad():
    torch_features = Features(net)(few_shots)
state = nn.Linear(4, 3).state_dict()


def loaded_weight():
    target = nn.Linear(4, 3)
    load_partial(target, {**state, "extra": torch.zeros(1)})
    return target.weight.detach()


def loaded_by_torch():
    target = nn.Linear(4, 3)
    target.load_state_dict({**state, "extra": torch.zeros(1)}, strict=False)
    return target.weight.detach()


trust.table(
    [
        trust.Row(
            "precompute_features",
            "the frozen net in PyTorch",
            lambda: precompute_features(Features(net), few_shots, 3),
            torch_features,
        ),
        trust.Row(
            "linear_to_conv",
            "nn.Linear on flattened maps (PyTorch)",
            lambda: linear_to_conv(dense, (3, 4, 5))(small_maps[:, :, :4, :5])[:, :, 0, 0].detach(),
            dense(small_maps[:, :, :4, :5].flatten(1)).detach(),
        ),
        trust.Row(
            "linear_to_conv, on larger maps",
            "layers.Conv2D (Keras)",
            lambda: linear_to_conv(dense, (3, 4, 5))(small_maps).detach(),
            keras_map,
        ),
        trust.Row("load_partial", "load_state_dict(strict=False)", loaded_weight, loaded_by_torch()),
    ]
)

# %% [markdown]
# And the whole pretrained net, rebuilt in Keras with the same weights: fifty layers in another order of axes.

# %% role="demo"
keras_net = pretrained.load("keras")
keras_trunk = keras.Model(keras_net.input, keras_net.get_layer("pool").output)
keras_features = torch.tensor(np.asarray(keras_trunk(few_shots.permute(0, 2, 3, 1).numpy())))
apart = float((keras_features - torch_features).abs().max())
keras_weights = keras_net.count_params()
del keras_net, keras_trunk
Markdown(
    f"Eight emoji, 1,280 features each, values up to {float(torch_features.max()):.1f}: the two nets' largest difference is "
    f"{apart:.0e}. The Keras net has {keras_weights:,} weights and running statistics."
)

# %% [markdown]
# ## In the frameworks
#
# Each value in this table is read from the versions that are installed here.

# %% role="demo"
Markdown(
    "| what | PyTorch | Keras | the trap |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {c.what} | {c.torch()} | {c.keras(keras)} | {c.trap} |"
        for c in conventions.CONVENTIONS.values()
        if c.id.startswith("transfer.")
    )
)

# %% [markdown]
# And one more, of which no documentation warns. In Keras on TensorFlow, setting a flag to the value that it has already
# does nothing at all, not even to the layers inside:

# %% role="demo"
inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(4)])
picture_in = keras.Input((4,))
outer = keras.Model(picture_in, keras.layers.Dense(2)(inner(picture_in)))


def count(model):
    return len(model.trainable_variables)


steps = [("as built", count(outer))]
inner.trainable = False
steps.append(("inner.trainable = False", count(outer)))
outer.trainable = True
steps.append(("outer.trainable = True (it was True already)", count(outer)))
inner.trainable = True
steps.append(("inner.trainable = True", count(outer)))
Markdown("| Keras | tensors that train |\n|---|---|\n" + "\n".join(f"| {what} | {n} |" for what, n in steps))

# %% [markdown]
# ### 9. Open the top of a Keras trunk
#
# Write `open_top(model, count, rate)`. The model has a part `model.get_layer("trunk")`, whose layers stand in
# `trunk.layers` from the input up, and a head. Afterwards
#
# - the last `count` layers of the trunk train, but **no batch norm** does (`keras.layers.BatchNormalization`): in Keras
#   `trainable = False` keeps it in inference too. `count` may be 0, and a batch norm among the last `count` is counted;
# - all other layers of the trunk are frozen, however they came; the head is left alone;
# - the model is compiled anew, since a change of flags counts only from the next `compile` on: with
#   `keras.optimizers.Adam(rate)` and the loss `"mse"`.


# %% exercise="transfer_learning.keras_open_top" role="solution"
def open_top(model, count, rate):
    """Lets the last `count` layers of the trunk train, batch norms excepted, and compiles the model with Adam at `rate`."""
    ### BEGIN SOLUTION
    import keras

    trunk = model.get_layer("trunk")
    trunk.trainable = True
    first = len(trunk.layers) - count
    for i, layer in enumerate(trunk.layers):
        layer.trainable = i >= first and not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(keras.optimizers.Adam(rate), "mse")
    ### END SOLUTION


# %% exercise="transfer_learning.keras_open_top" role="check"
check("transfer_learning.keras_open_top", open_top)

# %% [markdown]
# ## Clinic
#
# Three runs came in this morning. None of them raises an error.
#
# ### 10. What was done to the images?
#
# "I took your pretrained net and my own pictures, and the accuracy is far below what you promise." A net expects its input
# exactly as in its training. Ours wants $(x - 127)/128$; most libraries hand over something else. The head from above,
# trained on right inputs, meets emoji that were prepared otherwise:

# %% role="demo"
raw = torch.tensor(held_out.images[:160]).permute(0, 3, 1, 2).float()
raw = F.interpolate(raw, (64, 64), mode="bilinear", antialias=True)
imagenet = [torch.tensor(v).view(3, 1, 1) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))]
prepared = {
    "(x − 127)/128, as it should be": (raw - 127) / 128,
    "blue and red exchanged": (raw.flip(1) - 127) / 128,
    "ImageNet's mean and deviation, as in torchvision": (raw - imagenet[0]) / imagenet[1],
    "0 to 1": raw / 255,
    "0 to 255": raw,
}
accuracies = {}
for name, inputs in prepared.items():
    features = course_transfer.precompute_features(Features(net), inputs, batch_size=16)
    accuracies[name] = accuracy(heads["features, pretrained"], features, held_labels[:160])
proper = accuracies["(x − 127)/128, as it should be"]
Markdown(
    "| inputs | right answers |\n|---|---|\n"
    + "\n".join(f"| {name} | {share:.1%} |" for name, share in accuracies.items())
)

# %% role="demo"
reveal("channels_exchanged", 100 * (proper - accuracies["blue and red exchanged"]))

# %% [markdown]
# You have the pictures, and you have what arrived at the net. What happened between is a straight line, and you know how to
# fit one. Write `recover(images, inputs)`: `images` are whole numbers from 0 to 255 (`uint8`), `(N, H, W, 3)`; `inputs`
# floats, `(N, 3, H, W)`, with
#
# $$ \text{inputs}[:, c] = \big(\text{images}[\ldots, \text{order}[c]] - \text{mean}[c]\big) / \text{scale}[c]. $$
#
# Return four things: `order`, three numbers of channels; `mean` and `scale`, three numbers each; and the fault, a text:
# `"channels"` where the order is not 0, 1, 2; else `"scale"` where a scale is off 128 by more than 1; else `"mean"` where a
# mean is off 127 by more than 1; else `"none"`. The pictures need not reach from 0 to 255, but their channels differ.


# %% exercise="transfer_learning.clinic_inputs" role="solution"
def recover(images, inputs):
    """(order, mean, scale, fault) of what was done to the images on their way to the net."""
    ### BEGIN SOLUTION
    x = images.double().reshape(-1, 3)
    y = inputs.double().permute(0, 2, 3, 1).reshape(-1, 3)
    dx, dy = x - x.mean(0), y - y.mean(0)
    likeness = (dy.T @ dx) / (dy.norm(dim=0)[:, None] * dx.norm(dim=0))
    order = likeness.argmax(1).tolist()
    slope = torch.stack([(dx[:, k] @ dy[:, c]) / (dx[:, k] @ dx[:, k]) for c, k in enumerate(order)])
    scale = 1 / slope
    mean = x.mean(0)[order] - scale * y.mean(0)
    if order != [0, 1, 2]:
        fault = "channels"
    elif ((scale - 128).abs() > 1).any():
        fault = "scale"
    elif ((mean - 127).abs() > 1).any():
        fault = "mean"
    else:
        fault = "none"
    return order, mean, scale, fault
    ### END SOLUTION


# %% exercise="transfer_learning.clinic_inputs" role="check"
check("transfer_learning.clinic_inputs", recover)

# %% [markdown]
# ### 11. Accuracy at chance
#
# "Training runs, the loss is printed, epoch after epoch, and the accuracy stays where guessing is." Here are two such runs
# on the features from above; in one of them the head was frozen with everything else, in the other it was replaced after
# the optimizer had been made.


# %% role="demo"
def trained_wrongly(fault):
    torch.manual_seed(1)
    x, seen = tables["features, pretrained"]
    model = nn.Sequential(course_transfer.Standardize(x), nn.Linear(1280, 64), nn.ReLU(), nn.Linear(64, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if fault == "everything frozen":
        model.requires_grad_(False)
    if fault == "head replaced afterwards":
        model[1].requires_grad_(False)
        model[3] = nn.Linear(64, 8)
    history = []
    for _ in range(30):
        loss = F.cross_entropy(model(x), few_labels)
        if loss.requires_grad:  # a training loop that asks this hides the fault
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        history.append(accuracy(model, seen, held_labels))
    return history


faulty = {fault: trained_wrongly(fault) for fault in ("none", "everything frozen", "head replaced afterwards")}
plots.series(
    np.arange(1, 31),
    {fault: [history] for fault, history in faulty.items()},
    xlabel="step",
    ylabel="accuracy on new emoji (share)",
    alt="Accuracy by step of three runs. "
    + "; ".join(f"{fault}: from {history[0]:.0%} to {history[-1]:.0%}" for fault, history in faulty.items()),
    caption="Three runs of one net. "
    + "; ".join(f"{fault}: {history[-1]:.0%} at the end" for fault, history in faulty.items())
    + ". The flat lines never move at all: that is the sign.",
)

# %% [markdown]
# For a weight to move, four things have to be true: its flag is set; the loss's graph reaches it; the optimizer holds it;
# and the rate there is above 0. Write `find_cause(model, optimizer, loss)`, called after the loss has been computed and
# before `backward()`. Return how many weights of the model the next step will move, and a text:
#
# - `"frozen"`: no parameter of the model has its flag set;
# - else `"no graph"`: the loss reaches none of those;
# - else `"not in the optimizer"`: it holds none of those that are reached;
# - else `"rate 0"`: none of these has a rate above 0 in its group;
# - else `"none"`.
#
# Looking must change nothing, neither weights nor `.grad`. `torch.autograd.grad(loss, parameters, retain_graph=True,
# allow_unused=True)` gives the gradients without storing them, and `None` for what the loss does not reach.
# `optimizer.param_groups` is a list of dicts with `"params"` and `"lr"`. Compare parameters by identity: `id(p)`.


# %% exercise="transfer_learning.clinic_cause" role="solution"
def find_cause(model, optimizer, loss):
    """(how many weights the next step will move, "frozen", "no graph", "not in the optimizer", "rate 0" or "none")."""
    ### BEGIN SOLUTION
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        return 0, "frozen"
    if not loss.requires_grad:
        return 0, "no graph"
    grads = torch.autograd.grad(loss, trainable, retain_graph=True, allow_unused=True)
    reached = {id(p) for p, grad in zip(trainable, grads, strict=True) if grad is not None}
    if not reached:
        return 0, "no graph"
    held = [(p, group["lr"]) for group in optimizer.param_groups for p in group["params"] if id(p) in reached]
    if not held:
        return 0, "not in the optimizer"
    moving = sum(p.numel() for p, lr in held if lr > 0)
    return moving, "none" if moving else "rate 0"
    ### END SOLUTION


# %% exercise="transfer_learning.clinic_cause" role="check"
check("transfer_learning.clinic_cause", find_cause)

# %% [markdown]
# ### 12. Forgotten in 20 steps
#
# "I unfroze everything and trained on, as the tutorial says. It is now *worse* than with the frozen trunk." A fresh head
# guesses, so its first gradients are large and point nowhere in particular; an ordinary rate lets them tear up what the
# trunk had learned. Twenty steps are enough. We measure what is left by fitting a new linear head on the features.


# %% role="demo"
def features_after(head_first, lr, steps=20):
    """Train the top five blocks and a head on the emoji's maps after block 10; the features of few and new emoji after."""
    torch.manual_seed(0)
    body = copy.deepcopy(nn.Sequential(*net.blocks[11:], net.top)).eval()  # the norms stay in inference
    head = linear_head(tables["features, pretrained"][0], few_labels, 8) if head_first else nn.Linear(1280, 8)
    parameters = [p for p in (*body.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    order = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(few_labels), (16,), generator=order)
        optimizer.zero_grad()
        F.cross_entropy(head(body(low[0][rows]).mean((2, 3))), few_labels[rows]).backward()
        optimizer.step()
    return [course_transfer.precompute_features(body, part).mean((2, 3)) for part in low]


low = [
    course_transfer.precompute_features(pretrained.cut(net, 10), x, batch_size=16) for x in (few_inputs, held_inputs)
]
runs = {
    "frozen": tables["features, pretrained"],
    "all at once, rate 0.01": features_after(False, 1e-2),
    "head first, rate 0.0003": features_after(True, 3e-4),
}
left = {how: accuracy(linear_head(x, few_labels, 8), seen, held_labels) for how, (x, seen) in runs.items()}
far = {
    how: float(course_transfer.relative_distance(tables["features, pretrained"][1], seen))
    for how, (_, seen) in runs.items()
}
Markdown(
    "| 20 steps | features moved | right answers of a new linear head on them |\n|---|---|---|\n"
    + "\n".join(f"| {how} | {100 * far[how]:.0f}% | {left[how]:.1%} |" for how in runs)
)

# %% [markdown]
# Write `fine_tune(model, x, y, head_steps, all_steps, head_lr, trunk_lr)`, plain gradient descent (SGD without momentum) on
# the cross-entropy of all of `x` at each step. The model has parts `model.trunk` and `model.head`:
#
# 1. `head_steps` steps in which only the head moves, at `head_lr`;
# 2. `all_steps` steps in which everything moves, the head at `head_lr`, the trunk at `trunk_lr`.
#
# The trunk's batch norms stay in inference in both phases. An old gradient may stand in the trunk when the model comes: it
# must move nothing.


# %% exercise="transfer_learning.clinic_forgetting" role="solution"
def fine_tune(model, x, y, head_steps, all_steps, head_lr, trunk_lr):
    """Trains the head alone first, then everything, in place."""
    ### BEGIN SOLUTION
    model.train()
    for module in model.trunk.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    optimizer = torch.optim.SGD(
        [{"params": model.head.parameters(), "lr": head_lr}, {"params": model.trunk.parameters(), "lr": trunk_lr}]
    )
    for step in range(head_steps + all_steps):
        model.trunk.requires_grad_(step >= head_steps)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.trunk.requires_grad_(True)
    ### END SOLUTION


# %% exercise="transfer_learning.clinic_forgetting" role="check"
check("transfer_learning.clinic_forgetting", fine_tune)

# %% [markdown]
# ## Evidence
#
# What this lesson says, and what people say about transfer learning, each put to the test with at least five seeds. A seed
# decides which pictures are labelled, how fresh weights start, and in which order batches come. Where policies compete each
# chose among as many settings on validation pictures, with a seed that is not scored. *Does not hold* means that the rule on
# the card was not met, with one pretrained net, small pictures and short training; read the rule. `course evidence T5` in a
# terminal measures one again on your own machine.
#
# **What freezing is, and what it saves.** T1 is exercise 2 in both frameworks. T3 and T4 are the derivation, in seconds and
# bytes. T4 is for the asker who ran out of memory: look at what "one set after another" gains, against the other ways; to
# *checkpoint* is to keep only some activations, and compute the rest again on the way back.

# %% role="demo"
claims.evidence("T1")

# %% role="demo"
claims.evidence("T3")

# %% role="demo"
claims.evidence("T4")

# %% [markdown]
# **Which layers?** T2 opens more and more blocks, from the head down, on emoji and on digits. Mind the number of steps on
# the card: what unfreezing gains, it gains with time.

# %% role="demo"
claims.evidence("T2")

# %% role="demo"
opened = claims.load("T2").series[0]
gained = {name: opened.mean(name, 0) - min(opened.mean(name, n) for n in opened.x) for name in ("emoji8", "mnist5k")}
difference = gained["mnist5k"] - gained["emoji8"]
reveal("who_gains_by_unfreezing", "same" if abs(difference) < 2 else "digits" if difference > 0 else "emoji")

# %% [markdown]
# **Which policy?** T5 is the figure at the top, with the rule by which the textbook's four pieces of advice were judged. T17
# asks what transfer buys: fewer labels for the same error, and less time. The runs are short, since each card is measured on
# one processor in minutes; with hours to spend, fine-tuning has more to gain than it shows here. And note what the textbook
# does not mention: earlier maps still know *where* something is, which the mean over places forgets.

# %% role="demo"
claims.evidence("T5")

# %% role="demo"
claims.evidence("T17")

# %% [markdown]
# **At which rate?** T7 takes a fresh head on eleven open blocks, with one rate for all and with a tenth of it for the trunk.
# Each chose the best of three rates, which is only fair: with a rate that is too large anything else looks good.

# %% role="demo"
claims.evidence("T7")

# %% [markdown]
# **From which layer, and under which head?** T9 answers the asker with the documents. T6 asks about a detail that a famous
# course insists on: codes before or after the last ReLU. T18 makes the head larger and larger. T12 enlarges small pictures
# towards the size that the net was trained on.

# %% role="demo"
claims.evidence("T9")

# %% role="demo"
claims.evidence("T6")

# %% role="demo"
claims.evidence("T18")

# %% role="demo"
claims.evidence("T12")

# %% [markdown]
# **Other kinds of pictures.** T11 is for the asker with the medical ones. There is no such set that we may pass on; the
# nearest honest stand-in are crops of two medical photographs, of cells and of an eye's *fundus* (its back wall), among ten
# other materials. They named COCO, a collection made for *detecting* objects; what counts for transfer is whether the trunk
# is reused, and for telling pictures apart one takes a trunk that learned to tell pictures apart. T15 pretrains on a related
# task of our own: digits 0 to 4 for 5 to 9, letters A to M for N to Z.

# %% role="demo"
claims.evidence("T11")

# %% role="demo"
claims.evidence("T15")

# %% [markdown]
# **Loading.** T10 is for the asker whose weights seemed to have no effect: every way back to a saved net that we know, in both
# frameworks. Look for the rows that restore nothing and say nothing. They ran a good check, random weights in both ways, and
# saw no change: that is what such a row looks like from outside. T13 restores some of the layers, T8 runs a net at other
# sizes.

# %% role="demo"
claims.evidence("T10")

# %% role="demo"
claims.evidence("T13")

# %% role="demo"
claims.evidence("T8")

# %% [markdown]
# ### Without labels
#
# What if nobody has trained a net for anything like your data, and you have few labels but many examples? Then give the net
# a task that needs no labels, a **pretext** task, and reuse its lower layers.
#
# An **autoencoder** has to give back its input through a layer with fewer units, so that layer has to keep what matters. A
# **stack** of them is trained greedily: the first on the pictures, the second on the codes of the first, and so on; then all
# of it is fine-tuned with the few labels.

# %% role="demo"
pictures = F.avg_pool2d(datasets.as_tensors(digits.train.images[:1000]), 2).flatten(1)
torch.manual_seed(0)
stack = [nn.Linear(196, 100), nn.Linear(100, 50)]
stack_losses = course_transfer.pretrain_greedily(stack, pictures, epochs=5, lr=3e-3)
with torch.no_grad():
    hidden = torch.sigmoid(stack[0](pictures))
varied = [float(part.var(0, correction=0).mean()) for part in (pictures, hidden)]
plots.series(
    [1, 2, 3, 4, 5],
    {
        f"layer {i + 1}": [[100 * loss / spread for loss in losses]]
        for i, (losses, spread) in enumerate(zip(stack_losses, varied, strict=True))
    },
    xlabel="epoch",
    ylabel="error (% of the input's variance)",
    alt="Reconstruction error of two stacked autoencoders by epoch, in per cent of their inputs' variance: "
    + "; ".join(
        f"layer {i + 1} from {100 * losses[0] / spread:.0f} to {100 * losses[-1] / spread:.0f}"
        for i, (losses, spread) in enumerate(zip(stack_losses, varied, strict=True))
    ),
    caption="Two autoencoders, one on top of the other, on 1,000 digits without labels: how much of what each sees it fails "
    "to give back. 100% is what the mean alone would leave.",
)

# %% role="demo"
claims.evidence("T14")

# %% [markdown]
# The same for text. Take sentences, spoil some, and teach a net to tell the good ones from the spoiled: "the dog sleeps"
# against "the dog they". To do that it has to learn something about the language. Ours are pieces of ten words by Carroll,
# Shakespeare and Milton, of which some had three words replaced:

# %% role="demo"
books = texts.load()
rng = np.random.default_rng(3)
lines = ["| | real | spoiled |", "|---|---|---|"]
for name in books.names:
    words = books.words[name]
    start = int(rng.integers(len(words) - 10))
    piece = list(words[start : start + 10])
    spoiled = list(piece)
    for at in rng.choice(10, 3, replace=False):
        spoiled[at] = f"**{words[int(rng.integers(len(words)))]}**"
    lines.append(f"| {name.capitalize()} | {' '.join(piece)} | {' '.join(spoiled)} |")
Markdown("\n".join(lines))

# %% role="demo"
claims.evidence("T16")

# %% [markdown]
# ## Explain
#
# ### 13. In your own words
#
# A colleague has 300 labelled pictures from a microscope, in six classes, and a net pretrained on photographs. They ask:
# "Do I freeze it, fine-tune it, or train my own? Which layers? And what can go wrong without my noticing?" Advise them: what
# to try first, what after that, how to decide, and what to check. Ten sentences are enough. In a class a teacher reads this
# one; on your own, write it first, and then open what a teacher would look for, below.

# %% [markdown] exercise="transfer_learning.explain" role="explain"
# ### BEGIN SOLUTION
# Begin with the cheapest thing: freeze the whole trunk, compute the features of your pictures once, and train a linear head
# on them, standardized. That takes seconds, and everything else has to beat it on held-out pictures. Compare it also with a
# small net from scratch; nobody can tell beforehand.
#
# Microscope pictures are unlike photographs, so the last layers, which were made for telling photographs apart, may say
# little: try the features of an earlier block too. Then unfreeze from the top, block by block, as long as the error on
# held-out pictures falls. Give the trunk a smaller rate than the head, and train the head first: a fresh head sends large,
# aimless gradients, and they destroy what the trunk knows in a few steps.
#
# What goes wrong in silence: batch norms of a frozen part drift in PyTorch unless they are put into evaluation; the
# pictures have to be prepared exactly as in pretraining (range, mean, order of channels), which you check by comparing what
# arrives at the net with the pictures; the head may be frozen, or missing in the optimizer, so count the weights that train;
# and a loading that matches no names loads nothing. In the end the held-out pictures decide, with several seeds, since 300
# pictures are few.
# ### END SOLUTION

# %% role="demo"
from autograder import exercises

rubric = exercises.get("transfer_learning.explain").rubric
Markdown(
    "<details><summary>What a teacher looks for</summary>\n\n"
    + "\n".join(f"- {what} ({points:g})" for what, points in rubric.items())
    + "\n\n</details>"
)

# %% [markdown]
# ## Summary
#
# - Frozen means: the weights do not change. A batch norm's running statistics do, in PyTorch, unless you hold the norm in
#   evaluation; in Keras `trainable = False` does both.
# - Count what trains before you train. A head that is frozen, or not in the optimizer, raises no error.
# - With the trunk frozen, compute the features once, in evaluation and in order, and train the head on the table.
# - A fresh head first, then the layers below it from the top down, at rates that do not tear them up. Measure how far
#   features move.
# - A net expects its input as in its training. Fit the line if in doubt.
# - Load by name, and read the report: missing, unexpected, misshapen. Whatever loads nothing should raise an error.
# - Which policy is best depends on the number of labels and on how the pictures resemble the old ones, and less neatly than
#   textbooks have it. What was measured:

# %% role="demo"
Markdown(
    "\n".join(
        f"- *{claims.load(id).statement}* **{claims.load(id).verdict}.** {claims.load(id).headline}"
        for id in ("T2", "T5", "T17")
    )
)

# %% [markdown]
# ## Sources
#
# - Yosinski, Clune, Bengio, Lipson: *How transferable are features in deep neural networks?*, 2014, arXiv:1411.1792.
# - Razavian, Azizpour, Sullivan, Carlsson: *CNN features off-the-shelf: an astounding baseline for recognition*, 2014,
#   arXiv:1403.6382.
# - Long, Shelhamer, Darrell: *Fully convolutional networks for semantic segmentation*, 2015, arXiv:1411.4038 (dense layers as
#   convolutions).
# - Howard, Ruder: *Universal language model fine-tuning for text classification*, 2018, arXiv:1801.06146 (discriminative
#   rates, gradual unfreezing).
# - Kumar, Raghunathan, Jones, Ma, Liang: *Fine-tuning can distort pretrained features and underperform out-of-distribution*,
#   2022, arXiv:2202.10054 (head first).
# - Bengio, Lamblin, Popovici, Larochelle: *Greedy layer-wise training of deep networks*, 2007.
# - Tan, Le: *EfficientNet*, 2019, arXiv:1905.11946. The weights of EfficientNet-Lite0 derive from ImageNet's photographs;
#   their licence (Apache-2.0) stands beside them in `course_lib/pretrained`.
# - Data: emoji by Google (Noto), Twitter (Twemoji) and Microsoft (Fluent); MNIST; letters from Debian's fonts; photographs of
#   scikit-image; texts by Lewis Carroll, William Shakespeare and John Milton. Licences stand beside the files in
#   `course_lib/datasets` and `course_lib/texts`.
