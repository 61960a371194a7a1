"""Inference with the controller that takes any canvas and any number of steps.

First attend, until every scene has stopped. Then look again at each object, in what the others leave unexplained of the canvas:
there it is placed and encoded without its neighbours. An object that isn't worth its price by then, because others explain what
it shows, is dropped; so a first window that fell between two objects does no harm once both are found.

Both are loops that hold the canvases of one step at a time, so that memory hardly grows with the number of steps.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from air.model import distributions, transformer
from air.model.cells import Explained
from air.model.composition import Composition
from air.model.distributions import LATENTS, Normals, tfd
from air.model.generative import LIKELIHOODS, Scenes, compose
from air.model.inference import MEANS, Attention, InferenceNetwork, Seeds, View, split
from air.model.networks import Posterior


class Found(NamedTuple):
    """What one step finds, or all steps: [batch, steps, ...]; steps that no scene took repeat the first, with presence 0."""

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


class Price(NamedTuple):
    """What an object must add to the log-likelihood, in nats: its KL, and a constant for the count."""

    prior: Normals  # p(z) of an object
    count: tf.Tensor  # scalar
    likelihood: str  # a key of LIKELIHOODS
    std: tf.Tensor  # scalar, of the Normal likelihood


class _Row(NamedTuple):
    """A step of the first pass: what it finds, and the posterior from which the second look starts."""

    found: Found
    scale: tuple[tf.Tensor, tf.Tensor]  # [batch, 1, 1] mean and std
    shift: tuple[tf.Tensor, tf.Tensor]  # [batch, 1, 2]


def explore(
    network: InferenceNetwork, view: View, steps: int | tf.Tensor, price: Price, looks: int, seed: tf.Tensor | None
) -> Found:
    """Find the objects of scenes.

    Args:
        network: with a `CellController`.
        view: of the scenes.
        steps: maximum number of steps; fewer are taken once all scenes have stopped.
        price: of an object at the second look; samples don't pay it, as it would distort them.
        looks: 2 to look again.
        seed: [2] integers; None for posterior means and rounded z_pres.
    """
    rows, taken = _attend(network, view, steps, price.prior, seed, looks)
    found = _look_again(network, view, rows, taken, price, seed) if looks == 2 else rows.found
    order = tf.argsort(-found.present, axis=1, stable=True)
    is_taken = tf.range(steps) < taken
    found = Found(*(tf.gather(field, tf.where(is_taken, order, order[:, :1]), batch_dims=1) for field in found))
    taken = tf.cast(is_taken, tf.float32)
    return found._replace(present=found.present * taken, presence=found.presence * taken)


def as_scenes(
    found: Found, canvas_size: transformer.Size, composition: Composition, background: tf.Tensor | None = None
) -> Scenes:
    """Compose scenes from what is found in them, and from a picture of their background."""
    scenes = compose(found.window_logits, found.z_what, found.z_where, found.present, canvas_size, composition, background)
    return scenes._replace(presence=found.presence)


def _attend(
    network: InferenceNetwork, view: View, steps: int | tf.Tensor, prior: Normals, seed: tf.Tensor | None, looks: int
) -> tuple[_Row, tf.Tensor]:
    """Attend until every scene has stopped; return the rows of all steps, and the number of those taken."""
    features = network.controller.read(view.objects)

    def attend_once(step: tf.Tensor, state: tuple[tf.Tensor, tf.Tensor, Explained]) -> tuple[tuple[Any, ...], _Row]:
        going, reached, explained = state
        posterior = network.controller(features, explained)
        attention = network.look(view.glimpsed, posterior, MEANS if looks == 2 else _seeds(step, seed))
        probability = tf.sigmoid(posterior.presence_logits)
        threshold = 0.5 if seed is None else distributions.uniform(tf.shape(probability), _at(step, seed))
        going, reached = going * tf.cast(probability > threshold, tf.float32), reached * probability
        found = _found(going, reached, attention, prior)
        explained = network.explain(view, explained, attention)
        scale, shift = (posterior.where[name] for name in ("scale", "shift"))
        return (going, reached, explained), _Row(found, (scale.loc, scale.scale), (shift.loc, shift.scale))

    def body(step: tf.Tensor, state: tuple[Any, ...], rows: _Row) -> tuple[Any, ...]:
        state, row = attend_once(step, state)
        return step + 1, state, _write(rows, step, row)

    batch = tf.shape(view.images)[0]
    state = tf.ones([batch, 1]), tf.ones([batch, 1]), network.nothing_explained(view)
    taken, _, rows = tf.while_loop(
        lambda step, state, rows: (step < steps) & tf.reduce_any(state[0] > 0.0),
        body,
        (tf.constant(0), state, _no_rows(network, batch, steps)),
    )
    return rows, taken


def _no_rows(network: InferenceNetwork, batch: tf.Tensor, steps: int | tf.Tensor) -> _Row:
    """Return rows for all steps, without an object; windows of scale 0 could not be rendered."""

    def ones(*shape: int) -> tf.Tensor:
        return tf.ones([batch, steps, *shape])

    window = ones(*network.config.window_size, *network.composition.painted_shape)
    found = Found(0.0 * ones(), 0.0 * ones(), ones(3), ones(network.config.z_what_size), window, ones())
    return _Row(found, (ones(1), ones(1)), (ones(2), ones(2)))


def _look_again(
    network: InferenceNetwork, view: View, rows: _Row, taken: tf.Tensor, price: Price, seed: tf.Tensor | None
) -> Found:
    """Look at one object after another in what the others leave unexplained; drop those that aren't worth their price."""

    composition = network.composition

    def render(found: Found) -> tf.Tensor:
        windows = composition.paint(found.window_logits, found.present)
        return transformer.render_sum(windows, found.z_where, transformer.size_of(view.images))

    def log_prob(painted: tf.Tensor) -> tf.Tensor:
        canvas = tf.clip_by_value(composition.flatten(painted, view.picture), 0.0, 1.0)
        images, canvas = composition.in_line(view.images), composition.in_line(canvas)
        return LIKELIHOODS[price.likelihood](images, canvas, price.std)[:, None]

    def look(step: tf.Tensor, painted: tf.Tensor, rows: _Row) -> tuple[Any, ...]:
        row = tf.nest.map_structure(lambda field: tf.gather(field, [step], axis=1), rows)
        where = {"scale": tfd.Normal(*row.scale), "shift": tfd.Normal(*row.shift)}
        own = render(row.found)
        others = painted - own
        seen = network.without(view, others[:, None], own[:, None])
        attention = network.look(seen, Posterior(where, row.found.presence), _seeds(step, seed))
        found = _found(row.found.present, row.found.presence, attention, price.prior)
        added = render(found)
        if seed is None:
            worth = log_prob(others + added) - log_prob(others) - found.kl - price.count
            kept = tf.cast(worth > 0.0, tf.float32)
            found = found.keep(kept)
            added *= tf.reshape(kept, [-1, *[1] * (len(added.shape) - 1)])
        return step + 1, others + added, _write(rows, step, row._replace(found=found))

    state = tf.constant(0), render(rows.found), rows
    return tf.while_loop(lambda step, painted, rows: step < taken, look, state)[-1].found


def _found(present: tf.Tensor, presence: tf.Tensor, attention: Attention, prior: Normals) -> Found:
    kl = tf.add_n(list(distributions.kl(attention.posterior, prior).values()))
    return Found(present, presence, attention.z_where, attention.z_what, attention.window_logits, kl)


def _write(rows: _Row, step: tf.Tensor, row: _Row) -> _Row:
    """Replace the row of a step."""

    def write(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        here = tf.reshape(tf.range(tf.shape(old)[1]) == step, [1, -1, *[1] * (old.shape.rank - 2)])
        return tf.where(here, new, old)

    return tf.nest.map_structure(write, rows, row)


def _seeds(step: tf.Tensor, seed: tf.Tensor | None) -> Seeds:
    """Return the seeds of the draws of a step's latent variables; None, for their means, without a seed."""
    return MEANS if seed is None else split(_at(step, seed), LATENTS)


def _at(step: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return the seed of a step's draws."""
    return tf.random.experimental.stateless_fold_in(seed, step)
