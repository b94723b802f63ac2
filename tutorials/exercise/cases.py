"""Networks and clips to test the exercise on, and the record of what a rule does with them."""

from dataclasses import dataclass

import numpy as np

import sideways as sw

ACTIVATIONS = (sw.Tanh, sw.Sigmoid, lambda: sw.LeakyReLU(0.1))
LOSSES = {"squared": sw.MeanSquaredError, "cross-entropy": sw.SoftmaxCrossEntropy}
OPTIMIZERS = {
    "frozen": lambda: None,
    "SGD": lambda: sw.SGD(0.1),
    "SGD with momentum": lambda: sw.SGD(0.05, momentum=0.9),
    "Adam with a falling rate": lambda: sw.Adam(0.02, schedule=sw.Step(every=5, factor=0.5)),
}


@dataclass(frozen=True)
class Case:
    """A network, a loss, and clips: pairs of frames (T, N, …) and targets, one for each frame."""

    words: str
    units: list
    shape: tuple  # of one frame, without N
    seed: int
    dtype: str
    loss: sw.Loss
    clips: list
    optimizer: str = "frozen"
    update_every: int | str = 1

    def network(self):
        """Build the network. The same case builds the same weights, time and again."""
        return sw.Network(self.units, self.shape, self.seed, self.dtype)

    def make(self, rule, network):
        """Make a rule for a network of this case."""
        return rule(network, self.loss, OPTIMIZERS[self.optimizer](), self.update_every)

    def __str__(self):
        learns = "" if self.optimizer == "frozen" else f", {self.optimizer}, update_every={self.update_every!r}"
        samples = self.clips[0][0].shape[1]
        return f"{self.words}, {samples} sample(s), {self.dtype}, {type(self.loss).__name__}{learns}"

    __repr__ = __str__


def chain(depth, batch=2, loss="squared", dtype="float64", seed=0, still=False, clips=1, more=3, **learning):
    """A chain of `depth` units with widths of 2 to 5 numbers. still: one frame and target at every tick."""
    random = np.random.default_rng([seed, depth, batch])
    widths = [int(width) for width in random.integers(2, 6, depth + 1)]
    units, below = [], "frame"
    for k in range(depth):
        layers = [sw.Dense(widths[k], widths[k + 1], init="glorot"), ACTIVATIONS[random.integers(3)]()]
        units.append(sw.Unit(f"unit{k + 1}", layers, [below]))
        below = f"unit{k + 1}"
    words = f"a chain of {depth} unit(s), widths {' → '.join(map(str, widths))}"
    made = clips_of(random, clips, 2 * depth - 1 + more, batch, (widths[0],), widths[-1], loss, dtype, still)
    return Case(words, units, (widths[0],), seed, dtype, LOSSES[loss](), made, **learning)


def graph(count, batch=2, loss="squared", dtype="float64", seed=0, images=False, clips=1, more=3, width=2, **learning):
    """A random graph of `count` units: skips of any length, branches, both merges, adapters, batch normalisation.

    images: frames of 3×4 pixels and convolutions, instead of vectors. width: channels of every activation.
    """
    random = np.random.default_rng([seed, count, batch, images])
    units, words = [], []
    for k in range(count):
        earlier = ["frame", *(unit.name for unit in units)]
        inputs = {str(j) for j in random.choice(earlier, random.integers(1, 4))}
        if k == count - 1:  # the top reads whatever nobody else reads
            inputs |= {unit.name for unit in units if not any(unit.name in other.inputs for other in units)}
        inputs = [str(j) for j in random.permutation(sorted(inputs))]
        merge = str(random.choice(["add", "concat"]))
        adapters = {j: [dense(width, width, images)] if random.random() < 0.3 else [] for j in inputs}
        layers = [dense(width * len(inputs) if merge == "concat" else width, width, images)]
        if batch > 1 and random.random() < 0.25:
            layers.append(sw.BatchNorm(width))
        layers.append(ACTIVATIONS[random.integers(3)]())
        if merge == "add" and k < count - 1 and random.random() < 0.15:
            layers = []  # a unit without layers: the sum of its inputs
        if k == count - 1:
            layers += [sw.GlobalAveragePool()] if images else []
            layers.append(sw.Dense(width, 3, init="glorot"))
        units.append(sw.Unit(f"unit{k + 1}", layers, adapters, merge))
        words.append(f"unit{k + 1} reads {' and '.join(inputs)}")
    shape = (3, 4, width) if images else (width,)
    depth = sw.Network(units, shape).depth
    made = clips_of(random, clips, 2 * depth - 1 + more, batch, shape, 3, loss, dtype)
    return Case(f"a graph ({', '.join(words)})", units, shape, seed, dtype, LOSSES[loss](), made, **learning)


def wired(wiring, merge="concat", norm=False, batch=3, loss="cross-entropy", seed=0, width=4, clips=1, **learning):
    """A graph whose wiring is written out: the names of the inputs of unit1, of unit2, and so on, apart by spaces.

    norm: give every unit batch normalisation.
    """
    random, dtype = np.random.default_rng(seed), learning.pop("dtype", "float64")
    units = []
    for k, names in enumerate(wiring):
        inputs = names.split()
        layers = [sw.Dense(width * len(inputs) if merge == "concat" else width, width, init="glorot")]
        layers += [sw.BatchNorm(width), sw.Tanh()] if norm else [sw.Tanh()]
        units.append(sw.Unit(f"unit{k + 1}", layers, inputs, merge))
    words = ", ".join(f"unit{k + 1} reads {' and '.join(names.split())}" for k, names in enumerate(wiring))
    ticks = 2 * sw.Network(units, (width,)).depth + 3
    made = clips_of(random, clips, ticks, batch, (width,), width, loss, dtype)
    words = f"a graph ({words}; {merge}{', batch normalisation' if norm else ''})"
    return Case(words, units, (width,), seed, dtype, LOSSES[loss](), made, **learning)


def dense(width, out, images):
    """A layer with weights: a convolution for images, a matrix for vectors."""
    return sw.Conv2D(width, out, kernel=3) if images else sw.Dense(width, out, init="glorot")


def clips_of(random, count, ticks, batch, shape, classes, loss, dtype, still=False):
    """Random clips. Each clip is a tick longer than the one before."""
    made = []
    for length in range(ticks, ticks + count):
        frames = random.normal(size=(length, batch, *shape)).astype(dtype)
        if loss == "cross-entropy":
            targets = random.integers(0, classes, (length, batch))
        else:
            targets = random.normal(size=(length, batch, classes)).astype(dtype)
        if still:
            frames[:], targets[:] = frames[0], targets[0]
        made.append((frames, targets))
    return made


# What a rule does with a case -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """A tick of a rule, or the end of a clip: what came out, and the parameters and statistics afterwards."""

    name: str
    tick: sw.Tick | None
    arrays: dict  # unit → name → array


def history(rule, case):
    """Run a rule, given as its class, over the clips of a case. Returns the list of all moments.

    Raises `AssertionError` if the rule writes into its frames, or into what it has returned earlier.
    """
    __tracebackhide__ = True  # pytest then shows the student's lines, not these
    network = case.network()
    rule = case.make(rule, network)
    moments, given = [], []
    for number, (frames, targets) in enumerate(case.clips):
        for t, (frame, target) in enumerate(zip(frames.copy(), targets.copy(), strict=True)):
            name = f"tick {t}" if len(case.clips) == 1 else f"clip {number}, tick {t}"
            try:
                tick = rule.tick(frame, target)
            except Exception as error:
                error.add_note(f"at {name}, on {case}")
                raise
            if not isinstance(tick, sw.Tick):
                raise AssertionError(f"tick returned {type(tick).__name__}: return sw.Tick(value, output, gradients)")
            if not np.array_equal(frame, frames[t]) or not np.array_equal(target, targets[t]):
                raise AssertionError("tick has written into the frame or the target: they belong to the caller")
            given.append((name, tick.gradients, copied(tick.gradients)))
            moments.append(Moment(name, sw.Tick(tick.loss, copied(tick.output), given[-1][2]), arrays_of(network)))
        if case.optimizer != "frozen":
            rule.end_clip()
            moments.append(Moment(f"after end_clip of clip {number}", None, arrays_of(network)))
    for name, returned, before in given:
        if not equal(returned, before):
            raise AssertionError(
                f"the pseudo-gradients that were returned at {name} have changed since then: something adds into these "
                "arrays in place (`+=`), and they belong to the caller. Make new arrays: a = a + b."
            )
    return moments


def arrays_of(network, names=None):
    """A copy of the parameters and running statistics of some units, by default all: unit → name → array."""
    return {name: copied(network.units[name].parameters | network.units[name].state) for name in names or network.units}


def copied(tree):
    """A deep copy of nested dictionaries of arrays."""
    if isinstance(tree, dict):
        return {key: copied(value) for key, value in tree.items()}
    return None if tree is None else np.array(tree)


def equal(one, other):
    """Whether two nested dictionaries of arrays are equal to the last bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if one is None or other is None:
        return one is other
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and bool(np.array_equal(one, other))
