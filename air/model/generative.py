"""The generative model p(x, z): a scene is the sum of its objects, each rendered from z_what into the window z_where.

    n      ~ p(n)                        the number of objects
    z_t    ~ p(scale) p(shift) p(z_what)        of each object t = 1 ... n
    canvas = sum_t render(decode(z_what_t), z_where_t)
    x      ~ p(x | canvas)               pixel by pixel

(section 2 of the paper). Objects may also cover each other, see `composition`, and what lies behind them, see `background`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from air.config import AIRConfig
from air.model import distributions, transformer
from air.model.composition import MAX_OPACITY, MIN_WEIGHT, Composition
from air.model.distributions import LATENTS, Normals, tfd

ADD = Composition()
PROBABILITY_RANGE = (1e-6, 1.0 - 1e-6)  # XLA folds log(1 - r + tiny) to log(1 - r), which is -inf at 1: clip instead


class Scenes(NamedTuple):
    """A batch of scenes as AIR describes them: B scenes, T steps, canvas H x W, window h x w, Z latent dimensions.

    `infer` returns them as NumPy arrays, `model(images)` as tensors. The objects of a scene are its first `count` steps;
    the rows of the others have no meaning but their presence. In colour, pictures have a last axis of 3 channels.
    """

    count: np.ndarray  # type: ignore[assignment]  # [B] int32, inferred number of objects
    presence: np.ndarray  # [B, T] probability that the step attends to an object
    scale: np.ndarray  # [B, T] longer side of the attention window, as a fraction of the canvas' longer side
    shift: np.ndarray  # [B, T, 2] its centre (x, y), canvas units
    attention_boxes: np.ndarray  # [B, T, 4] the attention window (x, y, width, height), pixels
    z_what: np.ndarray  # [B, T, Z]
    decoded_windows: np.ndarray  # [B, T, h, w] the decoder's picture of the object on black, in [0, 1]
    reconstruction: np.ndarray  # [B, H, W] all objects on one canvas, in [0, 1]
    background: np.ndarray  # [B, H, W] what lies behind them, in [0, 1]
    opacity: np.ndarray  # [B, T, h, w] of the decoded window, in [0, 1]; its brightness if objects add up
    nearness: np.ndarray  # [B, T] of two objects that cover, the one with the greater hides the other; 0 if they add up

    @property
    def z_where(self) -> np.ndarray:
        """[B, T, 3] (scale, shift_x, shift_y), canvas units."""
        return self._as_fields(tf.concat([self.scale[..., None], self.shift], axis=-1))

    @property
    def objects(self) -> np.ndarray:
        """[B, T, H, W] each object alone rendered onto a canvas of its own, 0 for absent ones; rendered anew at each access."""
        return self._render(self.decoded_windows)

    @property
    def masks(self) -> np.ndarray:
        """[B, T, H, W] the fraction of each pixel that shows the object, 0 for absent ones; rendered anew at each access."""
        opacity, nearness = np.asarray(self.opacity), np.asarray(self.nearness)[..., None, None]
        weight = np.asarray(self._render(opacity * np.exp(nearness)))
        thickness = np.asarray(self._render(-np.log1p(-np.minimum(opacity, MAX_OPACITY)))).sum(axis=1, keepdims=True)
        return -np.expm1(-thickness) * weight / np.maximum(weight.sum(axis=1, keepdims=True), MIN_WEIGHT)

    @property
    def pictured_windows(self) -> np.ndarray:
        """[B, T, h, w] the decoded windows on the background that they cover, as objects may be darker than it."""
        behind = transformer.crop(self.background[:, None], self.z_where, self.opacity.shape[2:4])
        return self._on(behind, self.decoded_windows, self.opacity)

    @property
    def pictured_objects(self) -> np.ndarray:
        """[B, T, H, W] the same of the rendered objects."""
        return self._on(self.background[:, None], self.objects, self._render(self.opacity))

    def added(self, composition: Composition) -> Any:
        """Compute what each object adds to the canvas of those before it, [B, T, H, W]: below 0 where it is darker."""
        if composition.rule == "add":
            return self.objects
        painted = self._render(composition.repaint(self.decoded_windows, self.opacity, self.nearness))
        canvases = composition.flatten(tf.cumsum(painted, axis=1), self.background[:, None])
        return self._as_fields(canvases - tf.concat([self.background[:, None], canvases[:, :-1]], axis=1))

    def _on(self, behind: Any, pictures: Any, opacity: Any) -> Any:
        """Lay pictures [B, T, ..., C] of an opacity [B, T, ...] on what is behind."""
        opacity = opacity[..., None] if len(pictures.shape) == 5 else opacity
        return self._as_fields(tf.clip_by_value(pictures + (1.0 - opacity) * behind, 0.0, 1.0))

    def _render(self, windows: Any) -> Any:
        """Render windows [B, T, h, w, ...] of the objects onto canvases of their own."""
        present = tf.sequence_mask(self.count, transformer.size_of(self.z_what)[0], tf.float32)
        present = present[(...,) + (None,) * (len(windows.shape) - 2)]
        return self._as_fields(transformer.render(windows * present, self.z_where, transformer.size_of(self.reconstruction)))

    def _as_fields(self, tensor: tf.Tensor) -> Any:
        """Return a tensor as it is if the fields are tensors, and as an array if they are arrays."""
        return tensor if tf.is_tensor(self.count) else tensor.numpy()


class Rendering(NamedTuple):
    """The decoded window of every step at its place on the canvas, and how well a number of them explains the images."""

    images: tf.Tensor  # [batch, H, W] or [batch, H, W, C], in [0, 1]
    window_logits: tf.Tensor  # [batch, steps, h, w] or [batch, steps, h, w, K], the decoder's output
    z_where: tf.Tensor  # [batch, steps, 3]
    background: tf.Tensor | None  # as `images`; None for black
    composition: Composition
    likelihood: str  # a key of `LIKELIHOODS`
    std: tf.Tensor  # scalar, of the Normal likelihood

    def log_likelihood(self, z_pres: tf.Tensor) -> tf.Tensor:
        """Compute log p(x | z) for z_pres in [0, 1]: [batch, steps] -> [batch] nats."""
        return self.log_prob(self.images, self.canvas(z_pres))

    def canvas(self, z_pres: tf.Tensor) -> tf.Tensor:
        """Compute the canvas of all steps, each as much as its z_pres [batch, steps]: the shape of `images`."""
        # z_pres multiplies the windows rather than their canvases, because they are smaller.
        weighted = self.composition.paint(self.window_logits, z_pres)
        painted = transformer.render_sum(weighted, self.z_where, transformer.size_of(self.images))
        return self.composition.flatten(painted, self.background)

    def log_likelihood_by_count(self) -> tf.Tensor:
        """Compute log p(x | n, z) for n = 0 ... T objects, the first n steps: [batch, steps + 1] nats."""
        return self.log_prob(self.images[:, None], self.canvases())

    def canvases(self) -> tf.Tensor:
        """Compute the canvases of the first 0, 1 ... T steps: [batch, steps + 1, H, W] or [batch, steps + 1, H, W, C]."""
        windows = self.composition.paint(self.window_logits)
        painted = transformer.render_cumsum(windows, self.z_where, transformer.size_of(self.images))
        return self.composition.flatten(painted, None if self.background is None else self.background[:, None])

    def log_prob(self, images: tf.Tensor, canvas: tf.Tensor, likelihood: str | None = None) -> tf.Tensor:
        """Compute log p(images | canvas), [...] nats, by this likelihood or another."""
        images, canvas = self.composition.in_line(images), self.composition.in_line(canvas)
        return LIKELIHOODS[likelihood or self.likelihood](images, canvas, self.std)


def prior(config: AIRConfig, step: Any) -> Normals:
    """Return the prior p(z) of an object's latent variables at a training step, see `distributions`."""
    c = config
    return {
        "scale": tfd.Normal(c.scale_prior_mean(step), tf.sqrt(c.scale_prior_variance(step))),
        "shift": tfd.Normal(c.shift_prior_mean(step), tf.sqrt(c.shift_prior_variance(step))),
        "z_what": tfd.Normal(c.z_what_prior_mean(step), tf.sqrt(c.z_what_prior_variance(step))),
    }


def draw_prior(
    config: AIRConfig, step: Any, scenes: int, objects: int, seed: tf.Tensor, unit: float = 1.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draw the latent variables of several objects in each of several scenes from their prior.

    Args:
        config: the model's.
        step: training step, at which annealed priors are evaluated.
        scenes: number of scenes.
        objects: number of objects in each.
        seed: [2] integers.
        unit: of the scale, see `transformer.as_z_where`.

    Returns:
        z_what [scenes, objects, z_what_size] and z_where [scenes, objects, 3].
    """
    sizes = {"scale": 1, "shift": 2, "z_what": config.z_what_size}
    p, drawn = prior(config, step), {}
    for name, key in zip(LATENTS, tf.unstack(tf.random.split(seed, 3)), strict=True):
        noise = distributions.standard_normal([scenes, objects, sizes[name]], key)
        drawn[name] = p[name].loc + p[name].scale * noise
    return drawn["z_what"], transformer.as_z_where(tf.concat([drawn["scale"], drawn["shift"]], axis=-1), unit)


def compose(
    window_logits: tf.Tensor,
    z_what: tf.Tensor,
    z_where: tf.Tensor,
    present: tf.Tensor,
    canvas_size: transformer.Size,
    composition: Composition = ADD,
    background: tf.Tensor | None = None,
    rendered: tf.Tensor | None = None,
) -> Scenes:
    """Compose scenes from the decoder's windows.

    Args:
        window_logits: [batch, steps, h, w] or [batch, steps, h, w, K], the decoder's output for z_what.
        z_what: [batch, steps, z_what_size].
        z_where: [batch, steps, 3], (scale, shift_x, shift_y) in canvas units.
        present: [batch, steps], 1.0 where there is an object and 0.0 elsewhere, no 1.0 after a 0.0.
        canvas_size: height and width, in pixels.
        composition: of the objects.
        background: [batch, H, W] or [batch, H, W, C]; None for black.
        rendered: scalar, at least 1: the number of steps to render, if no scene has an object at a later one; all when None.
    """
    decoded_windows, opacity, nearness = composition.appearance(window_logits)
    windows = composition.paint(window_logits[:, :rendered], present[:, :rendered])
    painted = transformer.render_sum(windows, z_where[:, :rendered], canvas_size)
    canvas = composition.flatten(painted, background)
    return Scenes(
        count=tf.cast(tf.reduce_sum(present, axis=1), tf.int32),
        presence=present,
        scale=z_where[..., 0],
        shift=z_where[..., 1:],
        attention_boxes=transformer.attention_boxes(z_where, canvas_size, window_logits.shape[2:4]),
        z_what=z_what,
        decoded_windows=decoded_windows,
        reconstruction=tf.clip_by_value(canvas, 0.0, 1.0),
        background=tf.zeros_like(canvas) if background is None else tf.clip_by_value(background, 0.0, 1.0),
        opacity=opacity,
        nearness=nearness,
    )


def cross_entropy(images: tf.Tensor, canvas: tf.Tensor) -> tf.Tensor:
    """Compute the cross-entropy of grey values and Bernoulli probabilities in nats, summed over the pixels of each scene.

    Args:
        images: [..., height, width] in [0, 1].
        canvas: [..., height, width] probabilities.
    """
    canvas = tf.clip_by_value(canvas, *PROBABILITY_RANGE)
    return -tf.reduce_sum(images * tf.math.log(canvas) + (1.0 - images) * tf.math.log1p(-canvas), axis=(-2, -1))


def normal_log_prob(images: tf.Tensor, canvas: tf.Tensor, std: tf.Tensor | float) -> tf.Tensor:
    """Compute log Normal(images; canvas, std²) in nats, summed over the pixels of each scene, see `cross_entropy`."""
    squares = tf.reduce_sum(tf.square(images - canvas), axis=(-2, -1))
    pixels = tf.cast(tf.reduce_prod(tf.shape(images)[-2:]), squares.dtype)
    return -squares / (2 * std**2) - pixels * (tf.math.log(std) + 0.5 * math.log(2 * math.pi))


LIKELIHOODS: dict[str, Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "cross_entropy": lambda images, canvas, std: -cross_entropy(images, canvas),
    "normal": normal_log_prob,
}
"""log p(x | canvas) of images, canvas and std: the pixel cross-entropy, which is not normalised over grey values, and the
paper's Normal, the only one with a std."""
