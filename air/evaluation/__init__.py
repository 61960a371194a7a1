"""Evaluate trained models on held-out scenes."""
