"""The demo's window: draw digits and watch the model attend to them.

`app` is the window and its events, `session` its state, `engine` the thread that calls the model, `layout` and `panels` the
picture of it all. Only the engine's thread imports TensorFlow, so the window opens at once.
"""
