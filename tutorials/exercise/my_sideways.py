"""Sideways, written by you. README.md says what to do, step by step; `make exercise` tests what you have so far.

The library gives you networks of units, losses and optimizers. You write the rule: which unit runs when, and on what.
This is all that you need of the library:

    unit.name, unit.inputs          its name, and the names of what it reads, such as ("unit1",) or ("frame",)
    network.top, network.depth      the last unit; the number of units on the longest path to it

    activation, saved = unit.forward(inputs)
                                    inputs: name → array (N, …), for the names in unit.inputs; more do no harm
    messages, gradients = unit.backward(gradient, saved)
                                    gradient: of the loss at the activation, an array of its shape
                                    messages: name of an input unit → the gradient at this input
                                    gradients: name of a parameter → its gradient
    value, gradient = loss(output, target)
                                    the loss, and its gradient at the output of the top
    optimizer.update(unit.parameters, gradients, ticks)
                                    changes the parameters, in place

N is the number of samples. `saved` is what the backward pass needs of a forward pass: `backward` takes the Jacobian at
the input of that pass. The frame gets no message.
"""

import numpy as np

import sideways as sw


class ChainSideways:
    """Sideways on a chain of units. Step 1: with frozen weights. Step 2: the units learn."""

    def __init__(self, network, loss, optimizer=None, update_every=1):
        self.network, self.loss, self.update_every = network, loss, update_every
        self.units = list(network.units.values())  # from the frame up to the top
        self.optimizers = {unit.name: optimizer.for_unit(unit.name) for unit in self.units} if optimizer else {}
        self.ticks = 0  # all ticks so far, over all clips
        self.sums, self.counts = {}, {}  # for update_every="clip": of each unit's pseudo-gradients in this clip
        self.begin_clip()

    def begin_clip(self):
        """Begin a clip: no message is under way, and no target waits."""
        self.up = {}  # name of a unit → the activation that it sent up at the last tick
        self.down = {}  # name of a unit → the gradient that was sent down to it at the last tick
        self.targets = []  # all targets of this clip so far, the oldest first

    def tick(self, frame, target):
        """Step 1. Run every unit forward once and, if a gradient has come for it, backward once.

        frame: an array (N, …). target: the target of this very frame, in the form that the loss takes.

        A unit reads only what was sent at the last tick; the lowest unit reads the frame of this tick.

        1. Forward, if the unit below has sent an activation. The new activation is sent up.
        2. Backward, if the unit above has sent a gradient, at the input that the unit has read in *this* tick. The
           gradient at the input is sent down. The top gets its gradient from the loss, in the same tick; the loss
           needs the target of the frame that the top sees now, and this frame came depth - 1 ticks ago.
        3. Step 2 adds one line here: `self.update(…)`, when the unit has run backward.

        Returns `sw.Tick(value, output, pseudo_gradients)`: the loss and the output of the top, both None as long as
        nothing has reached the top; and name of a unit → its gradients, for the units that ran backward at this tick.
        """
        raise NotImplementedError("Step 1: write ChainSideways.tick.")

    def update(self, unit, gradients):
        """Step 2. Let a unit learn from the pseudo-gradients of this tick: name of a parameter → array.

        - Without an optimizer (`self.optimizers` is empty) the parameters stay frozen.
        - `update_every == 1`: the unit's own optimizer changes the parameters at once.
        - `update_every == "clip"`: add the pseudo-gradients to the unit's sum in `self.sums`, and count them in
          `self.counts`; `end_clip` does the rest. Leave the arrays in `gradients` as they are: `tick` returns them.

        The third argument of `optimizer.update` is the number of all ticks before this one: `self.ticks`.
        """
        raise NotImplementedError("Step 2: write ChainSideways.update.")

    def end_clip(self):
        """Step 2. End a clip: make the updates that wait for its end, then let nothing of it reach the next clip.

        With `update_every="clip"` the optimizer of a unit gets the mean of the pseudo-gradients that the unit has made
        in this clip. Compute it as `total * (1 / count)`: `total / count` may differ in the last bit.
        """
        raise NotImplementedError("Step 2: write ChainSideways.end_clip.")


class SkipSideways(ChainSideways):
    """Sideways on any graph of units: edges may jump over units. `update` and `end_clip` are those of step 2."""

    def begin_clip(self):
        """Begin a clip: no message is under way, and no target waits."""
        self.mail = {}  # (name of the sender, name of the receiver) → what was sent on this edge at the last tick
        self.targets = []

    def tick(self, frame, target):
        """Step 3. Run every unit forward once and backward once, as in step 1, but on a graph.

        1. Forward, if *all* inputs of the unit have come; the input named "frame" is the frame of this tick. The
           activation is sent to every consumer of the unit: `self.network.consumers[unit.name]` lists their names.
           Then call `unit.update_statistics(saved)`: batch normalisation, if the unit has any, keeps running means.
        2. Backward, if *every* consumer has sent a gradient: the gradient of the unit is their sum, added in the order
           of `self.network.consumers[unit.name]` (another order changes the last bits). One message goes down to each
           input unit. An array that was sent belongs to its reader, and may have several: do not write into it.
        3. `self.update(…)`, as before.

        At the end, `self.mail = self.deliver(sent)`; `sent` has the form of `self.mail`. Returns what step 1 returns.
        """
        raise NotImplementedError("Step 3: write SkipSideways.tick.")

    def deliver(self, sent):
        """Return the messages that the units of this process read at the next tick. Step 4 replaces this method."""
        return sent


class TwoProcessSideways(SkipSideways):
    """Sideways in two processes: rank 0 runs the lower half of the units, rank 1 the upper half."""

    def __init__(self, network, loss, optimizer, update_every, comm, batch):
        super().__init__(network, loss, optimizer, update_every)
        half = len(self.units) // 2
        self.comm, self.rank, self.batch = comm, comm.Get_rank(), batch
        self.owner = {unit.name: 0 if k < half else 1 for k, unit in enumerate(self.units)}
        self.units = [unit for unit in self.units if self.owner[unit.name] == self.rank]

    def begin_clip(self):
        """Begin a clip: its first tick is tick 0."""
        super().begin_clip()
        self.t = 0

    def deliver(self, sent):
        """Step 4. Send what the other process needs, receive what it sends, and return this process's mail.

        `self.network.first_message` lists the edges of the graph in both directions: (sender, receiver) → the tick of
        the clip (`self.t`) at which this edge carries its first message. From then on it carries one at every tick;
        before, nobody would read it, so leave it out. Both processes know this list: none has to ask the other.

        For an edge of which
        - both ends are here: the message goes into the mail as it is;
        - the sender is here: start to send it,            request = self.comm.Isend(array, dest=…, tag=…)
        - the receiver is here: start to receive it into an empty array of the right shape and type, which goes into
          the mail,                                        request = self.comm.Irecv(array, source=…, tag=…)

        The tag must tell the edges apart: the place of the edge in the list will do. A message is as large as the
        activation of the *lower* of the two units: (self.batch, *self.network.shapes[name]), self.network.dtype.
        When all is started, wait for every request: request.Wait(). The last line counts the tick: self.t += 1.
        """
        raise NotImplementedError("Step 4: write TwoProcessSideways.deliver.")
