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
from air.model.cells import CellController, Explained
from air.model.distributions import Normals, gaussian, tfd
from air.model.networks import Controller, Correction, GlimpseDecoder, GlimpseEncoder, Posterior, Refiner, clip_log_variance

Seeds = dict[str, tf.Tensor | None]  # of the draws of each latent variable; None for the mean
MEANS: Seeds = dict.fromkeys(distributions.LATENTS)


class Attention(NamedTuple):
    """The inference network's output for a batch of scenes, step by step, as if every step attended to an object."""

    presence_logits: tf.Tensor  # [batch, steps] log-odds of an object, if all steps before have one
    posterior: Normals  # q(z | x): "scale" [batch, steps, 1], "shift" [batch, steps, 2], "z_what" [batch, steps, Z]
    sample: dict[str, tf.Tensor]  # drawn from the posterior
    z_where: tf.Tensor  # [batch, steps, 3] the sample's (scale, shift_x, shift_y), canvas units
    window_logits: tf.Tensor  # [batch, steps, h, w] the decoder's output

    @property
    def z_what(self) -> tf.Tensor:
        """[batch, steps, Z] the sample's."""
        return self.sample["z_what"]


class InferenceNetwork(NamedTuple):
    """The networks that infer z from x, and how they are wired."""

    config: AIRConfig
    controller: Controller | CellController
    refiner: Refiner | None
    refinement: tf.Tensor  # scalar: the fraction of the refiner's correction that is applied
    encoder: GlimpseEncoder
    decoder: GlimpseDecoder

    def attend(self, images: tf.Tensor, seed: tf.Tensor | None, steps: int, *, looks: int = 1, samples: int = 1) -> Attention:
        """Run the inference network on a batch of images.

        Args:
            images: [batch, H, W] in [0, 1].
            seed: [2] integers; None for posterior means.
            steps: number of steps to take, all of them in every scene.
            looks: 2 to look at each object again, in what the others leave unexplained of the canvas.
            samples: of each scene; with more than 1, they take the place of the scene in the batch.
        """
        seeds = MEANS if seed is None else split(seed, distributions.LATENTS)
        canvas = images[:, None]
        if self.config.controller == "canvas":
            posterior = self.controller(images)
            if looks == 2:
                canvas = self._unexplained(canvas, self.look(canvas, posterior, MEANS))
            if samples > 1:
                canvas, posterior = (map_tensors(lambda x: tf.repeat(x, samples, axis=0), x) for x in (canvas, posterior))
            return self.look(canvas, posterior, seeds)
        if samples > 1:
            canvas = tf.repeat(canvas, samples, axis=0)
        in_turn = self._attend_by_cells if isinstance(self.controller, CellController) else self._attend_in_turn
        by_step = {name: seed if seed is None else split(seed, range(steps)) for name, seed in seeds.items()}
        keys = [{name: seed if seed is None else seed[step] for name, seed in by_step.items()} for step in range(steps)]
        posteriors, attentions = zip(*in_turn(canvas, keys), strict=True)
        if looks == 2:
            canvas = self._unexplained(canvas, map_tensors(_join, *attentions))
            return self.look(canvas, map_tensors(_join, *posteriors), seeds)
        return map_tensors(_join, *attentions)

    def _attend_by_cells(self, canvas: tf.Tensor, seeds: Sequence[Seeds]) -> Iterator[tuple[Posterior, Attention]]:
        features = self.controller.read(canvas[:, 0])
        explained = Explained.nothing(canvas[:, 0])
        for keys in seeds:
            posterior = self.controller(features, explained)
            attention = self.look(canvas, posterior, keys)
            explained = explained.by(tf.sigmoid(attention.window_logits), attention.z_where)
            yield posterior, attention

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
                residual -= transformer.render_sum(decoded_windows, tf.stop_gradient(attention.z_where), residual.shape[1:])
                from_canvas = self.controller.read(residual)

    def look(self, canvas: tf.Tensor, posterior: Posterior, seeds: Seeds) -> Attention:
        """Take a glimpse of a canvas [batch, 1 or steps, H, W] where the controller points, at as many steps as it does."""
        if self.refiner is not None:
            posterior = self._refine(canvas, posterior)
        where = tf.concat([distributions.draw(normal, seeds[name]) for name, normal in posterior.where.items()], axis=-1)
        z_where = transformer.as_z_where(where, transformer.unit(self.config.canvas_size, canvas.shape[-2:]))
        what = self.encoder(transformer.crop(canvas, z_where, self.config.window_size))
        z_what = distributions.draw(what, seeds["z_what"])
        q = {**posterior.where, "z_what": what}
        sample = {"scale": where[..., :1], "shift": where[..., 1:], "z_what": z_what}
        return Attention(posterior.presence_logits, q, sample, z_where, self.decoder(z_what))

    def _unexplained(self, canvas: tf.Tensor, attention: Attention) -> tf.Tensor:
        """Subtract the objects of all other steps from a canvas [batch, 1, H, W], for each step: [batch, steps, H, W]."""
        present = presence.reached(attention.presence_logits)[..., None, None]
        decoded_windows = tf.sigmoid(attention.window_logits) * present
        objects = transformer.render(decoded_windows, attention.z_where, canvas.shape[-2:])
        return tf.nn.relu(canvas - (tf.reduce_sum(objects, axis=1, keepdims=True) - objects))

    def _refine(self, canvas: tf.Tensor, posterior: Posterior) -> Posterior:
        """Correct z_where after a first glimpse at its posterior mean.

        The content of a window tells how far off it is, wherever it is, so the correction is in units of the window. This lets
        a small network place windows more precisely than the controller, which sees the whole canvas.
        """
        scale, shift = posterior.where["scale"], posterior.where["shift"]
        where = tf.concat([scale.loc, shift.loc], axis=-1)
        z_where = transformer.as_z_where(where, transformer.unit(self.config.canvas_size, canvas.shape[-2:]))
        correction = self._correction(canvas, z_where)
        steepness = 1.0 - tf.square(z_where[..., 1:])  # d tanh(x) / dx
        extent = tf.concat(transformer.extents(z_where[..., :1], canvas.shape[-2:], self.config.window_size), axis=-1)
        unit = extent / tf.maximum(steepness, 0.1)

        def correct(normal: tfd.Normal, move: tf.Tensor, widen: tf.Tensor) -> tfd.Normal:
            log_variance = 2.0 * tf.math.log(normal.scale) + self.refinement * widen
            return gaussian(normal.loc + self.refinement * move, clip_log_variance(log_variance))

        corrected = {
            "scale": correct(scale, correction.scale, correction.scale_log_variance),
            "shift": correct(shift, unit * correction.shift, correction.shift_log_variance),
        }
        return Posterior(corrected, posterior.presence_logits)

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


def split(seed: tf.Tensor, names: Sequence[Any]) -> dict[Any, tf.Tensor]:
    """Split a seed into one for each name."""
    return dict(zip(names, tf.unstack(tf.random.split(seed, len(names))), strict=True))


def map_tensors(function: Callable[..., tf.Tensor], *trees: Any) -> Any:
    """Apply a function to the corresponding tensors of trees of tensors, Normals, dictionaries and named tuples."""
    first = trees[0]
    if isinstance(first, dict):
        return {name: map_tensors(function, *(tree[name] for tree in trees)) for name in first}
    if isinstance(first, tuple):
        return type(first)(*(map_tensors(function, *fields) for fields in zip(*trees, strict=True)))
    if isinstance(first, tfd.Normal):
        return tfd.Normal(function(*(tree.loc for tree in trees)), function(*(tree.scale for tree in trees)))
    return function(*trees)


def _join(*steps: tf.Tensor) -> tf.Tensor:
    return tf.concat(steps, axis=1)
