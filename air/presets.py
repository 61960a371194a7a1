"""Named pairs of configurations."""

import typing
from collections.abc import Callable
from typing import Literal, NamedTuple

from air.config import AIRConfig, Config, EstimatorName, TrainingConfig
from air.schedules import Schedule

PresetName = Literal["default", "original", "paper", "pyro"]

AS_PUBLISHED = {
    "cnn_filters": (),
    "cnn_kernels": (),
    "cnn_strides": (),
    "cnn_pools": (),
    "refiner_units": (),
    "looks": 1,
    "z_what_kl_weight": 1.0,
}
"""Leaves out what only this project's recipe has."""


class Preset(NamedTuple):
    model: AIRConfig
    training: TrainingConfig


def default(estimator: EstimatorName = "concrete") -> Preset:
    """This project's own recipe; with the Concrete z_pres it is what `AIRConfig()` and `TrainingConfig()` are.

    All three keep windows about as large as an object from the first step on, by the prior of the scale, so that none takes
    two objects. They differ in how counting begins, because a count that a discrete estimator never draws teaches it nothing:

    - Concrete begins with every step present, and then takes away those that are not worth their price.
    - The discrete ones begin with odds of 1 or 2 at every step, to which a heavy KL holds the posterior. As a scene is drawn
      with no, one, two ... windows whatever it shows, the first window learns to explain most, the second most of what is left,
      and so on, as in matching pursuit. When the KL lets go, the right count is the cheapest already. NVIL takes a firmer hold
      and smaller steps because its gradient is noisy.
    """
    if estimator == "concrete":
        return Preset(AIRConfig(), TrainingConfig())
    if estimator == "enumerated":
        odds, weight, training = (1, 200), (50, 400), TrainingConfig()
    else:
        odds, weight, training = (2, 250), (200, 300), TrainingConfig(learning_rate="cosine(1.5e-3, final=5e-5)")
    model = AIRConfig(
        estimator=estimator,
        z_pres_prior_odds=Schedule("exponential", odds[0], factor=0.1, every=100, limit=1e-4, start=odds[1]),
        z_pres_kl_weight=Schedule("linear", weight[0], final=1, steps=weight[1]),
    )
    return Preset(model, training)


def original() -> Preset:
    """The default configuration of the continuous-relaxation AIR in TensorFlow 1 (`tf-attend-infer-repeat`).

    300 epochs of its 59,000 scenes are 276,562 batches of 64.
    """
    model = AIRConfig(
        **AS_PUBLISHED,
        activation="softplus",
        decoder_bias=0.0,
        decoder_noise=0.3,
        scale_prior_mean=-1.0,
        scale_prior_variance=0.05,
        z_pres_prior_odds="exponential(1e4, factor=0.1, every=3000, limit=1e-9)",
    )
    return Preset(model, TrainingConfig(iterations=276_562, batch_size=64, learning_rate=1e-4, clip_norm=1.0))


def paper() -> Preset:
    """Attend, Infer, Repeat as published (Eslami et al., 2016, section 4.1), as far as the paper says.

    From the paper: NVIL with a learned baseline, the latents of the step before as the LSTM's input, 256 LSTM units, 50
    dimensions of z_what, the Normal likelihood of deviation 0.3, batches of 64, learning rates of 1e-4 and, for the baseline,
    1e-3. It does not say how large its other networks are, nor the priors: the former are those of the `pyro` preset, the
    latter those of the `original` one, but for the odds of presence, which fall to 1e-5 in 100,000 iterations of 300,000 as in
    Kosiorek's reimplementation.
    """
    model = pyro().model.replace(
        decoder_bias=0.0,
        scale_prior_mean=-1.0,
        scale_prior_variance=0.05,
        shift_prior_variance=1.0,
        z_pres_prior_odds="exponential(1e4, factor=0.1, every=11000, limit=1e-5)",
        baseline_units=(256, 128),
    )
    return Preset(model, TrainingConfig(iterations=300_000, batch_size=64, learning_rate=1e-4, baseline_learning_rate=1e-3))


def pyro() -> Preset:
    """The AIR example of Pyro (`examples/air`), with the options that its tutorial recommends.

    Its z_where is (inverse scale, x, y) with the prior Normal((3, 0, 0), (0.2, 1, 1)), where x and y are in units of the
    inverse scale; scale = sigmoid(Normal(-0.69, variance 0.01)) and shift = tanh(Normal(0, variance 0.11)) have nearly the same
    means and deviations. Its baseline is an LSTM that sees the latents; ours sees the picture and answers for every step.
    """
    model = AIRConfig(
        controller_input="latents",
        head_units=(200,),
        **AS_PUBLISHED,
        encoder_units=(200,),
        decoder_units=(200,),
        activation="relu",
        decoder_bias=-2.0,
        likelihood="normal",
        likelihood_std=0.3,
        scale_prior_mean=-0.69,
        scale_prior_variance=0.01,
        shift_prior_variance=0.11,
        z_pres_prior_odds=0.01,
        estimator="nvil",
        baseline_units=(200,),
    )
    return Preset(model, TrainingConfig(iterations=200_000, batch_size=64, learning_rate=1e-4, baseline_learning_rate=0.1))


PRESETS: dict[PresetName, Callable[[], Preset]] = {"default": default, "original": original, "paper": paper, "pyro": pyro}


def recipe(name: PresetName, estimator: EstimatorName | None = None) -> Preset:
    """A preset, perhaps with another estimator than its own; the default one has a recipe for each."""
    if estimator is None:
        return PRESETS[name]()
    if name == "default":
        return default(estimator)
    model, training = PRESETS[name]()
    return Preset(model.replace(estimator=estimator), training)


def with_estimator(name: PresetName, changed: Preset, estimator: EstimatorName) -> Preset:
    """A preset in which some fields were changed, with another estimator: the changes stay, the rest is as in `recipe`."""
    before, after = recipe(name, changed.model.estimator), recipe(name, estimator)
    return Preset(*(_changed(*configs) for configs in zip(before, after, changed, strict=True)))


def _changed(before: Config, after: Config, changed: Config) -> Config:
    changes = {name: getattr(changed, name) for name in type(changed).model_fields}
    return after.replace(**{name: value for name, value in changes.items() if value != getattr(before, name)})


def peeked(preset: str | None, estimator: str | None) -> tuple[PresetName, Preset]:
    """Return the preset of a command line that has not been parsed yet; wrong values, which parsing refuses, count as none."""
    name = preset if preset in PRESETS else "default"
    return name, recipe(name, estimator if estimator in typing.get_args(EstimatorName) else None)
