"""The demo's window: draw digits and watch the model attend to them.

| file | |
|---|---|
| `pen.py` | strokes on a picture, undo and redo |
| `pictures.py` | picture files and scenes to put on the canvas |
| `engine.py` | the thread that loads the model and calls it |
| `session.py` | what the person has chosen, and which picture is shown with which attention |
| `actions.py` | everything that a button or a key can do |
| `theme.py` | colours and fonts |
| `layout.py` | where everything is in a window of some size |
| `painter.py` | text, buttons, bars and pictures on a surface |
| `panels.py` | the parts of the window |
| `cards.py` | the card of each step |
| `editor.py`, `equaliser.py` | changing z_what by hand: the state, and its sliders |
| `app.py` | the window and its events |
| `script.py` | replay of recorded strokes without a display |

Nothing here imports TensorFlow but the engine's thread, so that the window is there at once.
"""

import os

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
