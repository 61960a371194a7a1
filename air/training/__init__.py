"""A training run and its folder; `air.training.run` has `start` and `resume`."""
