"""Sideways as a CUDA graph: a tick is recorded once, and given to the device as a whole from then on.

    tick     2D+1      2D+2      2D+3      2D+4                  D: the depth. Before 2D-1 the network fills; two ticks
    device   record,   record,   launch    launch    …           rehearse the recording. Messages are written and read
             launch    launch    odd       even                  in turn in two sets of places: there are two graphs.

The host works out nothing in such a tick but the numbers that change: learning rates and the keys of Dropout's masks.
They lie in device arrays, which the graphs read. A reader of the learning rule can skip this file.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sideways.backend import Array, Shape, buffer, copied, on_device
from sideways.backend.blas import Recorder
from sideways.backend.streams import Graph, Staging, compute_in, own_stream
from sideways.errors import InputError
from sideways.layers.base import Layer, Sequential
from sideways.layers.dropout import Dropout
from sideways.layers.shortcut import Shortcut
from sideways.network import Network
from sideways.network.schedule import Edge
from sideways.rules.mailbox import Mailbox
from sideways.rules.rule import Tick, do_nothing
from sideways.rules.sideways import Sideways


class GraphedSideways(Sideways):
    """Sideways on a GPU, with the ticks after the first 2D-1 of a clip or stream given to the device as graphs.

    The results are those of `Sideways`, up to the rounding of cuBLAS where it chooses another way for a product; but a
    tick that is a graph returns no gradients, whose arrays the graph writes over at its next launch. network, loss,
    optimizer and options: as for `Sideways`. Raises `InputError` without a GPU of NVIDIA's, for `update_every` above 1
    (`"clip"` is possible), and for a mailbox or units of one's own: all units live in this process.
    """

    def __init__(self, network: Network, *arguments: Any, **options: Any):
        if not on_device():
            raise InputError("a CUDA graph needs a GPU: --backend cupy")
        if not Graph.can_record():
            raise InputError("a CUDA graph needs NVIDIA's GPUs, and CuPy's wheel for them: leave out --cuda-graph")
        self.stream = own_stream()
        compute_in(self.stream)
        self.places = Places(network)
        super().__init__(network, *arguments, **{"mailbox": self.places} | options)
        if self.mailbox is not self.places or len(self.units) < len(network.units):
            raise InputError("a CUDA graph holds the units of one process: run it without mpirun")
        if self.update_every not in (1, "clip"):
            raise InputError("a CUDA graph is the same in every second tick: update_every must be 1 or 'clip'")
        self.seen: set[tuple[int, Shape]] = set()
        self.graphs: dict[tuple[int, Shape], Recorded] = {}
        self.recording = False
        self.recorder = Recorder()
        self.inputs: dict[Shape, tuple[Array, Array]] = {}  # shape of a frame → places of the frame and of the target
        self.numbers = Numbers(self)

    def tick(self, frame: Any, target: Any, meanwhile: Callable[[], None] = do_nothing) -> Tick:
        compute_in(self.stream)
        if self.clock < 2 * self.network.depth - 1:
            return super().tick(frame, target, meanwhile)
        if (key := (self.clock % 2, frame.shape)) not in self.seen:
            self.seen.add(key)
            return self._rehearse(frame, target, meanwhile)
        t, frame = self.clock, self.take(frame, target)
        assert frame is not None
        if frame.shape not in self.inputs:
            self.inputs[frame.shape] = copied(frame), copied(self.targets[0])
        frame_place, target_place = self.inputs[frame.shape]
        frame_place[...], target_place[...] = frame, self.targets[0]
        self.numbers.refresh()
        is_recorded = key in self.graphs
        if not is_recorded:
            self.graphs[key] = self._record(frame.shape)
            self.is_whole = False  # the device has done nothing yet
        recorded = self.graphs[key]
        recorded.graph.launch()
        if is_recorded:
            recorded.counted(self)
            self.places.filled(t, len(frame))
            self.end_tick()
        self.is_whole = True
        meanwhile()
        return Tick(copied(recorded.tick.loss), copied(recorded.tick.output), {})

    def _rehearse(self, frame: Any, target: Any, meanwhile: Callable[[], None]) -> Tick:
        """Do this tick by the very calls that will be recorded, so that all kernels are compiled and loaded."""
        self.numbers.refresh()
        self.numbers.use(True)
        try:
            with self.recorder.active():
                return super().tick(frame, target, meanwhile)
        finally:
            self.numbers.use(False)

    def _record(self, shape: Shape) -> Recorded:
        """Record this tick; the host's part of it is done, the device's not."""
        before, targets = self._counts(), self.targets
        frame, target = self.inputs[shape]
        self.recording, self.targets = True, deque([target])
        self.numbers.use(True)
        graph = Graph(self.recorder)
        try:
            with graph.recorded():
                tick = super().tick(frame, target)
        finally:
            self.recording, self.targets = False, targets
            self.numbers.use(False)
        changes = {key: count - before.get(key, 0) for key, count in self._counts().items()}
        return Recorded(graph, tick, changes)

    def _counts(self) -> dict[tuple[str, str], int]:
        updates = {("updates", name): optimizer.updates for name, optimizer in self.optimizers.items()}
        return updates | {("count", name): count for name, count in self.counts.items()}

    def take(self, frame: Any, target: Any) -> Array | None:
        return frame if self.recording else super().take(frame, target)

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphedSideways:
        """A copy that has recorded nothing: graphs belong to the arrays of the rule that recorded them."""
        other = memo[id(self)] = type(self).__new__(type(self))
        blank: dict[str, Any] = {"graphs": {}, "inputs": {}, "stream": self.stream, "recorder": self.recorder}
        state = {name: value for name, value in vars(self).items() if name not in (*blank, "numbers")}
        vars(other).update(copy.deepcopy(state, memo) | blank)
        other.numbers = Numbers(other)
        return other

    def reset(self) -> None:
        """Reset as Sideways does; after an interrupted tick, forget the graphs too."""
        if not self.is_whole:
            self.graphs.clear()
        super().reset()


class Recorded(NamedTuple):
    """A recorded tick: its graph, its results on the device, and what it adds to the host's counts."""

    graph: Graph
    tick: Tick
    changes: dict[tuple[str, str], int]

    def counted(self, rule: Sideways) -> None:
        """Count what the tick does, as the host does when it runs the tick itself."""
        for (kind, name), change in self.changes.items():
            if kind == "updates":
                rule.optimizers[name].updates += change
            else:
                rule.counts[name] += change


class Places(Mailbox):
    """A mailbox that copies each message into one of two places of its edge, which even and odd ticks fill in turn.

    Messages of each shape have places of their own, which the graphs for this shape know.
    """

    def __init__(self, network: Network):
        self.arrays: dict[tuple[str, str, int, int], Array] = {}  # sender, receiver, parity of the tick, samples
        self.edges: list[Edge] = [e for j, i in network.edges for e in ((j, i), (i, j))]
        super().__init__(network.timetable)

    def send(self, sender: str, receiver: str, message: Array, s: int) -> None:
        super().send(sender, receiver, self._in_place(sender, receiver, message, s), s)

    def _in_place(self, sender: str, receiver: str, message: Array, s: int) -> Array:
        key = (sender, receiver, s % 2, len(message))
        if key not in self.arrays:
            self.arrays[key] = buffer(message.shape, message.dtype)
        self.arrays[key][...] = message
        return self.arrays[key]

    def filled(self, tick: int, samples: int) -> None:
        """Note that a graph has read all messages, and filled the places of this tick."""
        self.tick = tick
        self._messages = {(*edge, tick): self.arrays[(*edge, tick % 2, samples)] for edge in self.edges}

    def restore(self, receiver: str, messages: dict[tuple[str, int], Array]) -> None:
        placed = {(sender, s): self._in_place(sender, receiver, m, s) for (sender, s), m in messages.items()}
        super().restore(receiver, placed)

    def for_evaluation(self) -> Mailbox:
        return Mailbox(self.timetable)


class Numbers:
    """The numbers of a tick that change from tick to tick, on the host and in the device arrays that graphs read."""

    def __init__(self, rule: Sideways):
        self.rule, self.staging = rule, Staging()
        self.optimizers = [optimizer for optimizer in rule.optimizers.values() if optimizer.factor]
        chains = [chain for unit in rule.units for chain in (unit.body, *unit.adapters.values())]
        self.dropouts = [layer for chain in chains for layer in _within(chain) if isinstance(layer, Dropout)]
        self.rates: Array | None = None  # (optimizers, their numbers)
        self.keys: dict[int, Array] = {}  # samples → (Dropout layers, samples)

    def refresh(self) -> None:
        """Bring the numbers of this tick to the device, after all work that is queued so far."""
        rule = self.rule
        if self.optimizers and rule.update_every == 1:
            rows = [optimizer.next_numbers(rule.ticks) for optimizer in self.optimizers]
            if self.rates is None:
                self.rates = buffer((len(rows), len(rows[0])), rule.network.dtype)
            self.staging.upload(rows, self.rates)
        if self.dropouts:
            for unit in rule.units:
                unit.set_position(rule.ticks, rule.first_sample)
            assert rule.batch is not None
            if rule.batch not in self.keys:
                self.keys[rule.batch] = buffer((len(self.dropouts), rule.batch), "uint64")
            self.staging.upload([layer.keys(rule.batch) for layer in self.dropouts], self.keys[rule.batch])

    def use(self, on: bool) -> None:
        """Make optimizers and Dropout read the device's numbers, or the host's again."""
        keys = self.keys.get(self.rule.batch or 0)
        for number, optimizer in enumerate(self.optimizers):
            optimizer.numbers_on_device = self.rates[number] if on and self.rates is not None else None
        for number, layer in enumerate(self.dropouts):
            layer.keys_on_device = keys[number] if on and keys is not None else None


def _within(layer: Layer) -> Iterator[Layer]:
    """The layer, and all layers inside it."""
    yield layer
    for inner in layer.layers if isinstance(layer, Sequential) else ():
        yield from _within(inner)
    if isinstance(layer, Shortcut):
        yield from _within(layer.projection)
