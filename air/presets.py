"""Presets: pairs of a model's and a training run's configuration, by name."""

import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from air.config import AIRConfig, EstimatorName, TrainingConfig
from air.schedules import Schedule

PresetName = Literal[
    "default", "backgrounds", "original", "original_corrected", "paper", "kosiorek", "pyro", "borea17", "numpy"
]

# Without this project's additions:
_NO_CNN: dict[str, Any] = {"cnn_filters": (), "cnn_kernels": (), "cnn_strides": (), "cnn_pools": ()}
_AS_PUBLISHED: dict[str, Any] = {**_NO_CNN, "controller": "canvas", "refiner_units": (), "looks": 1, "z_what_kl_weight": 1.0}


class Preset(NamedTuple):
    model: AIRConfig
    training: TrainingConfig


def default(estimator: EstimatorName = "concrete") -> Preset:
    """Return this project's own recipe.

    The prior of the scale keeps windows about as large as one object from the first step on, so that none covers two. The
    estimators differ in how counting begins, because a discrete one learns nothing about a count that it never samples:

    - Concrete starts with every step present and then drops the steps that do not pay for their KL divergence.
    - The discrete ones start with prior odds of 1 or 2 at every step and a heavy KL weight that holds the posterior there.
      Scenes are thus rendered with any number of windows, and as in matching pursuit the first window learns to explain most
      of a scene, the second most of the rest, and so on. Once the weight has fallen, the right count is already the cheapest.
      NVIL needs a heavier weight and a lower learning rate because its gradients are noisy.
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


def backgrounds(channels: Literal[1, 3] = 1) -> Preset:
    """Return the recipe for pictures that are not bright on black: paper, noise, grids, gradients, photos, colours.

    Objects cover a learned background. The likelihood is a Normal whose standard deviation is learned, so a window that paints
    noise gains nothing. It is at least 0.1 at first, so that thin objects gain enough to be found, and 0.2 in the end, or
    details that the decoder can't paint yet would pay for a second window. The count is enumerated, as in
    `default("enumerated")`: relaxed, all windows would share each object from the first step on, because an object that covers
    another one costs nothing where they agree. Every step is as likely as not to find an object until objects have got their
    shapes, or a second window for the corners of a square becomes a habit; so z_what is free at first. The odds of presence
    fall further than elsewhere, because even so an object gains hundreds of nats by its details. For the same reason windows
    are held to the middle of objects, whose ends would pay for a second one. The controller's preference for cells with an
    object is weaker than elsewhere, as remains of an object may seem to be another one. Inference settles what is still in
    doubt by gradient ascent.

    In colour, a step of Adam changes what a layer makes of its inputs about three times as much, as they are three times as
    many, and with some seeds objects stay round; so the learning rate is a third. Details, once learned, don't pay for a second
    window, so the standard deviation may stay at 0.1, and what others leave to see of an object pays for a window.

    Args:
        channels: of the pictures, 1 or 3.
    """
    in_colour = channels == 3
    model = AIRConfig(
        channels=channels,
        composition="over",
        background="learned",
        likelihood="normal",
        likelihood_std=0.1 if in_colour else Schedule("linear", 0.1, final=0.2, steps=2000.0),
        learn_likelihood_std=True,
        max_steps=4,
        ascent_steps=40,
        cell_certainty=1.0,
        decoder_bias=-2.0,
        scale_prior_variance=0.05,
        estimator="enumerated",
        z_pres_prior_odds=Schedule("exponential", 1.0, factor=0.1, every=40.0, limit=1e-20, start=1200.0),
        z_pres_kl_weight=Schedule("linear", 200.0, final=1.0, steps=1500.0),
        z_what_kl_weight=Schedule("linear", 0.0, final=1.75, steps=2000.0),
        eccentricity_weight=200.0,
    )
    return Preset(model, TrainingConfig(learning_rate="cosine(1e-3, final=5e-5)") if in_colour else TrainingConfig())


def original() -> Preset:
    """Return the defaults of the TensorFlow 1 implementation `tf-attend-infer-repeat`: 300 epochs of 59,000 scenes.

    Rounding errors of its sampler dominate its clipped gradients, so that it learns three to four times more slowly. Gradients
    here are exact: three windows everywhere are a habit by the time that this schedule lets the price of an object rise.
    """
    model = AIRConfig(
        **_AS_PUBLISHED,
        activation="softplus",
        decoder_bias=0.0,
        decoder_noise=0.3,
        scale_prior_mean=-1.0,
        scale_prior_variance=0.05,
        z_pres_prior_odds="exponential(1e4, factor=0.1, every=3000, limit=1e-9)",
    )
    return Preset(model, TrainingConfig(iterations=276_562, batch_size=64, learning_rate=1e-4, clip_norm=1.0))


def original_corrected() -> Preset:
    """Return `original` with its annealing four times as fast, to match the speed of exact gradients, and 25,000 steps."""
    model, training = original()
    odds = "exponential(1e4, factor=0.1, every=750, limit=1e-9)"
    return Preset(model.replace(z_pres_prior_odds=odds), training.replace(iterations=25_000))


def paper() -> Preset:
    """Return the settings of the paper (Eslami et al., 2016, section 4.1), as far as it states them.

    Stated: NVIL with a learned baseline, previous latents as input of an LSTM of 256 units, 50 dimensions of z_what, a
    normal likelihood of standard deviation 0.3, batches of 64, learning rates of 1e-4 and, for the baseline, 1e-3. The sizes
    of the other networks are from `pyro`, the priors from `original`, and the odds of presence, which fall to 1e-5 over
    100,000 of 300,000 iterations, from Kosiorek's reimplementation.
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
    """Return the settings of Pyro's AIR example (`examples/air`) with the options that its tutorial recommends.

    Its z_where is (1 / scale, x, y) ~ Normal((3, 0, 0), (0.2, 1, 1)) with x and y in units of 1 / scale. The priors
    scale = sigmoid(Normal(-0.69, variance 0.01)) and shift = tanh(Normal(0, variance 0.11)) match its means and standard
    deviations closely. Its baseline is an LSTM over the latents; ours predicts all steps from the image.
    """
    model = AIRConfig(
        **{**_AS_PUBLISHED, "controller": "latents"},
        head_units=(200,),
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


def kosiorek() -> Preset:
    """Return the settings of Kosiorek's `attend_infer_repeat`, for the scenes of the same name.

    Remaining differences: the LSTM sees the raw canvas, not an encoding of it, and starts from zeros, not from a learned state;
    the heads are ReLU, all of one size, and z_where begins with a standard deviation of 1 before the sigmoid or tanh, not with
    a bias of 0.5 on it; the decoder's output isn't halved, and no step is flipped at random once in a thousand; the baseline
    sees the image, not the latents. The probability of another object, near 1 for 1,000 steps, falls exponentially to 1e-7 over
    100,000; here its odds do, from 10.
    """
    model = pyro().model.replace(
        window_size=(20, 20),
        head_units=(256, 256),
        head_biases=(0, 0, 0, 0, 0.75),
        encoder_units=(256, 256),
        decoder_units=(256, 256),
        activation="elu",
        decoder_bias=0.0,
        scale_prior_mean=0.0,
        scale_prior_variance=1.0,
        shift_prior_variance=1.0,
        z_pres_prior_odds="exponential(10, factor=0.1, every=12500, limit=1e-7, start=1000)",
        baseline_units=(256, 128),
    )
    training = TrainingConfig(
        iterations=300_000, batch_size=64, optimizer="rmsprop", learning_rate=1e-4, baseline_learning_rate=1e-3
    )
    return Preset(model, training)


def borea17() -> Preset:
    """Return the settings of borea17's summary of the paper, for the scenes of the same name: 20 epochs of 10,000.

    An MLP takes the place of the LSTM. Like that of `pyro`, its z_where is (1 / scale, x, y), and starts at (3, 0, 0) with a
    standard deviation of exp(-1.5); the heads here start at about the same windows. Remaining differences: the state is the
    second layer's output, which the heads read, not an output of its own; the priors, which are from `pyro`, the learning
    rates and the baseline are guesses.
    """
    model = pyro().model.replace(
        recurrence="mlp",
        head_units=(),
        head_biases=(-0.69, -4.4, 0, -5.2, 1.0),
        window_size=(24, 24),
        encoder_units=(400,),
        decoder_units=(400,),
        z_what_size=20,
        decoder_bias=-5.0,
        likelihood_std=0.5,
        **{f"{name}_kl_weight": 0.5 for name in ("z_pres", "scale", "shift", "z_what")},
    )
    return Preset(model, TrainingConfig(iterations=3100, batch_size=64, learning_rate=1e-3, baseline_learning_rate=1e-3))


def numpy() -> Preset:
    """Return the settings of a small NumPy implementation, for the scenes of the same name: 128 epochs of 1,500.

    Two dense layers see the whole canvas once and answer z_where, z_pres and z_what of all steps: there is no recurrent network
    and no glimpse. Its squared error is the Normal likelihood here. Remaining differences: z_where, which has no variance
    there, starts with a small one and has no KL either; a step's presence is not the product of those so far; the prior of
    presence is 0.5, 0.4 and 0.2 there, 0.375 at every step here; the KL of z_pres has a weight of 0.3 there and of 1 here, as
    0.3 splits nearly every digit in two; and it trains for 8 epochs with a learning rate of 2e-3 and keeps the best one.
    """
    model = AIRConfig(
        **{**_AS_PUBLISHED, "controller": "dense", "z_what_kl_weight": 0.05},
        canvas_size=(32, 32),
        window_size=(16, 16),
        head_biases=(-0.13, -6, 0, -6, 1),
        encoder_units=(200, 100),
        decoder_units=(100,),
        z_what_size=20,
        activation="relu",
        decoder_bias=-2.0,
        likelihood="normal",
        likelihood_std=0.7071,
        scale_prior_mean=-0.13,
        scale_prior_variance=0.05,
        z_pres_prior_odds=0.6,
        temperature="linear(1, 0.2, steps=376)",
        scale_kl_weight=0.0,
        shift_kl_weight=0.0,
    )
    return Preset(model, TrainingConfig(iterations=6000, batch_size=32, learning_rate=1e-3))


PRESETS: dict[PresetName, Callable[[], Preset]] = {
    "default": default,
    "backgrounds": backgrounds,
    "original": original,
    "original_corrected": original_corrected,
    "paper": paper,
    "kosiorek": kosiorek,
    "pyro": pyro,
    "borea17": borea17,
    "numpy": numpy,
}


def recipe(name: PresetName, estimator: EstimatorName | None = None, channels: Literal[1, 3] = 1) -> Preset:
    """Return a preset, optionally with another estimator; the default preset has a recipe for each.

    `backgrounds` also has one for each number of channels, which the other presets leave at 1.
    """
    if name == "default":
        return default(estimator or "concrete")
    model, training = backgrounds(channels) if name == "backgrounds" else PRESETS[name]()
    return Preset(model.replace(estimator=estimator or model.estimator), training)


def with_estimator(name: PresetName, changed: Preset, estimator: EstimatorName) -> Preset:
    """Return the recipe of another estimator with the fields in which `changed` differs from its own recipe."""
    channels = changed.model.channels
    configs = zip(recipe(name, changed.model.estimator, channels), recipe(name, estimator, channels), changed, strict=True)
    return Preset._make(
        (new.replace(**{name: value for name, value in config if value != getattr(old, name)}) for old, new, config in configs)
    )


def of_flags(preset: str | None, estimator: str | None, channels: object = None) -> tuple[PresetName, Preset]:
    """Return the preset that these flags select; invalid values, which parsing refuses later, select the defaults."""
    name = preset if preset in PRESETS else "default"
    known = estimator if estimator in typing.get_args(EstimatorName) else None
    return name, recipe(name, known, 3 if str(channels) == "3" else 1)  # type: ignore[arg-type]
