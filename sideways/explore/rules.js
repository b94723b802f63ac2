// The rules that learn tick by tick, as the library's rules/sideways.py, rules/delayed.py and optimizers.py have them.

/** Sideways and Delayed: every unit runs at every tick, on the messages of the tick before.
 *
 * network: its parameters are changed; optimizer: () → an optimizer for one unit, or null for frozen parameters.
 * learnEvery: 0 for Sideways; n for Delayed, which learns from the loss of one tick in n. */
class TickingRule {
  constructor(network, optimizer, learnEvery = 0) {
    Object.assign(this, { network, learnEvery, marks: learnEvery ? marksOf(network.plan, learnEvery) : null });
    this.optimizers = Object.fromEntries(network.units.map(({ name }) => [name, optimizer?.()]));
    this.flush();
  }

  /** Begin a clip: drop the messages under way. Parameters and optimizers stay. */
  flush() {
    Object.assign(this, { clock: 0, activations: {}, messages: new Map(), labels: [], kept: new Map(), parts: {} });
  }

  /** One step of the clock. frame (N, P), labels: of this frame. Returns {output, loss, right, gradients}. */
  tick(frame, labels) {
    const { units, plan } = this.network, t = this.clock++, before = this.activations;
    const result = { gradients: {} }, top = units.at(-1);
    this.activations = {};
    this.labels.push(labels);
    for (const unit of units.filter(({ name }) => t >= plan.first_forward[name])) {
      // 1. Forward, on what the inputs sent at the last tick. No older activation is kept, except by Delayed.
      const inputs = Object.fromEntries(unit.inputs.map((j) => [j, j === "frame" ? frame : before[j]]));
      const { y, saved } = forward(unit, inputs);
      this.activations[unit.name] = y;
      if (unit === top) Object.assign(result, { output: y }, crossEntropy(y, this.labels[t - plan.latency]));
      if (this.learnEvery && this.marks.longest(unit.name, t) !== undefined) this.kept.set(`${unit.name}@${t}`, inputs);

      // 2. Backward: the gradient of the activation of tick s, through the Jacobian at the input of tick s.
      const s = this.momentOf(unit.name, t);
      if (s === undefined) continue;
      const atS = this.learnEvery ? forward(unit, this.takeKept(unit.name, s)).saved : saved; // Sideways: s = t
      const dy = unit === top ? result.gradient : this.incoming(unit.name, s);
      const { messages, gradients } = backward(unit, dy, atS);
      for (const [j, message] of Object.entries(messages)) this.send(unit.name, j, s, message);
      result.gradients[unit.name] = gradients;

      // 3. Update the parameters from the unit's own gradient. This tick used the old values throughout.
      this.learn(unit, gradients, t);
    }
    delete result.gradient;
    return result;
  }

  /** The tick s whose gradient unit `name` pulls at tick t; undefined if none. Sideways always takes s = t. */
  momentOf(name, t) {
    if (!this.learnEvery) return t >= this.network.plan.first_backward[name] ? t : undefined;
    const length = longestByRemainder(this.network.plan.path_lengths[name], this.learnEvery)
      .find((l) => this.marks.isMarked(t - l));
    return length === undefined ? undefined : t - 2 * length;
  }

  takeKept(name, s) {
    const inputs = this.kept.get(`${name}@${s}`);
    this.kept.delete(`${name}@${s}`);
    return inputs;
  }

  /** Post a gradient, unless nobody will read it. Under Sideways it is read one tick later, as the gradient of whatever
   * the reader holds by then; under Delayed as the gradient of the activation of tick s-1 that made it. */
  send(from, to, s, message) {
    const { plan } = this.network;
    const isRead = this.learnEvery ? s > 0 : s + 1 >= plan.first_backward[to];
    if (isRead) this.messages.set(`${from}>${to}@${this.learnEvery ? s - 1 : s + 1}`, message);
  }

  /** The sum of the gradients that the consumers sent for the unit's tick s, first consumer to last. */
  incoming(name, s) {
    const keys = this.network.plan.consumers[name].map((c) => `${c}>${name}@${s}`);
    const parts = keys.map((key) => this.messages.get(key)).filter(Boolean);
    keys.forEach((key) => this.messages.delete(key));
    return sumOf(parts);
  }

  /** Sideways updates at once; Delayed when the last part of its gradient of a marked loss has come. */
  learn(unit, gradients, t) {
    const optimizer = this.optimizers[unit.name];
    if (!optimizer) return;
    addTo(this.parts, unit.name, gradients);
    if (this.learnEvery && !this.marks.isMarked(t - this.network.plan.path_lengths[unit.name].at(-1))) return;
    optimizer(unit, this.parts[unit.name]);
    delete this.parts[unit.name];
  }
}

/** Ordinary backpropagation of one frame in `wait`: the network is locked for the other ticks, whose frames are lost. */
class Backpropagation {
  constructor(network, optimizer, wait = 1) {
    Object.assign(this, { network, wait, clock: 0 });
    this.optimizers = Object.fromEntries(network.units.map(({ name }) => [name, optimizer?.()]));
  }

  flush() { this.clock = 0; }

  tick(frame, labels) {
    if (this.clock++ % this.wait) return { gradients: {} };
    const result = backprop(this.network, frame, labels);
    for (const unit of this.network.units) this.optimizers[unit.name]?.(unit, result.gradients[unit.name]);
    return result;
  }
}

/** Gradient descent with momentum μ:  v ← μ v + g,  θ ← θ - η v. Returns a function that updates one unit. */
function sgd(rate, momentum = 0) {
  const velocity = {};
  return (unit, gradients) => {
    for (const key of ["weight", "bias"]) {
      velocity[key] ??= new Float64Array(gradients[key].values.length);
      const g = gradients[key].values, v = velocity[key], parameter = unit[key].values;
      for (let k = 0; k < g.length; k++) {
        v[k] = momentum * v[k] + g[k];
        parameter[k] -= rate * v[k];
      }
    }
  };
}

/** Adam:  m ← β₁ m + (1-β₁) g,  v ← β₂ v + (1-β₂) g²,  θ ← θ - η m/(1-β₁ⁿ) / (√(v/(1-β₂ⁿ)) + ε). */
function adam(rate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8) {
  const first = {}, second = {};
  let updates = 0;
  return (unit, gradients) => {
    updates++;
    const step = rate / (1 - beta1 ** updates), correction = 1 / (1 - beta2 ** updates);
    for (const key of ["weight", "bias"]) {
      const g = gradients[key].values, parameter = unit[key].values;
      const m = (first[key] ??= new Float64Array(g.length)), v = (second[key] ??= new Float64Array(g.length));
      for (let k = 0; k < g.length; k++) {
        m[k] = beta1 * m[k] + (1 - beta1) * g[k];
        v[k] = beta2 * v[k] + (1 - beta2) * g[k] * g[k];
        parameter[k] -= step * m[k] / (Math.sqrt(correction * v[k]) + epsilon);
      }
    }
  };
}

/** The cosine of each unit's gradients under a rule, summed over a clip with frozen parameters, to the exact gradient.
 *
 * With learnEvery > 1 the exact gradient is that of the marked losses. A unit without a gradient is left out. */
function cosines(network, learnEvery, frames, labels) {
  const rule = new TickingRule(network, null, learnEvery), sums = {};
  frames.forEach((frame, t) => {
    for (const [name, gradients] of Object.entries(rule.tick(frame, labels[t]).gradients)) addTo(sums, name, gradients);
  });
  const exact = bptt(network, frames, labels, rule.marks?.isMarked).gradients;
  return Object.fromEntries(Object.keys(exact).filter((name) => sums[name]).map((name) => [name, cosine(sums[name], exact[name])]));
}
