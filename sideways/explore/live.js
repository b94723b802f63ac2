// Drawing the three networks that learn: what each unit holds, its cosine, and the curves.

const LINES = { blocked: "var(--line-1)", sideways: "var(--line-2)", delayed: "var(--line-3)" };
const percent = (part) => `${Math.round(100 * part)} %`;
const signed = (value) => (value < -0.005 ? "−" : "") + Math.abs(value).toFixed(2);

/** Make an HTML element from its tag, class and content. */
function html(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

/** Draw one network at the last tick: its answer, and a row for each unit, the top first. */
function learnerBox(lesson, { rule, title }) {
  const box = html("section", "card learner", html("h3", "", title));
  box.style.setProperty("--own", LINES[rule]);
  const last = curve(lesson.bins[rule]).at(-1), answer = lesson.answers[rule], { classes } = TASKS[lesson.options.task];
  box.append(html("p", "score", html("b", "", last ? percent(last.accuracy) : "–"), ` right (chance ${percent(1 / classes.length)}), loss `,
    html("b", "", last ? last.loss.toFixed(2) : "–")));
  const said = answer ? `frame ${answer.of}: “${classes[answer.given]}” ${answer.given === answer.right ? "✓" : `✗ (${classes[answer.right]})`}` : "no answer yet";
  box.append(html("p", "said", said));
  const width = 340, high = 30, units = lesson.plan.units.toReversed(), height = units.length * high + 50;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${said}` });
  const t = lesson.ticks ? (lesson.ticks - 1) % clipLength(lesson.options.depth) : null;
  units.forEach(({ name }, i) => {
    const y = i * high + 2;
    root.append(svg("text", { x: 0, y: y + 10, "font-size": 13, class: "label", "dominant-baseline": "central" }, name));
    const cell = t === null ? null : lesson.cells[rule][t][name], place = (frame) => lesson.clip.places[frame][0];
    for (const [frames, solid, x] of cell ? heldBy(lesson, rule, name, t) : [[[], [], 26], [[], [], 122]]) {
      root.append(strip(frames, solid, place, x, y, 90, 20));
    }
    root.append(...cosineBar(lesson.cosines[rule]?.[name], 222, y, 76, 20));
  });
  const base = units.length * high + 6;
  root.append(svg("text", { x: 0, y: base + 10, "font-size": 10, class: "axis", "dominant-baseline": "central" }, "film"));
  if (t !== null) root.append(pixelStrip(lesson.clip.frames[t].values.subarray(0, RING), 26, base, 90, 20));
  const note = (x, text, anchor = "middle") => root.append(svg("text", { x, y: height - 6, "font-size": 10.5, class: "axis", "text-anchor": anchor }, text));
  note(71, "holds");
  note(167, "gradient of");
  note(260, "cosine");
  box.append(root);
  return box;
}

/** The two strips of a unit: [frames, solid, x] of its activation, or of what it keeps while it waits, and of its gradient. */
function heldBy(lesson, rule, name, t) {
  const cells = lesson.cells[rule], { activation, gradient, waiting } = cells[t][name];
  const solid = lossFramesOf(rule, { ...lesson.plan, learn_every: lesson.options.n }, cells)(name, t);
  return [[activation.length ? activation : waiting, activation, 26], [distinct(gradient.map(([frame]) => frame)), solid, 122]];
}

/** Draw a cosine as a bar from the middle, to the left if it is negative, and its number. */
function cosineBar(value, x, y, width, height) {
  const most = width / 2, middle = x + most, parts = [svg("rect", { class: "strip", x, y, width, height, rx: 3 })];
  if (value !== undefined) {
    const long = Math.abs(value) * most;
    parts.push(svg("rect", { class: value < 0 ? "cosine negative" : "cosine", x: value < 0 ? middle - long : middle, y: y + 3, width: long, height: height - 6 }),
      svg("text", { class: "number", x: x + width + 40, y: y + height / 2 + 0.5, "font-size": 12, "text-anchor": "end", "dominant-baseline": "central" }, signed(value)));
  }
  return [...parts, svg("path", { class: "zero", d: `M${middle},${y} v${height}` })];
}

/** Draw the curves of loss and accuracy over the ticks, each with the line of chance. width: of a chart, in pixels. */
function charts(lesson, width) {
  const classes = TASKS[lesson.options.task].classes.length, guess = Math.log(classes);
  const curves = Object.fromEntries(LEARNERS.map(({ rule }) => [rule, curve(lesson.bins[rule])]));
  const highest = Math.max(1.25 * guess, Math.min(3 * guess, Math.max(0, ...Object.values(curves).flat().map(({ loss }) => loss))));
  return [
    chart("Accuracy", curves, "accuracy", 1, [1 / classes, `chance, ${percent(1 / classes)}`], percent, lesson.ticks, width),
    chart("Loss (cross-entropy, nats)", curves, "loss", highest, [guess, `guessing, ln ${classes}`], (value) => value.toFixed(2), lesson.ticks, width),
  ];
}

function chart(title, curves, key, most, [chanceAt, chanceWords], write, ticks, width) {
  const [height, left, right, top, bottom] = [260, 52, 138, 30, 34];
  const root = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  const span = Math.max(400, ticks), x = (tick) => left + (tick / span) * (width - left - right);
  const y = (value) => height - bottom - (Math.min(value, most) / most) * (height - top - bottom);
  root.append(svg("text", { class: "label", x: left, y: 17, "font-size": 15 }, title));
  const text = (words, at, down, anchor, name = "axis") => svg("text", { class: name, x: at, y: down, "font-size": 12.5, "text-anchor": anchor, "dominant-baseline": "central" }, words);
  for (let i = 0; i <= 4; i++) {
    const value = (most * i) / 4;
    root.append(svg("path", { class: "grid", d: `M${left},${y(value)} H${width - right}` }), text(write(value), left - 7, y(value), "end"));
  }
  const step = [100, 200, 500, 1000, 2000, 5000, 10000, 20000].find((size) => span / size <= width / 110) ?? 50000;
  for (let tick = 0; tick <= span; tick += step) root.append(text(tick, x(tick), height - bottom + 14, "middle"));
  root.append(text("ticks", width - right, height - 7, "end"),
    svg("path", { class: "chance", d: `M${left},${y(chanceAt)} H${width - right}` }), text(chanceWords, width - right + 6, y(chanceAt), "start"));
  const ends = [];
  for (const { rule, title: name } of LEARNERS) {
    const points = curves[rule];
    if (!points.length) continue;
    root.append(svg("path", { class: "curve", stroke: LINES[rule], d: `M${points.map((p) => `${x(p.tick).toFixed(1)},${y(p[key]).toFixed(1)}`).join(" L")}` }));
    ends.push({ rule, name, at: y(points.at(-1)[key]) });
  }
  for (const end of placed(ends, y(chanceAt), height - bottom + 4)) {
    const label = text(end.name, width - right + 6, end.at, "start", "line-name");
    label.style.fill = LINES[end.rule];
    root.append(label);
  }
  return root;
}

/** Move the names at the ends of the lines apart: 15 pixels from each other and from the name of the line of chance. */
function placed(ends, taken, lowest) {
  const sorted = ends.toSorted((a, b) => a.at - b.at).map((end) => ({ ...end }));
  for (const end of sorted) if (Math.abs(end.at - taken) < 15) end.at = end.at < taken ? taken - 15 : taken + 15;
  sorted.forEach((end, i) => {
    if (i && end.at - sorted[i - 1].at < 15) end.at = sorted[i - 1].at + 15;
    if (Math.abs(end.at - taken) < 15) end.at = taken + 15;
  });
  const over = Math.max(0, (sorted.at(-1)?.at ?? 0) - lowest);
  return sorted.map((end) => ({ ...end, at: end.at > taken ? Math.max(taken + 15, end.at - over) : end.at }));
}
