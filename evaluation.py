"""Evaluate a trained model, or a recipe with several seeds; `air/evaluation/command.py` describes the flags."""

from air.evaluation.command import main
from air.support import cli

if __name__ == "__main__":
    cli.run(main)
