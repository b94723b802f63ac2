// The page: its state, its graph, and the answers to clicks and keys.

// Graph → its schedule and cells, from the library.
const GRAPHS = JSON.parse(document.getElementById("graphs").textContent);
const START = { depth: 5, skips: [[1, 4]], rule: "skip", now: 11, chosen: { unit: "u4", tick: 11 }, learnEvery: 1, devices: 4 };
const DEEPEST = 8;
const byId = (id) => document.getElementById(id);
const state = { ...structuredClone(START), playing: null };

// The graph -----------------------------------------------------------------------------------------------------------

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
function runs() {
  const chain = lookUp(state.depth, []), skip = lookUp(state.depth, state.skips, state.learnEvery), cycle = 2 * chain.depth - 1;
  const uses = () => true, most = Math.max(...Object.values(skip.most_kept));
  return {
    blocked: { ...chain, cells: chain.blocked, cycle, uses: (t) => t % cycle === 0, messages: messagesOf(chain, chain.blocked, blockedGradients) },
    chain: { ...chain, cells: chain.sideways, uses, messages: messagesOf(chain, chain.sideways, sidewaysGradients) },
    skip: { ...skip, cells: skip.sideways, uses, messages: messagesOf(skip, skip.sideways, sidewaysGradients) },
    delayed: { ...skip, cells: skip.delayed, uses, messages: messagesOf(skip, skip.delayed, delayedGradients),
      memory: { most, ...marksOf(skip, state.learnEvery) } },
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

// Drawing -------------------------------------------------------------------------------------------------------------

const drawn = {}; // rule → the diagram on the page, and the width and graph that it was drawn for

function render() {
  state.learnEvery = Math.min(state.learnEvery, highestN(state.depth));
  const all = runs(), ticks = all.chain.cells.length, words = captions(all, state.skips);
  state.now = Math.min(state.now, ticks - 1);
  const room = document.querySelector(".scroll").clientWidth - NAMES - 6;
  const wide = Math.max(38, Math.min(58, Math.floor(room / ticks)));
  for (const figure of document.querySelectorAll("figure")) {
    const rule = figure.dataset.rule, box = figure.querySelector(".scroll");
    const drawnFor = JSON.stringify([wide, state.depth, state.skips, rule === "delayed" && state.learnEvery]);
    if (drawn[rule]?.for !== drawnFor) {
      drawn[rule] = { for: drawnFor, ...diagram(all[rule], wide) };
      box.replaceChildren(...drawn[rule].elements);
      figure.querySelector("span").textContent = words[rule];
    }
    drawn[rule].turn({ now: state.now, chosen: state.rule === rule ? state.chosen : null });
    box.setAttribute("aria-label", `${figure.querySelector("h2").textContent}, tick ${state.now}`);
  }
  byId("n").max = highestN(state.depth);
  byId("n").value = state.learnEvery;
  byId("n-is").textContent = `n = ${state.learnEvery}`;
  setText(byId("dial-words"), dialWords(all.delayed));
  byId("scrub").max = ticks - 1;
  byId("scrub").value = state.now;
  byId("tick").textContent = `tick ${state.now} of ${ticks - 1}`;
  byId("play").textContent = state.playing ? "Pause" : "Play";
  byId("cell").innerHTML = state.chosen ? cellWords(all[state.rule], state.rule, state.chosen)
    : "<h2>Choose a cell</h2><p>Click one in a diagram.</p>";
  renderGraph(all);
  byId("numbers").innerHTML = numberWords(all, state.now);
  const n = all.chain.units.length;
  state.devices = Math.min(state.devices, n);
  Object.assign(byId("k"), { max: n });
  byId("k").value = state.devices;
  byId("k-is").textContent = state.devices;
  document.querySelector(".bars").innerHTML = deviceBars(n, state.devices);
  for (const box of document.querySelectorAll(".scroll")) follow(box, NAMES + state.now * wide, wide);
}

/** Write a text that a screen reader announces only if it is a new one. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function renderGraph(all) {
  const names = ["frame", ...all.chain.units.map(({ name }) => name)];
  document.querySelector(".sketch").replaceChildren(sketch(all.chain.units, state.skips));
  byId("depth").textContent = state.depth;
  byId("shallower").disabled = state.depth === 1;
  byId("deeper").disabled = state.depth === DEEPEST;
  const source = byId("source"), consumer = byId("consumer");
  const from = Number(source.value || 0), to = Number(consumer.value || 0);
  const options = (list, value) => list.map((i) => new Option(names[i], i, false, i === value));
  const numbers = [...names.keys()], sources = numbers.slice(0, -2);
  source.replaceChildren(...options(sources, from));
  const targets = numbers.slice(Number(source.value || 0) + 2);
  consumer.replaceChildren(...options(targets, to));
  source.disabled = consumer.disabled = byId("add").disabled = !sources.length;
  byId("skips").replaceChildren(...state.skips.map(([a, b]) => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.type = "button";
    button.textContent = `${names[a]} → ${names[b]}  ×`;
    button.setAttribute("aria-label", `Remove the skip edge from ${names[a]} to ${names[b]}`);
    button.onclick = () => edit(state.depth, state.skips.filter(([c, d]) => c !== a || d !== b));
    item.append(button);
    return item;
  }));
}

/** Scroll a diagram that is wider than the screen, so that the tick stays in sight. */
function follow(box, x, wide) {
  const hidden = x - wide < box.scrollLeft + NAMES || x + 2 * wide > box.scrollLeft + box.clientWidth;
  if (hidden) box.scrollLeft = x - 0.6 * box.clientWidth;
}

// Answers to the reader -----------------------------------------------------------------------------------------------

function go(tick) {
  const last = ticksOf(state.depth) - 1;
  state.now = Math.max(0, Math.min(last, tick));
  if (state.chosen) state.chosen = { ...state.chosen, tick: state.now };
  render();
}

function choose(rule, unit, tick) {
  Object.assign(state, { rule, chosen: { unit, tick }, now: Math.max(state.now, tick) });
  render();
}

function edit(depth, skips) {
  state.depth = depth;
  state.skips = skips.filter(([, to]) => to <= depth).toSorted((a, b) => a[1] - b[1] || a[0] - b[0]);
  if (state.chosen && Number(state.chosen.unit.slice(1)) > depth) state.chosen.unit = `u${depth}`;
  if (state.chosen) state.chosen.tick = Math.min(state.chosen.tick, ticksOf(depth) - 1);
  render();
}

function play(on) {
  clearInterval(state.playing);
  const atEnd = state.now >= ticksOf(state.depth) - 1;
  state.playing = on ? setInterval(() => {
    if (state.now + 1 >= ticksOf(state.depth)) play(false);
    else go(state.now + 1);
  }, Number(byId("speed").value)) : null;
  go(on && atEnd ? 0 : state.now);
}

byId("first").onclick = () => go(0);
byId("back").onclick = () => go(state.now - 1);
byId("step").onclick = () => go(state.now + 1);
byId("play").onclick = () => play(!state.playing);
byId("speed").onchange = () => state.playing && play(true);
byId("scrub").oninput = (event) => go(Number(event.target.value));
byId("n").oninput = (event) => { state.learnEvery = Number(event.target.value); render(); };
byId("k").oninput = (event) => { state.devices = Number(event.target.value); render(); };
byId("shallower").onclick = () => edit(state.depth - 1, state.skips);
byId("deeper").onclick = () => edit(state.depth + 1, state.skips);
byId("source").onchange = render;
byId("reset").onclick = () => { play(false); Object.assign(state, structuredClone(START)); render(); };
byId("add").onclick = () => {
  const edge = [Number(byId("source").value), Number(byId("consumer").value)];
  if (!state.skips.some(([a, b]) => a === edge[0] && b === edge[1])) edit(state.depth, [...state.skips, edge]);
};
byId("theme").onclick = () => {
  const root = document.documentElement, dark = getComputedStyle(root).colorScheme === "dark";
  root.dataset.theme = dark ? "light" : "dark";
};

for (const figure of document.querySelectorAll("figure")) {
  const rule = figure.dataset.rule, box = figure.querySelector(".scroll");
  box.onclick = (event) => {
    const cell = event.target.closest("[data-unit]");
    if (cell) choose(rule, cell.dataset.unit, Number(cell.dataset.tick));
  };
  box.onkeydown = (event) => {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[event.key];
    if (!steps) return;
    event.preventDefault();
    const { unit, tick } = state.chosen ?? { unit: "u1", tick: state.now };
    const index = Math.max(1, Math.min(state.depth, Number(unit.slice(1)) + steps[0]));
    choose(rule, `u${index}`, Math.max(0, Math.min(ticksOf(state.depth) - 1, tick + steps[1])));
  };
}

document.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("button, select, input");
  const action = { " ": () => play(!state.playing), ",": () => go(state.now - 1), ".": () => go(state.now + 1), Home: () => go(0) }[event.key];
  if (!action || (typing && (event.key === " " || event.key === "Home"))) return;
  event.preventDefault();
  action();
};
window.onresize = render;

const legend = (meaning, ...shapes) => {
  const item = document.createElement("span"), picture = svg("svg", { width: 40, height: 34 }, ...shapes);
  item.append(picture, meaning);
  byId("legend").append(item);
};
const example = (cell) => cellShape({ activation: [], gradient: [], waiting: [], ...cell }, 1, 1, 38, 32);
legend("upper half: the frames in the unit's activation", example({ activation: [6] }));
legend("lower half: the frames mixed in its gradient", example({ gradient: [[2, 0], [6, 0]] }));
legend("dashed: kept while it waits", example({ waiting: [0] }));
legend("flag: a loss that Delayed learns from", flag(1, 24, 38));
legend("below a cell: the inputs that Delayed keeps", keptShape(3, 5, 1, 9, 38));
render();
