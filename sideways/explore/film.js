// The film: a ball that rolls along a ring of 16 pixels. It is drawn as a strip, the thumbnail of a frame, and a row of
// its 16 pixels is what the small network sees. Also here: chance numbers with a seed.

const RING = 16; // pixels; a ball that leaves on one side comes in again on the other
const FIRST_PLACE = 2; // of the ball in the diagrams' film, which rolls to the right

const onRing = (place) => ((place % RING) + RING) % RING;
const placeOf = (frame, speed) => onRing(FIRST_PLACE + speed * frame);

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

/** Draw a strip with one ball for each frame, where the ball is in that frame.
 *
 * frames: ascending numbers; solid: those drawn as full balls, the others are rings; place: frame → pixel. */
function strip(frames, solid, place, x, y, width, height) {
  const box = svg("svg", { x, y, width, height }), r = Math.min(height * 0.36, 6);
  box.append(svg("rect", { class: "strip", width, height, rx: 3 }));
  for (const frame of frames.toSorted((a, b) => solid.includes(a) - solid.includes(b) || a - b)) {
    const [colour] = colourOf(frame), centre = ((place(frame) + 0.5) / RING) * width;
    for (const cx of [centre, centre - width, centre + width]) { // a ball on the seam shows on both sides
      if (cx < -r || cx > width + r) continue;
      box.append(svg("circle", solid.includes(frame) ? { class: "ball", cx, cy: height / 2, r, fill: colour }
        : { class: "ring", cx, cy: height / 2, r: r - 1.2, stroke: colour }));
    }
  }
  return box;
}

/** Draw the pixels of a frame as grey blocks, dark where the ball is. */
function pixelStrip(values, x, y, width, height) {
  const box = svg("svg", { x, y, width, height }), wide = width / values.length;
  box.append(svg("rect", { class: "strip", width, height, rx: 3 }));
  values.forEach((value, p) => {
    const opacity = Math.max(0, Math.min(1, (value - DARKEST) / (BRIGHTEST - DARKEST)));
    box.append(svg("rect", { class: "pixel", x: p * wide + 0.5, y: 1, width: wide - 1, height: height - 2, opacity: opacity.toFixed(3) }));
  });
  return box;
}

/** Write a set of frames so that it can be taken at its word: `2 4 6`; `2 4 … 12` for equal steps; `5–9` for all from 5 to 9. */
function setLabel(frames, between = " ") {
  const words = [];
  for (let i = 0; i < frames.length;) {
    const step = frames[i + 1] - frames[i];
    let end = i;
    while (frames[end + 1] - frames[end] === step) end++;
    const count = end - i + 1;
    if (step === 1 && count > 2 && frames.length > 3) words.push(`${frames[i]}–${frames[end]}`);
    else if (step > 1 && count > 5) words.push(`${frames[i]}${between}${frames[i + 1]} … ${frames[end]}`);
    else { words.push(frames[i]); i++; continue; }
    i = end + 1;
  }
  return words.join(between);
}

// Clips for the network ----------------------------------------------------------------------------------------------

const BRIGHTEST = 1.6, DARKEST = -0.4, BREADTH = 1.2; // values of a pixel; the ball's breadth in pixels
const TASKS = {
  where: { title: "where is the ball?", classes: ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"] },
  way: { title: "which way does it roll?", classes: ["left", "right"] },
};

/** Chance numbers in [0, 1) from a seed (mulberry32, by Tommy Ettinger). */
function chance(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A normal deviate, from two chance numbers (Box and Muller). */
const normal = (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** Make a batch of clips: each ball starts anywhere and rolls left or right.
 *
 * Returns {frames: T matrices (N, 16), labels: T lists of N classes, places: T lists of N places on the ring}. */
function makeClip(random, batch, length, speed, task) {
  const balls = Array.from({ length: batch }, () => ({ start: random() * RING, way: random() < 0.5 ? 0 : 1 }));
  const clip = { frames: [], labels: [], places: [] };
  for (let t = 0; t < length; t++) {
    const places = balls.map(({ start, way }) => onRing(start + (way ? 1 : -1) * speed * t));
    clip.places.push(places);
    clip.frames.push({ rows: batch, columns: RING, values: Float64Array.from(places.flatMap(pixelsOf)) });
    clip.labels.push(task === "way" ? balls.map(({ way }) => way) : places.map((place) => Math.floor((place / RING) * 4)));
  }
  return clip;
}

/** The 16 pixels of a frame: a smooth ball at a place on the ring. */
function pixelsOf(place) {
  return Array.from({ length: RING }, (_, p) => {
    const apart = Math.min(onRing(p - place), onRing(place - p));
    return DARKEST + (BRIGHTEST - DARKEST) * Math.exp((-apart * apart) / (2 * BREADTH * BREADTH));
  });
}
