"""Helpers for tests of the model: train it for a few steps, set and compare its weights, flatten what it returns."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from air.model.distributions import tfd

COUNTS = np.arange(8) % 4  # of the tiny images
STEPWISE = {"run_eagerly": True, "jit_compile": False}  # for a few steps faster than compiling them


def train(model, data, steps, **settings):
    if not model.compiled:
        model.compile(**{"learning_rate": 1e-2, **STEPWISE, **settings})
    return model.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False).history


def set_bias(layer, value):
    """Make a layer return `value`, whatever its inputs."""
    layer.kernel.assign(0 * layer.kernel)
    layer.bias.assign(0 * layer.bias + value)


def assert_same_weights(left, right, **tolerance):
    for variable, a, b in zip(left.weights, left.get_weights(), right.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, err_msg=variable.path, **(tolerance or {"rtol": 0, "atol": 0}))


def differ(left, right):
    return any(not np.allclose(a, b, atol=1e-5) for a, b in zip(left.get_weights(), right.get_weights(), strict=True))


def save_and_load(model, path):
    model.save(path)
    return keras.saving.load_model(path, safe_mode=True)


def flatten(tree):
    """List the tensors in a tree of tuples, dictionaries and Normals."""
    if isinstance(tree, tfd.Normal):
        return [tree.loc, tree.scale]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, (tuple, list)):
        return [tree]
    return [tensor for branch in tree for tensor in flatten(branch)]


class KnownLikelihood(NamedTuple):
    """In place of a `Rendering`: log p(x | n) is given, and linear in z_pres between the counts."""

    images: tf.Tensor
    table: tf.Tensor  # [scenes, steps + 1]

    def log_likelihood(self, z_pres):
        return self.table[:, 0] + tf.reduce_sum(z_pres * (self.table[:, 1:] - self.table[:, :-1]), axis=1)

    def log_likelihood_by_count(self):
        return self.table
