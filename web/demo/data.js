// @ts-check
/**
 * The data set beside the page: `data/index.json` and the flat binary files it names.
 *
 * index.json: {name, mean, std, train, test}; a split is {count, x, y}: file names of inputs and
 * targets, little-endian.  `x` is float32, already (raw - mean) / std; with `"dtype": "uint8"` it
 * holds raw bytes, of which (byte / 255 - mean) / std is taken.  `y` is int32, or float32 where
 * the program takes float targets.
 */

/** @typedef {import("../runtime/src/index.ts").ArrayDataset} ArrayDataset */
/** @typedef {{ name: string, train: ArrayDataset, test: ArrayDataset }} Splits */

/**
 * Fetches the data set under a URL; `report` hears the share that has arrived.
 * @param {typeof import("../runtime/src/index.ts")} hearth
 * @param {URL} base
 * @param {boolean} floatTargets
 * @param {(share: number) => void} report
 * @returns {Promise<Splits>}
 */
export async function fetchDataset({ ArrayDataset }, base, floatTargets, report) {
  const index = await (await fetchOk(new URL("index.json", base))).json();
  const { name, mean = 0, std = 1, dtype = "float32" } = index;
  /** @param {ArrayBuffer} bytes */
  const inputs = (bytes) => dtype === "uint8"
    ? Float32Array.from(new Uint8Array(bytes), (v) => (v / 255 - mean) / std)
    : new Float32Array(bytes);
  /**
   * @param {"train" | "test"} part
   * @param {(share: number) => void} progress
   */
  const split = async (part, progress) => {
    const { count, x, y } = index[part];
    const targets = await (await fetchOk(new URL(y, base))).arrayBuffer();
    return new ArrayDataset({
      samples: count,
      x: inputs(await fetchBytes(new URL(x, base), progress)),
      y: floatTargets ? new Float32Array(targets) : new Int32Array(targets),
    });
  };
  const test = await split("test", () => {});
  return { name, test, train: await split("train", report) };
}

/** @param {URL} url */
async function fetchOk(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`cannot fetch ${url.href}: HTTP ${response.status}`);
  return response;
}

/**
 * @param {URL} url
 * @param {(share: number) => void} report
 */
async function fetchBytes(url, report) {
  const response = await fetchOk(url);
  const total = Number(response.headers.get("Content-Length"));
  if (!response.body || !total) return response.arrayBuffer();
  const bytes = new Uint8Array(total);
  let position = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes.set(value, position);
    position += value.length;
    report(position / total);
  }
  if (position !== total) throw new Error(`the download of ${url.href} broke off`);
  return bytes.buffer;
}
