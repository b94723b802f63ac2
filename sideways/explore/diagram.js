// Drawing: space-time diagrams of cells as SVG, and the sketch of the graph, without the page's state.

// Frame n has the colour of entry n mod 7, [background, text on it]. Its number is always written too, so that the
// diagrams can be read without the colours.
const FRAME_COLOURS = JSON.parse(document.getElementById("colours").textContent);
const colourOf = (frame) => FRAME_COLOURS[frame % FRAME_COLOURS.length];

/** Make an SVG element. */
function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const NAMES = 54; // the width of the column of names

/** Draw a bar with a colour and a number for each frame; more than two frames share one label, `first–last`. */
function band(frames, x, y, width, height) {
  const group = svg("g"), share = width / frames.length;
  const write = (text, middle, room, style) => group.append(svg("text", { x: middle, y: y + height / 2, "font-weight": 600,
    "font-size": Math.min(height * 0.85, (1.55 * room) / Math.max(text.length, 2)), "text-anchor": "middle",
    "dominant-baseline": "central", style }, text));
  frames.forEach((frame, i) => {
    const [colour, ink] = colourOf(frame), overlap = i < frames.length - 1 ? 0.5 : 0; // leaves no seam
    group.append(svg("rect", { x: x + i * share, y, width: share + overlap, height, fill: colour }));
    if (frames.length <= 2) write(String(frame), x + (i + 0.5) * share, share, `fill: ${ink}`);
  });
  if (frames.length > 2) {
    write(`${frames[0]}–${frames.at(-1)}`, x + width / 2, width,
      "fill: #000; stroke: #ffffffe0; stroke-width: 2.6; stroke-linejoin: round; paint-order: stroke");
  }
  return group;
}

/** Draw a space-time diagram: a row for each unit, the top first, then the frames; a column for each tick.
 *
 * wide: pixels of a column.
 * run: {units, cells, uses: frame → true if the network takes it, messages: tick → the messages that are read at it,
 *   memory: under Delayed {most: the most inputs that a unit keeps, isMarked: tick → true if its loss is learnt from}}.
 * Returns the elements to show, and `turn({now, chosen})`, which sets the clock; chosen: {unit, tick} or null. */
function diagram(run, wide) {
  const { units, cells, memory } = run, rows = units.length, top = units.at(-1).name;
  const gap = { x: Math.round(wide * 0.2), y: 4 }; // arrows of messages are drawn in the gaps
  const side = wide - gap.x, tall = 32, strip = memory?.most ? STRIP : 0, above = memory ? FLAG + 5 : 4;
  const high = tall + strip + gap.y;
  const width = cells.length * wide + 4, height = above + rows * high - strip + 52;
  const rowOf = Object.fromEntries([...units.map(({ name }, i) => [name, rows - 1 - i]), ["frame", rows]]);
  const x = (t) => 2 + t * wide + gap.x / 2, y = (name) => above + rowOf[name] * high - (name === top ? 0 : strip);

  const names = svg("svg", { class: "names", width: NAMES, height });
  for (const name of Object.keys(rowOf)) {
    names.append(svg("text", { class: name === "frame" ? "axis" : "label", x: 2, y: y(name) + tall / 2, "font-size": 14,
      "dominant-baseline": "central" }, name));
  }
  const note = (text, height) => names.append(svg("text", { class: "axis", x: 2, y: height, "font-size": 12 }, text));
  note("tick", height - 5);
  if (memory) note("loss", above - 5);
  if (strip) for (const { name } of units.slice(0, -1)) note("keeps", y(name) + tall + strip - 2);

  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
  const hand = svg("rect", { class: "hand", y: 0, width: wide, height, rx: 5 });
  const columns = cells.map((row, t) => {
    const frame = band([t], x(t), y("frame") + tall * 0.25, side, tall * 0.55);
    if (!run.uses(t)) frame.setAttribute("class", "lost");
    const column = svg("g", {}, frame, svg("text", { class: "axis", x: x(t) + side / 2, y: height - 5, "font-size": 12,
      "text-anchor": "middle" }, t));
    for (const { name } of units) {
      const cell = cellShape(row[name], x(t), y(name), side, tall);
      cell.dataset.unit = name;
      cell.dataset.tick = t;
      if (row[name].kept?.length) cell.append(keptShape(row[name].kept.length, memory.most, x(t), y(name) + tall, side));
      column.append(cell);
    }
    if (memory?.isMarked(t)) column.append(flag(x(t), y(top) - 3, side));
    return column;
  });
  const messages = svg("g");
  root.append(hand, ...columns, messages);

  const middle = (name, part) => y(name) + tall * (name === "frame" ? 0.5 : part === "gradient" ? 0.75 : 0.25);
  const isShort = (edge) => !memory || edge.sent >= edge.read - 1; // under Delayed, only the chosen cell shows what waited
  const drawn = (edges, strong) => edges.map((edge) => {
    const end = [x(edge.read), middle(edge.to, edge.kept ? "gradient" : edge.part)];
    const start = [edge.from === "frame" ? x(edge.sent) - 1 : x(edge.sent) + side, middle(edge.from, edge.part)];
    if (isShort(edge)) return arrow(start, end, edge, strong);
    return waitingArrow(edge.kept ? [start[0] - 4, y(edge.to) + tall] : start, end, y(edge.to) + (edge.kept ? tall + 2 : -2), edge);
  });

  function turn({ now, chosen }) {
    hand.setAttribute("x", x(now) - gap.x / 2);
    columns.forEach((column, t) => column.setAttribute("class", t > now ? "later" : t === now ? "now" : ""));
    messages.replaceChildren(...drawn(run.messages(now).filter(isShort), false));
    if (!chosen) return;
    messages.append(...drawn(run.messages(chosen.tick).filter((edge) => edge.to === chosen.unit), true),
      svg("rect", { class: "chosen", x: x(chosen.tick) - 2, y: y(chosen.unit) - 2, width: side + 4, height: tall + 4, rx: 6 }));
  }
  return { elements: [names, root], turn };
}

function cellShape({ activation, gradient, waiting }, x, y, side, tall) {
  const group = svg("g"), half = tall / 2;
  group.append(svg("rect", { class: "empty", x, y, width: side, height: tall, rx: 4 }));
  if (activation.length) group.append(band(activation, x, y, side, half - 0.75));
  if (gradient.length) group.append(band(distinct(gradient.map(([frame]) => frame)), x, y + half + 0.75, side, half - 0.75));
  if (waiting.length) {
    group.append(svg("rect", { class: "waiting", x: x + 2, y: y + 2, width: side - 4, height: half - 3, rx: 3,
      stroke: colourOf(waiting[0])[0] }));
  }
  return group;
}

const STRIP = 16, FLAG = 13; // the heights of the strip of kept inputs below a cell, and of the flag of a marked loss

/** Draw how many inputs a unit keeps: the number, and a bar of as many pieces; the longest bar has `most`. */
function keptShape(count, most, x, y, side) {
  const group = svg("g", { class: "kept-inputs" }, svg("text", { x: x + 1, y: y + STRIP - 2, "font-size": 12 }, count));
  const start = 3 + 7.5 * String(count).length, piece = Math.min(7, (side - 3 - 7.5 * String(most).length) / most);
  for (let i = 0; i < count; i++) {
    group.append(svg("rect", { x: x + start + i * piece, y: y + 5, width: piece * 0.72, height: STRIP - 7 }));
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
  skips.forEach(([from, to], i) => {
    const colour = colourOf(i + 3)[0], peak = base - r - (to - from) * 13;
    root.append(svg("path", { d: `M${x(from)},${base - r} Q${(x(from) + x(to)) / 2},${peak} ${x(to)},${base - r}`, fill: "none",
      stroke: colour, "stroke-width": 2.5 }), svg("circle", { cx: x(to), cy: base - r, r: 4, fill: colour }));
  });
  names.forEach((name, i) => {
    if (i) root.append(svg("path", { d: `M${x(i - 1) + r},${base} H${x(i) - r}`, stroke: "var(--muted)", "stroke-width": 2 }));
    const shape = i ? svg("circle", { cx: x(i), cy: base, r }) : svg("rect", { x: x(0) - r, y: base - r * 0.8, width: 2 * r, height: 1.6 * r, rx: 3 });
    shape.setAttribute("style", "fill: var(--paper); stroke: var(--ink); stroke-width: 1.5");
    root.append(shape, svg("text", { x: x(i), y: base, "font-size": i ? Math.min(13, r * 0.85) : r * 0.66, "text-anchor": "middle",
      "dominant-baseline": "central" }, name));
  });
  return root;
}
