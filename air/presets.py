"""Named pairs of configurations."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from air.config import AIRConfig, TrainingConfig

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


def default() -> Preset:
    """This project's own recipe: what `AIRConfig()` and `TrainingConfig()` are."""
    return Preset(AIRConfig(), TrainingConfig())


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
        likelihood_deviation=0.3,
        scale_prior_mean=-0.69,
        scale_prior_variance=0.01,
        shift_prior_variance=0.11,
        z_pres_prior_odds=0.01,
        presence="nvil",
        count_temperature=1.0,
        baseline_units=(200,),
    )
    return Preset(model, TrainingConfig(iterations=200_000, batch_size=64, learning_rate=1e-4, baseline_learning_rate=0.1))


PRESETS: dict[PresetName, Callable[[], Preset]] = {"default": default, "original": original, "paper": paper, "pyro": pyro}
