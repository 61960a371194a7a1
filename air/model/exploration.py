"""Inference with the controller that takes any canvas and any number of steps.

First attend, until every scene has stopped. Then look again at each object, in what the others leave unexplained of the canvas:
there it is placed and encoded without its neighbours. An object that isn't worth its price by then, because others explain what
it shows, is dropped; so a first window that fell between two objects does no harm once both are found.

Both are loops that hold the canvases of one step at a time, so that memory hardly grows with the number of steps.
"""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from air.model import distributions, transformer
from air.model.composition import Composition
from air.model.distributions import LATENTS, Normals, tfd
from air.model.generative import LIKELIHOODS, Scenes, compose
from air.model.inference import MEANS, Attention, InferenceNetwork, Seeds, View, map_tensors, split
from air.model.networks import Posterior
from air.model.parts import Part

BLACK = -30.0  # the decoder's output for a pixel that shows nothing


class Found(NamedTuple):
    """Hold what steps find: [batch, steps, ...]; of a step that finds nothing, only the presence has a meaning."""

    present: tf.Tensor  # [batch, steps] 1.0 for objects and 0.0; objects come first
    presence: tf.Tensor  # [batch, steps] probability that the step attends to an object
    z_where: tf.Tensor  # [batch, steps, 3]
    z_what: tf.Tensor  # [batch, steps, Z]
    window_logits: tf.Tensor  # [batch, steps, h, w]
    kl: tf.Tensor  # [batch, steps] KL(q || p) of z_where and z_what, nats

    def keep(self, kept: tf.Tensor) -> "Found":
        """Drop the objects whose `kept` [batch, steps] is 0.0 rather than 1.0; their steps attend to no object any more."""
        dropped = self.present * (1.0 - kept)
        return self._replace(present=self.present - dropped, presence=self.presence * (1.0 - dropped))

    def objects_first(self, steps: int | tf.Tensor | None = None) -> "Found":
        """Put the steps that find an object before those that find none, and keep the first steps; all when None."""
        order = tf.argsort(-self.present, axis=1, stable=True)[:, :steps]
        return Found(*(tf.gather(field, order, batch_dims=1) for field in self))

    def render(self, composition: Composition, size: transformer.Size) -> tf.Tensor:
        """Render what the objects paint onto one canvas, [batch, H, W, ...]."""
        return transformer.render_sum(composition.paint(self.window_logits, self.present), self.z_where, size)


class Price(NamedTuple):
    """State what an object must add to the log-likelihood, in nats: its KL, and a constant for the count."""

    prior: Normals  # p(z) of an object
    count: tf.Tensor  # scalar
    likelihood: str  # a key of LIKELIHOODS
    std: tf.Tensor  # scalar, of the Normal likelihood

    def log_likelihood(
        self, composition: Composition, images: tf.Tensor, picture: tf.Tensor | None, painted: tf.Tensor
    ) -> tf.Tensor:
        """Compute log p(x | z) of images on whose background, of this picture, objects are painted: [batch] nats."""
        canvas = tf.clip_by_value(composition.flatten(painted, picture), 0.0, 1.0)
        return LIKELIHOODS[self.likelihood](composition.in_line(images), composition.in_line(canvas), self.std)

    def gain(self, composition: Composition, view: View, part: Part, others: tf.Tensor, painted: tf.Tensor) -> tf.Tensor:
        """Compute how much an object of a part of the canvas adds to the log-likelihood: [batch] nats.

        Args:
            composition: of the objects.
            view: of the scenes.
            part: within which the object lies.
            others: [batch, H, W, ...] what all other objects paint.
            painted: the same, with the object.
        """
        images, picture = map_tensors(part.cut, (view.images, view.picture))
        log_prob = functools.partial(self.log_likelihood, composition, images, picture)
        return log_prob(part.cut(painted)) - log_prob(part.cut(others))


class _Row(NamedTuple):
    """A step of the first pass: what it finds, and the posterior from which the second look starts."""

    found: Found
    scale: tuple[tf.Tensor, tf.Tensor]  # [batch, 1, 1] mean and std
    shift: tuple[tf.Tensor, tf.Tensor]  # [batch, 1, 2]


def explore(
    network: InferenceNetwork,
    view: View,
    steps: int | tf.Tensor,
    price: Price,
    looks: int,
    seed: tf.Tensor | None,
    shrink: bool = False,
    threshold: float = 0.5,
) -> Found:
    """Find the objects of scenes.

    Args:
        network: with a `CellController`.
        view: of the scenes.
        steps: maximum number of steps; fewer are taken once all scenes have stopped.
        price: of an object at the second look; samples don't pay it, as it would distort them.
        looks: 2 to look again.
        seed: [2] integers; None for posterior means and rounded z_pres.
        shrink: take scenes that have stopped out of the batch, so that a scene's work grows with its objects; XLA can't compile
            this, as it needs to know the size of every batch.
        threshold: of the probability that a step finds an object, above which it attends to it; samples draw theirs.
    """
    shrink = shrink and seed is None  # draws depend on the size of a batch
    rows = _attend(network, view, steps, price.prior, seed, looks, shrink, threshold)
    number = tf.reduce_sum(tf.cast(rows.found.present, tf.int32), axis=1, keepdims=True)  # of objects at the first look
    found = _look_again(network, view, rows, number, price, seed, shrink) if looks == 2 else rows.found
    order = tf.argsort(-found.present, axis=1, stable=True)
    first = tf.where(tf.range(steps) < number, order, order[:, :1])
    present, presence = (tf.gather(field, order, batch_dims=1) for field in found[:2])
    return Found(present, presence, *(tf.gather(field, first, batch_dims=1) for field in found[2:]))


def as_scenes(
    found: Found,
    canvas_size: transformer.Size,
    composition: Composition,
    background: tf.Tensor | None = None,
    trim: bool = True,
) -> Scenes:
    """Compose scenes from what is found in them, and from a picture of their background.

    With `trim`, rows after the last object aren't rendered; XLA can't compile this.
    """
    row = tf.range(1, tf.shape(found.present)[1] + 1)  # objects may be dropped before others, as `zooms` does
    rendered = tf.maximum(tf.reduce_max(tf.cast(found.present, tf.int32) * row), 1) if trim else None
    latents = found.window_logits, found.z_what, found.z_where, found.present
    return compose(*latents, canvas_size, composition, background, rendered)._replace(presence=found.presence)


def _attend(
    network: InferenceNetwork,
    view: View,
    steps: int | tf.Tensor,
    prior: Normals,
    seed: tf.Tensor | None,
    looks: int,
    shrink: bool,
    threshold: float,
) -> _Row:
    """Attend until every scene has stopped; return the rows of all steps."""
    features = network.controller.read(view.objects)

    def body(step: tf.Tensor, state: tuple[Any, ...], presence: tf.Tensor, rows: _Row) -> tuple[Any, ...]:
        scenes, going, reached, explained = state
        posterior = network.controller(gather(features, scenes if shrink else None), explained)
        probability = tf.sigmoid(posterior.presence_logits)
        least = threshold if seed is None else distributions.uniform(tf.shape(probability), _at(step, seed))
        reached = reached * probability * going
        presence = _write(presence, step, reached, going, scenes if shrink else None)
        going *= tf.cast(probability > least, tf.float32)
        staying = tf.where(going[:, 0] > 0.0)[:, 0] if shrink else None
        scenes, going, reached, explained, posterior = gather((scenes, going, reached, explained, posterior), staying)

        chosen = scenes if shrink else None
        seen = gather(view, chosen)
        attention = network.look(seen.glimpsed, posterior, MEANS if looks == 2 else _seeds(step, seed))
        explained = network.explain(seen, explained, attention)
        scale, shift = (posterior.where[name] for name in ("scale", "shift"))
        row = _Row(_found(going, reached, attention, prior), (scale.loc, scale.scale), (shift.loc, shift.scale))
        return step + 1, (scenes, going, reached, explained), presence, _write(rows, step, row, going, chosen)

    batch = tf.shape(view.images)[0]
    everyone = tf.ones([batch, 1])
    state = tf.range(batch), everyone, everyone, network.nothing_explained(view)
    _, _, presence, rows = tf.while_loop(
        lambda step, state, presence, rows: (step < steps) & tf.reduce_any(state[1] > 0.0),
        body,
        (tf.constant(0), state, tf.zeros([batch, steps]), _no_rows(network, batch, steps)),
    )
    return rows._replace(found=rows.found._replace(presence=presence))


def _no_rows(network: InferenceNetwork, batch: tf.Tensor, steps: int | tf.Tensor) -> _Row:
    """Return rows for all steps: without an object, black windows as large as the canvas."""

    def fill(value: float, *shape: int) -> tf.Tensor:
        return tf.fill([batch, steps, *shape], value)

    one, two = fill(1.0, 1), fill(0.0, 2)
    black = fill(BLACK, *network.config.window_size, *network.composition.painted_shape)
    none = fill(0.0)
    found = Found(none, none, tf.concat([one, two], axis=-1), fill(0.0, network.config.z_what_size), black, none)
    return _Row(found, (one, one), (two, fill(1.0, 2)))


def _look_again(
    network: InferenceNetwork,
    view: View,
    rows: _Row,
    number: tf.Tensor,
    price: Price,
    seed: tf.Tensor | None,
    shrink: bool,
) -> Found:
    """Look at one object after another in what the others leave unexplained; drop those that aren't worth their price."""
    composition, most = network.composition, tf.reduce_max(number)
    size = transformer.size_of(view.images)

    def render(found: Found) -> tf.Tensor:
        return found.render(composition, size)

    def look(step: tf.Tensor, scenes: tf.Tensor, painted: tf.Tensor, rows: _Row) -> tuple[Any, ...]:
        staying = tf.where(tf.gather(number[:, 0], scenes) > step)[:, 0] if shrink else None
        scenes, painted = gather((scenes, painted), staying)
        chosen = scenes if shrink else None
        row = tf.nest.map_structure(lambda field: tf.gather(gather(field, chosen), [step], axis=1), rows)
        here = gather(view, chosen)
        where = {"scale": tfd.Normal(*row.scale), "shift": tfd.Normal(*row.shift)}
        own = render(row.found)
        others = painted - own
        seen = network.without(here, others[:, None], own[:, None])
        attention = network.look(seen, Posterior(where, row.found.presence), _seeds(step, seed))
        found = _found(row.found.present, row.found.presence, attention, price.prior)
        added = render(found)
        if seed is None:
            part = Part.around_window(found.z_where[:, 0], size, network.config.canvas_size)
            gain = price.gain(composition, here, part, others, others + added)
            worth = gain[:, None] - found.kl - price.count
            kept = tf.cast(worth > 0.0, tf.float32)
            found = found.keep(kept)
            added *= tf.reshape(kept, [-1, *[1] * (len(added.shape) - 1)])
        going = tf.cast(tf.gather(number, scenes) > step, tf.float32)
        return step + 1, scenes, others + added, _write(rows, step, row._replace(found=found), going, chosen)

    found = Found(*(field[:, : tf.maximum(most, 1)] for field in rows.found)) if shrink else rows.found
    state = tf.constant(0), tf.range(tf.shape(number)[0]), render(found), rows
    return tf.while_loop(lambda step, *_: step < most, look, state)[-1].found


def _found(present: tf.Tensor, presence: tf.Tensor, attention: Attention, prior: Normals) -> Found:
    kl = tf.add_n(list(distributions.kl(attention.posterior, prior).values()))
    return Found(present, presence, attention.z_where, attention.z_what, attention.window_logits, kl)


def gather(tree: Any, scenes: tf.Tensor | None) -> Any:
    """Gather some scenes from a tree of batched tensors; None for all of them."""
    return tree if scenes is None else map_tensors(lambda field: tf.gather(field, scenes), tree)


def _write(rows: Any, step: tf.Tensor, row: Any, going: tf.Tensor, scenes: tf.Tensor | None) -> Any:
    """Replace the row of a step, [batch, 1, ...], in all scenes that are going, or in those of some scenes that it is of."""

    def write(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        if scenes is not None:
            places = tf.stack([scenes, tf.fill(tf.shape(scenes), step)], axis=1)
            return tf.tensor_scatter_nd_update(old, places, new[:, 0])
        here = (tf.range(tf.shape(old)[1]) == step) & (going > 0.0)
        return tf.where(tf.reshape(here, [*tf.unstack(tf.shape(here)), *[1] * (old.shape.rank - 2)]), new, old)

    return tf.nest.map_structure(write, rows, row)


def _seeds(step: tf.Tensor, seed: tf.Tensor | None) -> Seeds:
    """Return the seeds of the draws of a step's latent variables; None, for their means, without a seed."""
    return MEANS if seed is None else split(_at(step, seed), LATENTS)


def _at(step: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return the seed of a step's draws."""
    return tf.random.experimental.stateless_fold_in(seed, step)
