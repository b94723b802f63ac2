// The state of the page in its address, after the #, so that a teacher can send a configuration:
// #chapter=4&depth=6&skips=1-4,0-6&tick=7&cell=skip.u4.7. What is as the chapter starts is left out.

const DEEPEST = 8;
const SPEEDS = [0, 0.125, 0.25, 0.5, 1, 2, 3, 4]; // pixels per frame
const RATES = [0.0003, 0.001, 0.003, 0.01, 0.03];
const RULES = ["blocked", "chain", "skip", "delayed"];

// Name → [how a value is written, how it is read; undefined for text that makes no sense].
const integer = (low, high) => [String, (text) => (/^\d+$/.test(text) && text >= low && text <= high ? Number(text) : undefined)];
const oneOf = (values) => [String, (text) => values.find((value) => String(value) === text)];
const FIELDS = {
  depth: integer(1, DEEPEST),
  skips: [(skips) => skips.map((edge) => edge.join("-")).join(","), readSkips],
  tick: integer(0, 99),
  cell: [(cell) => (cell ? `${cell.rule}.${cell.unit}.${cell.tick}` : ""), readCell],
  n: integer(1, 2 * DEEPEST + 1),
  speed: oneOf(SPEEDS),
  devices: integer(1, DEEPEST),
  task: oneOf(["where", "way"]),
  rate: oneOf(RATES),
  seed: integer(1, 9999),
  waits: oneOf([true, false]),
};

function readSkips(text) {
  if (text === "") return [];
  const edges = text.split(",").map((edge) => edge.split("-").map(Number));
  const fit = ([from, to, ...more]) => !more.length && from >= 0 && to <= DEEPEST && from + 1 < to
    && Number.isInteger(from) && Number.isInteger(to);
  return edges.every(fit) ? edges : undefined;
}

function readCell(text) {
  if (text === "") return null;
  const [, rule, unit, tick] = /^(\w+)\.(u[1-8])\.(\d{1,2})$/.exec(text) ?? [];
  return RULES.includes(rule) ? { rule, unit, tick: Number(tick) } : undefined;
}

/** Write a state: the number of its chapter, and what differs from the chapter's start. */
function written(state, start) {
  const parts = Object.entries(FIELDS)
    .map(([name, [write]]) => [name, write(state[name]), write(start[name])])
    .filter(([, now, first]) => now !== first).map(([name, now]) => `${name}=${now}`);
  return `#chapter=${state.chapter}${parts.map((part) => `&${part}`).join("")}`;
}

/** Read an address: {chapter, …what else it says}. Parts that make no sense are left out. */
function readAddress(hash, chapters) {
  const parts = new Map(hash.replace(/^#/, "").split("&").map((part) => part.split("=", 2)));
  const chapter = integer(1, chapters)[1](parts.get("chapter") ?? "1") ?? 1, state = { chapter };
  for (const [name, [, read]] of Object.entries(FIELDS)) {
    const value = parts.has(name) ? read(parts.get(name) ?? "") : undefined;
    if (value !== undefined) state[name] = value;
  }
  return state;
}
