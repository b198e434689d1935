/**
 * The data set beside the page: `data/index.json` and the flat binary files it names.
 *
 * index.json: {name, mean, std, train, test}; a split is {count, x, y}: file names of inputs and
 * targets, little-endian.  `x` is float32, already (raw - mean) / std; with `"dtype": "uint8"` it
 * holds raw bytes, of which (byte / 255 - mean) / std is taken.  `y` is int32, or float32 where
 * the program takes float targets.
 */

import type { Dataset, Manifest } from "../../runtime/src/index.ts";
import type { Hearth } from "./hearth.ts";

/** What a model learns from, and what it is judged by. */
export interface Splits {
  name: string;
  train: Dataset;
  test: Dataset;
}

interface ServedSplit {
  count: number;
  x: string;
  y: string;
}

interface ServedIndex {
  name: string;
  mean?: number;
  std?: number;
  dtype?: "uint8" | "float32";
  train: ServedSplit;
  test: ServedSplit;
}

/** Fetches the data set under a URL; `report` hears the share that has arrived. */
export async function fetchServedData(
  { ArrayDataset }: Hearth, base: URL, { programs }: Manifest, report: (share: number) => void,
): Promise<Splits> {
  const target = programs["train"]?.inputs.find(({ role }) => role === "target");
  const index = await (await fetchOk(new URL("index.json", base))).json() as ServedIndex;
  const { name, mean = 0, std = 1, dtype = "float32" } = index;
  const inputs = (bytes: ArrayBuffer): Float32Array => (dtype === "uint8"
    ? Float32Array.from(new Uint8Array(bytes), (v) => (v / 255 - mean) / std)
    : new Float32Array(bytes));
  const split = async ({ count, x, y }: ServedSplit, progress: (share: number) => void) => {
    const targets = await (await fetchOk(new URL(y, base))).arrayBuffer();
    return new ArrayDataset({
      samples: count,
      x: inputs(await fetchBytes(new URL(x, base), progress)),
      y: target?.dtype === "float32" ? new Float32Array(targets) : new Int32Array(targets),
    });
  };
  const test = await split(index.test, () => undefined);
  return { name, test, train: await split(index.train, report) };
}

async function fetchOk(url: URL): Promise<Response> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`cannot fetch ${url.href}: HTTP ${String(response.status)}`);
  return response;
}

async function fetchBytes(url: URL, report: (share: number) => void): Promise<ArrayBuffer> {
  const response = await fetchOk(url);
  const total = Number(response.headers.get("Content-Length"));
  if (!response.body || !total) return response.arrayBuffer();
  const bytes = new Uint8Array(total);
  let position = 0;
  for await (const part of response.body) {
    bytes.set(part, position);
    position += part.length;
    report(position / total);
  }
  if (position !== total) throw new Error(`the download of ${url.href} broke off`);
  return bytes.buffer;
}
