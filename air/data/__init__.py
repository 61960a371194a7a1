"""Digits, scenes of them, their files, and the pipeline that feeds them to a model."""
