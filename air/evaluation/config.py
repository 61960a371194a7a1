"""Settings of an evaluation and of a study of several seeds; loads neither TensorFlow nor Keras."""

from typing import Annotated

from pydantic import Field, field_validator

from air.config import Config, Count, CountOrZero, EstimatorName, Seed
from air.presets import Preset


class EvaluationConfig(Config):
    """The extent of an evaluation."""

    scenes: Count = 10000
    """Test scenes to evaluate, at most; the first ones of the file."""
    samples: Count = 100
    """Samples per scene for the importance-weighted bound."""
    importance_scenes: Count = 2000
    """Test scenes for that bound, at most; it is by far the most expensive number of the report."""
    reference_scenes: CountOrZero = 60000
    """Training scenes whose objects train the classifiers of z_what; 0 skips the classification."""
    other_scenes: CountOrZero = 1000
    """Scenes of each kind outside of what training shows, fewer on larger canvases; 0 skips them."""
    pyro_scenes: CountOrZero = 10000
    """Scenes that follow the rules of Pyro's generator, for all measures; 0 skips them."""
    figures: bool = True
    """Draw the figures."""
    seed: Seed = 0
    """Seed of all random draws."""


class SeedsConfig(Config):
    """Training runs of one recipe that differ only in their seeds and, if asked for, in the estimator of z_pres."""

    n: Count = 10
    """Runs per estimator, with the seeds --seed, --seed + 1 ..."""
    estimators: tuple[EstimatorName, ...] = ()
    """Estimators of z_pres to compare, each with every seed; only that of --estimator by default."""
    goal: Annotated[float, Field(gt=0, le=1)] = 0.98
    """Count accuracy that a run should reach; the report says after how many steps and seconds it does."""
    samples: CountOrZero = 100
    """Samples per scene for the importance-weighted bound; 0 skips the bounds."""
    bound_scenes: CountOrZero = 1000
    """Test scenes for the bounds, at most; the first ones of the file. 0 skips the bounds."""
    more_digits_scenes: CountOrZero = 1000
    """Scenes of three digits to count, and of four and of larger canvases if the model takes them; 0 skips them."""

    @field_validator("estimators")
    @classmethod
    def _are_distinct(cls, estimators: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(estimators)) < len(estimators):
            raise ValueError("name each estimator only once")
        return estimators

    @property
    def goal_text(self) -> str:
        return f"{100 * self.goal:.6g} %"

    @property
    def has_bounds(self) -> bool:
        return bool(self.samples and self.bound_scenes)


def scored_often(recipe: Preset) -> Preset:
    """Return a recipe that scores held-out scenes every 50 steps, to see when a run reaches the goal."""
    return recipe._replace(training=recipe.training.replace(validate_every=50))
