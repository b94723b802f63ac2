// Compute a case of sideways/explore/cases.py with the functions of the explorer's page.
function replay(given, optimizer) {
  const make = { sgd: () => sgd(optimizer.rate, optimizer.momentum), adam: () => adam(optimizer.rate) }[optimizer.name];
  const fresh = () => networkOf(given.units.map((unit) => ({ ...unit, weight: matrix(unit.weight), bias: matrix(unit.bias) })));
  const clips = given.clips.map(({ frames, labels }) => ({ frames: frames.map(matrix), labels }));
  const rows = ({ rows, columns, values }) => Array.from({ length: rows }, (_, n) => [...values.subarray(n * columns, (n + 1) * columns)]);
  const plain = (gradients) => Object.fromEntries(Object.entries(gradients)
    .map(([name, { weight, bias }]) => [name, { weight: rows(weight), bias: rows(bias) }]));
  const run = (rule) => {
    const ticks = clips.flatMap(({ frames, labels }) => {
      rule.flush();
      return frames.map((frame, t) => {
        const { loss, output, gradients } = rule.tick(frame, labels[t]);
        return { loss: loss ?? null, output: output ? rows(output) : null, gradients: plain(gradients) };
      });
    });
    return { ticks, parameters: plain(Object.fromEntries(rule.network.units.map((unit) => [unit.name, unit]))) };
  };
  const [{ frames, labels }] = clips, exact = bptt(fresh(), frames, labels), { isMarked } = marksOf(fresh().plan, given.learn_every);
  return {
    bptt: { loss: exact.loss, gradients: plain(exact.gradients) },
    marked: plain(bptt(fresh(), frames, labels, isMarked).gradients),
    cosines: { sideways: cosines(fresh(), 0, frames, labels), delayed: cosines(fresh(), 1, frames, labels) },
    sideways: run(new TickingRule(fresh(), make)),
    delayed: run(new TickingRule(fresh(), make, given.learn_every)),
    backprop: run(new Backpropagation(fresh(), make)),
  };
}
