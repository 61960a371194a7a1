"""Do to a window what a user does, by events; return what it then shows."""

import json
import time

import numpy as np
import pygame

from air.gui.pen import DEFAULT_WIDTH, LINE_WIDTHS, Drawing

SECONDS = 60.0  # that anything may take on a slow machine


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self):
        return self.now


def settle(app, seconds=0.2):
    """Let time pass until everything is answered and drawn."""
    deadline, session = time.monotonic() + SECONDS, app.session
    for _ in range(3):
        app.clock.now += seconds
        app.pump()
        app.frame()
        while not session.lost and time.monotonic() < deadline:
            if not (session.scenes.is_requested or session.engine.is_busy or app.exchange.is_busy):
                break
            time.sleep(0.002)
            session.tick(app.clock.now)
            app.exchange.tick()
    app.frame()


def post(kind, **attributes):
    pygame.event.post(pygame.event.Event(kind, **attributes))


def press(app, position, button=1):
    post(pygame.MOUSEBUTTONDOWN, button=button, pos=position)
    post(pygame.MOUSEBUTTONUP, button=button, pos=position)
    settle(app)


def drag(app, *positions):
    post(pygame.MOUSEBUTTONDOWN, button=1, pos=positions[0])
    for position in positions[1:]:
        post(pygame.MOUSEMOTION, pos=position, rel=(0, 0), buttons=(1, 0, 0))
    post(pygame.MOUSEBUTTONUP, button=1, pos=positions[-1])
    settle(app)


def key_event(text):
    """The attributes of the KEYDOWN event of a key, in the notation of `Action.keys`."""
    *modifiers, name = text.split("+") if len(text) > 1 else [text]
    name = {"Enter": "Return"}.get(name, name)
    name = {"Enter": "return"}.get(name, name)
    code = ord(name.lower()) if len(name) == 1 else getattr(pygame, f"K_{name.upper()}")
    mod = sum({"Ctrl": pygame.KMOD_LCTRL, "Shift": pygame.KMOD_LSHIFT}[modifier] for modifier in modifiers)
    character = name.lower() if len(name) == 1 and "Ctrl" not in modifiers else ""
    return {"key": code, "mod": mod, "unicode": character, "scancode": 0}


def key(app, text):
    post(pygame.KEYDOWN, **key_event(text))
    settle(app)


def click(app, name):
    press(app, app.layout.tools[name].center)


def draw(app, *points):
    """Draw through points in canvas pixels."""
    rect, (height, width) = app.layout.drawn, app.session.canvas_size
    drag(app, *((rect.left + x * rect.width / width, rect.top + y * rect.height / height) for x, y in points))


def picture(app):
    """Return what the window shows, [width, height, 3]."""
    return pygame.surfarray.array3d(app.surface).astype(int)


def shows(app, colour, rect):
    part = picture(app)[rect.left : rect.right, rect.top : rect.bottom]
    return bool((np.abs(part - np.array(colour)).sum(axis=-1) == 0).any())


def find_object(app):
    """Draw something in which the model finds an object."""
    for seed in range(50):
        points = np.random.default_rng(seed).uniform(2, 18, (6, 2)).tolist()
        app.session.drawing.clear()
        draw(app, *points)
        if app.session.seen.scene.count:
            return app.session.seen
    raise AssertionError("the model finds nothing")


def same(seen, model):
    """Return whether the attention on show is the model's to the picture on show."""
    expected = model.infer(seen.image[None])
    return all(np.allclose(ours, theirs[0], atol=1e-4) for ours, theirs in zip(seen.scene, expected, strict=True))


def drawn(path, canvas_size=(50, 50)):
    """Draw a file of recorded strokes, see tests/strokes/make.py; returns [H, W] uint8."""
    drawing, (height, width) = Drawing(canvas_size), canvas_size
    for line in path.read_text().splitlines():
        for i, (x, y) in enumerate(json.loads(line)["stroke"]):
            point = x * width, y * height
            drawing.extend(point) if i else drawing.begin(point, LINE_WIDTHS[DEFAULT_WIDTH])
    return drawing.image
