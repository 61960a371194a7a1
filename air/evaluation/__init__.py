"""Evaluate trained models on held-out scenes: measure, tabulate, draw, and release them."""
