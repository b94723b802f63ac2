// Three networks that learn in the page, side by side, from the same film and the same first weights.

const WIDTH = 16, BATCH = 16; // the outputs of each unit but the top, and the balls that are watched at the same time
const LEARNERS = [
  { rule: "blocked", title: "Backpropagation" },
  { rule: "sideways", title: "Sideways" },
  { rule: "delayed", title: "Delayed" },
];
const BIN = 20, PROBE = 60; // ticks to a point of the curves; ticks from one measurement of the cosines to the next

/** A network with chance weights: tanh units; a unit where paths meet squares, so that it can see products of moments. */
function freshNetwork(depth, skips, task, seed) {
  const random = chance(seed), width = { frame: RING };
  return networkOf(unitsOf(depth, skips).map(({ name, inputs }, i) => {
    const into = inputs.reduce((sum, j) => sum + width[j], 0), isTop = i === depth - 1;
    width[name] = isTop ? TASKS[task].classes.length : WIDTH;
    const weight = zeros(into, width[name]);
    weight.values.forEach((_, k) => { weight.values[k] = normal(random) / Math.sqrt(into); });
    return { name, inputs, merge: "concat", activation: isTop ? "none" : inputs.length > 1 ? "square" : "tanh", weight, bias: zeros(1, width[name]) };
  }));
}

const clipLength = (depth) => 4 * depth + 20;

/** Begin a lesson. options: {depth, skips, task, speed, rate, n, seed, waits}; waits: backpropagation takes one frame in 2D-1. */
function newLesson(options) {
  const { depth, skips, task, rate, n, seed, waits } = options, network = freshNetwork(depth, skips, task, seed);
  const { plan } = network, optimizer = () => adam(rate), ticks = clipLength(depth);
  const rules = {
    blocked: new Backpropagation(copyOf(network), optimizer, waits ? 2 * depth - 1 : 1),
    sideways: new TickingRule(copyOf(network), optimizer),
    delayed: new TickingRule(copyOf(network), optimizer, n),
  };
  const everyFrame = (t) => Object.fromEntries(plan.units.map(({ name }) => [name, { activation: [t], gradient: [[t, t]], waiting: [] }]));
  return {
    options, plan, rules, ticks: 0, random: chance(seed + 10000), clip: null,
    cells: {
      blocked: waits ? blockedCells(plan, ticks) : Array.from({ length: ticks }, (_, t) => everyFrame(t)),
      sideways: sidewaysCells(plan, ticks), delayed: delayedCells(plan, ticks, n),
    },
    bins: Object.fromEntries(LEARNERS.map(({ rule }) => [rule, []])), // rule → [{frames, loss, right}, …], one for BIN ticks
    cosines: {}, answers: {},
  };
}

/** One tick of all three. A clip lasts `clipLength` ticks; then the balls start anew, and messages under way are dropped. */
function learnTick(lesson) {
  const { depth, speed, task } = lesson.options, t = lesson.ticks % clipLength(depth);
  if (t === 0) {
    lesson.clip = makeClip(lesson.random, BATCH, clipLength(depth), speed, task);
    for (const rule of Object.values(lesson.rules)) rule.flush();
    lesson.answers = {};
  }
  for (const [name, rule] of Object.entries(lesson.rules)) {
    const bins = lesson.bins[name], index = Math.floor(lesson.ticks / BIN);
    const { output, loss, right } = rule.tick(lesson.clip.frames[t], lesson.clip.labels[t]);
    bins[index] ??= { frames: 0, loss: 0, right: 0 };
    if (!output) continue;
    bins[index].frames++;
    bins[index].loss += loss;
    bins[index].right += right / BATCH;
    const logits = [...output.values.subarray(0, output.columns)], of = name === "blocked" ? t : t - lesson.plan.latency;
    lesson.answers[name] = { given: logits.indexOf(Math.max(...logits)), right: lesson.clip.labels[of][0], of };
  }
  lesson.ticks++;
}

/** Measure the cosine of each unit's gradients to the exact gradient of its own network, smoothed over measurements. */
function measureLesson(lesson) {
  const { depth, speed, task, n } = lesson.options;
  const clip = makeClip(chance(lesson.ticks + 1), 32, clipLength(depth), speed, task);
  for (const [name, every] of [["sideways", 0], ["delayed", n]]) {
    const now = cosines(lesson.rules[name].network, every, clip.frames, clip.labels), before = lesson.cosines[name] ?? now;
    lesson.cosines[name] = Object.fromEntries(Object.entries(now).map(([unit, value]) => [unit, 0.6 * before[unit] + 0.4 * value]));
  }
  lesson.cosines.blocked = Object.fromEntries(lesson.plan.units.map(({ name }) => [name, 1]));
}

/** The curve of a rule: [{tick, loss, accuracy}, …], each point the mean of the last five bins. */
function curve(bins) {
  return bins.map((_, i) => {
    const last = bins.slice(Math.max(0, i - 4), i + 1), frames = last.reduce((sum, bin) => sum + bin.frames, 0);
    const mean = (key) => last.reduce((sum, bin) => sum + bin[key], 0) / frames;
    return frames ? { tick: (i + 1) * BIN, loss: mean("loss"), accuracy: mean("right") } : null;
  }).filter(Boolean);
}
