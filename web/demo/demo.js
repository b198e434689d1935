// @ts-check
/**
 * A page to train a bundle in: buttons, figures, two curves.
 *
 * The bundle is served under ./bundle/ and the data under ./data/ (`data.js` says in which form).
 * Query: ?backend=auto|webgpu|wasm, ?threads=N, ?seed=N.
 *
 * For a driver without hands, the page offers `window.hearthDemo`:
 *
 *     ready                      promise: model and data are there
 *     state                      "loading" | "ready" | "training" | "evaluating" | "failed"
 *     trainer                    the Trainer, once ready
 *     train({epochs, batchSize, learningRate})   promise of {loss, accuracy?} on the test set
 *     stop()                     ends training after the steps that are under way
 *     evaluate()                 promise of {loss, accuracy?} on the test set
 *     losses, scores             lists of [step, value] so far
 *
 * and events on `window`: "hearth:step" {step, loss}, "hearth:epoch" {epoch, loss, accuracy?},
 * "hearth:state" {state}, "hearth:error" {name, message}; the data are in `event.detail`.
 */

import { drawChart } from "./chart.js";
import { fetchDataset } from "./data.js";

/** @typedef {import("../runtime/src/index.ts").Trainer} Trainer */
/** @typedef {import("../runtime/src/index.ts").Batches} Batches */
/** @typedef {typeof import("../runtime/src/index.ts")} Hearth */
/** @typedef {import("./data.js").Splits} Splits */
/** @typedef {{ epochs: number, batchSize: number, learningRate?: number }} TrainOptions */
/** @typedef {{ loss: number, accuracy?: number }} Score */
/** @typedef {"loading" | "ready" | "training" | "evaluating" | "failed"} State */

const EVALUATION_BATCH = 256;
const GLANCE_SAMPLES = 1024; // of the test set, for the curve while an epoch runs
const GLANCE_INTERVAL_MS = 1500;

const query = new URLSearchParams(location.search);
const demo = {
  state: /** @type {State} */ ("loading"),
  trainer: /** @type {Trainer | undefined} */ (undefined),
  losses: /** @type {[number, number][]} */ ([]),
  scores: /** @type {[number, number][]} */ ([]),
  ready: /** @type {Promise<void> | undefined} */ (undefined),
  train, stop, evaluate,
};
let data = /** @type {Splits | undefined} */ (undefined);
let module = /** @type {Hearth | undefined} */ (undefined);
let tests = /** @type {Batches | undefined} */ (undefined);
let glances = /** @type {Batches | undefined} */ (undefined); // the first of the test set
let stopping = false;
let drawing = false;
let hasAccuracy = true;
const stepTimes = /** @type {number[]} */ ([]);

// --- what the page does ----------------------------------------------------------------------

async function load() {
  const base = new URL("bundle/", location.href);
  /** @type {Hearth} */
  const hearth = await import(new URL("hearth.js", base).href);
  module = hearth;
  const backend = /** @type {"auto" | "webgpu" | "wasm"} */ (query.get("backend") ?? "auto");
  const trainer = await hearth.Trainer.load(base, {
    backend, ...numbers("threads", "seed"), onDevice: () => { showDevice(); },
  });
  demo.trainer = trainer;
  text("model", trainer.manifest.model || "A model");
  document.title = `Train ${trainer.manifest.model}`;
  showDevice();
  const rate = [trainer.learningRate].flat()[0];
  field("rate").value = String(rate ?? "");
  const target = trainer.manifest.programs["train"]?.inputs.find(({ role }) => role === "target");
  data = await fetchDataset(hearth, new URL("data/", location.href), target?.dtype === "float32",
    (share) => { setProgress(share); text("data", `Fetching data: ${percent(share, 0)}.`); });
  text("data", `Data: ${data.name}; ${data.train.length.toLocaleString("en")} samples to learn `
    + `from, ${data.test.length.toLocaleString("en")} to test on.`);
  const batchSize = EVALUATION_BATCH;
  const few = Uint32Array.from({ length: Math.min(GLANCE_SAMPLES, data.test.length) }, (_, i) => i);
  tests = new hearth.DataLoader(data.test, { batchSize });
  glances = new hearth.DataLoader(new hearth.Subset(data.test, few), { batchSize });
  setProgress(0);
  setState("ready");
}

/**
 * Trains for some epochs, then evaluates on the test set.
 * @param {TrainOptions} options
 * @returns {Promise<Score>}
 */
async function train({ epochs, batchSize, learningRate }) {
  const { trainer, hearth, split } = begin("training");
  try {
    if (learningRate !== undefined) trainer.learningRate = learningRate;
    if (demo.scores.length === 0) await measure(glances);
    const seed = Math.floor(Math.random() * 2 ** 32);
    const loader = new hearth.DataLoader(split.train, { batchSize, shuffle: true, seed });
    let done = 0;
    let glanced = performance.now();
    for await (const event of trainer.fit(loader, { epochs })) {
      if (event.kind === "steps") {
        event.steps.forEach(report);
        setProgress((done += event.steps.length) / (epochs * loader.length));
        const interval = Math.min(GLANCE_INTERVAL_MS, 100 * demo.scores.length); // often at first
        if (performance.now() - glanced < interval) continue;
        await measure(glances);
        glanced = performance.now();
      } else {
        emit("epoch", { epoch: event.epoch + 1, ...await measure(glances) });
      }
      if (stopping) break;
    }
    return await measure(tests);
  } finally {
    setState("ready");
  }
}

/** @param {import("../runtime/src/index.ts").StepReport} step */
function report({ step, loss, ms }) {
  demo.losses.push([step, loss]);
  stepTimes.push(ms);
  emit("step", { step, loss });
  redraw();
}

function stop() {
  stopping = true;
}

/** @returns {Promise<Score>} */
async function evaluate() {
  begin("evaluating");
  try {
    return await measure(tests);
  } finally {
    setState("ready");
  }
}

/**
 * Loss and accuracy on the test set or a part of it, for the curve.
 * @param {Batches | undefined} batches
 * @returns {Promise<Score>}
 */
async function measure(batches) {
  const { loss, metrics } = await parts().trainer.evaluate(batches ?? []);
  const { accuracy } = metrics;
  const score = accuracy === undefined ? { loss } : { loss, accuracy };
  showScore(score);
  return score;
}

/** @param {"safetensors" | "json"} format */
async function download(format) {
  const { trainer } = parts();
  const bytes = await trainer.exportWeights(format);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([new Uint8Array(bytes)]));
  const name = trainer.manifest.model.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  link.download = `${name || "model"}.${format}`;
  link.click();
  setTimeout(() => { URL.revokeObjectURL(link.href); }, 60_000);
}

// --- what the page shows ---------------------------------------------------------------------

function bindControls() {
  button("train").onclick = () => {
    if (demo.state === "training") stop();
    else train(options()).catch(fail);
  };
  button("evaluate").onclick = () => { evaluate().catch(fail); };
  button("safetensors").onclick = () => { download("safetensors").catch(fail); };
  button("json").onclick = () => { download("json").catch(fail); };
  field("rate").onchange = () => {
    try {
      parts().trainer.learningRate = options().learningRate; // also while it trains
      // It keeps its room: the page must not move under a finger that is about to press Train.
      element("error").style.visibility = "hidden";
    } catch (error) {
      showError(error);
    }
  };
  new ResizeObserver(redraw).observe(element("lossChart"));
}

/** @returns {Required<TrainOptions>} */
function options() {
  const whole = (/** @type {string} */ id) => {
    const input = field(id);
    const value = Math.round(Number(input.value)) || 1;
    input.value = String(Math.min(Number(input.max), Math.max(1, value)));
    return Number(input.value);
  };
  const rate = field("rate").value.trim();
  return {
    epochs: whole("epochs"), batchSize: whole("batch"),
    learningRate: rate === "" ? NaN : Number(rate.replace(",", ".")),
  };
}

/** @param {State} state */
function begin(state) {
  const found = parts();
  if (demo.state !== "ready") throw new Error(`the page is ${demo.state}`);
  stopping = false;
  element("error").hidden = true;
  setState(state);
  return found;
}

function parts() {
  const { trainer } = demo;
  if (!trainer || !data || !module) throw new Error("the model is not loaded yet");
  return { trainer, hearth: module, split: data };
}

/** @param {State} state */
function setState(state) {
  demo.state = state;
  const idle = state === "ready";
  button("train").disabled = !idle && state !== "training";
  button("train").textContent = state === "training" ? "Stop" : "Train";
  button("evaluate").disabled = !idle;
  for (const id of ["safetensors", "json"]) button(id).disabled = !demo.trainer || !data;
  for (const id of ["epochs", "batch"]) field(id).disabled = state === "training";
  showDevice();
  emit("state", { state });
}

function showDevice() {
  const device = demo.trainer?.device;
  if (!device) return;
  const gpu = device.backend === "webgpu";
  const threads = device.threads > 1 ? `${device.threads} threads` : "one thread";
  const how = gpu ? `WebGPU on ${device.adapter}` : `WebAssembly, ${threads}`;
  text("device", `${how} · ${megabytes(device.bytes)} of memory`);
  element("device").title = [device.adapter, ...demo.trainer?.warnings ?? []].join("\n");
}

/** @param {Score} score */
function showScore({ loss, accuracy }) {
  const step = demo.losses.at(-1)?.[0] ?? demo.trainer?.step ?? 0;
  hasAccuracy = accuracy !== undefined;
  demo.scores.push([step, accuracy ?? loss]);
  if (!hasAccuracy) {
    text("scoreName", "Test loss");
    text("scoreCaption", "Loss on the test set");
  }
  text("score", accuracy === undefined ? loss.toPrecision(4) : percent(accuracy, 2));
  redraw();
}

function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const [step, loss] = demo.losses.at(-1) ?? [];
    if (step !== undefined && loss !== undefined) {
      text("step", step.toLocaleString("en"));
      text("loss", recentMean(demo.losses).toPrecision(3));
      const speed = stepsPerSecond();
      text("speed", speed >= 100 ? speed.toFixed(0) : speed.toPrecision(3));
    }
    drawChart(canvas("lossChart"), demo.losses, {
      color: "#b4531a", smooth: true, format: plain,
    });
    drawChart(canvas("scoreChart"), demo.scores, {
      color: "#0b6e4f", format: hasAccuracy ? (v) => percent(v, 0) : plain,
      ...hasAccuracy && { range: /** @type {[number, number]} */ ([0, 1]) },
    });
  });
}

/** @param {number} share */
function setProgress(share) {
  element("bar").style.width = percent(share, 1).replace(" ", "");
  element("bar").parentElement?.setAttribute("aria-valuenow", String(Math.round(100 * share)));
}

/** @param {unknown} error */
function fail(error) {
  showError(error);
  if (!data) setState("failed");
}

/** @param {unknown} error */
function showError(error) {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  text("error", message);
  element("error").hidden = false;
  element("error").style.visibility = "visible";
  if (!data) text("model", "This model cannot be trained here");
  emit("error", { name, message });
}

// --- small things ----------------------------------------------------------------------------

/** Steps per second over the last steps that took two seconds together. */
function stepsPerSecond() {
  let [ms, steps] = [0, 0];
  while (steps < stepTimes.length && ms < 2000) ms += stepTimes.at(-1 - steps++) ?? 0;
  stepTimes.splice(0, stepTimes.length - steps);
  return (1000 * steps) / ms;
}

/** @param {readonly (readonly [number, number])[]} points */
function recentMean(points) {
  const recent = points.slice(-20);
  return recent.reduce((sum, [, value]) => sum + value, 0) / recent.length;
}

/** @param {string[]} names */
function numbers(...names) {
  const found = names.filter((name) => query.has(name));
  return Object.fromEntries(found.map((name) => [name, Number(query.get(name))]));
}

/**
 * @param {string} name
 * @param {unknown} detail
 */
function emit(name, detail) {
  window.dispatchEvent(new CustomEvent(`hearth:${name}`, { detail }));
}

/**
 * @param {number} share
 * @param {number} digits
 */
function percent(share, digits) {
  return `${(100 * share).toFixed(digits)} %`;
}

/** @param {number} value */
function plain(value) {
  return String(Number(value.toPrecision(3)));
}

/** @param {number} bytes */
function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

/** @param {string} id */
function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * @param {string} id
 * @param {string} content
 */
function text(id, content) {
  element(id).textContent = content;
}

/** @param {string} id */
function button(id) {
  return /** @type {HTMLButtonElement} */ (element(id));
}

/** @param {string} id */
function field(id) {
  return /** @type {HTMLInputElement} */ (element(id));
}

/** @param {string} id */
function canvas(id) {
  return /** @type {HTMLCanvasElement} */ (element(id));
}

Object.assign(window, { hearthDemo: demo });
demo.ready = load();
demo.ready.catch(fail);
bindControls();
