"""Take pictures from elsewhere than the pen: a file dialog of the system, and the clipboard."""

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from air.errors import DataError

TITLE = "Open a picture"
_FILE_TYPES = "Pictures|*.png;*.jpg;*.jpeg;*.webp;*.bmp;*.gif;*.tif;*.tiff|All files|*.*"
_POWERSHELL = f"""
Add-Type -AssemblyName System.Windows.Forms
[Console]::OutputEncoding = [Text.Encoding]::UTF8
$dialog = New-Object System.Windows.Forms.OpenFileDialog -Property @{{ Title = '{TITLE}'; Filter = '{_FILE_TYPES}' }}
if ($dialog.ShowDialog() -eq 'OK') {{ $dialog.FileName }}
"""
DIALOGS = {
    "darwin": [["osascript", "-e", f'POSIX path of (choose file with prompt "{TITLE}" of type {{"public.image"}})']],
    "win32": [["powershell", "-NoProfile", "-STA", "-Command", _POWERSHELL]],
    "linux": [["zenity", "--file-selection", f"--title={TITLE}"], ["kdialog", "--title", TITLE, "--getopenfilename", "."]],
}
"""Programs that ask for a file and print its path, by `sys.platform`; the first that is installed is used."""


def find_dialog() -> list[str] | None:
    """Return the command of a file dialog; None if there is none."""
    return next((command for command in DIALOGS.get(sys.platform, ()) if shutil.which(command[0])), None)


class Dialog:
    """A file dialog, which another thread may close."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, command: list[str]) -> Path | None:
        """Run the command of a dialog and return the chosen path; None if it was cancelled or closed."""
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8")
        path = self._process.communicate()[0].strip("\r\n")
        return Path(path) if path else None

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()


def complete(typed: str) -> str:
    """Complete a path as far as the names in its folder agree; a folder that is complete ends in a separator."""
    head, tail = os.path.split(typed)
    try:
        names = [
            name for name in os.listdir(os.path.expanduser(head) or ".") if name.startswith(tail) and (tail or name[0] != ".")
        ]
    except OSError:
        return typed
    path = os.path.join(head, os.path.commonprefix(names)) if names else typed  # noqa: RUF071
    return path + os.sep if len(names) == 1 and os.path.isdir(os.path.expanduser(path)) else path


def path_of(text: str) -> Path | None:
    """Return the file that a text names by its path or as a file URI, as file managers copy them; None if there is none."""
    line = next(iter(text.strip().splitlines()), "").strip("\"'")
    if line.startswith("file:"):
        line = urllib.request.url2pathname(urllib.parse.urlsplit(line).path)
    path = Path(line).expanduser()
    try:
        return path if line and path.is_file() else None
    except (OSError, ValueError):  # a text that no path can be
        return None


def pasted(text: str, open_picture: Callable[[Path], np.ndarray]) -> np.ndarray:
    """Return the picture in the clipboard, or in the file that its text names, as `open_picture` returns it.

    Args:
        text: the clipboard's text, "" if it has none.
        open_picture: opens a picture file.

    Raises:
        DataError: if there is no picture, or it can't be read.
    """
    path = path_of(text)
    if path is not None:
        return open_picture(path)
    found = _grab()
    if isinstance(found, list):  # files that were copied
        return open_picture(Path(found[0]))
    if found is None:
        raise DataError("The clipboard has no picture")
    with tempfile.TemporaryDirectory(prefix="air-") as folder:
        file = Path(folder) / "clipboard.png"
        found.save(file)
        try:
            return open_picture(file)
        except DataError as error:
            raise DataError(str(error).replace(str(file), "clipboard")) from None


def _grab() -> Any:
    """Return the clipboard's picture, or paths of the files in it; None if it has neither."""
    from PIL import ImageGrab

    try:
        return ImageGrab.grabclipboard() or None
    except NotImplementedError:
        raise DataError("Pasting pictures needs wl-clipboard (Wayland) or xclip (X11); paths can be pasted without") from None
    except (OSError, ValueError, subprocess.SubprocessError):  # the clipboard's owner has something else, or doesn't answer
        return None
