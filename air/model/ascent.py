"""Decide by gradient ascent whether an object is there: semi-amortised inference (Kim et al., 2018).

The networks answer at a glance what an optimisation would find more precisely. Where objects cover each other, the difference
is hundreds of nats, enough to pay for a superfluous window on their border, even at the second look. So where an object adds
little to the log-likelihood, and others are near that may explain what it shows, all of them are fitted twice, with it and
without it, by gradient ascent on their latent variables, and the more probable explanation is kept. As superfluous objects then
go, less likely ones may be proposed, so that one of which others leave only a corner to see isn't missed.

A fit sees as much of the canvas as a training scene shows. So its time doesn't depend on the canvas, and only doubtful objects
take any.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from air.model import transformer
from air.model.distributions import LATENTS
from air.model.exploration import Found, Price, gather
from air.model.inference import InferenceNetwork, View, map_tensors
from air.model.parts import Latents, Part

LIKELY = 0.1  # probability of an object, to the controller, above which one is proposed
DOUBT = 800.0  # nats that an object adds above which it is never superfluous
REACH = 0.6  # distance of two windows, 1 if they touch, up to which one may explain what the other shows
TOGETHER = 3  # objects that are fitted at once: the doubtful one and its nearest neighbours
RATES = {"scale": 0.08, "shift": 0.08, "z_what": 0.25}  # of Adam at first, falling to 0
MOMENTA = (0.8, 0.95)  # of Adam; lower than in training, as these gradients have no noise
EPSILON = 1e-6  # of Adam


def settle(network: InferenceNetwork, view: View, found: Found, price: Price, shrink: bool = False) -> Found:
    """Fit the doubtful objects of scenes with and without each of them, the most doubtful first, and drop superfluous ones.

    Args:
        network: with a `CellController`.
        view: of the scenes.
        found: from `explore`, posterior means.
        price: of an object.
        shrink: fit only scenes that are in doubt, see `explore`.
    """

    def fit(found: Found, worth: tf.Tensor) -> tuple[Found, tf.Tensor]:
        least = tf.reduce_min(worth, axis=1)
        scenes = tf.cast(tf.where(least < DOUBT)[:, 0], tf.int32) if shrink else tf.range(tf.shape(worth)[0])
        doubtful = tf.argmin(tf.gather(worth, scenes), axis=1, output_type=tf.int32)
        here = gather(found, scenes)
        fitted = _fit(network, gather(view, scenes), here, price, doubtful)
        if not shrink:
            fitted = map_tensors(lambda new, old: _where(least < DOUBT, new, old), fitted, here)
        found = map_tensors(lambda old, new: tf.tensor_scatter_nd_update(old, scenes[:, None], new), found, fitted)
        settled = tf.fill(tf.shape(scenes), DOUBT)
        return found, tf.tensor_scatter_nd_update(worth, tf.stack([scenes, doubtful], axis=1), settled)

    worth = _worth(network, view, found, price)
    return tf.while_loop(lambda _, worth: tf.reduce_any(worth < DOUBT), fit, (found, worth))[0].objects_first()


def _worth(network: InferenceNetwork, view: View, found: Found, price: Price) -> tf.Tensor:
    """Compute what each object adds to the log-likelihood, less its price: [batch, steps] nats, at most DOUBT.

    It is DOUBT too where there is no object, or no other one near that could explain what it shows.
    """
    size = transformer.size_of(view.images)
    windows = network.composition.paint(found.window_logits, found.present)
    painted = transformer.render_sum(windows, found.z_where, size)

    def compare(step: tf.Tensor, added: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        window, z_where = (tf.gather(field, [step], axis=1) for field in (windows, found.z_where))
        others = painted - transformer.render_sum(window, z_where, size)
        part = Part.around_window(z_where[:, 0], size, network.config.canvas_size)
        here = price.gain(network.composition, view, part, others, painted)
        return step + 1, tf.where(tf.range(tf.shape(added)[1]) == step, here[:, None], added)

    most = tf.cast(tf.reduce_max(tf.reduce_sum(found.present, axis=1)), tf.int32)
    start = tf.constant(0), tf.zeros_like(found.present)
    added = tf.while_loop(lambda step, _: step < most, compare, start)[1]
    near = tf.reduce_any(_distances(network, found, size) < REACH, axis=2)
    return tf.where(near, tf.minimum(added - found.kl - price.count, DOUBT), DOUBT)


def _distances(network: InferenceNetwork, found: Found, size: transformer.Size) -> tf.Tensor:
    """Compute distances of windows, [batch, steps, steps]: 1 if they touch, infinite from itself or where no object is."""
    scale, centre = found.z_where[..., :1], found.z_where[..., 1:]
    half = tf.concat(transformer.extents(scale, size, network.config.window_size), axis=-1)
    apart = tf.abs(centre[:, :, None] - centre[:, None]) / (half[:, :, None] + half[:, None])
    both = (found.present[:, :, None] * found.present[:, None]) > 0.0
    other = ~tf.eye(tf.shape(scale)[1], dtype=tf.bool)
    return tf.where(both & other, tf.reduce_max(apart, axis=-1), float("inf"))


def _fit(network: InferenceNetwork, view: View, found: Found, price: Price, doubtful: tf.Tensor) -> Found:
    """Fit the doubtful object of each of P scenes, [P], and its neighbours, with it and without it; keep what is better."""
    size = transformer.size_of(view.images)
    chosen = _nearest(_distances(network, found, size), doubtful)
    objects = map_tensors(lambda field: tf.gather(field, chosen, batch_dims=1), found)
    part = Part.around(objects.z_where[:, 0, 1:], size, network.config.canvas_size)
    images, picture = map_tensors(part.cut, (view.images, view.picture))
    others = part.cut(found.render(network.composition, size) - objects.render(network.composition, size))
    neighbours = objects.present * tf.cast(tf.range(tf.shape(chosen)[1]) > 0, tf.float32)

    def log_prob(present: tf.Tensor, latents: Latents) -> tf.Tensor:
        """Compute log p(x, z) but for constants and the prior of the shift, [P] nats."""
        windows = network.composition.paint(network.decoder(latents["z_what"]), present)
        z_where = tf.concat([part.unit * tf.sigmoid(latents["scale"]), latents["shift"]], axis=-1)
        painted = others + transformer.render_sum(windows, z_where, part.size)
        likelihood = price.log_likelihood(network.composition, images, picture, painted)
        return likelihood - tf.reduce_sum(present * _cost(price, latents), axis=1)

    start = part.latents(objects.z_where, objects.z_what)
    with_it, value = ascend(functools.partial(log_prob, objects.present), start, network.config.ascent_steps)
    without_it, value_without = ascend(functools.partial(log_prob, neighbours), start, network.config.ascent_steps)
    worth = value - value_without - (objects.kl - _cost(price, start))[:, 0] - price.count
    superfluous = worth < 0.0
    latents = map_tensors(functools.partial(_where, superfluous), without_it, with_it)
    z_where = part.z_where(latents)
    changed = {"z_where": z_where, "z_what": latents["z_what"], "window_logits": network.decoder(latents["z_what"])}
    fitted = found._replace(**{name: _put(getattr(found, name), chosen, new, objects) for name, new in changed.items()})
    dropped = tf.one_hot(doubtful, tf.shape(found.present)[1]) * tf.cast(superfluous, tf.float32)[:, None]
    return fitted.keep(1.0 - dropped)


def ascend(objective: Callable[[Latents], tf.Tensor], start: Latents, steps: int) -> tuple[Latents, tf.Tensor]:
    """Maximise P functions at once by Adam (Kingma and Ba, 2015), whose rates fall linearly to 0.

    Args:
        objective: of latent variables, [P].
        start: the latent variables to begin with.
        steps: number of steps.

    Returns:
        The latent variables of each function at the end, or at the start if they were better, and its value there, [P].
    """

    def step(number: tf.Tensor, latents: Latents, mean: Latents, square: Latents) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            tape.watch(latents)
            total = tf.reduce_sum(objective(latents))
        gradient = tape.gradient(total, latents)
        passed = tf.cast(number, tf.float32)
        first, second = (1.0 - momentum ** (passed + 1.0) for momentum in MOMENTA)
        mean = {name: MOMENTA[0] * mean[name] + (1.0 - MOMENTA[0]) * gradient[name] for name in LATENTS}
        square = {name: MOMENTA[1] * square[name] + (1.0 - MOMENTA[1]) * tf.square(gradient[name]) for name in LATENTS}
        moves = {name: mean[name] / first / (tf.sqrt(square[name] / second) + EPSILON) for name in LATENTS}
        left = 1.0 - passed / steps
        return number + 1, {name: latents[name] + left * RATES[name] * moves[name] for name in LATENTS}, mean, square

    still = map_tensors(tf.zeros_like, start)
    end = tf.while_loop(lambda number, *_: number < steps, step, (tf.constant(0), start, still, still))[1]
    before, after = objective(start), objective(end)
    better = after > before  # not so of a NaN
    return map_tensors(functools.partial(_where, better), end, start), tf.where(better, after, before)


def _nearest(distances: tf.Tensor, doubtful: tf.Tensor) -> tf.Tensor:
    """Return the doubtful step [P] and the steps nearest to it, [P, objects], from distances [P, steps, steps]."""
    steps = transformer.size_of(distances)[0]
    own = tf.range(steps) == doubtful[:, None]
    apart = tf.where(own, -1.0, tf.gather(distances, doubtful, batch_dims=1))
    together = tf.minimum(steps, TOGETHER) if tf.is_tensor(steps) else min(steps, TOGETHER)
    return tf.math.top_k(-apart, together).indices


def _put(field: tf.Tensor, chosen: tf.Tensor, new: tf.Tensor, objects: Found) -> tf.Tensor:
    """Replace the chosen rows [P, objects] of a field [P, steps, ...] that have an object."""
    present = tf.reshape(objects.present, [*tf.unstack(tf.shape(objects.present)), *[1] * (field.shape.rank - 2)])
    new = tf.where(present > 0.0, new, tf.gather(field, chosen, batch_dims=1))
    scenes = tf.repeat(tf.range(tf.shape(chosen)[0])[:, None], tf.shape(chosen)[1], axis=1)
    return tf.tensor_scatter_nd_update(field, tf.stack([scenes, chosen], axis=-1), new)


def _cost(price: Price, latents: Latents) -> tf.Tensor:
    """Compute the part of the KL of objects that depends on the means of their scale and z_what: [P, objects] nats."""
    deviations = [(latents[name] - price.prior[name].loc) / price.prior[name].scale for name in ("scale", "z_what")]
    return 0.5 * tf.add_n([tf.reduce_sum(tf.square(each), axis=-1) for each in deviations])


def _where(condition: tf.Tensor, yes: tf.Tensor, no: tf.Tensor) -> tf.Tensor:
    """Choose between the rows of two tensors."""
    return tf.where(tf.reshape(condition, [-1, *[1] * (yes.shape.rank - 1)]), yes, no)
