"""Train AIR on scenes; `air/training/command.py` describes the flags."""

from air.support import cli
from air.training.command import main

if __name__ == "__main__":
    cli.run(main)
