"""Generate scenes of digits; `air/data/command.py` describes the flags."""

from air.data.command import script

if __name__ == "__main__":
    script()
