"use strict";
// The schedule of a graph and the frames that meet in each unit, for graphs that a reader edits in the page. The library
// computes both in network/schedule.py, network/marks.py, rules/trace.py and explore/cells.py; tests/browser/ compares the
// results over random graphs.
//
// units: [{name, inputs: [name, …]}, …] in topological order; the last is the top, "frame" the frame of the tick.

/** First forward fᵢ = max(fⱼ + 1), first backward bᵢ = max(b_c + 1), and the lengths of the paths to the top. */
function schedule(units) {
  const consumers = {}, forward = { frame: -1 }, backward = {}, lengths = {};
  for (const { name, inputs } of units) {
    consumers[name] = units.filter((unit) => unit.inputs.includes(name)).map((unit) => unit.name);
    forward[name] = Math.max(...inputs.map((j) => forward[j] + 1));
  }
  const top = units.at(-1).name;
  for (const { name } of units.toReversed()) {
    const above = consumers[name];
    backward[name] = name === top ? forward[top] : Math.max(...above.map((c) => backward[c] + 1));
    lengths[name] = name === top ? [0] : distinct(above.flatMap((c) => lengths[c].map((length) => length + 1)));
  }
  delete forward.frame;
  return {
    units, consumers, depth: forward[top] + 1, latency: forward[top],
    first_forward: forward, first_backward: backward, path_lengths: lengths,
  };
}

/** The cells of Sideways, tick → unit → cell: every unit runs at every tick, on the messages of the tick before. */
function sidewaysCells(plan, ticks) {
  const cells = [];
  for (let t = 0; t < ticks; t++) {
    const before = cells[t - 1];
    cells.push({});
    for (const { name, inputs } of plan.units) {
      const runs = t >= plan.first_forward[name], runsBack = t >= plan.first_backward[name];
      const activation = runs ? distinct(inputs.flatMap((j) => (j === "frame" ? [t] : before[j].activation))) : [];
      const own = activation.map((frame) => [frame, t]);
      const arriving = runsBack ? plan.consumers[name].flatMap((c) => before[c].gradient) : [];
      cells[t][name] = { activation, gradient: runsBack ? distinct([...own, ...arriving]) : [], waiting: [] };
    }
  }
  return cells;
}

/** The cells of backpropagation with one unit's pass per tick, where a frame enters only when the last is done. */
function blockedCells(plan, ticks) {
  const cycle = 2 * plan.depth - 1;
  const above = (name) => [name, ...plan.consumers[name].flatMap(above)];
  const cells = [];
  for (let t = 0; t < ticks; t++) {
    const start = t - (t % cycle);
    cells.push({});
    for (const { name } of plan.units) {
      const up = start + plan.first_forward[name], down = start + plan.first_backward[name];
      cells[t][name] = {
        activation: t === up ? [start] : [],
        gradient: t === down ? distinct(above(name).map((unit) => [start, start + plan.first_forward[unit]])) : [],
        waiting: up < t && t < down ? [start] : [],
      };
    }
  }
  return cells;
}

/** The marked ticks m = D-1, D-1+n, …, whose losses Delayed learns from. Returns {isMarked, longest}.
 *
 * longest(name, s): the length of the longest path from the activation of tick s to a marked loss; undefined if none. */
function marksOf(plan, n) {
  const isMarked = (tick) => tick >= plan.latency && (tick - plan.latency) % n === 0;
  return { isMarked, longest: (name, s) => plan.path_lengths[name].findLast((length) => isMarked(s + length)) };
}

/** The cells of Delayed. What a unit made at tick s is pulled at tick s + 2l, where l is its longest path to a mark. */
function delayedCells(plan, ticks, n) {
  const { isMarked, longest } = marksOf(plan, n), top = plan.units.at(-1).name;
  const activations = sidewaysCells(plan, ticks).map((row) => (name) => row[name].activation);
  const pairs = (name, s) => [...activations[s](name).map((frame) => [frame, s]),
    ...plan.consumers[name].filter((c) => longest(c, s + 1) !== undefined).flatMap((c) => pairs(c, s + 1))];
  return activations.map((activation, t) => Object.fromEntries(plan.units.map(({ name }) => {
    const made = [...Array(t + 1).keys()].filter((s) => longest(name, s) !== undefined && t <= s + 2 * longest(name, s));
    const pulled = made.find((s) => t === s + 2 * longest(name, s)) ?? null;
    return [name, {
      activation: activation(name), gradient: pulled === null ? [] : distinct(pairs(name, pulled)), waiting: [],
      pulled, kept: name === top ? [] : made, learns: isMarked(t - plan.path_lengths[name].at(-1)),
    }];
  })));
}

/** The longest of the lengths that leave each remainder when divided by n: a loss after a shorter one is never the last. */
function longestByRemainder(lengths, n) {
  return Object.values(Object.fromEntries(lengths.map((length) => [length % n, length])));
}

/** The most inputs that each unit keeps under Delayed, Σ (⌊2l / n⌋ + 1); the top pulls at once and keeps none. */
function mostKept(plan, n) {
  return Object.fromEntries(plan.units.map(({ name }) => [name, longestByRemainder(plan.path_lengths[name], n)
    .reduce((sum, length) => sum + (length && Math.floor((2 * length) / n) + 1), 0)]));
}

/** The consumers whose messages make up the gradient of a unit's activation of tick s under Delayed, {from, sent: tick}. */
function sendersOf(plan, cells, name, s) {
  return plan.consumers[name].map((c) => ({ from: c, sent: cells.findIndex((row) => row[c].pulled === s + 1) }))
    .filter(({ sent }) => sent >= 0);
}

/** The distinct values of a list of numbers, or of pairs of numbers, in ascending order. */
function distinct(values) {
  const sorted = values.toSorted((a, b) => (Array.isArray(a) ? a[0] - b[0] || a[1] - b[1] : a - b));
  return sorted.filter((value, i) => i === 0 || String(value) !== String(sorted[i - 1]));
}

/** The schedule and the diagrams of a graph, equal to the library's cells.exported(network, ticks, n). */
function explored(units, ticks, n = 1) {
  const plan = schedule(units);
  return {
    ...plan, sideways: sidewaysCells(plan, ticks), blocked: blockedCells(plan, ticks),
    learn_every: n, most_kept: mostKept(plan, n), delayed: delayedCells(plan, ticks, n),
  };
}

/** The number of passes in the row of tick t. A pass is the forward or the backward of one unit; Delayed runs a unit
 * forward again for each gradient of an earlier tick. */
function passes(row, t) {
  return Object.values(row).reduce((n, { activation, gradient, pulled }) => n + !!activation.length + !!gradient.length
    + (pulled != null && pulled < t), 0);
}

/** The passes of a tick in the long run under Delayed: a unit pulls longestByRemainder(…).length gradients in n ticks. */
function passesOfDelayed(plan, n) {
  return plan.units.reduce((sum, { name }) => sum + 1 + (plan.consumers[name].length ? 2 : 1)
    * longestByRemainder(plan.path_lengths[name], n).length / n, 0);
}

/** The share of the devices' time that is work, for n equal units in contiguous groups, without the first ticks. */
function utilisation(n, devices, microBatches = 8) {
  const balance = n / (devices * Math.ceil(n / devices)); // the device with the most units sets the length of a tick
  return {
    blocked: 1 / devices, // one unit at a time
    gpipe: balance * microBatches / (microBatches + devices - 1),
    sideways: balance,
  };
}
