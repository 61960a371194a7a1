"""How fast everything is, beside what the machine could do: see `python -m benchmarks --help`."""
