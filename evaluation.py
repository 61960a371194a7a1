"""Evaluate a trained model, or a recipe with several seeds; `air/evaluation/command.py` describes the flags."""

from air.evaluation.command import script

if __name__ == "__main__":
    script()
