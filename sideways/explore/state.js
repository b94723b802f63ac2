// The graph that the reader has set, and all that is computed from it for the diagrams.

// Graph → its schedule and cells, from the library.
const GRAPHS = JSON.parse(document.getElementById("graphs").textContent);

/** Make a chain of units u1 … uD with skip edges [source, consumer], 0 being the frame. */
function unitsOf(depth, skips) {
  const names = ["frame", ...Array.from({ length: depth }, (_, i) => `u${i + 1}`)];
  return names.slice(1).map((name, i) => ({
    name, inputs: [names[i], ...skips.filter(([, to]) => to === i + 1).map(([from]) => names[from])],
  }));
}

const ticksOf = (depth) => Math.max(12, 2 * (2 * depth - 1) + 2);

const highestN = (depth) => 2 * depth + 1;

/** The schedule and cells of a graph: the library's if the page carries them, else computed by schedule.js. */
function lookUp(depth, skips, learnEvery = 1) {
  const carried = GRAPHS[`${depth}:${skips.map((edge) => edge.join(">")).join(",")}`];
  return carried?.learn_every === learnEvery ? carried : explored(unitsOf(depth, skips), ticksOf(depth), learnEvery);
}

/** The four diagrams, each with all that is needed to draw it and to write the texts. */
function runsOf({ depth, skips, n }) {
  const chain = lookUp(depth, []), skip = lookUp(depth, skips, n), cycle = 2 * chain.depth - 1;
  const most = Math.max(...Object.values(skip.most_kept));
  const run = (rule, plan, cells, gradients, more) => ({
    ...plan, cells, uses: () => true, messages: messagesOf(plan, cells, gradients), lossFrames: lossFramesOf(rule, plan, cells), ...more,
  });
  return {
    blocked: run("blocked", chain, chain.blocked, blockedGradients, { cycle, uses: (t) => t % cycle === 0 }),
    chain: run("chain", chain, chain.sideways, sidewaysGradients),
    skip: run("skip", skip, skip.sideways, sidewaysGradients),
    delayed: run("delayed", skip, skip.delayed, delayedGradients, { memory: { most, ...marksOf(skip, n) } }),
  };
}

/** A function (unit, tick) → the frames whose loss the unit's gradient of that tick is of.
 *
 * They are those of the top's activation at the loss, a path's length before the gradient arrives; under Delayed, which
 * pulls the gradient of an earlier tick s, a path's length after s, where the loss is marked. */
function lossFramesOf(rule, plan, cells) {
  const top = plan.units.at(-1).name, isMarked = rule === "delayed" ? marksOf(plan, plan.learn_every).isMarked : () => true;
  return (name, t) => {
    const { gradient, pulled } = cells[t][name];
    if (!gradient.length) return [];
    if (rule === "blocked") return [gradient[0][0]];
    const losses = plan.path_lengths[name].map((length) => (rule === "delayed" ? pulled + length : t - length));
    return distinct(losses.filter(isMarked).flatMap((tick) => cells[tick][top].activation));
  };
}

/** A function from a tick to the messages that are read at it, {from, sent, to, read, part, kept}.
 *
 * from, sent: the unit and the tick that a message comes from; to, read: where it arrives; part: "activation" or
 * "gradient"; kept: true for an activation or an input that waited in its own unit.
 * gradients: the messages that a unit's backward reads, and what the unit kept for this, by the rule. */
function messagesOf(plan, cells, gradients) {
  return (t) => plan.units.flatMap(({ name, inputs }) => {
    const reads = cells[t][name].activation.length ? inputs : [];
    const edges = reads.map((j) => ({ from: j, sent: j === "frame" ? t : t - 1, to: name, read: t, part: "activation" }));
    return cells[t][name].gradient.length ? [...edges, ...gradients(plan, cells, name, t)] : edges;
  });
}

function sidewaysGradients(plan, cells, name, t) {
  return plan.consumers[name].map((c) => ({ from: c, sent: t - 1, to: name, read: t, part: "gradient" }));
}

function blockedGradients(plan, cells, name, t) {
  const sent = t - plan.first_backward[name] + plan.first_forward[name];
  const kept = { from: name, sent, to: name, read: t, part: "activation", kept: true };
  return [...sidewaysGradients(plan, cells, name, t), ...(plan.consumers[name].length ? [kept] : [])];
}

function delayedGradients(plan, cells, name, t) {
  const s = cells[t][name].pulled;
  if (s === t) return []; // the top
  const messages = sendersOf(plan, cells, name, s).map(({ from, sent }) => ({ from, sent, to: name, read: t, part: "gradient" }));
  return [...messages, { from: name, sent: s, to: name, read: t, part: "activation", kept: true }];
}
