// The page that `chromium.py` drives: it runs a Trainer of the bundle's own hearth.js and carries
// arrays over the local server, as one block of bytes per call in each direction.

import { Trainer } from "/bundle/hearth.js";

const ARRAYS = {
  float32: Float32Array, int64: BigInt64Array, int32: Int32Array, uint32: Uint32Array,
  bool: Uint8Array,
};
const DTYPES = {
  Float32Array: "float32", Int32Array: "int32", Uint32Array: "uint32", Uint8Array: "bool",
};

let trainer;

const calls = {
  async load({ options }) {
    trainer = await Trainer.load("/bundle/", {
      memoryBytes: Infinity, ...options, seed: BigInt(options.seed),
    });
    return { value: { device: trainer.device, warnings: trainer.warnings } };
  },
  run: async ({ program }, arrays) => outputs(await trainer.run(program, arrays)),
  async trainMany({ count }, arrays) {
    // All steps are started before the first loss is awaited: the device never waits for the page.
    const steps = [...Array(count).keys()].map((i) =>
      trainer.trainBatch(named(arrays, `${i}/input/`), named(arrays, `${i}/target/`)));
    return { value: (await Promise.all(steps)).map(({ loss }) => loss) };
  },
  async stepTimes({ seconds }, arrays) {
    const batch = [named(arrays, "input/"), named(arrays, "target/")];
    const value = [];
    const end = performance.now() + seconds * 1000;
    for (let start = performance.now(), now = start; value.length === 0 || now < end; start = now) {
      await trainer.trainBatch(...batch);
      now = performance.now();
      value.push(now - start);
    }
    return { value };
  },
  exportWeights: async ({ format }) => file(await trainer.exportWeights(format)),
  loadWeights: async (_, { file }) => ({ value: await trainer.loadWeights(file) ?? null }),
  exportCheckpoint: async () => file(await trainer.exportCheckpoint()),
  loadCheckpoint: async (_, { file }) => ({ value: await trainer.loadCheckpoint(file) ?? null }),
  getLearningRate: () => ({ value: [trainer.learningRate].flat() }),
  setLearningRate({ rates }) {
    trainer.learningRate = rates;
    return { value: null };
  },
  device: () => ({ value: trainer.device }),
  dispose: async () => ({ value: await trainer?.dispose() ?? null }),
};

/** Runs one call; every error comes back as data, by its name. */
globalThis.hearthCall = async ({ name, given, arrays }) => {
  try {
    const { value, parts } = await calls[name](given, await receive(arrays));
    return { value: value ?? null, arrays: await send(parts ?? []) };
  } catch (error) {
    const { name: kind, what, where, why, remedy, message } = error;
    return { error: { kind, what: what ?? `${kind}: ${message}`, where, why, remedy } };
  }
};

/** The arrays of a call by name, as views of one block that the server holds. */
async function receive(table) {
  if (table.length === 0) return {};
  const block = await (await fetch("/blob/in")).arrayBuffer();
  return Object.fromEntries(table.map(({ name, dtype, offset, length }) =>
    [name, new ARRAYS[dtype](block, offset, length)]));
}

/** Posts arrays as one block; returns where each lies in it. */
async function send(parts) {
  if (parts.length === 0) return [];
  let offset = 0;
  const table = parts.map(([name, data]) => {
    const entry = { name, dtype: DTYPES[data.constructor.name], offset, length: data.length };
    offset += data.byteLength;
    return entry;
  });
  const block = new Blob(parts.map(([, data]) => data));
  const response = await fetch("/blob/out", { method: "POST", body: block });
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return table;
}

/** The arrays whose names begin with `prefix`, in order; undefined where there are none. */
function named(arrays, prefix) {
  const found = Object.keys(arrays).filter((key) => key.startsWith(prefix));
  return found.length > 0 ? found.map((key) => arrays[key]) : undefined;
}

const outputs = (result) => ({ parts: Object.entries(result) });
const file = (bytes) => ({ parts: [["file", bytes]] });

document.title = "ready";
