"""The dropout lesson's table "In the frameworks": one test a line, against the installed versions.

Random outputs: 4,096 units are dropped with p = 0.5, so two draws agree, or all units are kept, with probability below
1e-1000; no test here raises a false alarm in practice.
"""

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.quiet import load_keras

pytestmark = pytest.mark.slow  # Keras takes seconds to import

X = np.ones((64, 64), np.float32)


@pytest.fixture(scope="module")
def keras():
    return load_keras()


def dropped(y) -> float:
    """The share of zeros."""
    return float((np.asarray(y) == 0).mean())


def torch_net() -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm1d(64, affine=False), nn.Dropout(0.5))


# ---------------------------------------------------------------- who decides


def test_pytorch_the_flag_of_the_module_decides():
    layer, x = nn.Dropout(0.5), torch.ones(64, 64)
    assert dropped(layer.train()(x)) > 0
    assert dropped(layer.eval()(x)) == 0


def test_pytorch_train_and_eval_reach_every_module_inside():
    net = nn.Sequential(nn.Sequential(nn.Dropout(0.5)))
    assert not net.eval()[0][0].training
    assert net.train()[0][0].training


def test_keras_the_argument_of_the_call_decides(keras):
    layer = keras.layers.Dropout(0.5)
    assert dropped(layer(X, training=True)) > 0
    assert dropped(layer(X, training=False)) == 0


# ---------------------------------------------------------------- a bare call


def test_pytorch_a_new_module_is_in_training_mode():
    assert dropped(nn.Dropout(0.5)(torch.ones(64, 64))) > 0


def test_keras_a_bare_call_is_inference(keras):
    assert dropped(keras.layers.Dropout(0.5)(X)) == 0
    assert dropped(keras.Sequential([keras.layers.Dropout(0.5)])(X)) == 0


@pytest.mark.parametrize("way", ["predict", "evaluate"])
def test_keras_predict_and_evaluate_are_inference(keras, way):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5)])
    model.compile(loss="mse")
    if way == "predict":
        assert dropped(model.predict(X, verbose=0)) == 0
    else:
        assert model.evaluate(X, X, verbose=0) == 0.0


def test_keras_fit_is_training(keras):
    identity = keras.layers.Dense(64, use_bias=False, kernel_initializer="identity")
    model = keras.Sequential([keras.Input((64,)), identity, keras.layers.Dropout(0.5)])
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.0))
    # kept units are 2 where 1 is asked, dropped ones 0: an error of 1 everywhere
    assert model.fit(X, X, verbose=0).history["loss"] == [pytest.approx(1.0)]


# ---------------------------------------------------------------- the last line: traps


def test_pytorch_the_function_drops_in_evaluation_too_unless_it_is_told_the_phase():
    assert dropped(nn.functional.dropout(torch.ones(64, 64), 0.5)) > 0
    assert dropped(nn.functional.dropout(torch.ones(64, 64), 0.5, training=False)) == 0


def test_pytorch_a_layer_made_inside_forward_is_always_in_training_mode():
    class Late(nn.Module):
        def forward(self, x):
            return nn.Dropout(0.5)(x)

    assert dropped(Late().eval()(torch.ones(64, 64))) > 0


def test_keras_training_true_in_a_functional_model_is_overruled_by_predict(keras):
    inputs = keras.Input((64,))
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(inputs, training=True))
    assert dropped(model.predict(X, verbose=0)) == 0
    assert dropped(model(X)) > 0


def test_keras_a_call_without_a_training_argument_never_drops_in_fit(keras):
    class Deaf(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(64, use_bias=False, kernel_initializer="identity")
            self.drop = keras.layers.Dropout(0.5)

        def call(self, x):
            return self.drop(self.dense(x))

    model = Deaf()
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.0))
    assert model.fit(X, X, verbose=0).history["loss"] == [0.0]


# ---------------------------------------------------------------- p, and whole maps


def test_p_and_rate_are_the_share_that_is_dropped(keras):
    """Hoeffding: 4,096 draws stray from 0.2 by 0.07 with probability below 1e-16."""
    assert abs(dropped(nn.Dropout(0.2)(torch.ones(64, 64))) - 0.2) < 0.07
    assert abs(dropped(keras.layers.Dropout(0.2)(X, training=True)) - 0.2) < 0.07


def test_whole_maps_axis_1_in_pytorch_the_last_axis_in_keras(keras):
    y = nn.Dropout2d(0.5)(torch.ones(64, 64, 3, 3)).numpy()
    assert (y == y[:, :, :1, :1]).all() and 0 < dropped(y) < 1
    y = np.asarray(keras.layers.SpatialDropout2D(0.5)(np.ones((64, 3, 3, 64), np.float32), training=True))
    assert (y == y[:, :1, :1, :]).all() and 0 < dropped(y) < 1


# ---------------------------------------------------------------- what does not change the phase


def test_pytorch_no_grad_leaves_the_masks_random():
    with torch.no_grad():
        assert dropped(nn.Dropout(0.5)(torch.ones(64, 64))) > 0


def test_keras_inference_does_not_stop_gradients(keras):
    import tensorflow as tf

    x = tf.Variable(X)
    with tf.GradientTape() as tape:
        y = keras.ops.sum(keras.layers.Dropout(0.5)(x, training=False))
    assert (tape.gradient(y, x).numpy() == 1).all()


def test_pytorch_requires_grad_false_leaves_dropout_and_running_statistics_going():
    net = torch_net()
    net.requires_grad_(False)
    before = net[0].running_mean.clone()
    assert dropped(net(torch.randn(64, 64))) > 0
    assert not torch.equal(net[0].running_mean, before)


def test_keras_trainable_false_puts_batch_norm_into_inference_but_not_dropout(keras):
    norm, dropout = keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)
    x = np.random.default_rng(0).normal(5, 2, (64, 64)).astype(np.float32)
    norm.build(x.shape)
    norm.trainable = dropout.trainable = False
    before = np.asarray(norm.moving_mean)
    assert np.allclose(norm(x, training=True), norm(x, training=False))
    assert (np.asarray(norm.moving_mean) == before).all()
    assert dropped(dropout(X, training=True)) > 0
