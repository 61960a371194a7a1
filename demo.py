"""Draw digits and watch AIR attend to them.

    python demo.py                                   # the model in model/
    python demo.py --model air_results               # a run folder, or a .keras file
    python demo.py picture.png --palette safe        # a picture as the scene; colours that the colour-blind can tell apart
    python demo.py --headless --script tests/strokes/digits_3.jsonl --out frames     # see air/gui/script.py

`?` shows the shortcuts.
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from air.errors import UsageError
from air.support import cli

Path_ = Annotated[Path, tyro.conf.arg(metavar="PATH")]


@dataclasses.dataclass(frozen=True)
class Arguments:
    picture: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="PICTURE")] = None
    """A picture file to begin with."""
    model: Path_ = Path("model")
    """Folder with air.keras, a run folder or a .keras file."""
    palette: Literal["rgb", "safe"] = "rgb"
    """Colours of the attention windows; safe: for the colour-blind."""
    period: Literal[10, 20, 50, 100, 200, 500, 1000] = 10
    """Milliseconds between two looks at a changing picture."""
    sample: bool = False
    """Begin with samples of the posterior rather than its means."""
    size: tuple[int, int] | None = None
    """Width and height of the window, in pixels."""
    headless: bool = False
    """Replay a script without a display."""
    script: Path_ | None = None
    """With --headless: what to replay, see air/gui/script.py."""
    out: Path_ | None = None
    """With --headless: folder for the pictures."""
    frame_rate: float = 10.0
    """With --headless: numbered pictures a second, 0.1 to 60; 0 for none but those that the script asks for."""
    gif: Path_ | None = None
    """With --headless: also write these pictures as an animation, a .gif file."""


def read_arguments() -> Arguments:
    arguments = cli.parse(Arguments, __doc__)
    if arguments.headless and (arguments.script is None or arguments.out is None):
        raise UsageError("--headless needs --script and --out")
    if not arguments.headless and (arguments.script or arguments.out or arguments.gif):
        raise UsageError("--script, --out and --gif are for --headless")
    if arguments.headless and arguments.picture:
        raise UsageError("PICTURE is for the window; with --headless, the script can drop it")
    if arguments.frame_rate != 0 and not 0.1 <= arguments.frame_rate <= 60:
        raise UsageError(f"frame-rate: {arguments.frame_rate:g} is not allowed; it must be 0, or from 0.1 to 60")
    if arguments.gif is not None:
        if arguments.gif.suffix.lower() != ".gif":
            raise UsageError(f"gif: {arguments.gif} is not allowed; its name must end in .gif")
        if not arguments.gif.parent.is_dir():
            raise UsageError(f"gif: {arguments.gif} is not allowed; there is no folder {arguments.gif.parent}")
        if not arguments.frame_rate:
            raise UsageError("--gif needs a --frame-rate above 0")
    if arguments.size and not all(1 <= length <= 16384 for length in arguments.size):
        raise UsageError(f"size: {arguments.size} is not allowed; lengths must be from 1 to 16384")
    return arguments


def main() -> None:
    arguments = read_arguments()
    from air.gui import app, script  # here, because --help and mistakes should not wait for pygame
    from air.gui.engine import config_of

    config = config_of(arguments.model)

    options = {"palette": arguments.palette, "period": arguments.period, "sampling": arguments.sample, "size": arguments.size}
    if arguments.headless:
        script.replay(arguments.model, config, arguments.script, arguments.out, arguments.frame_rate, arguments.gif, **options)
        return
    window = app.App(arguments.model, config, **options)
    if arguments.picture:
        window.session.open(arguments.picture)
    status = 0
    try:
        window.run()
    except KeyboardInterrupt:
        status = 130
    finally:
        is_closed = window.close()
    if not is_closed:
        os._exit(status)  # rather than wait for a thread that is within TensorFlow's import
    sys.exit(status)


if __name__ == "__main__":
    cli.run(main)
