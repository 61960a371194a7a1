"""Draw digits and watch AIR attend to them; `air/gui/command.py` describes the flags."""

from air.gui.command import main
from air.support import cli

if __name__ == "__main__":
    cli.run(main)
