/** Hearth: the bundle's own hearth.js, as a page of a user loads it. */

import type { Batch, InputArray, Trainer } from "../../web/runtime/src/index.ts";
import { firstSample, serve, type Data, type Spec, type Training } from "./session.ts";

interface Runtime {
  Trainer: typeof Trainer;
}

async function open(data: Data, spec: Spec): Promise<Training> {
  const address = "/bundle/hearth.js";
  const runtime = await import(address) as Runtime;
  const trainer = await runtime.Trainer.load("/bundle/", {
    memoryBytes: Infinity,
    backend: spec.backend as "wasm" | "webgpu", threads: spec.threads ?? 1,
    worker: spec.worker ?? true, batchSize: spec.rows,
  });
  const { backend, adapter, threads } = trainer.device;
  if (backend !== spec.backend || threads < (spec.threads ?? 1)) {
    throw new Error(`on ${backend}, ${String(threads)} threads: ${trainer.warnings.join("; ")}`);
  }
  const batches = data.batches.map(({ x, y }) =>
    ({ x: x.values as InputArray, y: y.values as InputArray }));
  const batch = (i: number): Batch => batches[i] ?? { x: [], y: [] };
  const sample = data.batches.slice(0, 1).map(({ x }) => firstSample(x).values as InputArray);
  return {
    step: async (i) => (await trainer.trainBatch(batch(i).x, batch(i).y)).loss,
    ...(spec.fit ? { train: (seconds: number) => fit(trainer, batches, seconds) } : {}),
    predict: () => trainer.predict(sample),
    device: `${adapter}, ${String(threads)} threads`,
  };
}

/** The time of each step of `fit`; those of one event share the time since the event before. */
async function fit(
  trainer: Trainer, batches: readonly Batch[], seconds: number,
): Promise<number[]> {
  const found: number[] = [];
  let last = performance.now();
  const end = last + seconds * 1000;
  function* untilTheEnd(): Generator<Batch> {
    for (let i = 0; i === 0 || performance.now() < end; i++) {
      const batch = batches[i % batches.length];
      if (batch) yield batch;
    }
  }
  for await (const event of trainer.fit(untilTheEnd())) {
    if (event.kind !== "steps") continue;
    const now = performance.now();
    found.push(...event.steps.map(() => (now - last) / event.steps.length));
    last = now;
  }
  return found;
}

await serve(open);
