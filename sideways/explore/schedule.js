"use strict";
// The schedule of a graph and the frames that meet in each unit, for graphs that a reader edits in the page. The library
// computes both in network/schedule.py, rules/trace.py and explore/cells.py; tests/browser/ compares the results over
// random graphs.
//
// units: [{name, inputs: [name, …]}, …] in topological order; the last is the top, "frame" the frame of the tick.

/** First forward fᵢ = max(fⱼ + 1), first backward bᵢ = max(b_c + 1), shortest and longest path to the top. */
function schedule(units) {
  const consumers = {}, forward = { frame: -1 }, backward = {}, toTop = {};
  for (const { name, inputs } of units) {
    consumers[name] = units.filter((unit) => unit.inputs.includes(name)).map((unit) => unit.name);
    forward[name] = Math.max(...inputs.map((j) => forward[j] + 1));
  }
  const top = units.at(-1).name;
  for (const { name } of units.toReversed()) {
    const above = consumers[name];
    backward[name] = name === top ? forward[top] : Math.max(...above.map((c) => backward[c] + 1));
    toTop[name] = name === top ? [0, 0]
      : [Math.min(...above.map((c) => toTop[c][0] + 1)), Math.max(...above.map((c) => toTop[c][1] + 1))];
  }
  delete forward.frame;
  return {
    units, consumers, depth: forward[top] + 1, latency: forward[top],
    first_forward: forward, first_backward: backward, to_top: toTop,
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

/** The distinct values of a list of numbers, or of pairs of numbers, in ascending order. */
function distinct(values) {
  const sorted = values.toSorted((a, b) => (Array.isArray(a) ? a[0] - b[0] || a[1] - b[1] : a - b));
  return sorted.filter((value, i) => i === 0 || String(value) !== String(sorted[i - 1]));
}

/** The schedule and both diagrams of a graph, equal to the library's cells.exported(network, ticks). */
function explored(units, ticks) {
  const plan = schedule(units);
  return { ...plan, sideways: sidewaysCells(plan, ticks), blocked: blockedCells(plan, ticks) };
}

/** The number of passes in a row of cells. A pass is the forward or the backward of one unit. */
function passes(row) {
  return Object.values(row).reduce((n, { activation, gradient }) => n + !!activation.length + !!gradient.length, 0);
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
