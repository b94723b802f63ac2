// The texts beside the diagrams, as HTML. These functions do not know the page's state.

const chips = (frames) => frames.map((frame) => {
  const [colour, ink] = colourOf(frame);
  return `<span class="chip" style="background:${colour};color:${ink}">${frame}</span>`;
}).join("");
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const whole = (part) => Math.round(100 * part);

function captions(all, skips) {
  const { cycle } = all.blocked;
  return {
    blocked: `locked: one frame of ${cycle} is used, each unit learns once in ${cycle} ticks`,
    chain: `nothing waits: from tick ${cycle - 1} on each unit learns at every tick`,
    skip: skips.length ? "two paths of different length bring different frames together"
      : "no skip edge: the same as Sideways; add one to see two moments meet",
  };
}

function cellWords(run, rule, { unit, tick }) {
  const index = run.units.findIndex(({ name }) => name === unit) + 1, { inputs } = run.units[index - 1];
  const { activation, gradient, waiting } = run.cells[tick][unit], consumers = run.consumers[unit];
  const number = (name) => run.units.findIndex((u) => u.name === name) + 1;
  const frames = distinct(gradient.map(([frame]) => frame));
  const a = (name, t) => name === "frame" ? `<b>x</b>[${t}]` : `a<sub>${number(name)}</sub>[${t}]`;
  const sent = (name) => rule === "blocked" || name !== "frame" ? tick - (name !== "frame") : tick;
  const title = { blocked: "Backpropagation", chain: "Sideways", skip: "Skip-Sideways" }[rule];
  const parts = [`<h2>${unit} at tick ${tick} <small>(${title})</small></h2>`];

  if (activation.length) {
    const merged = inputs.map((j) => a(j, sent(j))).join(" ‖ ");
    parts.push("<h3>Forward</h3>",
      ...inputs.map((j) => `<p>reads ${j === "frame" ? "the frame of this tick" : `what ${j} sent at tick ${sent(j)}`}: frame${
        (j === "frame" ? [tick] : run.cells[tick - 1][j].activation).length > 1 ? "s" : ""} ${
        chips(j === "frame" ? [tick] : run.cells[tick - 1][j].activation)}</p>`),
      `<p class="formula">u<sub>${index}</sub>[${tick}] = ${merged}<br>a<sub>${index}</sub>[${tick}] = H<sub>${index}</sub>(u<sub>${index}</sub>[${tick}]; θ<sub>${index}</sub>)</p>`);
  }
  if (gradient.length) {
    const at = rule === "blocked" ? tick - run.first_backward[unit] + run.first_forward[unit] : tick;
    const incoming = consumers.length
      ? consumers.map((c) => `g<sub>${number(c)}→${index}</sub>[${tick - 1}]`).join(" + ")
      : `∂ℓ/∂a<sub>${index}</sub>[${tick}]`;
    const down = inputs.filter((j) => j !== "frame").map((j) => `g<sub>${index}→${number(j)}</sub>[${tick}]`);
    parts.push("<h3>Backward</h3>",
      `<p>reads ${consumers.length ? consumers.map((c) => `what ${c} sent at tick ${tick - 1}`).join(" and ") : "the gradient of the loss on its own output"}</p>`,
      `<p class="formula">g<sub>${index}</sub>[${tick}] = ${incoming}<br>` +
      `dθ<sub>${index}</sub>[${tick}] = (∂H<sub>${index}</sub>/∂θ<sub>${index}</sub>)<sup>⊤</sup> g<sub>${index}</sub>[${tick}] <small>at u<sub>${index}</sub>[${at}]</small>` +
      (down.length ? `<br>${down.join(", ")} = (∂H<sub>${index}</sub>/∂u<sub>${index}</sub>)<sup>⊤</sup> g<sub>${index}</sub>[${tick}]` : "") + "</p>",
      "<h3>Frames that its gradient pairs</h3>", pairTable(gradient, tick, at), `<p class="verdict">${verdict(frames, rule)}</p>`);
  }
  if (waiting.length) parts.push(`<p>Idle. It keeps what it computed from frame ${chips(waiting)} until the gradient of that frame comes.</p>`);
  else if (!activation.length && !gradient.length) {
    parts.push(`<p>${rule === "blocked" ? "Idle: it waits for the next frame that may enter." : `Nothing has reached it yet: its first forward is at tick ${run.first_forward[unit]}.`}</p>`);
  } else if (!gradient.length && rule !== "blocked") {
    parts.push(`<p>No gradient yet: its first backward is at tick ${run.first_backward[unit]}.</p>`);
  }
  return parts.join("");
}

/** A row for each tick, from the loss down to the unit itself: the frames in the activations of that tick's Jacobians. */
function pairTable(gradient, tick, at) {
  const ticks = distinct(gradient.map(([, t]) => t));
  const rows = ticks.map((t) => `<p>Jacobian${t === at ? " of this unit" : ""} at tick ${t}: ${
    chips(distinct(gradient.filter(([, of]) => of === t).map(([frame]) => frame)))}</p>`);
  return (ticks.at(-1) === at ? rows : rows.toReversed()).join("");
}

function verdict(frames, rule) {
  if (frames.length === 1) return `One frame throughout: the exact gradient of frame ${frames[0]}.`;
  return `A <b>pseudo-gradient</b>: it mixes moments ${plural(frames.at(-1) - frames[0], "frame")} apart. ` +
    "On a still picture it equals the gradient.";
}

function numberWords(all, now) {
  const plan = all.skip, n = plan.units.length, cycle = 2 * plan.depth - 1;
  const range = ([least, most]) => (least === most ? 2 * least : `${2 * least} … ${2 * most}`);
  return `<h2>What follows from the graph</h2>
    <dl><dt>depth <i>D</i>, units on the longest path</dt><dd id="is-depth">${plan.depth}</dd>
    <dt>latency <i>D</i> − 1: frame to output</dt><dd id="is-latency">${plural(plan.latency, "tick")}</dd>
    <dt>update cycle of backpropagation, 2<i>D</i> − 1</dt><dd id="is-cycle">${plural(cycle, "tick")}</dd></dl>
    <table><thead><tr><th>unit</th><th>first<br>forward</th><th>first<br>backward</th><th>out of step,<br>frames</th></tr></thead>
    <tbody>${plan.units.toReversed().map(({ name }) => `<tr><td>${name}</td><td>tick ${plan.first_forward[name]}</td><td>tick ${plan.first_backward[name]}</td><td>${range(plan.to_top[name])}</td></tr>`).join("")}</tbody></table>
    <h3>Passes (forward or backward of a unit) per tick</h3>
    <table><thead><tr><th></th><th>at tick ${now}</th><th>in the long run</th></tr></thead><tbody>
    <tr><td>Backpropagation</td><td id="passes-blocked">${passes(all.blocked.cells[now])}</td><td>${(2 * n / cycle).toFixed(1)}</td></tr>
    <tr><td>Sideways</td><td id="passes-chain">${passes(all.chain.cells[now])}</td><td>${2 * n}</td></tr>
    <tr><td>Skip-Sideways</td><td id="passes-skip">${passes(all.skip.cells[now])}</td><td>${2 * n}</td></tr></tbody></table>
    <p class="note">Out of step: how many frames older than the unit's activation its gradient's loss is, along the shortest
    and the longest path to the top (Skip-Sideways' graph).</p>`;
}

function deviceBars(n, devices) {
  const used = utilisation(n, devices);
  const bar = (name, part) => `<p><span>${name}</span><span><b>${whole(part)} %</b>, bubble ${100 - whole(part)} %</span></p>` +
    `<i><b style="width:${100 * part}%"></b></i>`;
  return bar("Backpropagation", used.blocked) + bar("GPipe, 8 micro-batches", used.gpipe) + bar("Sideways, with or without skips", used.sideways) +
    `<p class="note">Work as part of the devices' time: ${plural(n, "equal unit")} in contiguous groups, the first ticks of
    a clip left out. Skip edges change nothing: each unit still runs once per tick.</p>`;
}
