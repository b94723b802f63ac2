// A small network that learns in the page: units of one dense layer and one activation, and exact gradients. The rules
// that learn tick by tick are in rules.js. The library has the same in layers/, network/unit.py, losses.py,
// rules/backprop.py and rules/bptt.py; tests/browser/ compares the numbers over random networks, to 1e-10.
//
// A unit: {name, inputs: [name, …], merge: "concat" or "add", activation, weight (I, O), bias (1, O)}.
// A network: {units: [unit, …], plan}; the plan is the schedule of its graph (schedule.js).

/** Each activation y = f(x), and its derivative, written with y where that is simpler. */
const ACTIVATIONS = {
  none: { f: (x) => x, slope: () => 1 },
  relu: { f: (x) => Math.max(x, 0), slope: (x) => (x > 0 ? 1 : 0) },
  tanh: { f: (x) => Math.tanh(x), slope: (x, y) => 1 - y * y },
  square: { f: (x) => x * x, slope: (x) => 2 * x },
};

const networkOf = (units) => ({ units, plan: schedule(units.map(({ name, inputs }) => ({ name, inputs }))) });

/** Copy a network, so that each rule changes parameters of its own. */
function copyOf({ units, plan }) {
  return { plan, units: units.map((unit) => ({ ...unit, weight: sumOf([unit.weight]), bias: sumOf([unit.bias]) })) };
}

/** u = merge(inputs), z = u W + b, y = f(z). inputs: name → matrix. Returns {y, saved}, which the backward pass needs. */
function forward(unit, inputs) {
  const parts = unit.inputs.map((name) => inputs[name]);
  const u = parts.length === 1 ? parts[0] : unit.merge === "add" ? sumOf(parts) : sideBySide(parts);
  const z = product(u, unit.weight);
  for (let k = 0; k < z.values.length; k++) z.values[k] += unit.bias.values[k % z.columns];
  const y = elementwise(ACTIVATIONS[unit.activation].f, z);
  return { y, saved: { u, z, y, widths: parts.map((part) => part.columns) } };
}

/** dz = dy f'(z), dW = uᵀ dz, db = Σ dz, du = dz Wᵀ. Returns the gradients, and the message du for each input unit. */
function backward(unit, dy, { u, z, y, widths }) {
  const dz = elementwise((g, x, out) => g * ACTIVATIONS[unit.activation].slope(x, out), dy, z, y);
  const gradients = { weight: transposedProduct(u, dz), bias: rowSum(dz) };
  const messages = {};
  if (unit.inputs.some((name) => name !== "frame")) {
    const du = productTransposed(dz, unit.weight);
    const parts = unit.merge === "add" || widths.length === 1 ? widths.map(() => du) : takenApart(du, widths);
    unit.inputs.forEach((name, k) => { if (name !== "frame") messages[name] = parts[k]; });
  }
  return { messages, gradients };
}

/** Softmax cross-entropy: the mean surprise at the right classes, its gradient, and how many classes were guessed right.
 *
 * output (N, K): logits; labels: N class numbers. */
function crossEntropy(output, labels) {
  const { rows, columns, values } = output, gradient = zeros(rows, columns);
  let loss = 0, right = 0;
  for (let n = 0; n < rows; n++) {
    const logits = values.subarray(n * columns, (n + 1) * columns), most = Math.max(...logits);
    const exponentials = Array.from(logits, (z) => Math.exp(z - most)), total = exponentials.reduce((a, b) => a + b);
    loss += (Math.log(total) - (logits[labels[n]] - most)) / rows;
    right += logits[labels[n]] === most;
    exponentials.forEach((e, k) => { gradient.values[n * columns + k] = (e / total - (k === labels[n])) / rows; });
  }
  return { loss, gradient, right };
}

/** Ordinary backpropagation of one frame: edges take no time. Returns {loss, right, output, gradients: unit → gradients}. */
function backprop({ units, plan }, frame, labels) {
  const activations = { frame }, saved = {}, arriving = {}, gradients = {};
  for (const unit of units) ({ y: activations[unit.name], saved: saved[unit.name] } = forward(unit, activations));
  const output = activations[units.at(-1).name], { loss, gradient, right } = crossEntropy(output, labels);
  for (const unit of units.toReversed()) {
    const consumers = plan.consumers[unit.name];
    const dy = consumers.length ? sumOf(consumers.map((c) => arriving[c][unit.name])) : gradient;
    ({ messages: arriving[unit.name], gradients: gradients[unit.name] } = backward(unit, dy, saved[unit.name]));
  }
  return { loss, right, output, gradients };
}

/** The exact gradient of the ticking network, edges of one tick: the gradient of the summed losses of ticks D-1 … T-1.
 *
 * It stores every tick of the clip, and goes back through all of them. isCounted: tick → false to leave its loss out.
 * Returns {loss, gradients}. */
function bptt({ units, plan }, frames, labels, isCounted = () => true) {
  const top = units.at(-1).name, ticks = [];
  let loss = 0;
  frames.forEach((frame, t) => {
    const before = ticks[t - 1], now = { y: {}, saved: {} };
    for (const unit of units.filter(({ name }) => t >= plan.first_forward[name])) {
      const inputs = Object.fromEntries(unit.inputs.map((j) => [j, j === "frame" ? frame : before.y[j]]));
      ({ y: now.y[unit.name], saved: now.saved[unit.name] } = forward(unit, inputs));
    }
    if (now.y[top] && isCounted(t)) {
      now.top = crossEntropy(now.y[top], labels[t - plan.latency]);
      loss += now.top.loss;
    }
    ticks.push(now);
  });
  const gradients = {};
  let arriving = {}; // consumer → input unit → the gradient that tick t+1 sends back to tick t
  for (const { saved, top: atTop } of ticks.toReversed()) {
    const leaving = {};
    for (const unit of units.filter(({ name }) => saved[name])) {
      const parts = unit.name === top ? (atTop ? [atTop.gradient] : [])
        : plan.consumers[unit.name].filter((c) => arriving[c]).map((c) => arriving[c][unit.name]);
      if (!parts.length) continue; // the activation of this tick reaches no loss of the clip
      const { messages, gradients: own } = backward(unit, sumOf(parts), saved[unit.name]);
      leaving[unit.name] = messages;
      addTo(gradients, unit.name, own);
    }
    arriving = leaving;
  }
  return { loss, gradients };
}

/** Add a unit's gradients to a sum, unit → {weight, bias}. */
function addTo(sums, name, gradients) {
  const sum = sums[name];
  sums[name] = sum ? { weight: sumOf([sum.weight, gradients.weight]), bias: sumOf([sum.bias, gradients.bias]) } : gradients;
}

/** The cosine of two gradients of a unit, each taken as one long vector; 0 if one of them is 0. */
function cosine(one, other) {
  let dot = 0, square = 0, otherSquare = 0;
  for (const key of ["weight", "bias"]) {
    one[key].values.forEach((a, k) => {
      const b = other[key].values[k];
      dot += a * b;
      square += a * a;
      otherSquare += b * b;
    });
  }
  return square && otherSquare ? dot / Math.sqrt(square * otherSquare) : 0;
}
