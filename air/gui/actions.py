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
    Action("clear", "Clear (or right-click)", ("C", "Delete"), "Pen"),
    Action("open", "Open a picture", ("O", "Ctrl+O"), "Picture"),
    Action("paste", "Paste a picture", ("V", "Ctrl+V"), "Picture"),
    Action("test scene", "Show a random test scene", ("T",), "Picture"),
    Action("dream", "Dream a scene from the prior", ("D",), "Picture"),
    Action("save picture", "Save a screenshot", ("S", "Ctrl+S"), "Picture"),
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
    Action("quit", "Quit", ("Ctrl+Q", "Ctrl+W"), "View"),
    Action("next object", "Select the next object", ("Tab",), "z_what"),
    Action("previous object", "Select the previous object", ("Shift+Tab",), "z_what"),
    Action("next dimension", "Next dimension", ("Right",), "z_what"),
    Action("previous dimension", "Previous dimension", ("Left",), "z_what"),
    Action("increase", "Increase", ("Up",), "z_what"),
    Action("decrease", "Decrease", ("Down",), "z_what"),
    Action("reset", "Reset to the inferred values", ("R", "Home"), "z_what"),
    Action("copy object", "Copy the object", ("Ctrl+C",), "z_what"),
    Action("delete object", "Delete the object", ("X",), "z_what"),
    Action("close", "Close shortcuts or deselect", ("Escape",), "z_what"),
)
BY_NAME = {action.name: action for action in ACTIONS}
BY_KEY = {key: action.name for action in ACTIONS for key in action.keys}
REPEATING = {"undo", "redo", "next dimension", "previous dimension", "increase", "decrease", "faster", "slower"}
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
