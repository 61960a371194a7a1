"""All actions of the demo: names, keys, and labels in the list of shortcuts."""

from typing import NamedTuple

import pygame

from air.gui.pen import LINE_WIDTHS


class Action(NamedTuple):
    """Something that a button or a key does."""

    name: str
    label: str  # in the list of shortcuts
    keys: tuple[str, ...]  # as returned by `key_text`; the first is shown on the button
    group: str  # heading in the list of shortcuts


ACTIONS = (
    Action("draw", "Draw", ("B",), "Pen"),
    Action("erase", "Erase", ("E",), "Pen"),
    *(Action(f"width {n}", f"Line width {n}", (str(n),), "Pen") for n in range(1, len(LINE_WIDTHS) + 1)),
    Action("undo", "Undo", ("Z", "Ctrl+Z"), "Pen"),
    Action("redo", "Redo", ("Y", "Ctrl+Y", "Ctrl+Shift+Z"), "Pen"),
    Action("clear", "Clear (or right-click)", ("C",), "Pen"),
    Action("open", "Open a picture", ("O", "Ctrl+O"), "Picture"),
    Action("paste", "Paste a picture", ("V", "Ctrl+V"), "Picture"),
    Action("test scene", "Show a random test scene", ("T",), "Picture"),
    Action("dream", "Dream a scene from the prior", ("D",), "Picture"),
    Action("save picture", "Save input and reconstruction", ("S", "Ctrl+S"), "Picture"),
    Action("record", "Record the last seconds as a GIF", ("G", "Ctrl+G"), "Picture"),
    *(Action(f"canvas {n}", f"Canvas {n} of 3, from small to large", (f"Ctrl+{n}",), "Picture") for n in (1, 2, 3)),
    Action("mean", "Show posterior means", ("M",), "Model"),
    Action("sample", "Show posterior samples", ("N",), "Model"),
    Action("faster", "Update more often", ("+", "="), "Model"),
    Action("slower", "Update less often", ("-",), "Model"),
    Action("reload", "Reload the model", ("L",), "Model"),
    Action("windows", "Show or hide attention windows", ("W",), "View"),
    Action("pixels", "Show the model's own pixels or smooth ink", ("I",), "View"),
    Action("palette", "Switch colours", ("P",), "View"),
    Action("numbers", "Show or hide loss, times and frame rate", ("F3",), "View"),
    Action("fullscreen", "Full screen", ("F", "F11"), "View"),
    Action("help", "Show or hide shortcuts", ("?", "F1", "H"), "View"),
    Action("focus next", "Next button or object", ("Tab",), "View"),
    Action("focus previous", "Previous button or object", ("Shift+Tab",), "View"),
    Action("press", "Press that button", ("Enter",), "View"),
    Action("quit", "Quit", ("Ctrl+Q", "Ctrl+W"), "View"),
    Action("play", "Attend, infer, repeat: play or pause", ("Space",), "Steps and objects"),
    Action("forward", "Next phase, or increase z_what", ("Right",), "Steps and objects"),
    Action("back", "Previous phase, or decrease z_what", ("Left",), "Steps and objects"),
    Action("next object", "Select the next object", (".",), "Steps and objects"),
    Action("previous object", "Select the previous object", (",",), "Steps and objects"),
    Action("next dimension", "Next slider of z_what", ("Down",), "Steps and objects"),
    Action("previous dimension", "Previous slider of z_what", ("Up",), "Steps and objects"),
    Action("copy object", "Copy the object", ("Ctrl+C", "Ctrl+D"), "Steps and objects"),
    Action("delete object", "Delete the object", ("Delete", "X"), "Steps and objects"),
    Action("reset", "Reset the objects as inferred", ("R", "Home"), "Steps and objects"),
    Action("close", "Close shortcuts or steps, or cancel changes", ("Escape",), "Steps and objects"),
)
BY_NAME = {action.name: action for action in ACTIONS}
BY_KEY = {key: action.name for action in ACTIONS for key in action.keys}
REPEATING = {
    "undo",
    "redo",
    "focus next",
    "focus previous",
    "next dimension",
    "previous dimension",
    "forward",
    "back",
    "faster",
    "slower",
}
"""Actions that repeat while their key is held down."""

_KEY_NAMES = {"return": "Enter", "backspace": "Delete", "keypad enter": "Enter"}


def key_text(event: pygame.event.Event) -> str:
    """Describe a KEYDOWN event by its character ("?") or the name of its key ("Ctrl+Z", "Tab")."""
    control = event.mod & (pygame.KMOD_CTRL | pygame.KMOD_META)
    if not control and event.unicode.isprintable() and event.unicode.strip():
        return event.unicode.upper()
    name = pygame.key.name(event.key)
    name = _KEY_NAMES.get(name, name.title())
    return ("Ctrl+" if control else "") + ("Shift+" if event.mod & pygame.KMOD_SHIFT else "") + name
