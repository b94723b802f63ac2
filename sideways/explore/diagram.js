// Drawing: space-time diagrams of cells as SVG, and the sketch of the graph, without the page's state.
//
// A cell is two strips of film, each with the numbers of its frames below. The upper strip is the unit's activation: the
// ball where it is in each frame that is mixed in it. The lower strip is its gradient: full balls for the frames whose
// loss it is the gradient of, rings for the other frames whose activations gave its Jacobians.

const NAMES = 58; // the width of the column of names
const STRIP = 18, NUMBERS = 13, HALF = STRIP + NUMBERS, TALL = 2 * HALF; // heights in a cell, in pixels
const KEEPS = 16, FLAG = 13; // heights of the strip of kept inputs below a cell, and of the flag of a marked loss

/** Draw a space-time diagram: a row for each unit, the top first, then the frames; a column for each tick.
 *
 * wide: pixels of a column; place: frame → the ball's pixel.
 * run: {units, cells, uses: frame → true if the network takes it, messages: tick → the messages that are read at it,
 *   lossFrames: (unit, tick) → the frames whose loss the gradient is of,
 *   memory: under Delayed {most: the most inputs that a unit keeps, isMarked: tick → true if its loss is learnt from}}.
 * Returns the elements to show, and `turn({now, chosen, moving})`, which sets the clock: ticks after `now` stay hidden.
 *   chosen: {unit, tick} or null; moving: true to let the messages of this tick travel. */
function diagram(run, wide, place) {
  const { units, cells, memory } = run, rows = units.length, top = units.at(-1).name;
  const gap = { x: Math.round(wide * 0.18), y: 5 }; // arrows of messages are drawn in the gaps
  const side = wide - gap.x, keeps = memory?.most ? KEEPS : 0, above = memory ? FLAG + 5 : 4, high = TALL + keeps + gap.y;
  const width = cells.length * wide + 4, height = above + rows * high - keeps + HALF + 24;
  const rowOf = Object.fromEntries([...units.map(({ name }, i) => [name, rows - 1 - i]), ["frame", rows]]);
  const x = (t) => 2 + t * wide + gap.x / 2, y = (name) => above + rowOf[name] * high - (name === top ? 0 : keeps);

  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
  const hand = svg("rect", { class: "hand", y: 0, width: wide, height, rx: 6 });
  const columns = cells.map((row, t) => {
    const frame = svg("g", { class: run.uses(t) ? "" : "lost" }, ...half([t], [t], place, x(t), y("frame"), side));
    const shown = svg("g", { class: "shown" }, frame), column = svg("g", {}, shown);
    for (const { name } of units) {
      const cell = cellShape(row[name], run.lossFrames(name, t), place, x(t), y(name), side);
      cell.dataset.unit = name;
      cell.dataset.tick = t;
      if (row[name].kept?.length) cell.append(keptShape(row[name].kept.length, memory.most, x(t), y(name) + TALL, side));
      column.append(svg("rect", { class: "place", x: x(t), y: y(name), width: side, height: TALL, rx: 5 }));
      shown.append(cell);
    }
    if (memory?.isMarked(t)) shown.append(flag(x(t), y(top) - 3, side));
    column.append(shown, svg("text", { class: "axis", x: x(t) + side / 2, y: height - 5, "font-size": 13, "text-anchor": "middle" }, t));
    return column;
  });
  const messages = svg("g"), travelling = svg("g", { class: "travelling" });
  root.append(hand, ...columns, messages, travelling);

  const middle = (name, part) => y(name) + STRIP / 2 + (part === "gradient" ? HALF : 0);
  const isShort = (edge) => !memory || edge.sent >= edge.read - 1; // under Delayed, only the chosen cell shows what waited
  const ends = (edge) => [
    [edge.from === "frame" ? x(edge.sent) - 1 : x(edge.sent) + side, middle(edge.from, edge.part)],
    [x(edge.read), middle(edge.to, edge.kept ? "gradient" : edge.part)],
  ];
  const drawn = (edges, strong) => edges.map((edge) => {
    const [start, end] = ends(edge);
    if (isShort(edge)) return arrow(start, end, edge, strong);
    return waitingArrow(edge.kept ? [start[0] - 4, y(edge.to) + TALL] : start, end, y(edge.to) + (edge.kept ? TALL + 2 : -2), edge);
  });

  function turn({ now, chosen, moving }) {
    hand.setAttribute("x", x(now) - gap.x / 2);
    columns.forEach((column, t) => column.setAttribute("class", t > now ? "later" : t === now ? "now" : ""));
    messages.replaceChildren(...drawn(run.messages(now).filter(isShort), false));
    travelling.replaceChildren();
    if (moving) travel(now);
    if (!chosen || chosen.tick > now) return;
    messages.append(...drawn(run.messages(chosen.tick).filter((edge) => edge.to === chosen.unit), true),
      svg("rect", { class: "chosen", x: x(chosen.tick) - 2, y: y(chosen.unit) - 2, width: side + 4, height: TALL + 4, rx: 6 }));
  }

  /** Let each message of this tick travel: a strip with the frames that it carries glides from its sender to its reader. */
  function travel(now) {
    for (const edge of run.messages(now).filter((edge) => isShort(edge) && !edge.kept)) {
      const { activation, gradient } = edge.from === "frame" ? { activation: [now] } : cells[edge.sent][edge.from];
      const isUp = edge.part === "activation", frames = isUp ? activation : distinct(gradient.map(([frame]) => frame));
      const solid = isUp ? frames : run.lossFrames(edge.from, edge.sent), [start, end] = ends(edge);
      const from = edge.from === "frame" ? [x(now), y("frame")] : [x(edge.sent), start[1] - STRIP / 2];
      const piece = strip(frames, solid, place, 0, 0, side, STRIP), group = svg("g", {}, piece);
      travelling.append(group);
      group.animate([{ transform: `translate(${from[0]}px, ${from[1]}px)`, opacity: 0.9 },
        { transform: `translate(${end[0]}px, ${end[1] - STRIP / 2}px)`, opacity: 0.9 }],
      { duration: TRAVEL, easing: "ease-in-out", fill: "both" }).onfinish = () => group.remove();
    }
    columns[now].querySelector(".shown").animate([{ opacity: 0 }, { opacity: 0, offset: 0.7 }, { opacity: 1 }], { duration: TRAVEL });
  }
  return { elements: [rowNames(rowOf, y, height, memory, units), root], turn };
}

const TRAVEL = 450; // milliseconds that a message travels on the screen

/** The column of names at the left, which stays in sight. */
function rowNames(rowOf, y, height, memory, units) {
  const names = svg("svg", { class: "names", width: NAMES, height });
  const note = (text, at) => names.append(svg("text", { class: "axis", x: 2, y: at, "font-size": 12 }, text));
  for (const name of Object.keys(rowOf)) {
    names.append(svg("text", { class: name === "frame" ? "axis" : "label", x: 2, y: y(name) + (name === "frame" ? STRIP / 2 : STRIP),
      "font-size": 15, "dominant-baseline": "central" }, name));
  }
  note("tick", height - 5);
  if (memory) note("loss", FLAG);
  if (memory?.most) for (const { name } of units.slice(0, -1)) note("keeps", y(name) + TALL + KEEPS - 2);
  return names;
}

/** Half a cell: a strip, and the numbers of its frames below. */
function half(frames, solid, place, x, y, side) {
  const text = setLabel(frames), size = Math.min(12, (1.85 * side) / text.length);
  return [strip(frames, solid, place, x, y, side, STRIP),
    svg("text", { class: "frames", x: x + side / 2, y: y + STRIP + NUMBERS / 2 + 0.5, "font-size": size.toFixed(2),
      "text-anchor": "middle", "dominant-baseline": "central" }, text)];
}

/** Draw a cell. solid: the frames whose loss its gradient is of. */
function cellShape({ activation, gradient, waiting }, solid, place, x, y, side) {
  const group = svg("g"), frames = distinct(gradient.map(([frame]) => frame));
  group.append(svg("rect", { class: "empty", x, y, width: side, height: TALL, rx: 5 }));
  if (activation.length) group.append(svg("g", { class: "activation" }, ...half(activation, activation, place, x, y, side)));
  if (frames.length) group.append(svg("g", { class: "gradient" }, ...half(frames, solid, place, x, y + HALF, side)));
  if (waiting.length) {
    group.append(svg("g", { class: "waiting" }, ...half(waiting, [], place, x, y, side)),
      svg("rect", { class: "waiting-box", x: x + 1.5, y: y + 1.5, width: side - 3, height: HALF - 2, rx: 4 }));
  }
  return group;
}

/** Draw how many inputs a unit keeps: the number, and a bar of as many pieces; the longest bar has `most`. */
function keptShape(count, most, x, y, side) {
  const group = svg("g", { class: "kept-inputs" }, svg("text", { x: x + 1, y: y + KEEPS - 2, "font-size": 12 }, count));
  const start = 3 + 7.5 * String(count).length, piece = Math.min(7, (side - 3 - 7.5 * String(most).length) / most);
  for (let i = 0; i < count; i++) {
    group.append(svg("rect", { x: x + start + i * piece, y: y + 5, width: piece * 0.72, height: KEEPS - 7 }));
  }
  return group;
}

/** Draw the flag of a marked loss, which points at the cell of the top below it. */
function flag(x, bottom, side) {
  const middle = x + side / 2, y = bottom - FLAG;
  return svg("g", { class: "marked" }, svg("path", { d: `M${x},${y} H${x + side} V${y + FLAG - 4} H${middle + 4} L${middle},${bottom} L${middle - 4},${y + FLAG - 4} H${x} Z` }));
}

/** Draw a message in the gap between two columns, or a dotted line for an activation that waited in its own unit. */
function arrow([x1, y1], [x2, y2], { part, kept }, strong) {
  const group = svg("g", { class: `edge ${part}${strong ? " strong" : ""}${kept ? " kept" : ""}` });
  const [pull, size] = [kept ? 8 : Math.max(6, (x2 - x1) * 0.8), strong ? 5 : 3];
  group.append(svg("path", { d: `M${x1},${y1} C${x1 + pull},${y1} ${x2 - pull},${y2} ${x2},${y2}` }),
    svg("path", { d: `M${x2 - size},${y2 - size} L${x2},${y2} L${x2 - size},${y2 + size}` }));
  return group;
}

/** Draw a line along the row of its reader, at the height `along`, for a message or an input that waited there. */
function waitingArrow([x1, y1], [x2, y2], along, { part, kept }) {
  const line = y1 < along && !kept ? `C${x1 + 8},${y1} ${x1 + 2},${along} ${x1 + 12},${along}` : `L${x1 + 2},${along}`;
  return svg("g", { class: `edge ${part} strong${kept ? " kept" : ""}` },
    svg("path", { d: `M${x1},${y1} ${line} H${x2 - 9} Q${x2 - 7},${y2} ${x2},${y2}` }),
    svg("path", { d: `M${x2 - 5},${y2 - 5} L${x2},${y2} L${x2 - 5},${y2 + 5}` }));
}

/** Draw the graph: the frame and the units in a row, skip edges as arcs above them. */
function sketch(units, skips) {
  const names = ["frame", ...units.map(({ name }) => name)];
  const step = Math.min(64, 356 / names.length), tallest = Math.max(0, ...skips.map(([from, to]) => to - from));
  const base = 18 + tallest * 11, r = Math.min(17, step * 0.36);
  const root = svg("svg", { width: "100%", viewBox: `0 0 ${names.length * step} ${base + r + 4}`, role: "img",
    "aria-label": `Chain of ${units.length} units; skip edges: ${skips.map(([a, b]) => `${names[a]} to ${names[b]}`).join(", ") || "none"}` });
  root.style.maxWidth = `${names.length * step}px`;
  const x = (i) => (i + 0.5) * step;
  skips.forEach(([from, to]) => {
    const peak = base - r - (to - from) * 13;
    root.append(svg("path", { d: `M${x(from)},${base - r} Q${(x(from) + x(to)) / 2},${peak} ${x(to)},${base - r}`, fill: "none",
      stroke: "var(--skip)", "stroke-width": 2.5 }), svg("circle", { cx: x(to), cy: base - r, r: 4, fill: "var(--skip)" }));
  });
  names.forEach((name, i) => {
    if (i) root.append(svg("path", { d: `M${x(i - 1) + r},${base} H${x(i) - r}`, stroke: "var(--muted)", "stroke-width": 2 }));
    const shape = i ? svg("circle", { cx: x(i), cy: base, r }) : svg("rect", { x: x(0) - r, y: base - r * 0.8, width: 2 * r, height: 1.6 * r, rx: 3 });
    shape.setAttribute("style", "fill: var(--paper); stroke: var(--ink); stroke-width: 1.5");
    root.append(shape, svg("text", { x: x(i), y: base, "font-size": i ? Math.min(13, r * 0.85) : r * 0.58, "text-anchor": "middle",
      "dominant-baseline": "central" }, name));
  });
  return root;
}
