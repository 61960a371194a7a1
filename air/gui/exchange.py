"""Pictures in and out of the window: files, the clipboard, and what the canvases show.

Whatever may wait for another program or a disk happens in a thread; `tick` takes its result.
"""

import concurrent.futures
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pygame

from air.errors import AIRError
from air.gui import sharing, sources, theme
from air.gui.prompt import Prompt
from air.gui.session import Session


class Outcome(NamedTuple):
    """Hold what a thread has done: a picture [H, W] or [H, W, 3] uint8 for the canvas and its title, a message, or nothing."""

    picture: np.ndarray | None = None
    title: str = ""
    message: str = ""


class Exchange:
    """The traffic of a session; `notify` is called from a thread when it has finished."""

    def __init__(self, session: Session, notify: Callable[[], None]) -> None:
        self.session, self._notify = session, notify
        self.prompt: Prompt | None = None  # while a path is typed
        self._recorder = sharing.Recorder()
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "exchange")
        self._task: concurrent.futures.Future[Outcome] | None = None
        self._dialog = sources.Dialog()

    @property
    def is_busy(self) -> bool:
        return self._task is not None

    def tick(self) -> None:
        """Take the result of the thread, and record what is shown."""
        self._recorder.add(self.session.now, self.session.view)
        if self._task is None or not self._task.done():
            return
        task, self._task = self._task, None
        try:
            picture, title, message = task.result()
        except (AIRError, OSError) as error:
            return self.session.say(str(error), is_error=True)
        finally:
            del task  # whose error knows this frame: a circle that would keep a failed picture's arrays, 40 MB
        if picture is not None:
            self.session.show(picture, title)
        if message:
            self.session.say(message)

    def close(self) -> None:
        """Close the file dialog, if it is open, and leave out what waits."""
        self._dialog.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def perform(self, name: str) -> bool:
        """Perform an action of `air.gui.actions`; return False if it is another's."""
        if name == "open":
            self.ask()
        elif name == "paste":
            self.paste()
        elif name == "save picture":
            self.save()
        elif name == "record":
            self.save_recording()
        else:
            return False
        return True

    def open(self, path: str | Path) -> None:
        """Put a picture file on the canvas, or show why it can't be read."""
        self._start(lambda: self._read(Path(path)))

    def ask(self) -> None:
        """Ask for a picture file: by the system's dialog, or where there is none, by its path."""
        command = sources.find_dialog()
        if command is None:
            self.prompt = Prompt()
            return

        def run() -> Outcome:
            path = self._dialog.ask(command)
            return Outcome() if path is None else self._read(path)

        self._start(run)

    def take(self, event: pygame.event.Event) -> bool:
        """Give a KEYDOWN event to the prompt; return False if it does not want it."""
        control = event.mod & (pygame.KMOD_CTRL | pygame.KMOD_META)
        if self.prompt is None or (control and event.key != pygame.K_v):
            return False
        if control:
            self.prompt.paste(_clipboard_text().strip())
        elif event.key == pygame.K_ESCAPE:
            self.prompt = None
        elif event.key in (pygame.K_RETURN, pygame.K_KP_ENTER):
            path, self.prompt = self.prompt.path, None
            self.open(path)
        else:
            self.prompt.type(event.key, event.unicode)
        return True

    def paste(self) -> None:
        """Put the clipboard's picture, or the file that it names, on the canvas."""
        text = _clipboard_text()
        self._start(lambda: Outcome(sources.pasted(text, self.session.open_picture), "From the clipboard"))

    def save(self) -> None:
        """Save the picture and its reconstruction, side by side, as a .png file in the current folder."""
        view, path = self.session.view, _new_path(".png")
        self._start(lambda: self._write(path, lambda: sharing.save_picture(path, view, self._colours)))

    def save_recording(self) -> None:
        """Save the last seconds as a .gif file in the current folder."""
        views, path = self._recorder.views, _new_path(".gif")
        self.session.say("Writing the recording …")
        self._start(lambda: self._write(path, lambda: sharing.save_recording(path, views, self._colours)))

    @property
    def _colours(self) -> tuple[theme.RGB, ...]:
        return theme.PALETTES[self.session.palette]

    def _read(self, path: Path) -> Outcome:
        return Outcome(self.session.open_picture(path), path.name)

    def _write(self, path: Path, write: Callable[[], None]) -> Outcome:
        try:
            write()
        except OSError as error:
            raise AIRError(f"{path}: can't be written ({error.strerror or error})") from None
        return Outcome(message=f"Saved {path}")

    def _start(self, task: Callable[[], Outcome]) -> None:
        """Run a task in the thread, unless it is busy."""
        if self._task is not None:
            return self.session.say("One moment: the last picture is not ready yet")
        self._task = self._executor.submit(task)
        self._task.add_done_callback(lambda _: self._notify())


def _new_path(suffix: str) -> Path:
    return Path.cwd() / time.strftime(f"air_demo_%Y%m%d_%H%M%S{suffix}")


def _clipboard_text() -> str:
    with contextlib.suppress(pygame.error):  # an empty clipboard, or none at all
        return pygame.scrap.get_text()
    return ""
