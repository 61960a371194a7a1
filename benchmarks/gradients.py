"""How noisy and how biased each estimator's gradient of the log-odds of presence is.

    python -m benchmarks.gradients --steps 300 --draws 2000

A small training run with NVIL on generated scenes, so that weights and baseline are what they are after so many steps. Then,
for some scenes with z_where and z_what fixed, every estimator draws z_pres again and again: the variance of its gradient is
summed over scenes and steps, and its bias is the distance of its mean from the exact gradient, relative to the length of the
latter. The mean of finitely many draws is never exact: beside the bias stands what noise alone would make of it.
"""

import dataclasses
import sys
from typing import Annotated, Any

import tyro

from air.errors import UsageError
from air.support import cli
from air.support.console import table


@dataclasses.dataclass(frozen=True)
class Arguments:
    steps: Annotated[int, tyro.conf.arg(metavar="INT")] = 300
    """Training steps before the measurement."""
    draws: Annotated[int, tyro.conf.arg(metavar="INT")] = 2000
    """Gradients of each estimator."""
    scenes: Annotated[int, tyro.conf.arg(metavar="INT")] = 64
    """Scenes whose gradients these are."""
    seed: Annotated[int, tyro.conf.arg(metavar="INT")] = 0
    """Of the training run and of the draws."""


def measure(steps: int = 300, draws: int = 2000, scenes: int = 64, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """The variance in nats squared, the relative bias and the noise in it, by estimator."""
    import keras
    import numpy as np
    import tensorflow as tf

    from air.config import AIRConfig, TrainingConfig
    from air.data.pipeline import pipeline
    from air.model.air_model import AIRModel
    from air.model.estimators import NVIL, Concrete, Enumerated
    from air.model.objective import negative_elbo, propose
    from air.training.run import compile_model
    from benchmarks import generation

    keras.utils.set_random_seed(seed)
    config = AIRConfig(estimator="nvil")
    model = AIRModel(config, seed=seed)
    compile_model(model, TrainingConfig(iterations=steps, seed=seed))
    made = generation.make(max(3000, scenes), generation.training_digits())
    model.fit(pipeline(made, 64, seed=seed), steps_per_epoch=steps, verbose=0, shuffle=False)

    def nvil(baseline: bool, centre: bool) -> NVIL:
        """As trained, but for what is left out; without a baseline, the running average follows the whole cost."""
        layer = NVIL(config.baseline_units, centre)
        layer.build(config.canvas_size, config.max_steps)
        layer.set_weights(model.estimator.get_weights())
        if not baseline:
            layer.cost.kernel.assign(tf.zeros_like(layer.cost.kernel))
            layer.cost.bias.assign(tf.zeros_like(layer.cost.bias))
            for draw in range(100):
                layer.follow(layer.estimate(proposal, now, tf.constant([seed, -1 - draw])).moments)
        return layer

    images = tf.constant(made.images[:scenes] / np.float32(255))
    attention = model.attend(images, tf.constant([seed, 0]), looks=1)
    now = config.at(tf.convert_to_tensor(model.step))
    proposal, _ = propose(config, now, images, attention, model.prior_logits(), None)

    @tf.function
    def gradient(estimator: Any, key: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(attention.presence_logits)
            proposal, kl = propose(config, now, images, attention, model.prior_logits(), None)
            losses = negative_elbo(now, proposal, kl, estimator.estimate(proposal, now, key))
        return tape.gradient(losses.total, attention.presence_logits)

    exact = gradient(Enumerated(), tf.constant([seed, 0]))
    length = float(tf.norm(exact))
    chosen = {
        "nvil": nvil(False, False),
        "nvil, centred": nvil(False, True),
        "nvil, centred, baseline": nvil(True, True),
        "concrete": Concrete(),
    }
    answer = {}
    for name, estimator in chosen.items():
        drawn = np.stack([gradient(estimator, tf.constant([seed, draw + 1])) for draw in range(draws)]).astype(np.float64)
        variance = float(drawn.var(axis=0, ddof=1).sum())
        bias = float(np.linalg.norm(drawn.mean(axis=0) - exact)) / length
        answer[name] = (variance, bias, (variance / draws) ** 0.5 / length)
    return answer


def main() -> None:
    arguments = cli.parse(Arguments, __doc__)
    for name, least in (("steps", 1), ("draws", 2), ("scenes", 1), ("seed", 0)):
        if getattr(arguments, name) < least:
            raise UsageError(f"{name}: {getattr(arguments, name)} is not allowed; it must be {least} or more")
    found = measure(**dataclasses.asdict(arguments))
    first = next(iter(found.values()))[0]
    rows = [
        [name, f"{variance:,.1f}", f"{variance / first:.4f}", f"{bias:.3f}", f"{noise:.3f}"]
        for name, (variance, bias, noise) in found.items()
    ]
    print(table(["estimator", "variance", "of the first", "relative bias", "of it noise"], rows))


if __name__ == "__main__":
    sys.argv[0] = "benchmarks.gradients"
    cli.run(main)
