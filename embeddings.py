"""Export z_what for TensorBoard's projector; `air/embeddings/command.py` describes the flags."""

from air.embeddings.command import script

if __name__ == "__main__":
    script()
