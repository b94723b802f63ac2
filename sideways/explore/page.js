// The page: its state, what it shows of it, and the answers to clicks and keys.

const byId = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** The state with which a chapter begins. */
const startOf = (chapter) => structuredClone({ ...FIRST, ...CHAPTERS[chapter - 1].start });
const state = { chapter: 1, ...startOf(1) };
const chapterNow = () => CHAPTERS[state.chapter - 1];
const isLive = () => chapterNow().rules.includes("live");
let playing = null, guess = null, lesson = null, lastPlace = null;

// Showing -------------------------------------------------------------------------------------------------------------

const drawn = {}; // rule → the diagram on the page, and the width and graph that it was drawn for

/** Show the state. moving: true to let the messages of the tick travel. */
function render(moving = false) {
  const { rules, controls } = chapterNow();
  state.n = Math.min(state.n, highestN(state.depth));
  state.tick = Math.min(state.tick, ticksOf(state.depth) - 1);
  for (const element of all("[data-control]")) element.hidden = !controls.includes(element.dataset.control);
  for (const figure of all("figure")) figure.hidden = !rules.includes(figure.dataset.rule);
  document.querySelector(".stage").hidden = isLive();
  byId("live").hidden = !isLive();
  byId("signs").hidden = !rules.includes("signs");
  byId("numbers").hidden = !controls.includes("numbers");
  byId("devices").hidden = !controls.includes("devices");
  byId("back").disabled = byId("scrub").disabled = isLive();
  renderControls();
  if (isLive()) renderLive();
  else renderDiagrams(moving && !calm.matches);
  if (rules.includes("signs")) renderSigns();
  clearTimeout(lastPlace);
  lastPlace = setTimeout(writeAddress, 150); // browsers refuse many changes of the address in a short time
}

function renderDiagrams(moving) {
  const runs = runsOf(state), ticks = ticksOf(state.depth), words = captions(runs, state.skips);
  const { rules } = chapterNow(), chosen = rules.includes(state.cell?.rule) && state.cell.tick <= state.tick ? state.cell : null;
  byId("cell").hidden = !chosen;
  byId("cell").innerHTML = chosen ? cellWords(runs[chosen.rule], chosen.rule, chosen) : "";
  document.querySelector(".stage").classList.toggle("with-cell", Boolean(chosen));
  const wide = Math.max(56, Math.min(78, Math.floor((document.querySelector(".diagrams").clientWidth - NAMES - 6) / ticks)));
  const place = (frame) => placeOf(frame, state.speed);
  for (const figure of all("figure:not([hidden])")) {
    const { rule } = figure.dataset, box = figure.querySelector(".scroll");
    const drawnFor = JSON.stringify([wide, state.depth, state.skips, state.speed, rule === "delayed" && state.n]);
    if (drawn[rule]?.for !== drawnFor) {
      drawn[rule] = { for: drawnFor, ...diagram(runs[rule], wide, place) };
      box.replaceChildren(...drawn[rule].elements);
      figure.querySelector("span").textContent = words[rule];
    }
    drawn[rule].turn({ now: state.tick, chosen: chosen?.rule === rule ? chosen : null, moving });
    box.setAttribute("aria-label", `${figure.querySelector("h3").textContent}, tick ${state.tick}`);
    follow(box, NAMES + state.tick * wide, wide);
  }
  setText(byId("dial-words"), dialWords(runs.delayed));
  byId("numbers").innerHTML = numberWords(runs, state.tick);
  const units = runs.chain.units.length;
  state.devices = Math.min(state.devices, units);
  byId("k").max = units;
  byId("k").value = state.devices;
  byId("k-is").textContent = state.devices;
  document.querySelector(".bars").innerHTML = deviceBars(units, state.devices);
  byId("legend").hidden = false;
}

function renderControls() {
  const names = ["frame", ...unitsOf(state.depth, []).map(({ name }) => name)], ticks = ticksOf(state.depth);
  byId("scrub").max = ticks - 1;
  byId("scrub").value = isLive() ? 0 : state.tick;
  byId("now").textContent = isLive() ? `tick ${lesson?.ticks ?? 0}` : `tick ${state.tick} of ${ticks - 1}`;
  byId("play").textContent = playing ? "Pause" : isLive() ? "Learn" : "Play";
  byId("depth").textContent = state.depth;
  byId("shallower").disabled = state.depth === 1;
  byId("deeper").disabled = state.depth === DEEPEST;
  byId("speed").value = SPEEDS.indexOf(state.speed);
  byId("speed-is").textContent = `${state.speed} px per frame`;
  byId("rate").value = RATES.indexOf(state.rate);
  byId("rate-is").textContent = state.rate;
  byId("task").value = state.task;
  byId("waits").checked = state.waits;
  byId("n").max = highestN(state.depth);
  byId("n").value = state.n;
  byId("n-is").textContent = `n = ${state.n}`;
  byId("graph").replaceChildren(sketch(unitsOf(state.depth, state.skips), state.skips));
  renderSkips(names);
}

function renderSkips(names) {
  const source = byId("source"), consumer = byId("consumer"), from = Number(source.value || 0), to = Number(consumer.value || 0);
  const options = (list, value) => list.map((i) => new Option(names[i], i, false, i === value));
  source.replaceChildren(...options([...names.keys()].slice(0, -2), from));
  consumer.replaceChildren(...options([...names.keys()].slice(Number(source.value || 0) + 2), to));
  source.disabled = consumer.disabled = names.length < 3;
  const isThere = state.skips.some(([a, b]) => a === Number(source.value) && b === Number(consumer.value));
  byId("add").disabled = source.disabled || isThere;
  byId("add").textContent = isThere ? "is there" : "Add";
  byId("skips").replaceChildren(...state.skips.map(([a, b]) => {
    const button = html("button", "", `${names[a]} → ${names[b]}  ×`);
    button.type = "button";
    button.setAttribute("aria-label", `Remove the skip edge from ${names[a]} to ${names[b]}`);
    button.onclick = () => edit(state.depth, state.skips.filter(([c, d]) => c !== a || d !== b));
    return button;
  }));
}

function renderLive() {
  const { depth, skips, task, speed, rate, n, seed, waits } = state, options = { depth, skips, task, speed, rate, n, seed, waits };
  if (JSON.stringify(lesson?.options) !== JSON.stringify(options)) {
    lesson = newLesson(structuredClone(options));
    byId("now").textContent = "tick 0";
  }
  document.querySelector(".learners").replaceChildren(...LEARNERS.map((learner) => learnerBox(lesson, learner)));
  const box = document.querySelector(".charts"), columns = box.clientWidth > 800 ? 2 : 1;
  box.replaceChildren(...charts(lesson, Math.max(340, Math.min(680, box.clientWidth / columns))));
}

let measured = null; // {of: the graph and speed, cosines}

function renderSigns() {
  const { depth, skips, speed } = state, of = JSON.stringify([depth, skips, speed]);
  if (measured?.of !== of) measured = null;
  byId("signs").replaceChildren(...signsTable(comparisons(unitsOf(depth, skips)), speed, measured?.cosines, () => {
    measured = { of, cosines: measuredCosines(depth, skips, speed) };
    renderSigns();
  }));
}

/** Write a text that a screen reader announces only if it is a new one. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Scroll a diagram that is wider than the screen, so that the tick stays in sight. */
function follow(box, x, wide) {
  const hidden = x - wide < box.scrollLeft + NAMES || x + 1.5 * wide > box.scrollLeft + box.clientWidth;
  if (hidden) box.scrollLeft = x - 0.6 * box.clientWidth;
}

function writeAddress() {
  const address = written(state, startOf(state.chapter));
  if (location.hash !== address) history.replaceState(null, "", address);
}

// The chapter ---------------------------------------------------------------------------------------------------------

/** Open a chapter as it begins, or with the settings of an address. */
function open(chapter, settings = {}) {
  play(false);
  Object.assign(state, { chapter }, startOf(chapter), settings);
  state.skips = state.skips.filter(([, to]) => to <= state.depth);
  if (state.cell && Number(state.cell.unit.slice(1)) > state.depth) state.cell = null;
  [guess, lesson] = [null, null];
  const { title, text, question, choices } = chapterNow();
  document.querySelector("#chapter h2").textContent = `${chapter}. ${title}`;
  document.querySelector("#chapter .text").innerHTML = text;
  document.querySelector("#question .ask").textContent = question;
  document.querySelector(".choices").replaceChildren(...choices.map((choice, i) => {
    const input = html("input", "");
    Object.assign(input, { type: "radio", name: "choice", value: i, onchange: () => { guess = i; } });
    return html("label", "", input, ` ${choice}`);
  }));
  byId("answer").hidden = byId("show").hidden = true;
  byId("reveal").hidden = false;
  all("#chapters button").forEach((button, i) => button.setAttribute("aria-current", i + 1 === chapter ? "step" : "false"));
  render();
}

byId("question").onsubmit = (event) => {
  event.preventDefault();
  const { right, choices, answer, show } = chapterNow();
  const verdict = guess === null ? "" : guess === right ? "<b>Right.</b> " : `<b>Not quite: ${choices[right]}.</b> `;
  byId("answer").innerHTML = `<p>${verdict}${answer}</p>`;
  byId("answer").hidden = false;
  byId("reveal").hidden = true;
  byId("show").hidden = !Object.keys(show).length;
  all(".choices label").forEach((label, i) => label.classList.toggle("right", i === right));
};
byId("show").onclick = () => {
  play(false);
  Object.assign(state, structuredClone(chapterNow().show));
  render();
  showClock();
};

/** Scroll so that the clock, and with it the diagrams, are in sight. */
function showClock() {
  document.querySelector(".controls").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
}

// Answers to the reader -----------------------------------------------------------------------------------------------

function go(tick) {
  const before = state.tick;
  state.tick = Math.max(0, Math.min(ticksOf(state.depth) - 1, tick));
  if (state.cell) state.cell = { ...state.cell, tick: state.tick };
  render(state.tick === before + 1);
}

function choose(rule, unit, tick) {
  Object.assign(state, { cell: { rule, unit, tick }, tick: Math.max(state.tick, tick) });
  render();
}

function edit(depth, skips) {
  state.depth = depth;
  state.skips = skips.filter(([, to]) => to <= depth).toSorted((a, b) => a[1] - b[1] || a[0] - b[0]);
  if (state.cell && Number(state.cell.unit.slice(1)) > depth) state.cell.unit = `u${depth}`;
  if (state.cell) state.cell.tick = Math.min(state.cell.tick, ticksOf(depth) - 1);
  render();
}

function set(name, value) {
  state[name] = value;
  render();
}

function play(on) {
  clearInterval(playing);
  playing = null;
  if (on && isLive()) showClock();
  if (on && isLive()) playing = setInterval(learn, byId("pace").value === "300" ? 30 : Number(byId("pace").value) / 4);
  else if (on) {
    if (state.tick >= ticksOf(state.depth) - 1) state.tick = 0;
    playing = setInterval(() => (state.tick + 1 >= ticksOf(state.depth) ? play(false) : go(state.tick + 1)), Number(byId("pace").value));
  }
  byId("play").textContent = playing ? "Pause" : isLive() ? "Learn" : "Play";
}

/** Learn for one turn of the timer: one tick, or at the fast pace as many ticks as fit into 25 milliseconds. */
function learn() {
  const end = performance.now() + (playing && byId("pace").value === "300" ? 25 : 0);
  do {
    learnTick(lesson);
    if (lesson.ticks % PROBE === 0) measureLesson(lesson);
  } while (performance.now() < end);
  renderLive();
  byId("now").textContent = `tick ${lesson.ticks}`;
}

const step = () => (isLive() ? learn() : go(state.tick + 1));
const first = () => {
  if (!isLive()) return go(0);
  lesson = null;
  render();
};

byId("first").onclick = first;
byId("back").onclick = () => go(state.tick - 1);
byId("step").onclick = step;
byId("play").onclick = () => play(!playing);
byId("pace").onchange = () => playing && play(true);
byId("scrub").oninput = (event) => go(Number(event.target.value));
byId("speed").oninput = (event) => set("speed", SPEEDS[event.target.value]);
byId("rate").oninput = (event) => set("rate", RATES[event.target.value]);
byId("n").oninput = (event) => set("n", Number(event.target.value));
byId("k").oninput = (event) => set("devices", Number(event.target.value));
byId("task").onchange = (event) => set("task", event.target.value);
byId("waits").onchange = (event) => set("waits", event.target.checked);
byId("reseed").onclick = () => set("seed", state.seed + 1);
byId("shallower").onclick = () => edit(state.depth - 1, state.skips);
byId("deeper").onclick = () => edit(state.depth + 1, state.skips);
byId("source").onchange = byId("consumer").onchange = () => render();
byId("add").onclick = () => edit(state.depth, [...state.skips, [Number(byId("source").value), Number(byId("consumer").value)]]);
byId("reset").onclick = () => open(state.chapter);
byId("cell").onclick = (event) => event.target.closest(".close") && set("cell", null);
byId("theme").onclick = () => {
  const root = document.documentElement;
  root.dataset.theme = getComputedStyle(root).colorScheme === "dark" ? "light" : "dark";
};
byId("link").onclick = async () => {
  writeAddress();
  try {
    await navigator.clipboard.writeText(location.href);
    byId("link").textContent = "Copied";
  } catch {
    prompt("The address of this chapter, as it is set now:", location.href);
  }
  setTimeout(() => { byId("link").textContent = "Copy link"; }, 1500);
};

// The page that shows this one in a frame says whether it is dark.
window.onmessage = (event) => {
  if (event.source === parent && ["light", "dark"].includes(event.data?.scheme)) document.documentElement.dataset.theme = event.data.scheme;
};

for (const figure of all("figure")) {
  const { rule } = figure.dataset, box = figure.querySelector(".scroll");
  box.onclick = (event) => {
    const cell = event.target.closest("[data-unit]");
    if (cell && Number(cell.dataset.tick) <= state.tick) choose(rule, cell.dataset.unit, Number(cell.dataset.tick));
  };
  box.onkeydown = (event) => {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[event.key];
    if (!steps) return;
    event.preventDefault();
    event.stopPropagation();
    const { unit, tick } = state.cell ?? { unit: "u1", tick: state.tick };
    const index = Math.max(1, Math.min(state.depth, Number(unit.slice(1)) + steps[0]));
    choose(rule, `u${index}`, Math.max(0, Math.min(ticksOf(state.depth) - 1, tick + steps[1])));
  };
}

document.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return set("cell", null);
  if (event.target.closest("select, input") || (event.key === " " && event.target.closest("button"))) return;
  const chapter = Number(event.key);
  const action = { " ": () => play(!playing), ",": () => go(state.tick - 1), ".": step, ArrowLeft: () => isLive() || go(state.tick - 1),
    ArrowRight: step, Home: first, End: () => isLive() || go(ticksOf(state.depth) - 1) }[event.key]
    ?? (chapter >= 1 && chapter <= CHAPTERS.length ? () => open(chapter) : null);
  if (!action) return;
  event.preventDefault();
  action();
};
window.onresize = () => render();
window.onhashchange = () => openAddress();

function openAddress() {
  const { chapter, ...settings } = readAddress(location.hash, CHAPTERS.length);
  open(chapter, settings);
}

byId("chapters").replaceChildren(...CHAPTERS.map(({ title }, i) => {
  const button = html("button", "", html("b", "", String(i + 1)), html("span", "", title));
  Object.assign(button, { type: "button", title, onclick: () => open(i + 1) });
  return html("li", "", button);
}));

const legend = (meaning, width, ...shapes) => byId("legend").append(html("span", "", svg("svg", { width, height: 22 }, ...shapes), meaning));
legend("the ball in the frames that a unit holds", 54, strip([1, 3], [1, 3], (frame) => 2 + 3 * frame, 1, 2, 52, STRIP));
legend("a gradient: of the loss of the full ball’s frame, through Jacobians at the rings’ frames", 54, strip([0, 2, 4], [0], (frame) => 2 + 2.4 * frame, 1, 2, 52, STRIP));
legend("the numbers of these frames; 5–9: all from 5 to 9", 40, svg("text", { class: "frames", x: 2, y: 15, "font-size": 13 }, "0 2 4"));
openAddress();
