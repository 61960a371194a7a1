"""What a person does to a window, as events; what the window then shows."""

import time

import numpy as np
import pygame

from air.gui.actions import key_event

SECONDS = 60.0  # that anything may take on a slow machine


def settle(app, seconds=0.2):
    """Lets time pass until everything is answered and drawn."""
    deadline = time.monotonic() + SECONDS
    for _ in range(3):
        app.clock.now += seconds
        app.pump()
        app.frame()
        while app.session.is_waiting and time.monotonic() < deadline:
            app.session.engine.wait_until_idle(0.01)
            app.session.tick(app.clock.now)
    app.frame()


def post(kind, **attributes):
    pygame.event.post(pygame.event.Event(kind, **attributes))


def press(app, position, button=1):
    post(pygame.MOUSEBUTTONDOWN, button=button, pos=position)
    post(pygame.MOUSEBUTTONUP, button=button, pos=position)
    settle(app)


def key(app, text):
    post(pygame.KEYDOWN, **key_event(text))
    settle(app)


def click(app, name):
    press(app, app.layout.tools[name].center)


def draw(app, *points):
    """Draws through points in canvas pixels."""
    rect, (height, width) = app.layout.drawn, app.session.config.canvas_size
    positions = [(rect.left + x * rect.width / width, rect.top + y * rect.height / height) for x, y in points]
    post(pygame.MOUSEBUTTONDOWN, button=1, pos=positions[0])
    for position in positions[1:]:
        post(pygame.MOUSEMOTION, pos=position, rel=(0, 0), buttons=(1, 0, 0))
    post(pygame.MOUSEBUTTONUP, button=1, pos=positions[-1])
    settle(app)


def picture(app):
    """What the window shows, [width, height, 3]."""
    return pygame.surfarray.array3d(app.surface).astype(int)


def shows(app, colour, rect):
    part = picture(app)[rect.left : rect.right, rect.top : rect.bottom]
    return bool((np.abs(part - np.array(colour)).sum(axis=-1) == 0).any())


def find_object(app, model):
    """Draws something in which the model finds an object."""
    for seed in range(50):
        points = np.random.default_rng(seed).uniform(2, 18, (6, 2)).tolist()
        app.session.drawing.clear()
        draw(app, *points)
        if app.session.seen.scene.count:
            return app.session.seen
    raise AssertionError("the model finds nothing")


def same(seen, model):
    """Whether what is shown is what the model makes of the picture."""
    expected = model.infer(seen.image[None])
    return all(np.allclose(ours, theirs[0], atol=1e-4) for ours, theirs in zip(seen.scene, expected, strict=True))
