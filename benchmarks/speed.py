"""Time training, inference, generation, start-up and the demo on this machine.

    python -m benchmarks.speed
    python -m benchmarks.speed --only steps --presets default --estimators concrete
    python -m benchmarks.speed --only controllers

Each measurement runs in a process of its own, once in each round. The bound of a training step is the time that the products
of its dense and convolutional layers would take at the peak of the machine's matrix products, plus that of Adam's traffic at
its memory bandwidth; both are measured in the same round. The controllers take turns in one process, so that their ratio
holds on a busy machine too.
"""

import functools
import itertools
import math
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import typing
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from timeit import timeit
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from air import presets
from air.config import AIRConfig, Config, Count, EstimatorName
from air.data import mnist
from air.data.generator import Digits, GeneratorConfig, generate
from air.data.scenes import SceneSet
from air.errors import DataError
from air.presets import Preset, PresetName
from air.support import cli
from air.support.console import table

if TYPE_CHECKING:
    from air.model import AIRModel

ROOT = Path(__file__).resolve().parent.parent
ADAM_BYTES = 28  # per float32 weight: weight, gradient and two moments are read, weight and moments written
SCRIPTS = ("training", "evaluation", "embeddings", "demo", "multi_mnist")
FIRST_ANSWER = "import air, numpy as np; m = air.load({!r}); m.infer(np.zeros((1, *m.config.canvas_size)))"
seconds = functools.partial(timeit, number=1)  # wall time that a call takes
Figures = dict[str, float]  # by their name, which ends with the unit
Result = TypeVar("Result")
Section = Literal["machine", "steps", "controllers", "inference", "generation", "startup", "demo"]
CONTROLLERS = ("convolutional", "canvas")  # whose steps are compared
TURNS = 10  # of each controller


class Settings(Config):
    """Choose what to measure."""

    only: tuple[Section, ...] = typing.get_args(Section)
    """Measurements to take; steps need the machine's too."""
    presets: tuple[PresetName, ...] = typing.get_args(PresetName)
    """Presets whose training steps are timed."""
    estimators: tuple[EstimatorName, ...] = typing.get_args(EstimatorName)
    """Estimators of z_pres whose training steps are timed, with each preset."""
    batch_size: Count = 64
    """Scenes in a training batch."""
    repeats: Count = 3
    """Rounds."""
    model: Path = Path("model")
    """Model for inference, start-up and the demo; see `air.load`."""


def in_fresh_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process, where nothing is warm and the peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def training_scenes(size: int, counts: Sequence[int] = (0, 1, 2), side: int = 50) -> SceneSet:
    """Generate scenes of training digits, as many of each count, on canvases of side x side pixels."""
    source = mnist.load()
    digits = Digits.from_images(source.train_images, source.train_labels)
    config = GeneratorConfig(canvas_size=(side, side))
    return generate(config, digits, np.resize(counts, size), np.random.default_rng(0))


def large_canvas() -> np.ndarray:
    """Generate a canvas of 1,000 x 1,000 pixels with 100 digits: [1, 1000, 1000]."""
    tiles = training_scenes(100, counts=(1,), side=100).images
    return tiles.reshape(10, 10, 100, 100).swapaxes(1, 2).reshape(1, 1000, 1000)


def machine(size: int = 4096, array_bytes: int = 1 << 28, tries: int = 5) -> Figures:
    """Measure the peak of float32 matrix products, and the memory bandwidth of a = b + c (STREAM's Add; McCalpin, 1995)."""
    with cli.quiet_import():
        import tensorflow as tf
    left, right = tf.random.stateless_normal([2, size, size], [0, 0])
    multiplying = min(seconds(lambda: tf.matmul(left, right).numpy()) for _ in range(tries))
    arrays = np.ones([3, array_bytes // 4], np.float32)  # each several times as large as a processor's caches
    parts = np.array_split(arrays, os.cpu_count() or 1, axis=1)
    with ThreadPoolExecutor(len(parts)) as pool:  # NumPy releases the interpreter's lock while it adds
        adding = min(seconds(lambda: list(pool.map(lambda p: np.add(p[0], p[1], out=p[2]), parts))) for _ in range(tries))
    return {"matrix products, GFLOP/s": 2e-9 * size**3 / multiplying, "memory bandwidth, GB/s": 1e-9 * arrays.nbytes / adding}


class Training:
    """The training of a new model inside Keras' `fit`, with its annealed settings as for most of a run."""

    def __init__(self, recipe: Preset, batch_size: int, scenes: int) -> None:
        with cli.quiet_import():
            from air.data.pipeline import pipeline
            from air.model import AIRModel
            from air.training.run import compile_model
        config, training = recipe
        config = config.replace(refinement=float(config.refinement(training.iterations)))
        images = np.resize(training_scenes(min(scenes, 3000)).images, (scenes, *config.canvas_size))
        self.batches = pipeline(SceneSet(images), batch_size)
        self.model = AIRModel(config)
        compile_model(self.model, training.replace(batch_size=batch_size))
        self.compilation = self.fit(self.model.steps_per_execution)  # seconds

    def fit(self, steps: int) -> float:
        """Return the seconds that a number of steps takes."""
        return seconds(lambda: self.model.fit(self.batches, steps_per_epoch=steps, verbose=0, shuffle=False))


def steps(recipe: Preset, batch_size: int, measured: int = 300, scenes: int = 60000) -> Figures:
    """Time training steps, after a third as many that are not counted."""
    training = Training(recipe, batch_size, scenes)
    training.fit(max(measured // 3, 1))
    return {
        "step, ms": 1000 * training.fit(measured) / measured,
        "compilation, s": training.compilation,
        "peak memory, GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20),
        "products, GFLOP": 1e-9 * batch_size * scene_flops(training.model),
        "Adam's traffic, GB": 1e-9 * ADAM_BYTES * sum(math.prod(v.shape) for v in training.model.trainable_variables),
    }


def controllers(recipe: Preset, batch_size: int, measured: int = 300, scenes: int = 3000) -> Figures:
    """Time training steps with both `CONTROLLERS` in turn, and how many times longer the first takes."""
    turn = max(measured // TURNS, 1)
    trainings = [Training(recipe._replace(model=recipe.model.replace(controller=c)), batch_size, scenes) for c in CONTROLLERS]
    for training in trainings:
        training.fit(turn)
    taken = np.array([[training.fit(turn) for training in trainings] for _ in range(TURNS)])  # [turns, controllers] seconds
    ours, lstm = (1000 / turn * np.median(taken, axis=0)).tolist()
    names = [*(f"{controller}: step, ms" for controller in CONTROLLERS), " / ".join(CONTROLLERS)]
    return dict(zip(names, (ours, lstm, ours / lstm), strict=True))


def scene_flops(model: "AIRModel") -> int:
    """Count a training step's operations in dense and convolutional layers, per scene: six per weight, place and step."""
    c, products = model.config, 0
    by_cells = c.controller == "convolutional"
    cells = math.prod(-(-side // c.cell_size) for side in c.canvas_size) if by_cells else 1
    canvas_steps = c.max_steps if c.controller == "residual" else 1
    # How often layers are used in a scene: every other one at every step.
    times = {"estimator": 1, "input_gates": canvas_steps, "from_canvas": 1, "convolution_": 1}
    if c.controller == "dense":
        times["controller"] = 1
    for variable in model.trainable_variables:
        if len(variable.shape) == 2 or (by_cells and len(variable.shape) == 4):
            used = next((times[name] for name in times if name in variable.path), c.max_steps)
            products += math.prod(variable.shape) * used * (cells if "controller" in variable.path else 1)
    if not by_cells:
        products += canvas_steps * cnn_products(c)
    return 6 * products


def cnn_products(c: AIRConfig) -> int:
    """Count the products of weights and inputs between canvas and LSTM."""
    (height, width), channels, products = c.canvas_size, 1, 0
    for filters, kernel, stride, pool in zip(c.cnn_filters, c.cnn_kernels, c.cnn_strides, c.cnn_pools, strict=True):
        height, width = -(-height // stride), -(-width // stride)
        products += kernel**2 * channels * filters * height * width
        height, width, channels = height // pool, width // pool, filters
    return products


def against_bound(step: Figures, machine: Figures) -> Figures:
    """Return the bound of a training step, and how many times longer it takes."""
    products = step["products, GFLOP"] / machine["matrix products, GFLOP/s"]
    bound = 1000 * (products + step["Adam's traffic, GB"] / machine["memory bandwidth, GB/s"])
    return {"bound, ms": bound, "step / bound": step["step, ms"] / bound}


def inference(model: Path, scenes: int = 10000, calls: int = 1000) -> Figures:
    """Time `model.infer` for single scenes and for many."""
    with cli.quiet_import():
        import air
    loaded, images = air.load(model), training_scenes(scenes).images
    loaded.infer(images)  # traces the graph for large batches, as the first 20 calls do for single scenes

    def single(**options: bool) -> float:
        times = [seconds(lambda image=images[[i % scenes]]: loaded.infer(image, **options)) for i in range(calls + 20)]
        return 1000 * statistics.median(times[20:])

    figures = {"one scene, ms": single(), f"{scenes} scenes, s": seconds(lambda: loaded.infer(images))}
    compilation = seconds(lambda: loaded.infer(images[:1], jit_compile=True))
    figures |= {"XLA: its compilation, s": compilation, "XLA: one scene, ms": single(jit_compile=True)}
    if loaded.config.takes_any_canvas:
        large = large_canvas()
        figures["one scene, objects of any size, ms"] = single(any_size=True)
        figures["1000x1000 pixels, 100 digits, s"] = seconds(lambda: loaded.infer(large, max_steps=110))
    return figures


def generation(scenes: int = 60000) -> Figures:
    """Time generating scenes, writing them to a file and reading it."""
    generated, made = seconds(lambda: training_scenes(scenes)), training_scenes(scenes)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scenes.npz"
        written, read = seconds(lambda: made.save(file)), seconds(lambda: SceneSet.load(file))
    return {f"{scenes} scenes generated, s": generated, "written, s": written, "read, s": read}


def startup(model: Path) -> Figures:
    """Time every script's --help, and the way from starting Python to a model's first answer."""
    commands = {f"{name}.py --help, s": [f"{name}.py", "--help"] for name in SCRIPTS}
    commands["first answer of a model, s"] = ["-c", FIRST_ANSWER.format(str(model.absolute()))]

    def run(words: list[str]) -> float:
        return seconds(lambda: subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True))

    return {name: run(words) for name, words in commands.items()}


def demo(model: Path, frames: int = 300) -> Figures:
    """Time the demo's window under SDL's dummy driver: until it shows, until its model is ready, and frames while drawing."""
    began = time.perf_counter()
    os.environ |= {"SDL_VIDEODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    from air.gui.app import App
    from air.gui.engine import config_of

    app = App(model, config_of(model))
    app.frame()
    shown = time.perf_counter() - began
    app.session.engine.start()
    while app.session.engine.status.state == "loading":
        time.sleep(0.01)
    ready = time.perf_counter() - began
    app.session.engine.wait_until_settled(300)
    settled = time.perf_counter() - began
    import pygame

    rect, times = app.layout.drawn, []
    pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=rect.midleft))
    for i in range(frames):
        at = (rect.left + i % rect.width, rect.centery)
        pygame.event.post(pygame.event.Event(pygame.MOUSEMOTION, pos=at, rel=(1, 0), buttons=(1, 0, 0)))
        times.append(seconds(lambda: (app.pump(), app.frame())))
    app.close(10)
    frame = 1000 * statistics.median(times)
    return {"window, s": shown, "ready, s": ready, "ready for any size, s": settled, "frame while drawing, ms": frame}


def take_round(settings: Settings) -> Iterator[tuple[str, Figures]]:
    """Take every measurement once, and yield its title and its figures."""
    only = set(settings.only)
    if only & {"machine", "steps"}:
        of_machine = in_fresh_process(machine)
        yield "machine", of_machine
    for preset, estimator in itertools.product(settings.presets, settings.estimators) if "steps" in only else ():
        figures = in_fresh_process(steps, presets.recipe(preset, estimator), settings.batch_size)
        yield f"{preset}, {estimator}", figures | against_bound(figures, of_machine)
    if "controllers" in only:
        yield "controllers", in_fresh_process(controllers, presets.default(), settings.batch_size)
    for function in (inference, startup, demo):
        if function.__name__ in only:
            yield function.__name__, in_fresh_process(function, settings.model)
    if "generation" in only:
        yield "generation", in_fresh_process(generation)


def main() -> None:
    settings = cli.parse(Settings, __doc__)
    if not settings.model.exists():
        raise DataError(f"{settings.model}: no such file or folder")
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(settings.repeats):
        for title, figures in take_round(settings):
            for name, value in figures.items():
                found[title, name].append(value)
    ranges = {": ".join(names): (statistics.median(values), min(values), max(values)) for names, values in found.items()}
    rows = [[name, *(f"{value:,.4g}" for value in values)] for name, values in ranges.items()]
    print(table(["measurement", "median", "minimum", "maximum"], rows))


if __name__ == "__main__":
    cli.run(main)
