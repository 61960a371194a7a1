"""What an evaluation measures, and on how much; loads neither TensorFlow nor Keras."""

from typing import Annotated

from pydantic import Field, field_validator

from air.config import Config, Count, EstimatorName
from air.presets import Preset

Size = Annotated[int, Field(ge=0, lt=2**31)]


class EvaluationConfig(Config):
    """How thoroughly a model is judged."""

    scenes: Count = 10000
    """Most test scenes; the first ones of the file."""
    samples: Count = 100
    """Samples of each scene for the importance-weighted bound."""
    importance_scenes: Count = 2000
    """Most test scenes for that bound, by far the costliest number of the report."""
    reference_scenes: Size = 60000
    """Training scenes whose objects teach the classifiers of z_what; 0: leave them out."""
    other_scenes: Size = 2000
    """Scenes of each kind unlike the training scenes; 0: leave out generalisation."""
    pyro_scenes: Size = 10000
    """Scenes by the rules of Pyro's generator; 0: leave them out."""
    figures: bool = True
    """Draw the figures."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes all random draws."""


class SeedsConfig(Config):
    """Training runs of one recipe that differ in nothing but their seeds, and perhaps in the estimator of z_pres."""

    n: Count = 10
    """Runs of each estimator, with the seeds --seed, --seed + 1 ..."""
    estimators: tuple[EstimatorName, ...] = ()
    """Estimators of z_pres to compare, each with every seed; that of --estimator alone when not given."""
    goal: Annotated[float, Field(gt=0, le=1)] = 0.98
    """Count accuracy that a run should reach; its steps and seconds are told."""
    samples: Size = 100
    """Samples of each scene for the importance-weighted bound; 0: leave out the bounds."""
    bound_scenes: Size = 1000
    """Most test scenes for the bounds; the first ones of the file. 0: leave out the bounds."""
    more_digits_scenes: Size = 1000
    """Scenes of 3 digits to count; 0: leave them out."""

    @field_validator("estimators")
    @classmethod
    def _each_once(cls, estimators: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(estimators)) < len(estimators):
            raise ValueError("each may be named once")
        return estimators

    @property
    def goal_text(self) -> str:
        return f"{100 * self.goal:.6g} %"

    @property
    def has_bounds(self) -> bool:
        return bool(self.samples and self.bound_scenes)


def scored_often(recipe: Preset) -> Preset:
    """A recipe as runs of several seeds are trained: every 50 steps, ten thousand scenes tell how far it is."""
    model, training = recipe
    return Preset(model, training.replace(validate_every=50, validation_scenes=10_000))
