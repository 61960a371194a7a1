"""Export z_what for TensorBoard's projector; `air/embeddings/command.py` describes the flags."""

from air.embeddings.command import main
from air.support import cli

if __name__ == "__main__":
    cli.run(main)
