"""What an evaluation measures, and on how much; loads neither TensorFlow nor Keras."""

from typing import Annotated

from pydantic import Field

from air.config import Config, Count

Size = Annotated[int, Field(ge=0, lt=2**31)]


class EvaluationConfig(Config):
    """How thoroughly a model is judged."""

    scenes: Count = 10000
    """Most test scenes; the first ones of the file."""
    samples: Count = 100
    """Samples of each scene for the importance-weighted bound."""
    importance_scenes: Count = 2000
    """Most test scenes for that bound, by far the costliest number of the report."""
    bank_scenes: Size = 20000
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
    """A training run of the default recipe for each of several seeds."""

    n: Count = 10
    """Runs, with the seeds 0, 1 ..."""
    iterations: Count | None = None
    """Training steps of each run; the recipe's own when not given."""
    score_every: Count = 50
    """Training steps between two scorings of the test scenes."""
    scenes: Count = 10000
    """Most test scenes; the first ones of the file."""
