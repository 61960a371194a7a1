"""The recipe for backgrounds learns to count what is on them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from air.data import mnist
from air.data.generator import generate
from air.data.objects import Digits
from air.data.rules import GeneratorConfig
from air.model.air_model import AIRModel
from air.presets import recipe

HELD_OUT, STEPS = 300, 1000


@pytest.mark.slow
def test_digits_on_noise_are_counted():
    rng, source = np.random.default_rng(0), mnist.load()
    counts = np.arange(HELD_OUT + 9000) % 3
    digits = Digits.from_images(source.train_images, source.train_labels)
    scenes = generate(GeneratorConfig(), digits, counts, rng).images / np.float32(255)
    images = np.maximum(scenes, rng.uniform(0, 0.4, scenes.shape)).astype(np.float32)
    keras.utils.set_random_seed(0)
    model = AIRModel(recipe("backgrounds").model)
    model.compile(learning_rate=f"cosine(3e-3, final=5e-5, steps={STEPS})", steps_per_execution=10)
    train = tf.data.Dataset.from_tensor_slices((images[HELD_OUT:], counts[HELD_OUT:]))
    model.fit(train.repeat().batch(32, drop_remainder=True), steps_per_epoch=STEPS, verbose=0, shuffle=False)
    assert (model.infer(images[:HELD_OUT]).count == counts[:HELD_OUT]).mean() > 0.9
    assert 0.175 < float(model.likelihood_std()) < 0.225  # above the noise, 0.115, and what the decoder misses
