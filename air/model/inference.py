"""The inference network q(z | x): where each step attends, what it sees there, and how the decoder renders it.

The controller's input is the canvas, the same at every step, so that all steps can be taken at once; or it depends on the
previous step, so that they are taken one by one (`controller` in the configuration):

- "convolutional": the canvas, what the steps so far leave of it, and where they have looked, see `cells`;
- "latents": the canvas, and z_where and z_what of the previous step, as in the paper;
- "residual": the canvas minus what the steps so far explain, the paper's DAIR variant, for which a scene with one more object
  is nothing new.

z_pres of the previous step is not an input: wherever a further step counts, it is 1.

Inference may look twice: neighbours reach into each other's windows, but once all objects are known, each can be placed and
encoded without the others. This needs no training, because scenes of one object have taught the networks such windows.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from air.config import AIRConfig
from air.model import distributions, presence, transformer
from air.model.background import Background, BackgroundNetwork
from air.model.cells import CellController, Explained
from air.model.composition import Composition
from air.model.distributions import Normals, gaussian, tfd
from air.model.networks import (
    Controller,
    Correction,
    DenseController,
    GlimpseDecoder,
    GlimpseEncoder,
    Posterior,
    Refiner,
    clip_log_variance,
)

Seeds = dict[str, tf.Tensor | None]  # of the draws of each latent variable; None for the mean
NOISE = 2.0  # standard deviations by which a pixel differs from what is painted if it counts 0.4 as unexplained
STD = 0.1  # of a likelihood that has none
BACKGROUND = -1  # tells the seed of its latents from those of the steps
MEANS: Seeds = dict.fromkeys(distributions.LATENTS)


class Attention(NamedTuple):
    """The inference network's output for a batch of scenes, step by step, as if every step attended to an object."""

    presence_logits: tf.Tensor  # [batch, steps] log-odds of an object, if all steps before have one
    posterior: Normals  # q(z | x): "scale" [batch, steps, 1], "shift" [batch, steps, 2], "z_what" [batch, steps, Z]
    sample: dict[str, tf.Tensor]  # drawn from the posterior
    z_where: tf.Tensor  # [batch, steps, 3] the sample's (scale, shift_x, shift_y), canvas units
    window_logits: tf.Tensor  # [batch, steps, h, w] or [batch, steps, h, w, K], the decoder's output
    background: Background | None = None  # None for black

    @property
    def z_what(self) -> tf.Tensor:
        """[batch, steps, Z] the sample's."""
        return self.sample["z_what"]


class View(NamedTuple):
    """Hold what there is to see of a batch of scenes."""

    images: tf.Tensor  # [batch, H, W] or [batch, H, W, C]
    background: Background | None  # None for black
    objects: tf.Tensor  # as `images`, minus the background
    glimpsed: tf.Tensor  # [batch, 1, H, W], or images and how much they differ from the background: [batch, 1, H, W, C + 1]

    @property
    def picture(self) -> tf.Tensor | None:
        """The background's, from which no gradient passes."""
        return None if self.background is None else tf.stop_gradient(self.background.picture)


class InferenceNetwork(NamedTuple):
    """The networks that infer z from x, and how they are wired."""

    config: AIRConfig
    controller: Controller | DenseController | CellController
    refiner: Refiner | None
    refinement: tf.Tensor  # scalar: the fraction of the refiner's correction that is applied
    encoder: GlimpseEncoder | None  # None if the controller infers z_what
    decoder: GlimpseDecoder
    background: BackgroundNetwork | None = None
    std: tf.Tensor | float = 1.0  # scalar, of the Normal likelihood

    def attend(self, images: tf.Tensor, seed: tf.Tensor | None, steps: int, *, looks: int = 1, samples: int = 1) -> Attention:
        """Run the inference network on a batch of images.

        Args:
            images: [batch, H, W] in [0, 1].
            seed: [2] integers; None for posterior means.
            steps: number of steps to take, all of them in every scene.
            looks: 2 to look at each object again, in what the others leave unexplained of the canvas.
            samples: of each scene; with more than 1, they take the place of the scene in the batch.
        """
        if self.config.controller == "convolutional":
            return self._attend_by_cells(tf.repeat(images, samples, axis=0) if samples > 1 else images, seed, steps, looks)
        seeds = MEANS if seed is None else split(seed, distributions.LATENTS)
        canvas = images[:, None]
        if self.config.attends_at_once:
            posterior = self.controller(images)
            if looks == 2:
                canvas = self._unexplained(canvas, self.look(canvas, posterior, MEANS))
            if samples > 1:
                canvas, posterior = (map_tensors(lambda x: tf.repeat(x, samples, axis=0), x) for x in (canvas, posterior))
            return self.look(canvas, posterior, seeds)
        if samples > 1:
            canvas = tf.repeat(canvas, samples, axis=0)
        posteriors, attentions = zip(*self._attend_in_turn(canvas, _by_step(seeds, steps)), strict=True)
        if looks == 2:
            canvas = self._unexplained(canvas, map_tensors(_join, *attentions))
            return self.look(canvas, map_tensors(_join, *posteriors), seeds)
        return map_tensors(_join, *attentions)

    def view(self, images: tf.Tensor, seed: tf.Tensor | None) -> View:
        """Infer the background of images, and see what is not background."""
        if self.background is None:
            return View(images, None, images, images[:, None])
        seed = None if seed is None else tf.random.experimental.stateless_fold_in(seed, BACKGROUND)
        background = self.background(images, seed)
        picture = tf.stop_gradient(background.picture)
        return View(images, background, images - picture, self._glimpsed(images, picture)[:, None])

    def _attend_by_cells(self, images: tf.Tensor, seed: tf.Tensor | None, steps: int, looks: int) -> Attention:
        seeds = MEANS if seed is None else split(seed, distributions.LATENTS)
        view = self.view(images, seed)
        features, explained = self.controller.read(view.objects), self.nothing_explained(view)
        posteriors, attentions = [], []
        for keys in _by_step(seeds, steps):
            posteriors.append(self.controller(features, explained))
            attentions.append(self.look(view.glimpsed, posteriors[-1], keys))
            explained = self.explain(view, explained, attentions[-1])
        attention = map_tensors(_join, *attentions)
        if looks == 2:
            attention = self.look(self._only(view, attention), map_tensors(_join, *posteriors), seeds)
        return attention._replace(background=view.background)

    def nothing_explained(self, view: View) -> Explained:
        """Return what is explained of images before the first step."""
        coverage = tf.zeros_like(view.images[..., 0] if self.config.channels > 1 else view.images)
        if self.config.is_plain:
            return Explained(view.images, coverage)
        shape = self.composition.painted_shape
        painted = tf.zeros_like(tf.repeat(coverage[..., None], shape[0], axis=-1)) if shape else coverage
        return Explained(self._residual(view, painted), coverage, painted)

    def explain(self, view: View, explained: Explained, attention: Attention) -> Explained:
        """Add the object of another step to what is explained; no gradient passes."""
        windows, z_where = tf.stop_gradient(self.composition.paint(attention.window_logits)), attention.z_where
        if self.config.is_plain:
            return explained.by(windows, z_where)
        z_where = tf.stop_gradient(z_where)
        painted = explained.painted + transformer.render_sum(windows, z_where, transformer.size_of(view.images))
        return Explained(self._residual(view, painted), explained.covered_by(z_where, self.config.window_size), painted)

    def _residual(self, view: View, painted: tf.Tensor) -> tf.Tensor:
        """Compute how much images differ from what is painted, by the standard of the likelihood's noise: [batch, H, W] < 1."""
        return self._difference(view.images, self.composition.flatten(painted, view.picture))

    def _difference(self, images: tf.Tensor, canvas: tf.Tensor) -> tf.Tensor:
        squares = tf.square(images - canvas)
        if self.config.channels > 1:
            squares = tf.reduce_sum(squares, axis=-1)
        noise = NOISE * (tf.stop_gradient(self.std) if self.config.likelihood == "normal" else STD)
        return -tf.math.expm1(-squares / (2.0 * noise**2))

    def _only(self, view: View, attention: Attention) -> tf.Tensor:
        """Return what glimpses of each step show without the objects of all other steps: [batch, steps, H, W, ...]."""
        if self.config.is_plain:
            return self._unexplained(view.glimpsed, attention)
        present = presence.reached(attention.presence_logits)
        windows = self.composition.paint(attention.window_logits, present)
        objects = transformer.render(windows, attention.z_where, transformer.size_of(view.images))
        return self.without(view, tf.reduce_sum(objects, axis=1, keepdims=True) - objects, objects)

    def without(self, view: View, others: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
        """Return what glimpses show of one object at each step if all others are taken away.

        Args:
            view: of a batch of scenes.
            others: [batch, steps, H, W, ...] what the other objects paint.
            own: the same of the object itself, which may hide them.
        """
        images = view.images[:, None]
        picture = None if view.picture is None else view.picture[:, None]
        if self.composition.rule == "add":
            images = images - others
            images = tf.nn.relu(images) if picture is None else images
        else:  # what they cover becomes background
            hidden = self.composition.visible(others, others + own)
            hidden = hidden[..., None] if self.config.channels > 1 else hidden
            images *= 1.0 - hidden
            images += 0.0 if picture is None else hidden * picture
        return images if picture is None else self._glimpsed(images, picture)

    def _glimpsed(self, images: tf.Tensor, picture: tf.Tensor) -> tf.Tensor:
        """Add to images how much they differ from the background: an object's outline, whatever its colour."""
        return tf.concat([self.composition.with_channel(images), self._difference(images, picture)[..., None]], axis=-1)

    @property
    def composition(self) -> Composition:
        return Composition(self.config.composition, self.config.channels)

    def _attend_in_turn(self, canvas: tf.Tensor, seeds: Sequence[Seeds]) -> Iterator[tuple[Posterior, Attention]]:
        residual, latents, state = canvas[:, 0], None, None
        from_canvas = self.controller.read(residual)
        for keys in seeds:
            state = self.controller.advance(from_canvas, latents, state)
            posterior = self.controller.answer(state.h[:, None])
            attention = self.look(canvas, posterior, keys)
            yield posterior, attention
            if self.config.controller == "latents":
                latents = tf.concat([attention.z_where, attention.z_what], axis=-1)[:, 0]
            else:
                decoded_windows = tf.sigmoid(tf.stop_gradient(attention.window_logits))
                residual -= transformer.render_sum(
                    decoded_windows, tf.stop_gradient(attention.z_where), transformer.size_of(residual)
                )
                from_canvas = self.controller.read(residual)

    def look(self, canvas: tf.Tensor, posterior: Posterior, seeds: Seeds) -> Attention:
        """Take a glimpse of a canvas [batch, 1 or steps, H, W] where the controller points, at as many steps as it does."""
        if self.refiner is not None:
            posterior = self._refine(canvas, posterior)
        where = tf.concat([distributions.draw(normal, seeds[name]) for name, normal in posterior.where.items()], axis=-1)
        z_where = transformer.as_z_where(where, transformer.unit(self.config.canvas_size, transformer.size_of(canvas, 2)))
        what = posterior.what
        if self.encoder is not None:
            what = self.encoder(transformer.crop(canvas, z_where, self.config.window_size))
        z_what = distributions.draw(what, seeds["z_what"])
        q = {**posterior.where, "z_what": what}
        sample = {"scale": where[..., :1], "shift": where[..., 1:], "z_what": z_what}
        return Attention(posterior.presence_logits, q, sample, z_where, self.decoder(z_what))

    def _unexplained(self, canvas: tf.Tensor, attention: Attention) -> tf.Tensor:
        """Subtract the objects of all other steps from a canvas [batch, 1, H, W], for each step: [batch, steps, H, W]."""
        present = presence.reached(attention.presence_logits)[..., None, None]
        decoded_windows = tf.sigmoid(attention.window_logits) * present
        objects = transformer.render(decoded_windows, attention.z_where, transformer.size_of(canvas, 2))
        return tf.nn.relu(canvas - (tf.reduce_sum(objects, axis=1, keepdims=True) - objects))

    def _refine(self, canvas: tf.Tensor, posterior: Posterior) -> Posterior:
        """Correct z_where after a first glimpse at its posterior mean.

        The content of a window tells how far off it is, wherever it is, so the correction is in units of the window. This lets
        a small network place windows more precisely than the controller, which sees the whole canvas.
        """
        scale, shift = posterior.where["scale"], posterior.where["shift"]
        where = tf.concat([scale.loc, shift.loc], axis=-1)
        z_where = transformer.as_z_where(where, transformer.unit(self.config.canvas_size, transformer.size_of(canvas, 2)))
        correction = self._correction(canvas, z_where)
        steepness = 1.0 - tf.square(z_where[..., 1:])  # d tanh(x) / dx
        extent = tf.concat(
            transformer.extents(z_where[..., :1], transformer.size_of(canvas, 2), self.config.window_size), axis=-1
        )
        unit = extent / tf.maximum(steepness, 0.1)

        def correct(normal: tfd.Normal, move: tf.Tensor, widen: tf.Tensor) -> tfd.Normal:
            log_variance = 2.0 * tf.math.log(normal.scale) + self.refinement * widen
            return gaussian(normal.loc + self.refinement * move, clip_log_variance(log_variance))

        corrected = {
            "scale": correct(scale, correction.scale, correction.scale_log_variance),
            "shift": correct(shift, unit * correction.shift, correction.shift_log_variance),
        }
        return posterior._replace(where=corrected)

    def _correction(self, canvas: tf.Tensor, z_where: tf.Tensor) -> Correction:
        """Run the refiner, a fifth of a training step, or return zeros as long as none of its correction is applied."""

        def ask() -> Correction:
            return self.refiner(transformer.crop(canvas, z_where, self.config.window_size))

        def zeros() -> Correction:
            one, two = tf.zeros_like(z_where[..., :1]), tf.zeros_like(z_where[..., 1:])
            return Correction(one, two, one, two)

        fraction = tf.get_static_value(self.refinement)
        if fraction is not None:
            return ask() if fraction > 0.0 else zeros()
        if z_where.shape[0] is None:  # XLA can't compile a branch where the size of a batch varies
            return ask()
        return tf.cond(self.refinement > 0.0, ask, zeros)


def _by_step(seeds: Seeds, steps: int) -> list[Seeds]:
    """Split the seeds of the latent variables into those of each step."""
    by_step = {name: seed if seed is None else split(seed, range(steps)) for name, seed in seeds.items()}
    return [{name: seed if seed is None else seed[step] for name, seed in by_step.items()} for step in range(steps)]


def split(seed: tf.Tensor, names: Sequence[Any]) -> dict[Any, tf.Tensor]:
    """Split a seed into one for each name."""
    return dict(zip(names, tf.unstack(tf.random.split(seed, len(names))), strict=True))


def map_tensors(function: Callable[..., tf.Tensor], *trees: Any) -> Any:
    """Apply a function to the corresponding tensors of trees of tensors, Normals, dictionaries and tuples."""
    first = trees[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return {name: map_tensors(function, *(tree[name] for tree in trees)) for name in first}
    if isinstance(first, tuple):
        fields = [map_tensors(function, *each) for each in zip(*trees, strict=True)]
        return tuple(fields) if type(first) is tuple else type(first)(*fields)
    if isinstance(first, tfd.Normal):
        return tfd.Normal(function(*(tree.loc for tree in trees)), function(*(tree.scale for tree in trees)))
    return function(*trees)


def _join(*steps: tf.Tensor) -> tf.Tensor:
    return tf.concat(steps, axis=1)
