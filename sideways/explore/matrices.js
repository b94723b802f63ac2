// Arithmetic of the small network: matrices in double precision. A matrix is {rows, columns, values}, row after row;
// a batch of N frames has one row per frame.

const zeros = (rows, columns) => ({ rows, columns, values: new Float64Array(rows * columns) });

/** Make a matrix from a list of rows. */
function matrix(rows) {
  return { rows: rows.length, columns: rows[0].length, values: Float64Array.from(rows.flat()) };
}

/** a b:  (N, I) · (I, O) → (N, O). */
function product(a, b) {
  const c = zeros(a.rows, b.columns);
  for (let n = 0; n < a.rows; n++) {
    for (let i = 0; i < a.columns; i++) {
      const factor = a.values[n * a.columns + i];
      if (factor === 0) continue;
      for (let o = 0; o < b.columns; o++) c.values[n * b.columns + o] += factor * b.values[i * b.columns + o];
    }
  }
  return c;
}

/** aᵀ b:  (N, I)ᵀ · (N, O) → (I, O). */
function transposedProduct(a, b) {
  const c = zeros(a.columns, b.columns);
  for (let n = 0; n < a.rows; n++) {
    for (let i = 0; i < a.columns; i++) {
      const factor = a.values[n * a.columns + i];
      if (factor === 0) continue;
      for (let o = 0; o < b.columns; o++) c.values[i * b.columns + o] += factor * b.values[n * b.columns + o];
    }
  }
  return c;
}

/** a bᵀ:  (N, O) · (I, O)ᵀ → (N, I). */
function productTransposed(a, b) {
  const c = zeros(a.rows, b.rows);
  for (let n = 0; n < a.rows; n++) {
    for (let i = 0; i < b.rows; i++) {
      let sum = 0;
      for (let o = 0; o < a.columns; o++) sum += a.values[n * a.columns + o] * b.values[i * b.columns + o];
      c.values[n * b.rows + i] = sum;
    }
  }
  return c;
}

/** The sum of the rows:  (N, O) → (1, O). */
function rowSum(a) {
  const c = zeros(1, a.columns);
  for (let k = 0; k < a.values.length; k++) c.values[k % a.columns] += a.values[k];
  return c;
}

/** A new matrix of f(a) for each element, or of f(a, b, c). */
function elementwise(f, a, b = a, c = a) {
  const y = zeros(a.rows, a.columns);
  for (let k = 0; k < y.values.length; k++) y.values[k] = f(a.values[k], b.values[k], c.values[k]);
  return y;
}

/** The sum of matrices of one shape, first to last. */
function sumOf([first, ...others]) {
  const sum = { ...first, values: first.values.slice() };
  for (const { values } of others) for (let k = 0; k < values.length; k++) sum.values[k] += values[k];
  return sum;
}

/** Put matrices side by side. */
function sideBySide(parts) {
  const whole = zeros(parts[0].rows, parts.reduce((sum, part) => sum + part.columns, 0));
  let start = 0;
  for (const { rows, columns, values } of parts) {
    for (let n = 0; n < rows; n++) whole.values.set(values.subarray(n * columns, (n + 1) * columns), n * whole.columns + start);
    start += columns;
  }
  return whole;
}

/** Take a matrix apart again into matrices of these widths. */
function takenApart(whole, widths) {
  let start = 0;
  return widths.map((columns) => {
    const part = zeros(whole.rows, columns), from = start;
    for (let n = 0; n < whole.rows; n++) {
      part.values.set(whole.values.subarray(n * whole.columns + from, n * whole.columns + from + columns), n * columns);
    }
    start += columns;
    return part;
  });
}
