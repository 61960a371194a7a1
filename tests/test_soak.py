"""Training at extreme settings stays finite. AIR_SOAK_STEPS=20000 makes it long."""

import os

import keras
import numpy as np
import pytest

from air.config import AIRConfig, TrainingConfig
from air.data.pipeline import pipeline
from air.data.scenes import SceneSet
from air.model import AIRModel
from air.training.run import compile_model

pytestmark = pytest.mark.slow
STEPS = int(os.environ.get("AIR_SOAK_STEPS", "500"))
LOOK_EVERY = 100  # steps


def uniform(value):
    return SceneSet(np.full((64, 50, 50), value, np.uint8), np.zeros(64, np.uint8))


@pytest.mark.parametrize("setting", ["temperature", "learning rate", "batch of one", "black", "white", "equal scenes", "LSTM"])
def test_training_stays_finite(few_digits, setting):
    digits = SceneSet.load(few_digits / "data" / "train.npz")
    model = {"temperature": {"temperature": 0.1}, "LSTM": {"controller": "canvas"}}.get(setting, {})
    training = {"learning rate": {"learning_rate": "cosine(3e-2, 5e-4)"}}.get(setting, {})
    scenes = {
        "black": uniform(0),
        "white": uniform(255),
        "equal scenes": digits.select(np.full(64, digits.count.argmax())),
    }.get(setting, digits)
    keras.utils.set_random_seed(0)
    model = AIRModel(AIRConfig(**model))
    compile_model(model, TrainingConfig(iterations=STEPS, **training))
    batches = pipeline(scenes, 1 if setting == "batch of one" else 2)
    for _ in range(STEPS // LOOK_EVERY):
        history = model.fit(batches, steps_per_epoch=LOOK_EVERY, verbose=0, shuffle=False).history
        assert np.isfinite(history["loss"]).all()
        assert all(np.isfinite(weights).all() for weights in model.get_weights())
