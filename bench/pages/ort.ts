/** ONNX Runtime Web 1.19.2, the last version that trains: sessions made ahead, in Python. */

import { env, InferenceSession, Tensor as OrtTensor, TrainingSession } from "onnxruntime-web/training";
import { firstSample, serve, type Data, type Spec, type Tensor, type Training, type Values } from "./session.ts";

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
    const classes = BigInt64Array.from(y.values, BigInt);
    return { input: tensorOf(x), [labels]: new OrtTensor("int64", classes, [classes.length]) };
  });
  const [first] = data.batches;
  if (!first) throw new Error("there is no batch");
  const sample = tensorOf(firstSample(first.x));
  let inference: InferenceSession | undefined;
  return {
    async step(i) {
      const results = await session.runTrainStep(batches[i] ?? {});
      await session.runOptimizerStep();
      await session.lazyResetGrad();
      const value = results[loss] as OrtTensor;
      return (value.data as Float32Array)[0] ?? NaN;
    },
    /** With the weights of the start: a training session does not predict. */
    async predict() {
      inference ??= await InferenceSession.create(file("inference.onnx"), { executionProviders: ["wasm"] });
      const { output } = await inference.run({ input: sample });
      return (output?.data ?? new Float32Array()) as Values;
    },
    device: `wasm, ${String(env.wasm.numThreads)} threads`,
  };
}

function tensorOf({ values, shape }: Tensor): OrtTensor {
  return values instanceof Float32Array
    ? new OrtTensor("float32", values, shape)
    : new OrtTensor("int64", BigInt64Array.from(values, BigInt), shape);
}

await serve(open);
