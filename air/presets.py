"""Named pairs of configurations."""

from typing import NamedTuple

from air.config import AIRConfig, TrainingConfig


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
        cnn_filters=(),
        cnn_kernels=(),
        cnn_strides=(),
        cnn_pools=(),
        activation="softplus",
        decoder_bias=0.0,
        decoder_noise=0.3,
        scale_prior_mean=-1.0,
        scale_prior_variance=0.05,
        z_pres_prior_odds="exponential(1e4, factor=0.1, every=3000, limit=1e-9)",
    )
    return Preset(model, TrainingConfig(iterations=276_562, batch_size=64, learning_rate=1e-4, clip_norm=1.0))


PRESETS = {"default": default, "original": original}
