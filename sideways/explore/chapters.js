// The chapters: what is shown, a question to guess, and its answer. Texts are HTML.
//
// rules: the diagrams, or "live"; start: the state that the chapter begins with, beyond FIRST; controls: those on the page;
// choices: of the question, the right one being number `right`; show: the state in which the answer can be seen.

const FIRST = {
  depth: 5, skips: [], tick: 0, cell: null, n: 1, speed: 1, devices: 4, task: "where", rate: 0.003, seed: 1, waits: true,
};

const CHAPTERS = [
  {
    title: "One frame at a time", rules: ["blocked"], controls: ["depth"], start: {},
    text: `<p>A ball rolls through a film. At every tick of the clock a new frame arrives, and a chain of five units is to learn
      from it. Each unit sits on a device of its own and needs one tick for its share of the work. Under <b>backpropagation</b>
      a frame climbs from unit to unit; then the gradient of its loss descends again. Meanwhile each unit must keep what it
      computed (dashed), and can do nothing else.</p>
      <p>The next column stays hidden until its tick comes. Say what it will show, then press <kbd>→</kbd>.</p>`,
    question: "Frame 0 enters at tick 0. Which frame is the next one that the network can take in?",
    choices: ["frame 1", "frame 5", "frame 9", "frame 10"], right: 2,
    answer: `A frame needs 5 ticks to the loss; the top turns round in the same tick, so that the gradient needs 4 more. After
      2<i>D</i> − 1 = 9 ticks the network is free: frames 1 to 8 (pale) are lost, and each unit worked in 2 ticks of 9.`,
    show: { tick: 9 },
  },
  {
    title: "Nothing waits", rules: ["chain"], controls: ["depth", "speed"], start: {},
    text: `<p><b>Sideways</b> lets every unit run at every tick on whatever has reached it, and pass the result on. No frame is
      lost, and no device is idle. So at one tick the units hold different moments of the film: each is one frame behind
      the unit below it.</p>
      <p>The upper strip of a cell is the frame that the unit holds. What it held before is overwritten.</p>`,
    question: "Which frame does u4 hold at tick 6?",
    choices: ["frame 2", "frame 3", "frame 4", "frame 6"], right: 1,
    answer: `Unit <i>i</i> is <i>i</i> − 1 ticks away from the frame, so that u4 holds frame 6 − 3 = 3. In the diagram a frame
      moves along a diagonal: one unit up, one tick on.`,
    show: { tick: 6, cell: { rule: "chain", unit: "u4", tick: 6 } },
  },
  {
    title: "The gradient meets another frame", rules: ["chain"], controls: ["depth", "speed"], start: { tick: 4 },
    text: `<p>At tick 4 the top has an answer for frame 0, and its loss has a gradient. It descends by one unit per tick, and each
      unit pulls it through the Jacobian of what it holds <em>by then</em>. The lower strip of a cell shows what came of
      it: the full ball is the frame of the loss, rings are the frames whose activations gave the other Jacobians.</p>`,
    question: "At tick 8 the first gradient reaches u1. Which frame is it the gradient of, and which frame does u1 hold then?",
    choices: ["of frame 0; u1 holds frame 4", "of frame 4; u1 holds frame 8", "of frame 0; u1 holds frame 8", "of frame 8; u1 holds frame 8"],
    right: 2,
    answer: `Frame 0 needed 4 ticks up and its gradient 4 ticks down: u1 holds frame 8 by now. Frames 0, 2, 4, 6 and 8 are mixed
      in one product, a <b>pseudo-gradient</b>. Now set the speed to 0: all balls coincide, and the product is exactly the
      gradient. The slower the film, the better the approximation.`,
    show: { tick: 8, cell: { rule: "chain", unit: "u1", tick: 8 } },
  },
  {
    title: "A skip edge sees motion", rules: ["skip"], controls: ["depth", "speed", "skips"], start: { skips: [[1, 4]] },
    text: `<p>No frame of its own tells which way the ball rolls, and a chain sees one frame at a time. <b>Skip-Sideways</b> adds an
      edge that jumps over units. Each edge takes one tick; so a path with fewer edges is quicker, and brings a newer frame.</p>`,
    question: "u4 reads u3, and u1 by a skip edge. Which frames does it hold at tick 6?",
    choices: ["3 only", "3 and 4", "3 and 5", "3 and 6"], right: 2,
    answer: `By u2 and u3 a frame reaches u4 after 3 ticks, by the skip edge after 1. So u4 holds frames 3 and 5 together: two
      places of the ball, and with them its motion. The edge that saves two ticks brings frames two ticks apart together.`,
    show: { tick: 6, cell: { rule: "skip", unit: "u4", tick: 6 } },
  },
  {
    title: "Why the sign turns below a merge", rules: ["signs", "skip"], controls: ["depth", "speed", "skips"], start: { skips: [[1, 4]], tick: 10 },
    text: `<p>Where two paths meet, the loss depends on two moments, and the exact gradient compares the moments that met. Under
      Sideways a unit <i>d</i> ticks below the merge holds an input that is 2<i>d</i> frames newer than the one its gradient
      belongs to. If its branch brings a moment Δ frames newer than the other branch does, then the pseudo-gradient
      compares moments Δ + 2<i>d</i> apart instead of Δ.</p>`,
    question: "u2 is two ticks below the merge, on the slow branch: Δ = −2. Which sign has the cosine of its gradient to the exact one?",
    choices: ["positive: close enough", "about 0: nothing is left", "negative: the opposite"], right: 2,
    answer: `Δ + 2<i>d</i> = −2 + 4 = +2. The gradient compares the same two moments the other way round: for u2 the film runs
      backwards, and a step along this gradient unlearns the way. u3 compares a moment with itself (−2 + 2 = 0) and is taught
      nothing about motion; for u1 the two paths disagree. Press <b>Measure</b>, then choose another speed.`,
    show: { tick: 12, cell: { rule: "skip", unit: "u2", tick: 12 } },
  },
  {
    title: "Delayed: keep and wait", rules: ["delayed"], controls: ["depth", "speed", "skips", "n"], start: {},
    text: `<p><b>Delayed</b> keeps the input of each tick until its gradient comes, runs the unit on it again, and pulls the
      gradient through the Jacobian at that input. The gradient is exact; it is only late. The number below a cell says how
      many inputs the unit keeps. A flag marks a loss that is learnt from, at first every one.</p>`,
    question: "u1 keeps up to 9 inputs when it learns from every loss. How many does it keep if it learns from one loss in n = 9?",
    choices: ["1", "2", "5", "9 as before"], right: 0,
    answer: `Only the inputs that lead to a marked loss are kept. On a chain one gradient is under way at a time, and each unit
      below the top keeps 1 input, however deep the chain. And as <i>n</i> ≥ 2<i>D</i> − 1, no parameter changes while a
      gradient is under way: this is ordinary gradient descent, yet every frame is answered at once.`,
    show: { n: 9, tick: 12, cell: { rule: "delayed", unit: "u1", tick: 12 } },
  },
  {
    title: "Learn live", rules: ["live"], controls: ["task", "depth", "speed", "skips", "rate", "n", "waits", "seed"], start: { speed: 2 },
    text: `<p>Three small networks learn in this page, tick by tick, from the same film: 16 pixels on which a ball rolls left or
      right. They start from the same weights. Is the ball in the first, second, third or last quarter? Whoever guesses is
      right one time in four. <b>Predict</b> the curves, then press <kbd>space</kbd>.</p>`,
    question: "The ball rolls two pixels per frame. Which of the three networks will be the worst after 1000 ticks?",
    choices: ["Backpropagation: 8 of 9 frames are lost", "Sideways: its gradients mix frames", "Delayed: its gradients are 8 ticks late", "none: they learn the same"],
    right: 1,
    answer: `Sideways. Eight ticks are 16 pixels, a whole turn of the ball: below the top its gradients hardly point the right
      way (see the bars). Now try: <b>speed 0</b>, where its gradients are exact, and ⅛; <b>depth 2</b>, where a gradient is
      hardly late; <b>which way</b> the ball rolls with the skip edge u1 → u4, which backpropagation of single frames can
      only guess. At speed 4 nobody can tell the way. Why? (Two frames are half a ring apart.)`,
    show: {},
  },
  {
    title: "Laboratory", rules: ["blocked", "chain", "skip", "delayed"], controls: ["depth", "speed", "skips", "n", "numbers", "devices"],
    start: { skips: [[1, 4]] },
    text: `<p>All four at once. Deepen the network: the latency, the cycle of backpropagation and the mismatch at the bottom grow.
      The work per tick of Sideways grows with the number of units, but the work of each device does not. Move <i>K</i>: why
      are <i>K</i> devices not always used to 100 %?</p>`,
    question: "Which one skip edge brings frames four ticks apart together in one unit?",
    choices: ["u1 → u4", "u2 → u5", "u1 → u5", "frame → u5"], right: 3,
    answer: `By the chain u5 holds a frame 4 ticks old; by an edge from the frame itself it also holds the newest. An edge that jumps
      over <i>k</i> units brings frames <i>k</i> ticks apart together. And units cannot be divided: with 5 units on 4 devices,
      one device has two units, and sets the pace.`,
    show: { skips: [[0, 5]], tick: 8, cell: { rule: "skip", unit: "u5", tick: 8 } },
  },
];
