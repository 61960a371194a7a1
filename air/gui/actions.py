"""Everything that a button or a key can do: names, keys and words."""

from typing import NamedTuple

import pygame

from air.gui.pen import LINE_WIDTHS


class Action(NamedTuple):
    name: str
    label: str  # in the help
    keys: tuple[str, ...]  # as in "Z", "Ctrl+Z", "Tab", "?"; the first is shown on its button
    group: str


ACTIONS = (
    Action("draw", "Draw", ("B",), "Pen"),
    Action("erase", "Erase", ("E",), "Pen"),
    *(Action(f"width {n}", f"Line width {n}", (str(n),), "Pen") for n in range(1, len(LINE_WIDTHS) + 1)),
    Action("undo", "Undo", ("Z", "Ctrl+Z"), "Pen"),
    Action("redo", "Redo", ("Y", "Ctrl+Y", "Ctrl+Shift+Z"), "Pen"),
    Action("clear", "Clear (or right click)", ("C", "Delete"), "Pen"),
    Action("test scene", "A random test scene", ("T",), "Picture"),
    Action("dream", "Dream a scene from the prior", ("D",), "Picture"),
    Action("save picture", "Save a picture of the window", ("S", "Ctrl+S"), "Picture"),
    Action("mean", "Posterior means", ("M",), "Model"),
    Action("sample", "Samples of the posterior", ("N",), "Model"),
    Action("faster", "Look more often", ("+", "="), "Model"),
    Action("slower", "Look less often", ("-",), "Model"),
    Action("reload", "Load the model again", ("L",), "Model"),
    Action("windows", "Show or hide attention windows", ("W",), "View"),
    Action("palette", "Other colours", ("P",), "View"),
    Action("fullscreen", "Full screen", ("F", "F11"), "View"),
    Action("help", "These shortcuts", ("?", "F1", "H"), "View"),
    Action("quit", "Quit", ("Ctrl+Q", "Ctrl+W"), "View"),
    Action("next object", "Next object, to change its z_what", ("Tab",), "z_what"),
    Action("previous object", "Previous object", ("Shift+Tab",), "z_what"),
    Action("next dimension", "Next dimension", ("Right",), "z_what"),
    Action("previous dimension", "Previous dimension", ("Left",), "z_what"),
    Action("increase", "Increase", ("Up",), "z_what"),
    Action("decrease", "Decrease", ("Down",), "z_what"),
    Action("reset", "As inferred", ("R", "Home"), "z_what"),
    Action("close", "Close help or object", ("Escape",), "z_what"),
)
BY_NAME = {action.name: action for action in ACTIONS}
BY_KEY = {key: action.name for action in ACTIONS for key in action.keys}
REPEATING = {"undo", "redo", "next dimension", "previous dimension", "increase", "decrease", "faster", "slower"}
"""Actions that go on while their key is held down."""

_NAMES = {"return": "Enter", "escape": "Escape", "delete": "Delete", "backspace": "Delete", "keypad enter": "Enter"}


def key_text(event: pygame.event.Event) -> str:
    """A KEYDOWN event as it is written in `Action.keys`: the character where there is one, otherwise the key's name."""
    control = event.mod & (pygame.KMOD_CTRL | pygame.KMOD_META)
    shift = event.mod & pygame.KMOD_SHIFT
    name = pygame.key.name(event.key)
    name = _NAMES.get(name, name.upper() if len(name) == 1 else name.title())
    if not control and event.unicode.isprintable() and event.unicode.strip():
        return event.unicode.upper()
    return ("Ctrl+" if control else "") + ("Shift+" if shift else "") + name


def key_event(text: str) -> dict[str, object]:
    """The attributes of the KEYDOWN event of a key as written in `Action.keys`.

    Raises:
        ValueError: for a key that doesn't exist.
    """
    *modifiers, name = text.split("+") if len(text) > 1 else [text]
    known = {"Ctrl": pygame.KMOD_LCTRL, "Shift": pygame.KMOD_LSHIFT}
    if not set(modifiers) <= set(known):
        raise ValueError(f"{text!r} is not a key")
    code = ord(name.lower()) if len(name) == 1 else getattr(pygame, f"K_{name.upper()}", None)
    if code is None:
        raise ValueError(f"{text!r} is not a key")
    mod = sum(known[modifier] for modifier in modifiers)
    character = name.lower() if len(name) == 1 and "Ctrl" not in modifiers else ""
    return {"key": code, "mod": mod, "unicode": character, "scancode": 0}
