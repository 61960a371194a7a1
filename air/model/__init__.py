"""The paper: the inference network q(z | x), the generative model p(x, z), and the objective that trains both."""

from air.model.air_model import AIRModel
from air.model.generative import Scenes

__all__ = ["AIRModel", "Scenes"]
