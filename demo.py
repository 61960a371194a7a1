"""Draw digits and watch AIR attend to them; `air/gui/command.py` describes the flags."""

from air.gui.command import script

if __name__ == "__main__":
    script()
