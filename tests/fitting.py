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


def draw_blobs(canvas_size, centres, std=1.5):
    """Draw round blobs around centres (x, y) in pixels: float32 [H, W] in [0, 1]."""
    y, x = np.ogrid[: canvas_size[0], : canvas_size[1]]
    canvas = np.zeros(canvas_size, np.float32)
    for centre_x, centre_y in centres:
        canvas += np.exp(-((x + 0.5 - centre_x) ** 2 + (y + 0.5 - centre_y) ** 2) / (2 * std**2))
    return canvas.clip(0, 1)


def teach_to_count(model):
    """Give a convolutional model weights with which it counts blobs: they are where much is left, and all look the same.

    Their std is half a cell; the order in which they are found is from the upper left to the lower right.
    """
    controller, config = model.controller, model.config
    for layer in (controller.from_explained, controller.score, controller.where):
        layer.kernel.assign(0 * layer.kernel)
    for layer, value in ((controller.from_canvas, 0.0), (controller.presence, -4.0)):
        set_bias(layer, value)
    from_residual, presence = (np.zeros(layer.kernel.shape) for layer in (controller.from_explained, controller.presence))
    from_residual[config.cell_size**2, 0], presence[0] = 1, 6  # ten times the mean residual of 3 x 3 cells
    controller.from_explained.kernel.assign(from_residual)
    controller.presence.kernel.assign(presence)
    controller.saliency.assign(0.0)
    pixel = float(tf.sigmoid(config.scale_prior_mean(0))) * max(config.canvas_size) / max(config.window_size)
    y, x = (pixel * (np.arange(n) - (n - 1) / 2) for n in config.window_size)
    blob = np.exp(-(y[:, None] ** 2 + x**2) / (2 * (config.cell_size / 2) ** 2))
    set_bias(model.decoder.logits, (np.log(blob) - np.log(1.001 - blob)).ravel())
    return model


def assert_same_weights(left, right, **tolerance):
    for variable, a, b in zip(left.weights, left.get_weights(), right.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, err_msg=variable.path, **(tolerance or {"rtol": 0, "atol": 0}))


def assert_same_scenes(left, right, atol=1e-5):
    """The same objects; what a step without an object looked at doesn't matter."""
    np.testing.assert_array_equal(left.count, right.count)
    steps = left.presence.shape[1]
    assert steps == right.presence.shape[1]
    present = np.arange(steps) < np.asarray(left.count)[:, None]
    for name, a, b in zip(left._fields, left, right, strict=True):
        by_object = np.shape(a)[1:2] == (steps,) and name != "reconstruction"
        a, b = (np.asarray(x)[present] if by_object else x for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=atol, err_msg=name)


def differ(left, right):
    return any(not np.allclose(a, b, atol=1e-5) for a, b in zip(left.get_weights(), right.get_weights(), strict=True))


def save_and_load(model, path):
    model.save(path)
    return keras.saving.load_model(path, safe_mode=True)


def flatten(tree):
    """List the tensors in a tree of tuples, dictionaries and Normals, without what is None."""
    if tree is None:
        return []
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
