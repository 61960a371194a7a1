"""Draw digits and watch AIR attend to them.

    python demo.py                                   # the model in model/
    python demo.py --model air_results               # a run folder, or a .keras file
    python demo.py picture.png --palette safe        # start with a picture, in colour-blind safe colours
    python demo.py picture.png --headless            # only print the number of objects in it

`?` shows the shortcuts.
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from air.config import DEFAULT_MODEL, find_model
from air.errors import UsageError
from air.support import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    picture: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[PICTURE]")] = None
    """A photo, scan or drawing to start with."""
    model: Annotated[Path, tyro.conf.arg(metavar="PATH")] = DEFAULT_MODEL
    """Folder with air.keras, a run folder or a .keras file."""
    palette: Literal["rgb", "safe"] = "rgb"
    """Colours of the attention windows; safe: for the colour-blind."""
    period: Literal[10, 20, 50, 100, 200, 500, 1000] = 10
    """Milliseconds between two looks at a changing picture."""
    sample: bool = False
    """Start with posterior samples instead of means."""
    size: tuple[int, int] | None = None
    """Width and height of the window, in pixels."""
    headless: bool = False
    """Print the number of objects in the picture, or on an empty canvas, and exit; needs no display."""


def main() -> None:
    arguments = cli.parse(Arguments, __doc__)
    if arguments.size and not all(1 <= length <= 16384 for length in arguments.size):
        raise UsageError(f"size: {arguments.size} is not allowed; lengths must be from 1 to 16384")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if arguments.headless:
        os.environ["SDL_VIDEODRIVER"] = "dummy"
    from air.gui import pictures
    from air.gui.app import App  # here, because --help and mistakes should not wait for pygame
    from air.gui.engine import config_of

    model = find_model(arguments.model)
    choices: dict[str, Any] = {"palette": arguments.palette, "period": arguments.period, "sampling": arguments.sample}
    config = config_of(model)
    # Before the window opens, so that a picture that can't be read is an error of the command, with and without a window.
    picture = pictures.open_picture(arguments.picture, model, config, config.canvas_size) if arguments.picture else None
    window = App(model, config, size=arguments.size, **choices)
    status = 0
    try:
        if picture is not None:
            window.session.show(picture, arguments.picture.name)
        if arguments.headless:
            print(f"count: {window.count()}", flush=True)
        else:
            window.run()
    except KeyboardInterrupt:
        status = 130
    finally:
        is_closed = window.close(60.0 if arguments.headless else 0.5)
    if not is_closed:
        os._exit(status)  # rather than wait for a thread that is still importing TensorFlow
    sys.exit(status)


def script() -> None:
    """Run the command air-demo, or demo.py."""
    cli.run(main)
