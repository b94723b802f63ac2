// The texts beside the diagrams, as HTML. These functions do not know the page's state.

const chips = (frames) => frames.map((frame) => {
  const [colour, ink] = colourOf(frame);
  return `<span class="chip" style="background:${colour};color:${ink}">${frame}</span>`;
}).join("");
const input = (index, tick) => `input<sub>${index}</sub>[${tick}]`; // the maths writes uᵢ, but here u4 names a unit
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const whole = (part) => Math.round(100 * part);

function captions(all, skips) {
  const { cycle } = all.blocked;
  return {
    blocked: `locked: one frame of ${cycle} is used, each unit learns once in ${plural(cycle, "tick")}`,
    chain: `nothing waits: from tick ${cycle - 1} on each unit learns at every tick`,
    skip: skips.length ? "two paths of different length bring different frames together"
      : "no skip edge: the same as Sideways; add one to see two moments meet",
    delayed: `nothing waits: ${skips.length ? "the graph of Skip-Sideways" : "the chain"}; each gradient is pulled at the input that it belongs to`,
  };
}

/** The meaning of the chosen n: which losses teach, how often a unit learns, what is kept, and what changes under way. */
function dialWords({ learn_every: n, most_kept, depth }) {
  const kept = Object.values(most_kept).reduce((sum, most) => sum + most, 0), cycle = 2 * depth - 1;
  const marked = n === 1 ? "n = 1: every loss is learnt from, so each unit learns once per frame"
    : `n = ${n}: one loss in ${n} is learnt from, so each unit learns once in ${n} frames (1/${n} update per frame)`;
  const room = kept ? `the units keep at most ${plural(kept, "input")} in total` : "no input is kept";
  const stale = depth === 1 ? "With one unit no gradient is ever under way."
    : n >= cycle ? `As n ≥ 2D − 1 = ${cycle}, no parameters change under way: this is gradient descent on the exact gradient of the marked losses.`
      : `As n < 2D − 1 = ${cycle}, parameters change while a gradient is under way.`;
  return `${marked}; ${room}. ${stale}`.replaceAll(/ ([=≥<−]) /g, "\u00a0$1\u00a0"); // formulas stay on one line
}

function cellWords(run, rule, { unit, tick }) {
  const index = run.units.findIndex(({ name }) => name === unit) + 1, { inputs } = run.units[index - 1];
  const { activation, gradient, waiting } = run.cells[tick][unit], consumers = run.consumers[unit];
  const number = (name) => run.units.findIndex((u) => u.name === name) + 1;
  const frames = distinct(gradient.map(([frame]) => frame));
  const a = (name, t) => name === "frame" ? `<b>x</b>[${t}]` : `a<sub>${number(name)}</sub>[${t}]`;
  const sent = (name) => rule === "blocked" || name !== "frame" ? tick - (name !== "frame") : tick;
  const title = { blocked: "Backpropagation", chain: "Sideways", skip: "Skip-Sideways", delayed: `Delayed, n = ${run.learn_every}` }[rule];
  const parts = [`<h3>${unit} at tick ${tick} <small>(${title})</small></h3><button type="button" class="close" aria-label="Close">×</button>`];

  if (activation.length) {
    const merged = inputs.map((j) => a(j, sent(j))).join(" ‖ ");
    parts.push("<h4>Forward</h4>",
      ...inputs.map((j) => `<p>reads ${j === "frame" ? "the frame of this tick" : `what ${j} sent at tick ${sent(j)}`}: frame${
        (j === "frame" ? [tick] : run.cells[tick - 1][j].activation).length > 1 ? "s" : ""} ${
        chips(j === "frame" ? [tick] : run.cells[tick - 1][j].activation)}</p>`),
      `<p class="formula">${input(index, tick)} = ${merged}<br>a<sub>${index}</sub>[${tick}] = H<sub>${index}</sub>(${input(index, tick)}; θ<sub>${index}</sub>)</p>`);
  }
  if (rule === "delayed") parts.push(...pullWords(run, unit, tick));
  else if (gradient.length) {
    const at = rule === "blocked" ? tick - run.first_backward[unit] + run.first_forward[unit] : tick;
    const incoming = consumers.length
      ? consumers.map((c) => `g<sub>${number(c)}→${index}</sub>[${tick - 1}]`).join(" + ")
      : `∂ℓ/∂a<sub>${index}</sub>[${tick}]`;
    const down = inputs.filter((j) => j !== "frame").map((j) => `g<sub>${index}→${number(j)}</sub>[${tick}]`);
    parts.push("<h4>Backward</h4>",
      `<p>reads ${consumers.length ? consumers.map((c) => `what ${c} sent at tick ${tick - 1}`).join(" and ") : "the gradient of the loss on its own output"}</p>`,
      `<p class="formula">g<sub>${index}</sub>[${tick}] = ${incoming}<br>` +
      `dθ<sub>${index}</sub>[${tick}] = (∂H<sub>${index}</sub>/∂θ<sub>${index}</sub>)<sup>⊤</sup> g<sub>${index}</sub>[${tick}] <small>at ${input(index, at)}</small>` +
      (down.length ? `<br>${down.join(", ")} = (∂H<sub>${index}</sub>/∂input<sub>${index}</sub>)<sup>⊤</sup> g<sub>${index}</sub>[${tick}]` : "") + "</p>",
      "<h4>Frames that its gradient pairs</h4>", pairTable(gradient, at), `<p class="verdict">${verdict(frames, rule)}</p>`);
  }
  if (waiting.length) parts.push(`<p>Idle. It keeps what it computed from frame ${chips(waiting)} until the gradient of that frame comes.</p>`);
  else if (!activation.length && !gradient.length) {
    parts.push(`<p>${rule === "blocked" ? "Idle: it waits for the next frame that may enter." : `Nothing has reached it yet: its first forward is at tick ${run.first_forward[unit]}.`}</p>`);
  } else if (!gradient.length && rule !== "blocked" && rule !== "delayed") {
    parts.push(`<p>No gradient yet: its first backward is at tick ${run.first_backward[unit]}.</p>`);
  }
  return parts.join("");
}

/** The backward of Delayed at one tick: the gradient that is pulled, if any, and the inputs that are kept. */
function pullWords(run, unit, tick) {
  const { activation, gradient, pulled: s, kept, learns } = run.cells[tick][unit], isTop = !run.consumers[unit].length;
  if (!activation.length) return [];
  const number = (name) => run.units.findIndex((u) => u.name === name) + 1, i = number(unit);
  const parts = ["<h4>Backward</h4>"];
  if (s === null) {
    parts.push(`<p>${isTop ? "The loss of this tick is not marked: the frame is answered, and teaches nothing." : "No gradient is complete at this tick."}</p>`);
  } else {
    const senders = sendersOf(run, run.cells, unit, s), lengths = run.path_lengths[unit];
    const sent = senders.map(({ from, sent: at }) => `what ${from} sent at tick ${at}${at < tick - 1 ? ` (it has waited for ${plural(tick - 1 - at, "tick")})` : ""}`);
    const incoming = isTop ? `∂ℓ/∂a<sub>${i}</sub>[${s}]` : senders.map(({ from }) => `g<sub>${number(from)}→${i}</sub>[${s + 1}]`).join(" + ");
    const down = run.units[i - 1].inputs.filter((j) => j !== "frame").map((j) => `g<sub>${i}→${number(j)}</sub>[${s}]`);
    const losses = lengths.map((length) => s + length).filter(run.memory.isMarked);
    parts.push(`<p>reads ${isTop ? "the gradient of the loss on its own output: this loss is marked" : sent.join(" and ")}</p>`);
    if (!isTop) parts.push(`<p>runs again on the input of tick ${s}, which it kept for ${plural(tick - s, "tick")}</p>`);
    parts.push(`<p class="formula">g<sub>${i}</sub>[${s}] = ${incoming}<br>` +
      `dθ<sub>${i}</sub>[${s}] = (∂H<sub>${i}</sub>/∂θ<sub>${i}</sub>)<sup>⊤</sup> g<sub>${i}</sub>[${s}] <small>at ${input(i, s)}</small>` +
      (down.length ? `<br>${down.join(", ")} = (∂H<sub>${i}</sub>/∂input<sub>${i}</sub>)<sup>⊤</sup> g<sub>${i}</sub>[${s}]` : "") + "</p>",
    `<p>${!learns ? `does not update θ<sub>${i}</sub> yet: another part of its gradient of this loss is still to come`
      : `updates θ<sub>${i}</sub>${longestByRemainder(lengths, run.learn_every).length > 1 ? " from the sum of its gradients since the last update" : ""}`}</p>`,
    "<h4>Frames that its gradient pairs</h4>", pairTable(gradient, s), `<p class="verdict">${exactness(losses, run)}</p>`);
  }
  if (isTop) return parts;
  const forgets = kept.includes(tick) ? "" : "No marked loss depends on its activation of this tick, so it forgets this input.";
  return [...parts, `<h4>Inputs that it keeps</h4><p>${kept.length ? `${kept.length}, of tick${kept.length > 1 ? "s" : ""} ${listed(kept)}.` : "None."} ${forgets}</p>`];
}

function exactness(losses, { learn_every: n, depth }) {
  const cycle = 2 * depth - 1, ends = losses.length > 1 ? "es of ticks" : " of tick";
  const gradient = `the <b>exact</b> gradient of the marked loss${ends} ${listed(losses)}: every Jacobian is taken at the input that the gradient belongs to`;
  return n >= cycle ? `This is ${gradient}, and no parameters change on its way, as n ≥ 2D − 1 = ${cycle}.`
    : `With frozen parameters this is ${gradient}. Parameters may change on its way, as n < 2D − 1 = ${cycle}.`;
}

/** Write ascending numbers as `3 … 7` if they follow each other, else as `3, 5 and 7`. */
function listed(numbers) {
  const last = numbers.at(-1);
  if (numbers.length > 2 && last - numbers[0] === numbers.length - 1) return `${numbers[0]} … ${last}`;
  return numbers.length > 1 ? `${numbers.slice(0, -1).join(", ")} and ${last}` : `${last}`;
}

/** A row for each tick, from the loss down to the unit itself: the frames in the activations of that tick's Jacobians.
 *
 * own: the tick of the unit's own Jacobian. */
function pairTable(gradient, own) {
  const ticks = distinct(gradient.map(([, t]) => t));
  const rows = ticks.map((t) => `<p>Jacobian${t === own ? " of this unit" : ""} at tick ${t}: ${
    chips(distinct(gradient.filter(([, of]) => of === t).map(([frame]) => frame)))}</p>`);
  return (ticks.at(-1) === own ? rows : rows.toReversed()).join("");
}

function verdict(frames, rule) {
  if (frames.length === 1) return `One frame throughout: the exact gradient of frame ${frames[0]}.`;
  return `A <b>pseudo-gradient</b>: it mixes moments ${plural(frames.at(-1) - frames[0], "frame")} apart. ` +
    "On a still picture it equals the gradient.";
}

function numberWords(all, now) {
  const plan = all.skip, n = plan.units.length, cycle = 2 * plan.depth - 1;
  const range = (lengths) => (lengths.length === 1 ? 2 * lengths[0] : `${2 * lengths[0]} … ${2 * lengths.at(-1)}`);
  const learnEvery = plan.learn_every;
  return `<h3>What follows from the graph</h3>
    <dl><dt>depth <i>D</i>, units on the longest path</dt><dd id="is-depth">${plan.depth}</dd>
    <dt>latency <i>D</i> − 1: frame to output</dt><dd id="is-latency">${plural(plan.latency, "tick")}</dd>
    <dt>update cycle of backpropagation, 2<i>D</i> − 1</dt><dd id="is-cycle">${plural(cycle, "tick")}</dd></dl>
    <table><thead><tr><th>unit</th><th>first<br>forward</th><th>first<br>backward</th><th>out of step,<br>frames</th><th>Delayed<br>keeps</th></tr></thead>
    <tbody>${plan.units.toReversed().map(({ name }) => `<tr><td>${name}</td><td>tick ${plan.first_forward[name]}</td><td>tick ${plan.first_backward[name]}</td><td>${range(plan.path_lengths[name])}</td><td>${plan.most_kept[name]}</td></tr>`).join("")}</tbody></table>
    <h4>Passes (forward or backward of a unit) per tick</h4>
    <table><thead><tr><th></th><th>at tick ${now}</th><th>in the long run</th></tr></thead><tbody>
    <tr><td>Backpropagation</td><td id="passes-blocked">${passes(all.blocked.cells[now], now)}</td><td>${(2 * n / cycle).toFixed(1)}</td></tr>
    <tr><td>Sideways</td><td id="passes-chain">${passes(all.chain.cells[now], now)}</td><td>${2 * n}</td></tr>
    <tr><td>Skip-Sideways</td><td id="passes-skip">${passes(all.skip.cells[now], now)}</td><td>${2 * n}</td></tr>
    <tr><td>Delayed, <i>n</i> = ${learnEvery}</td><td id="passes-delayed">${passes(all.delayed.cells[now], now)}</td><td id="long-run-delayed">${passesOfDelayed(plan, learnEvery).toFixed(1)}</td></tr></tbody></table>
    <p class="note">Out of step: how many frames older than the unit's activation its gradient's loss is, along the shortest
    and the longest path to the top (Skip-Sideways' graph). Delayed keeps at most so many inputs of a unit at a
    time; for each gradient that a unit below the top pulls, it runs forward once more.</p>`;
}

function deviceBars(n, devices) {
  const used = utilisation(n, devices);
  const bar = (name, part) => `<p><span>${name}</span><span><b>${whole(part)} %</b>, bubble ${100 - whole(part)} %</span></p>` +
    `<i><b style="width:${100 * part}%"></b></i>`;
  return bar("Backpropagation", used.blocked) + bar("GPipe, 8 micro-batches", used.gpipe) + bar("Sideways, with or without skips", used.sideways) +
    `<p class="note">Work as part of the devices' time: ${n === 1 ? "one unit" : `${n} equal units in contiguous groups`}, the first ticks of
    a clip left out. Skip edges change nothing: each unit still runs once per tick.</p>`;
}
