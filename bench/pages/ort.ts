/** ONNX Runtime Web 1.19.2, the last version that trains: sessions made ahead, in Python. */

import { env, Tensor as OrtTensor, TrainingSession } from "onnxruntime-web/training";
import { serve, type Data, type Spec, type Training } from "./session.ts";

async function open(data: Data, spec: Spec): Promise<Training> {
  env.wasm.wasmPaths = `${location.origin}/ort/`;
  env.wasm.numThreads = spec.threads ?? 1;
  const file = (name: string): string => `/artifacts/${name}`;
  const session = await TrainingSession.create({
    checkpointState: file("checkpoint"), trainModel: file("training_model.onnx"),
    optimizerModel: file("optimizer_model.onnx"),
  }, { executionProviders: ["wasm"] });
  const labels = session.trainingInputNames.find((name) => name !== "input") ?? "";
  const loss = session.trainingOutputNames[0] ?? "";
  const batches = data.batches.map(({ x, y }) => {
    const input = x.values instanceof Float32Array
      ? new OrtTensor("float32", x.values, x.shape)
      : new OrtTensor("int64", BigInt64Array.from(x.values, BigInt), x.shape);
    const classes = BigInt64Array.from(y.values, BigInt);
    return { input, [labels]: new OrtTensor("int64", classes, [classes.length]) };
  });
  return {
    async step(i) {
      const results = await session.runTrainStep(batches[i] ?? {});
      await session.runOptimizerStep();
      await session.lazyResetGrad();
      const value = results[loss] as OrtTensor;
      return (value.data as Float32Array)[0] ?? NaN;
    },
    device: `wasm, ${String(env.wasm.numThreads)} threads`,
  };
}

await serve(open);
