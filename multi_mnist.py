"""Generate scenes of digits; `air/data/command.py` describes the flags."""

from air.data.command import main
from air.support import cli

if __name__ == "__main__":
    cli.run(main)
