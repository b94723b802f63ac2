// The moments that a gradient compares, below a unit where two paths meet. The library has the same law, for waves, in
// studies/claims/sign_law.py.

/** For each path from a unit below the merge: {unit, d, newer, paired}.
 *
 * d: ticks from the unit to the merging unit; newer: how many frames newer this branch's moment is than the other's (the
 * exact gradient compares these); paired = newer + 2d: the moments that the pseudo-gradient compares, because the unit
 * holds an input that is 2d frames newer than the one its gradient belongs to. Returns [] without such a merge. */
function comparisons(units) {
  const merge = units.find(({ inputs }) => inputs.length === 2);
  if (!merge) return [];
  const lag = (name) => (name === "frame" ? -1 : 1 + lag(inputsOf(name)[0])); // ticks from a frame to the unit that holds it
  const inputsOf = (name) => units.find((unit) => unit.name === name).inputs;
  const below = (name, d) => (name === "frame" ? [] : [[name, d], ...inputsOf(name).flatMap((j) => below(j, d + 1))]);
  const [first, second] = merge.inputs;
  const ofBranch = (branch, other) => below(branch, 1).map(([unit, d]) => {
    const newer = lag(other) - lag(branch);
    return { unit, d, newer, paired: newer + 2 * d };
  });
  return [...ofBranch(first, second), ...ofBranch(second, first)].toSorted((a, b) => (a.unit > b.unit ? -1 : a.unit < b.unit) || a.d - b.d);
}

/** Where a step of so many pixels seems to lead on the ring: from -8 to 8; both ends say nothing of the way. */
const seeming = (pixels) => { const on = onRing(pixels); return on > RING / 2 ? on - RING : on; };
const wayOf = (pixels) => (Math.abs(seeming(pixels)) === RING / 2 ? 0 : Math.sign(seeming(pixels)));

/** The sign that the cosine should have by one path: -1, 0 (it predicts nothing) or 1. */
const predictedSign = ({ newer, paired }, speed) => wayOf(newer * speed) * wayOf(paired * speed);

/** Draw two moments on a strip: the other branch's ball in the middle, and an arrow to this branch's ball. */
function momentPair(frames, speed, label) {
  const width = 240, height = 26, r = 6.5, step = seeming(frames * speed), middle = width / 2, end = middle + (step / RING) * (width - 2 * r);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, class: "moments", role: "img", "aria-label": label });
  root.append(svg("rect", { class: "strip", width, height, rx: 4 }), svg("circle", { class: "ring", cx: middle, cy: height / 2, r: r - 1, stroke: "var(--muted)" }),
    svg("circle", { class: "ball", cx: end, cy: height / 2, r, fill: colourOf(0)[0] }));
  if (Math.abs(end - middle) > 2 * r + 4) {
    const way = Math.sign(step), tip = end - way * (r + 2);
    root.append(svg("path", { class: "shift", d: `M${middle + way * r},${height / 2} H${tip} M${tip - 4 * way},${height / 2 - 4} L${tip},${height / 2} L${tip - 4 * way},${height / 2 + 4}` }));
  }
  return root;
}

/** The cosines of Sideways' gradients in fresh networks that are asked for the way, as the mean over `count` of them. */
function measuredCosines(depth, skips, speed, count = 8) {
  const sums = {};
  for (let seed = 1; seed <= count; seed++) {
    const network = freshNetwork(depth, skips, "way", seed), clip = makeClip(chance(seed), 64, 2 * depth + 16, speed, "way");
    for (const [name, value] of Object.entries(cosines(network, 0, clip.frames, clip.labels))) sums[name] = (sums[name] ?? 0) + value / count;
  }
  return sums;
}

const signedWhole = (value) => (value < 0 ? `−${-value}` : value > 0 ? `+${value}` : "0");

/** The table of the moments that are compared. rows: of `comparisons`; cosines: unit → measured, or undefined. */
function signsTable(rows, speed, cosines, measure) {
  const title = html("h3", "", "Which moments are compared");
  if (!rows.length) return [title, html("p", "", "No unit has two inputs: add one skip edge.")];
  const table = html("table", "", html("thead"), html("tbody"));
  table.tHead.innerHTML = "<tr><th>unit</th><th><i>d</i></th><th>the exact gradient compares</th><th>the pseudo-gradient compares</th><th>so the cosine is</th><th>measured</th></tr>";
  rows.forEach((row, i) => {
    const words = ["negative", "undecided", "positive"][predictedSign(row, speed) + 1];
    const pair = (frames, name) => html("td", "", momentPair(frames, speed, `moments ${frames} frames apart`), ` ${name} = ${signedWhole(frames)}`);
    const line = html("tr", "", html("td", "", row.unit), html("td", "", String(row.d)), pair(row.newer, "Δ"), pair(row.paired, "Δ + 2d"), html("td", words, words));
    if (rows[i - 1]?.unit !== row.unit) {
      const cell = html("td", "", cosines ? signed(cosines[row.unit]) : "?");
      cell.rowSpan = rows.filter(({ unit }) => unit === row.unit).length;
      line.append(cell);
    }
    table.tBodies[0].append(line);
  });
  const button = Object.assign(html("button", "", "Measure"), { type: "button", id: "measure", disabled: Boolean(cosines), onclick: measure });
  return [title, table, html("p", "row", button, html("span", "note", "the mean cosine in 8 networks with chance weights, asked for the way of the ball; a square follows the merge. " +
    "Ring: the moment of the other branch. Ball: the moment of this branch."))];
}
