/** Hearth: the bundle's own hearth.js, as a page of a user loads it. */

import type { InputArray, Trainer } from "../../web/runtime/src/index.ts";
import { firstSample, serve, type Data, type Spec, type Training } from "./session.ts";

interface Runtime {
  Trainer: typeof Trainer;
}

async function open(data: Data, spec: Spec): Promise<Training> {
  const address = "/bundle/hearth.js";
  const runtime = await import(address) as Runtime;
  const trainer = await runtime.Trainer.load("/bundle/", {
    backend: spec.backend as "wasm" | "webgpu", threads: spec.threads ?? 1,
    worker: spec.worker ?? true, batchSize: spec.rows,
  });
  const { backend, adapter, threads } = trainer.device;
  if (backend !== spec.backend || threads < (spec.threads ?? 1)) {
    throw new Error(`on ${backend}, ${String(threads)} threads: ${trainer.warnings.join("; ")}`);
  }
  const batches = data.batches.map(({ x, y }) =>
    ({ x: x.values as InputArray, y: y.values as InputArray }));
  const batch = (i: number) => batches[i] ?? { x: [], y: [] };
  const sample = data.batches.slice(0, 1).map(({ x }) => firstSample(x).values as InputArray);
  return {
    step: async (i) => (await trainer.trainBatch(batch(i).x, batch(i).y)).loss,
    predict: () => trainer.predict(sample),
    device: `${adapter}, ${String(threads)} threads`,
  };
}

await serve(open);
