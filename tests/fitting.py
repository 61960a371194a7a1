"""Training for a few steps, and what weights it ends with."""

import keras
import numpy as np

COUNTS = np.arange(8) % 4
STEPWISE = {"run_eagerly": True, "jit_compile": False}  # a few steps are over before they would be compiled


def train(model, data, steps, **settings):
    if not model.compiled:
        model.compile(**{"learning_rate": 1e-2, **STEPWISE, **settings})
    return model.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False).history


def assert_same_weights(left, right, **tolerance):
    for variable, a, b in zip(left.weights, left.get_weights(), right.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, err_msg=variable.path, **(tolerance or {"rtol": 0, "atol": 0}))


def differ(left, right):
    return any(not np.allclose(a, b, atol=1e-5) for a, b in zip(left.get_weights(), right.get_weights(), strict=True))


def save_and_load(model, path):
    model.save(path)
    return keras.saving.load_model(path, safe_mode=True)
