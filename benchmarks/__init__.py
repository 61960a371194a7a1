"""Scripts that measure the project: `python -m benchmarks.speed`, `python -m benchmarks.gradients`."""
