"""The thread that loads the model and calls it, so that the window never waits.

    engine = Engine(Path("model"), notify=lambda: None)
    engine.start()
    engine.look(version, image)          # replaces a picture that still waits
    engine.wait(version, seconds=0.01)
    engine.take_seen()

Every answer carries the picture that it is about.
"""

import contextlib
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from air.config import AIRConfig
from air.errors import AIRError, DataError
from air.evaluation import recognition
from air.gui import pictures
from air.support import cli
from air.training import checkpoints

DREAMS = 20  # tries to dream of something: an empty scene is possible too, but dull
INHERITANCE = 2.0  # seconds for which a predecessor is waited for


class Seen(NamedTuple):
    """A picture and what the model makes of it: T steps, canvas H x W, Z latent dimensions."""

    version: int  # of the picture
    image: np.ndarray  # [H, W] uint8
    scene: Any  # `air.model.air_model.Scenes` of NumPy arrays without the batch axis
    loss: float  # cross-entropy of the reconstruction, nats
    milliseconds: float  # that the model took
    labels: tuple[int, ...]  # recognised class of each of the first `count` objects; empty without a bank
    confidences: tuple[float, ...]  # of these
    sampled: bool = False  # drawn from the posterior rather than its means
    edited: bool = False  # z_what was changed by hand


class Status(NamedTuple):
    state: str  # "loading", "ready" or "failed"
    text: str  # what is going on, or what went wrong


class _Request(NamedTuple):
    """A picture to look at, or the one in `seen` to paint again with other z_what [T, Z]."""

    version: int
    image: np.ndarray
    seed: int | None = None
    seen: Seen | None = None
    z_what: np.ndarray | None = None


def config_of(path: Path) -> AIRConfig:
    """The configuration of the model that `air.load` would load, without TensorFlow.

    Raises:
        DataError: if there is no such model, or none that is intact.
    """
    if not path.exists():
        raise DataError(f"{path}: no such model; give a .keras file, a run folder or a folder with {checkpoints.WEIGHTS}")
    if path.is_file() or (path / checkpoints.WEIGHTS).is_file():
        return checkpoints.read_config(path if path.is_file() else path / checkpoints.WEIGHTS)
    for _, checkpoint in reversed(checkpoints.checkpoints(path)):
        with contextlib.suppress(DataError):  # `air.load` skips it too
            return checkpoints.read_config(checkpoint)
    raise DataError(f"{path}: has neither {checkpoints.WEIGHTS} nor an intact checkpoint; give a run folder or a .keras file")


class Engine:
    """A model in a thread of its own.

    Args:
        path: see `air.load`.
        notify: called from the thread whenever there is news.
        predecessor: a closed engine, whose compiled programs this one uses if it is of the same configuration.
    """

    def __init__(self, path: Path, notify: Callable[[], None], predecessor: "Engine | None" = None) -> None:
        self.path, self.notify = path, notify
        self.status = Status("loading", "Loading TensorFlow" if predecessor is None else "Loading the model")
        self.programs: Any = None  # `air.gui.programs.Programs`, which needs TensorFlow
        self.bank: recognition.Bank | None = None
        self.bank_note = ""  # why digits are not recognised
        self.busy_since: float | None = None
        self._news = threading.Condition()
        self._request: _Request | None = None
        self._dream: int | None = None  # seed of a scene to dream
        self._seen: Seen | None = None
        self._dreamed: np.ndarray | None = None
        self._answered = -1  # version of the last answer
        self._closing = False
        self._predecessor = predecessor
        self._bank_is_settled = False
        # Not daemons: Python would kill them at its end, and within TensorFlow's C++ that aborts the process.
        self._thread = threading.Thread(target=self._run, name="model")
        self._extras = threading.Thread(target=self._load_extras, name="extras")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Asks the thread to end; doesn't wait for it."""
        with self._news:
            self._closing = True
            self._news.notify_all()

    def join(self, seconds: float) -> bool:
        """Waits until the closed engine's threads have ended; False if that takes longer."""
        for thread in (self._thread, self._extras):
            if thread.is_alive():
                thread.join(seconds)
        return not (self._thread.is_alive() or self._extras.is_alive())

    @property
    def is_ready(self) -> bool:
        return self.status.state == "ready"

    @property
    def is_busy(self) -> bool:
        """Whether something is asked and not answered yet."""
        return self._request is not None or self._dream is not None or self.busy_since is not None

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def look(self, version: int, image: np.ndarray, seed: int | None = None) -> None:
        """Asks for the attention to a picture [H, W] uint8: posterior means, or a sample by `seed`."""
        self._ask(_Request(version, image, seed))

    def paint(self, seen: Seen, z_what: np.ndarray) -> None:
        """Asks for the scene of `seen` with other z_what [T, Z]."""
        self._ask(_Request(seen.version, seen.image, seen=seen, z_what=z_what))

    def dream(self, seed: int) -> None:
        """Asks for a scene from the prior, see `take_dreamed`."""
        with self._news:
            self._dream = seed
            self._news.notify_all()

    def wait(self, version: int, seconds: float) -> bool:
        """Waits until a picture is answered; False if that takes longer."""
        with self._news:
            return self._news.wait_for(lambda: self._answered >= version or self.status.state == "failed", seconds)

    def wait_until_idle(self, seconds: float) -> bool:
        """Waits until nothing is asked; False if that takes longer."""
        with self._news:
            return self._news.wait_for(lambda: not self.is_busy or self.status.state == "failed", seconds)

    def wait_until_settled(self, seconds: float) -> bool:
        """Waits until the model is ready and it is known whether digits can be recognised; False if that fails."""
        with self._news:
            self._news.wait_for(lambda: self._bank_is_settled or self.status.state == "failed", seconds)
        return self._bank_is_settled

    def take_seen(self) -> Seen | None:
        """The newest answer, once."""
        with self._news:
            seen, self._seen = self._seen, None
            return seen

    def take_dreamed(self) -> np.ndarray | None:
        """The dreamed scene, [H, W] uint8, once."""
        with self._news:
            dreamed, self._dreamed = self._dreamed, None
            return dreamed

    def _ask(self, request: _Request) -> None:
        with self._news:
            self._request = request  # the latest wins
            self._news.notify_all()

    def _run(self) -> None:
        try:
            self._inherit()
            self._load()
            if not self._closing:
                self._extras.start()
            while self._serve():
                pass
        except AIRError as error:
            self._fail(str(error))
        except BaseException as error:  # whatever it is, the window has to live on and say so
            self._fail(" ".join(f"{type(error).__name__}: {error}".split())[:300])

    def _fail(self, text: str) -> None:
        if self.is_ready:
            self.programs = None  # whatever is wrong with them must not be inherited
        with self._news:
            self.busy_since = self._request = self._dream = None
        self._set_status("failed", text)

    def _set_status(self, state: str, text: str) -> None:
        with self._news:
            self.status = Status(state, text)
            self._news.notify_all()
        if not self._closing:
            self.notify()

    def _load(self) -> None:
        with cli.quiet_import():
            from air.gui import programs  # noqa: F401
        for text, step in (("Loading the model", self._load_model), ("Compiling", self._compile)):
            if not self._closing:
                self._set_status("loading", text)
                step()
        self._set_status("ready", "Ready")

    def _inherit(self) -> None:
        """Takes over the predecessor's programs, unless it is still busy with them."""
        predecessor, self._predecessor = self._predecessor, None
        if predecessor is not None and predecessor.join(INHERITANCE):
            self.programs = predecessor.programs

    def _load_model(self) -> None:
        from air.gui.programs import Programs

        model = checkpoints.load(self.path)
        if self.programs is None or not self.programs.take_weights(model):
            self.programs = Programs(model)
        else:
            del model
            gc.collect()  # Keras' models are full of cycles: without this, ten more of them would be kept before they are freed

    def _compile(self) -> None:
        self.programs.warm_up()

    def _serve(self) -> bool:
        """Waits for a request and answers it; False when the engine is closed."""
        with self._news:
            self._news.wait_for(lambda: self._closing or self._request is not None or self._dream is not None)
            if self._closing:
                return False
            request, self._request = self._request, None
            dream, self._dream = self._dream, None
            self.busy_since = time.monotonic()
        seen = None if request is None else self._answer(request)
        dreamed = None if dream is None else self.programs.dream(dream, DREAMS)
        with self._news:
            self.busy_since = None
            if seen is not None:
                self._seen, self._answered = seen, seen.version
            if dreamed is not None:
                self._dreamed = dreamed
            self._news.notify_all()
        self.notify()
        return True

    def _answer(self, request: _Request) -> Seen:
        start = time.perf_counter()
        image = np.float32(request.image[None]) / 255.0
        if request.seen is not None:
            scene = request.seen.scene
            present = np.float32(np.arange(len(scene.presence)) < scene.count)
            z_where = np.concatenate([scene.scale[:, None], scene.shift], axis=1)
            answer = self.programs.paint(image, request.z_what[None], z_where[None], present[None])
        elif request.seed is not None:
            answer = self.programs.sample(image, np.array([request.seed, 0], np.int32))
        else:
            answer = self.programs.means(image)
        scenes, loss = answer
        scene = type(scenes)(*(tensor.numpy()[0] for tensor in scenes))
        milliseconds = 1000 * (time.perf_counter() - start)
        if request.seen is not None:
            scene = scene._replace(presence=request.seen.scene.presence)
        labels, confidences = (), ()
        if self.bank is not None and scene.count:
            labels, confidences = (tuple(field.tolist()) for field in self.bank.predict(scene.z_what[: scene.count]))
        sampled = request.seed is not None or (request.seen is not None and request.seen.sampled)
        return Seen(
            request.version, request.image, scene, float(loss[0]), milliseconds, labels, confidences,
            sampled, request.seen is not None,
        )  # fmt: skip

    def _load_extras(self) -> None:
        """What can wait until the model is ready."""
        self._load_bank()
        if not self._closing:
            self.programs.warm_up_the_rest()

    def _load_bank(self) -> None:
        """Loads the bank beside the model or, where there is none, makes one of the data that the run was trained on."""
        path = recognition.bank_path(self.path)
        try:
            if path.is_file():
                bank = recognition.Bank.load(path)
                bank.check(self.programs.model)
            else:
                bank = self._make_bank(path)
            self.bank, self.bank_note = bank, ""
        except AIRError as error:
            self.bank_note = f"Digits are not recognised: {error}"
        except Exception as error:  # recognition is an extra; nothing in it may end the demo
            self.bank_note = f"Digits are not recognised: {type(error).__name__}: {error}"
        with self._news:
            self._bank_is_settled = True
            self._news.notify_all()
        if not self._closing:
            self.notify()

    def _make_bank(self, path: Path) -> recognition.Bank:
        from air.data.scenes import SceneSet

        data = pictures.data_folder(self.path) if self.path.is_dir() else None
        if data is None:
            raise AIRError(f"there is no {path}; make it with: python -m air.evaluation.recognition {self.path}")
        self.bank_note = "Learning to recognise digits"
        return recognition.build(self.programs.model, SceneSet.load(data / "train.npz" if data.is_dir() else data))
