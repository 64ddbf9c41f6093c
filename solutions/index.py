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
# # Training Deep Nets
#
# A course on training deep neural networks, in notebooks that answer back. You predict before you read, write each piece
# yourself, and a check tells you what went wrong: not *that* it is wrong, but which mistake it looks like and what to do
# next. Each rule of thumb comes with its measurements.
#
# Each lesson stands on its own: **Python and linear regression are all you need to begin.** Everything runs on your own
# machine, without a GPU and without a network.
#
# ## Where you are
#
# Click into the cell below and press **Shift + Enter**: it shows how far you have come, which misconceptions you met and
# mended, and the exercise that is next.

# %%
from autograder import home

home.progress()

# %% [markdown]
# ## The lessons
#
# Take them in this order, or begin where your question is. The times are for reading and for all exercises; no lesson has
# to be done in one sitting.

# %% [markdown] lesson="01_vanishing_gradients"
# Why does a deep net fail to learn where a shallow one learns, and which remedy helps against what?

# %% [markdown] lesson="02_initialization" after="01_vanishing_gradients"
# What do I put into the weights before training begins, and what goes wrong with anything else?

# %% [markdown] lesson="03_activations" after="01_vanishing_gradients, 02_initialization"
# Which activation should I take, when is a unit dead, and does it matter?

# %% [markdown] lesson="04_batch_norm" after="01_vanishing_gradients, 02_initialization"
# What does batch normalization compute, in training and at test, and which of its promises hold?

# %% [markdown] lesson="05_transfer_learning" after="04_batch_norm"
# How do I use a net that others have trained: what do I freeze, what do I replace, and what does it gain me?

# %% [markdown] lesson="06_optimizers" after="01_vanishing_gradients"
# By which rule do the weights move, is Adam better, and which learning rate do I begin with?

# %% [markdown] lesson="07_regularization" after="06_optimizers"
# My net learns its examples by heart: what helps, and how do I tell that it does?

# %% [markdown] lesson="08_dropout" after="07_regularization"
# Why does dropout behave differently in training and at test, and when does it pay?

# %% [markdown] lesson="09_cnn_architectures" after="02_initialization, 04_batch_norm"
# Which convolutional net do I take for my images and my machine, and what does each of its parts cost?

# %% [markdown]
# The times come from the exercises' own estimates and from the length of the text, read slowly.
#
# ## What is kept of your work
#
# The course notes what you predicted, and how your checks came out, in **one file on your own machine**; the page above
# says where. It is sent nowhere, and nobody else sees it: if you take this course in a class, what you hand in is the
# notebook alone. Here you can take all of it along, or delete it. In a terminal, `course progress` does the same.

# %%
home.controls()
