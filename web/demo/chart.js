// @ts-check
/**
 * A line over training steps on a canvas: axes, a few labels, no library.
 *
 * Points are drawn as they are, thin; `smooth` adds their moving average on top.
 */

/**
 * @typedef {object} ChartOptions
 * @property {string} color
 * @property {boolean} [smooth]
 * @property {[number, number]} [range]   fixed limits of the vertical axis
 * @property {(value: number) => string} format
 */

const MARGIN = { left: 44, right: 8, top: 8, bottom: 20 };
const INK = "#66707c";
const GRID = "#eceae4";

/**
 * Draws the points [step, value] on the canvas, for its present size and pixel density.
 * @param {HTMLCanvasElement} canvas
 * @param {readonly (readonly [number, number])[]} points
 * @param {ChartOptions} options
 */
export function drawChart(canvas, points, options) {
  const { width, height } = canvas.getBoundingClientRect();
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  const context = canvas.getContext("2d");
  if (!context) return;
  context.scale(density, density);
  context.font = "11px system-ui, sans-serif";
  const [low, high, tick] = options.range ? [...options.range, 0.25] : limits(points);
  const last = Math.max(1, points.at(-1)?.[0] ?? 1);
  const x = (/** @type {number} */ step) =>
    MARGIN.left + (step / last) * (width - MARGIN.left - MARGIN.right);
  const y = (/** @type {number} */ value) =>
    height - MARGIN.bottom
    - ((value - low) / (high - low)) * (height - MARGIN.top - MARGIN.bottom);
  drawAxes(context, { low, high, tick, last, x, y, width, height, format: options.format });
  if (points.length === 0) return;
  const shown = thin(points, 2 * Math.ceil(width));
  if (options.smooth) {
    drawLine(context, shown, x, y, `${options.color}40`, 1);
    drawLine(context, thin(movingAverage(points), Math.ceil(width)), x, y, options.color, 2);
  } else {
    drawLine(context, shown, x, y, options.color, 2);
    for (const [step, value] of shown) drawDot(context, x(step), y(value), options.color);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{ low: number, high: number, tick: number, last: number, x: (v: number) => number,
 *   y: (v: number) => number, width: number, height: number,
 *   format: (v: number) => string }} axes
 */
function drawAxes(context, { low, high, tick, last, x, y, width, height, format }) {
  context.strokeStyle = GRID;
  context.fillStyle = INK;
  context.lineWidth = 1;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (let value = low; value <= high + tick / 2; value += tick) {
    const line = Math.round(y(value)) + 0.5;
    context.beginPath();
    context.moveTo(MARGIN.left, line);
    context.lineTo(width - MARGIN.right, line);
    context.stroke();
    context.fillText(format(value), MARGIN.left - 6, line);
  }
  context.textBaseline = "alphabetic";
  context.fillText(last > 1 ? `step ${last.toLocaleString("en")}` : "step", x(last), height - 4);
  context.textAlign = "left";
  context.fillText("0", MARGIN.left, height - 4);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {readonly (readonly [number, number])[]} points
 * @param {(v: number) => number} x
 * @param {(v: number) => number} y
 * @param {string} color
 * @param {number} lineWidth
 */
function drawLine(context, points, x, y, color, lineWidth) {
  context.strokeStyle = color;
  context.lineWidth = lineWidth;
  context.lineJoin = "round";
  context.beginPath();
  for (const [step, value] of points) context.lineTo(x(step), y(value));
  context.stroke();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {string} color
 */
function drawDot(context, x, y, color) {
  context.fillStyle = color;
  context.beginPath();
  context.arc(x, y, 2.5, 0, 2 * Math.PI);
  context.fill();
}

/**
 * Lower end, upper end and distance of round numbers that hold nearly all values.
 * @param {readonly (readonly [number, number])[]} points
 * @returns {[number, number, number]}
 */
function limits(points) {
  const values = points.map(([, value]) => value).filter(Number.isFinite).sort((a, b) => a - b);
  const low = Math.min(0, values[0] ?? 0);
  const high = values[Math.floor(0.995 * (values.length - 1))] ?? 1;
  const rough = Math.max(high - low, 1e-6) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const tick = power * ([1, 2, 2.5, 5].find((factor) => factor * power >= rough) ?? 10);
  return [tick * Math.floor(low / tick), Math.max(tick, tick * Math.ceil(high / tick)), tick];
}

/**
 * At most `count` of the points, the last one among them.
 * @param {readonly (readonly [number, number])[]} points
 * @param {number} count
 */
function thin(points, count) {
  const stride = Math.ceil(points.length / count) || 1;
  return points.filter((_, i) => i % stride === 0 || i === points.length - 1);
}

/**
 * The mean of each point and its neighbours, a fiftieth of the curve to each side.
 * @param {readonly (readonly [number, number])[]} points
 * @returns {[number, number][]}
 */
function movingAverage(points) {
  const reach = Math.ceil(points.length / 50);
  const sums = [0];
  for (const [, value] of points) sums.push((sums.at(-1) ?? 0) + value);
  return points.map(([step], i) => {
    const first = i - Math.min(reach, i);
    const end = Math.min(points.length, i + Math.min(reach, i) + 1);
    return [step, ((sums[end] ?? 0) - (sums[first] ?? 0)) / (end - first)];
  });
}
