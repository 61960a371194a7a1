"""The thread that loads the model and calls it, so that the window never waits.

Only the newest picture waits to be looked at; every answer contains the picture that it is about.
"""

import collections
import contextlib
import gc
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from air.config import AIRConfig
from air.errors import AIRError, DataError
from air.evaluation import recognition
from air.gui import pictures
from air.gui.residual import unexplained
from air.support import cli
from air.training import checkpoints

if TYPE_CHECKING:
    from air.gui.programs import Programs
    from air.model import Scenes

DREAM_TRIES = 20  # an empty scene is possible, but dull
MODULES = 4700  # that TensorFlow imports, about


class Seen(NamedTuple):
    """A picture and the model's answer: T steps, canvas H x W, Z latent dimensions."""

    version: int  # of the picture
    image: np.ndarray  # [H, W] or, for a model of coloured scenes, [H, W, 3] uint8
    scene: "Scenes"  # NumPy arrays without the batch axis
    objects: np.ndarray  # [T, H, W] see `Answer`
    loss: float  # cross-entropy of the reconstruction, nats
    milliseconds: float  # taken by the model
    labels: tuple[
        int | None, ...
    ]  # class of each of the first `count` objects, None if unfamiliar; empty without a reference set
    confidences: tuple[float, ...]  # of the labels
    unexplained: np.ndarray  # [H, W] ink that no object explains, in [0, 1], see `residual.unexplained`
    quick: bool = False  # whether it is the answer of a quick look, see `Programs.infer`
    sampled: bool = False  # whether the latents are samples of the posterior rather than its means
    edited: bool = False  # whether the user changed objects


class Status(NamedTuple):
    state: str  # "loading", "ready" or "failed"
    text: str  # current activity, or the error
    span: tuple[float, float] = (0.0, 1.0)  # the part of all loading that this activity is
    seconds: float = 1.0  # that it takes, about
    since: float = 0.0  # of `time.monotonic`


class _Request(NamedTuple):
    """A picture to look at or, with `seen`, that answer to render again with a changed scene."""

    version: int
    image: np.ndarray
    seed: int | None = None
    quick: bool = False
    seen: Seen | None = None
    scene: "Scenes | None" = None


def config_of(path: Path) -> AIRConfig:
    """Read the configuration of the model that `air.load` would load, without TensorFlow; raise DataError if there is none."""
    if not path.is_dir() or (path / checkpoints.WEIGHTS).is_file():
        return checkpoints.read_config(path / checkpoints.WEIGHTS if path.is_dir() else path)
    for _, checkpoint in reversed(checkpoints.checkpoints(path)):
        with contextlib.suppress(DataError):  # `air.load` skips it too
            return checkpoints.read_config(checkpoint)
    raise DataError(f"{path}: has neither {checkpoints.WEIGHTS} nor an intact checkpoint; give a run folder or a .keras file")


class Engine:
    """The model at a path that `air.load` accepts, in its own thread, which calls `notify` whenever there is news."""

    def __init__(self, path: Path, notify: Callable[[], None]) -> None:
        self.path, self.notify = path, notify
        self.status = Status("loading", "Loading TensorFlow", (0.0, 0.6))
        self._modules = len(sys.modules)
        self.programs: Programs | None = None
        self.reference_set: recognition.ReferenceSet | None = None
        self.recognition_note = ""  # why digits are not recognised
        self.effects: np.ndarray | None = None  # [Z], see `Programs.effects`
        self.busy_since: float | None = None  # of `time.monotonic`
        self._news = threading.Condition()
        self._load_requested, self._closing = True, False
        self._request: _Request | None = None
        self._dream_request: tuple[int, np.ndarray] | None = None
        self._vary_request: tuple[np.ndarray, list[int], tuple[float, ...]] | None = None
        # The newest answers, until they are taken.
        self._seen: collections.deque[Seen] = collections.deque(maxlen=1)
        self._dream: collections.deque[np.ndarray] = collections.deque(maxlen=1)
        self._varied: collections.deque[np.ndarray] = collections.deque(maxlen=1)
        self._answered = -1  # version of the last answer
        self._is_settled = False
        # Not daemons: Python would kill those at exit, which aborts the process when they are inside TensorFlow.
        self._thread = threading.Thread(target=self._run, name="model")
        self._extras = threading.Thread()  # replaced after each load

    def start(self) -> None:
        self._thread.start()

    def close(self, seconds: float = 0.5) -> bool:
        """Ask the threads to end, and wait for each; return False if one is still busy after that time."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        for thread in (self._thread, self._extras):
            if thread.is_alive():
                thread.join(seconds)
        return not (self._thread.is_alive() or self._extras.is_alive())

    @property
    def is_ready(self) -> bool:
        return self.status.state == "ready"

    @property
    def progress(self) -> float:
        """Return how far loading has come, from 0 to 1: by the modules that TensorFlow has imported, and after that by time."""
        start, end = self.status.span
        if start == 0.0 and self.programs is None:
            fraction = min(1.0, (len(sys.modules) - self._modules) / MODULES)
        else:
            fraction = 1.0 - math.exp(-(time.monotonic() - self.status.since) / self.status.seconds)
        return start + (end - start) * fraction

    @property
    def offers_thorough_look(self) -> bool:
        """Return whether `look` can do more than look quickly by now, see `Programs.infer`."""
        return self.programs is not None and self.programs.looks_thoroughly

    @property
    def is_busy(self) -> bool:
        """Return whether a request has not been answered yet."""
        requests = (self._request, self._dream_request, self._vary_request, self.busy_since)
        return any(request is not None for request in requests)

    def reload(self) -> None:
        """Load the model again, also after a failure."""
        with self._news:
            self.status = Status("loading", "Loading the model", (0.6, 0.7), since=time.monotonic())
            self._load_requested, self._is_settled = True, False
            self._news.notify_all()

    def look(self, version: int, image: np.ndarray, seed: int | None = None, quick: bool = False) -> None:
        """Ask for the attention to a picture, see `Seen.image` and `Programs.infer`."""
        self._ask(_Request(version, image, seed, quick))

    def render(self, seen: Seen, scene: "Scenes") -> None:
        """Ask for an earlier answer with a changed scene, see `Programs.render`."""
        self._ask(_Request(seen.version, seen.image, seen=seen, scene=scene))

    def dream(self, seed: int, kept: np.ndarray) -> None:
        """Ask for a scene from the prior, besides what objects add to a canvas, see `Programs.dream`, `take_dream`."""
        with self._news:
            self._dream_request = seed, kept
            self._news.notify_all()

    def vary(self, z_what: np.ndarray, dimensions: list[int], values: tuple[float, ...]) -> None:
        """Ask for windows decoded from variations of z_what, see `Programs.vary` and `take_varied`."""
        with self._news:
            self._vary_request = z_what, dimensions, values
            self._news.notify_all()

    def wait(self, version: int, seconds: float) -> bool:
        """Wait until a picture is answered; return False if that takes longer."""
        return self._wait_for(lambda: self._answered >= version, seconds)

    def wait_until_settled(self, seconds: float) -> bool:
        """Wait until the model is ready to look thoroughly and its reference set, if any, loaded; False if that fails."""
        return self._wait_for(lambda: self._is_settled, seconds)

    def take_seen(self) -> Seen | None:
        """Return the newest answer, once."""
        return self._seen.pop() if self._seen else None

    def take_dream(self) -> np.ndarray | None:
        """Return the dreamed scene, [H, W] uint8, once."""
        return self._dream.pop() if self._dream else None

    def take_varied(self) -> np.ndarray | None:
        """Return the newest variations, [dimensions, values, h, w], once."""
        return self._varied.pop() if self._varied else None

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        with self._news:
            self._news.wait_for(lambda: condition() or self.status.state == "failed", seconds)
            return condition()

    def _ask(self, request: _Request) -> None:
        with self._news:
            self._request = request  # the latest wins
            self._news.notify_all()

    def _run(self) -> None:
        """Load the model and answer requests until the engine is closed; after a failure, wait for `reload`."""
        while self._wait_for_work():
            try:
                if self._load_requested:
                    self._load()
                else:
                    self._serve()
            except Exception as error:  # of any kind: the window must stay open and show it
                self._fail(error)

    def _wait_for_work(self) -> bool:
        """Wait for a request; return False when the engine is closed."""
        with self._news:
            self._news.wait_for(lambda: self._closing or self._load_requested or (self.is_ready and self.is_busy))
            return not self._closing

    def _fail(self, error: Exception) -> None:
        if self.is_ready:
            self.programs = None  # they may be the reason
        with self._news:
            self.busy_since = self._request = self._dream_request = self._vary_request = None
        text = str(error) if isinstance(error, AIRError) else f"{type(error).__name__}: {error}"
        self._set_status("failed", " ".join(text.split())[:300])

    def _set_status(self, state: str, text: str, span: tuple[float, float] = (0.0, 1.0), seconds: float = 1.0) -> None:
        with self._news:
            self.status = Status(state, text, span, seconds, time.monotonic())
            self._news.notify_all()
        self.notify()

    def _load(self) -> None:
        """Load the model, into the compiled programs of an earlier load if possible."""
        self._load_requested = False
        if self._extras.is_alive():
            self._extras.join()
        self.reference_set = self.effects = None
        # TensorFlow's oneDNN compiles and keeps a kernel for every new number of objects and windows: an hour of random input
        # took 200 MB. For one picture at a time, it is also slower.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        with cli.quiet_import():
            from air.gui.programs import Programs
        self._set_status("loading", "Loading the model", (0.6, 0.7))
        model = checkpoints.load(self.path)
        if self.programs is None or not self.programs.take_weights(model):
            self.programs = Programs(model)
        del model
        gc.collect()  # Keras models are full of cycles: without this, ten of them would pile up before they are freed
        self._set_status("loading", "Compiling", (0.7, 1.0), seconds=2.0)
        self.programs.warm_up()
        self._set_status("ready", "Ready")
        if not self._closing:
            self._extras = threading.Thread(target=self._load_extras, args=(self.programs,), name="extras")
            self._extras.start()

    def _serve(self) -> None:
        with self._news:
            request, self._request = self._request, None
            dream_request, self._dream_request = self._dream_request, None
            vary_request, self._vary_request = self._vary_request, None
            self.busy_since = time.monotonic()
        seen = None if request is None else self._answer(request)
        dream = None if dream_request is None else self.programs.dream(*dream_request, DREAM_TRIES)
        varied = None if vary_request is None else self.programs.vary(*vary_request)
        with self._news:
            self.busy_since = None
            if seen is not None:
                self._seen.append(seen)
                self._answered = seen.version
            if dream is not None:
                self._dream.append(dream)
            if varied is not None:
                self._varied.append(varied)
            self._news.notify_all()
        self.notify()

    def _answer(self, request: _Request) -> Seen:
        start, before = time.perf_counter(), request.seen
        image = np.float32(request.image) / 255.0
        if before is not None:
            answer = self.programs.render(image, request.scene)
        else:
            answer = self.programs.infer(image, request.seed, request.quick)
        scene = answer.scene
        milliseconds = 1000 * (time.perf_counter() - start)
        is_final = before is None and not (request.quick and self.offers_thorough_look)
        sampled = request.seed is not None if before is None else before.sampled
        recognised = self._recognise(scene, image if is_final else None, sampled)
        left = unexplained(request.image, scene.reconstruction)
        return Seen(
            request.version, request.image, *answer, milliseconds, *recognised, left, request.quick, sampled, before is not None
        )

    def _recognise(
        self, scene: "Scenes", image: np.ndarray | None, sampled: bool
    ) -> tuple[tuple[int | None, ...], tuple[float, ...]]:
        """Recognise the objects of a scene; those inferred from an image [H, W], if given, must also resemble it.

        Samples of z_what lie further from the reference set's means than these do from each other, so all of them are named.
        """
        count, reference_set = int(scene.count), self.reference_set
        if reference_set is None or not count:
            return (), ()
        z_what, mismatch = scene.z_what[:count], None
        if image is not None:
            batch = type(scene)(*(np.asarray(field)[None] for field in scene))
            mismatch = recognition.mismatch(image[None], batch)[0, :count]
        labels, confidences, is_familiar = (field.tolist() for field in reference_set.recognise(z_what, mismatch))
        named = (label if sampled or known else None for label, known in zip(labels, is_familiar, strict=True))
        return tuple(named), tuple(confidences)

    def _load_extras(self, programs: "Programs") -> None:
        """Do what can wait until the model is ready: load or make the reference set, and compile the other programs."""
        try:
            reference_set = self._find_reference_set(programs)
            reference_set.recognise(reference_set.z_what[:1])  # which measures the set first
            self.reference_set = reference_set
            self.recognition_note = ""
        except Exception as error:  # recognition is optional, so no error in it may stop the demo
            self.reference_set = None
            self.recognition_note = f"Digits can't be recognised: {error or type(error).__name__}"
        self.notify()
        try:  # after it, because this takes several seconds
            programs.warm_up_thorough_look()
            self.effects = programs.effects()
        except Exception as error:
            self._fail(error)
        with self._news:
            self._is_settled = True
            self._news.notify_all()
        self.notify()
        if not self._closing:
            with contextlib.suppress(Exception):  # what fails fails again when it is asked for, and is shown then
                programs.warm_up_the_rest()

    def _find_reference_set(self, programs: "Programs") -> recognition.ReferenceSet:
        """Load the reference set beside the model or, for a run folder without one, make it from the run's data."""
        path = recognition.reference_set_path(self.path)
        if path.is_file():
            reference_set = recognition.ReferenceSet.load(path)
            reference_set.check(programs.model)
            return reference_set
        from air.data.multi_mnist import find_scenes
        from air.data.scenes import SceneSet

        data = pictures.data_path(self.path)
        if data is None:
            raise AIRError(f"there is no {path}; make it with: {recognition.command(self.path)}")
        self.recognition_note = "Learning to recognise digits"
        return recognition.build(programs.model, SceneSet.load(find_scenes(data, "train")))
