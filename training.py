"""Train AIR on scenes; `air/training/command.py` describes the flags."""

from air.training.command import script

if __name__ == "__main__":
    script()
