/** TensorFlow.js 4.22: eager operations, its own Adam; weights in its layouts (NHWC, [in, out]). */

import "@tensorflow/tfjs-backend-webgpu";
import { getThreadsCount, setThreadsCount, setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops";
import "@tensorflow/tfjs-core/dist/register_all_gradients";
import {
  FLATTENED, isTable, layerWeights, modelOf, permuted, type Layers,
} from "./models.ts";
import { firstSample, serve, type Data, type Spec, type Tensor, type Training } from "./session.ts";
import { addMissingKernels } from "./tfjs-kernels.ts";

type T = tf.Tensor;

class TfLayers implements Layers<T> {
  constructor(private readonly weights: ReadonlyMap<string, tf.Variable>) {}

  linear(x: T, name: string): T {
    const weight = this.weight(`${name}.weight`);
    const matrix = isTable(`${name}.weight`) ? tf.transpose(weight) : weight;
    const [inputs = 1, outputs = 1] = matrix.shape;
    const product = tf.matMul(x.reshape([-1, inputs]) as tf.Tensor2D, matrix as tf.Tensor2D);
    const bias = this.weights.get(`${name}.bias`);
    return (bias ? product.add(bias) : product).reshape([...x.shape.slice(0, -1), outputs]);
  }

  conv(x: T, name: string, stride: number, padding: number): T {
    const pads: [number, number] = [padding, padding];
    const kernel = this.weight(`${name}.weight`) as unknown as tf.Tensor4D;
    const result = tf.conv2d(x as tf.Tensor4D, kernel, stride, [[0, 0], pads, pads, [0, 0]],
      "NHWC", 1, "floor");
    const bias = this.weights.get(`${name}.bias`);
    return bias ? result.add(bias) : result;
  }

  batchNorm(x: T, name: string): T {
    const { mean, variance } = tf.moments(x, [0, 1, 2]);
    const count = x.size / (x.shape[3] ?? 1);
    this.average(`${name}.running_mean`, mean, 1);
    this.average(`${name}.running_var`, variance, count / (count - 1));
    return tf.batchNorm4d(x as tf.Tensor4D, mean as tf.Tensor1D, variance as tf.Tensor1D,
      this.weight(`${name}.bias`) as unknown as tf.Tensor1D,
      this.weight(`${name}.weight`) as unknown as tf.Tensor1D, 1e-5);
  }

  layerNorm(x: T, name: string): T {
    const { mean, variance } = tf.moments(x, -1, true);
    const normal = x.sub(mean).mul(tf.rsqrt(variance.add(1e-5)));
    return normal.mul(this.weight(`${name}.weight`)).add(this.weight(`${name}.bias`));
  }

  relu(x: T): T { return tf.relu(x); }

  gelu(x: T): T {
    const inner = x.add(x.mul(x).mul(x).mul(0.044715)).mul(Math.sqrt(2 / Math.PI));
    return x.mul(0.5).mul(tf.tanh(inner).add(1));
  }

  add(a: T, b: T): T { return tf.add(a, b); }

  maxPool2(x: T): T { return tf.maxPool(x as tf.Tensor4D, 2, 2, "valid"); }

  avgPool2(x: T): T { return tf.avgPool(x as tf.Tensor4D, 2, 2, "valid"); }

  imageMean(x: T): T { return tf.mean(x, [1, 2]); }

  flatten(x: T): T { return x.reshape([x.shape[0] ?? 1, -1]); }

  embed(x: T, name: string): T {
    return tf.gather(this.weight(`${name}.weight`), x as tf.Tensor2D);
  }

  addPositions(x: T, name: string): T {
    const length = x.shape[1] ?? 0;
    const rows = tf.range(0, length, 1, "int32");
    return x.add(tf.gather(this.weight(`${name}.weight`), rows));
  }

  attention(x: T, heads: number, causal: boolean): T {
    const [rows = 1, length = 1, wide = 1] = x.shape;
    const size = wide / 3 / heads;
    const parts = tf.split(x, 3, 2)
      .map((part) => tf.transpose(part.reshape([rows, length, heads, size]), [0, 2, 1, 3]));
    const [query, key, value] = parts as [T, T, T];
    let scores = tf.matMul(query, key, false, true).mul(1 / Math.sqrt(size));
    if (causal) scores = scores.add(mask(length));
    const mixed = tf.matMul(tf.softmax(scores), value);
    return tf.transpose(mixed, [0, 2, 1, 3]).reshape([rows, length, wide / 3]);
  }

  tokenMean(x: T): T { return tf.mean(x, 1); }

  /** PyTorch's running statistics, momentum 0.1. */
  private average(name: string, value: T, scale: number): void {
    const old = this.weight(name);
    old.assign(old.mul(0.9).add(value.mul(0.1 * scale)));
  }

  private weight(name: string): tf.Variable {
    const found = this.weights.get(name);
    if (!found) throw new Error(`there is no weight ${name}`);
    return found;
  }
}

/** 0 where a token may look, a large negative number ahead of it. */
function mask(length: number): T {
  const values = Float32Array.from({ length: length * length }, (_, i) =>
    i % length > Math.floor(i / length) ? -1e9 : 0);
  return tf.tensor(values, [length, length]);
}

/** Weights in the layouts of TensorFlow.js. */
function variables(data: Data, workload: string): Map<string, tf.Variable> {
  const [flatName, channels] = FLATTENED[workload] ?? ["", 1];
  return new Map([...layerWeights(data)].map(([name, tensor]) => {
    let native: Tensor = tensor;
    if (tensor.shape.length === 4) native = permuted(tensor, [2, 3, 1, 0]);
    else if (name === flatName) {
      const [outputs = 1, inputs = 1] = tensor.shape;
      const shape = [outputs, channels, inputs / channels];
      native = { values: permuted({ values: tensor.values, shape }, [2, 1, 0]).values,
        shape: [inputs, outputs] };
    } else if (tensor.shape.length === 2 && !isTable(name)) native = permuted(tensor, [1, 0]);
    const trained = !name.includes("running_");
    return [name, tf.variable(tf.tensor(native.values, [...native.shape]), trained, name)];
  }));
}

function inputs({ x }: { x: Tensor }): T {
  const native = x.shape.length === 4 ? permuted(x, [0, 2, 3, 1]) : x;
  return tf.tensor(native.values, [...native.shape], native.values instanceof Float32Array
    ? "float32" : "int32");
}

function lossOf(logits: T, classes: T, count: number): tf.Scalar {
  const rows = logits.reshape([-1, count]) as tf.Tensor2D;
  const chosen = rows.mul(tf.oneHot(classes as tf.Tensor1D, count)).sum(1);
  return tf.mean(tf.logSumExp(rows, 1).sub(chosen));
}

async function open(data: Data, spec: Spec): Promise<Training> {
  setWasmPaths("/wasm/");
  if (spec.threads) setThreadsCount(spec.threads);
  // Without threads the page takes the binary that has none.
  if (spec.threads === 1) tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);
  // It takes no more threads than half of the processors it sees.
  else Object.defineProperty(navigator, "hardwareConcurrency", { value: 2 * (spec.threads ?? 1) });
  if (!await tf.setBackend(spec.backend)) throw new Error(`${spec.backend} does not start`);
  await tf.ready();
  if (spec.backend === "wasm") addMissingKernels();
  const threads = spec.backend === "wasm" ? getThreadsCount() : 1;
  if (spec.threads && threads < spec.threads) {
    throw new Error(`it starts ${String(threads)} of ${String(spec.threads)} threads`);
  }
  const layers = new TfLayers(variables(data, spec.workload));
  const model = modelOf(spec.workload);
  const optimizer = tf.train.adam(1e-3, 0.9, 0.999, 1e-8);
  const batches = data.batches.map((batch) => [inputs(batch),
    tf.tensor1d(batch.y.values, "int32")] as const);
  const batch = (i: number) => batches[i] ?? batches[0] as (typeof batches)[0];
  const sample = data.batches.slice(0, 1).map(({ x }) => inputs({ x: firstSample(x) }))[0];
  return {
    async step(i) {
      const [x, y] = batch(i);
      const loss = optimizer.minimize(() => {
        const logits = model(layers, x);
        return lossOf(logits, y, logits.shape.at(-1) ?? 1);
      }, true);
      if (!loss) throw new Error("minimize returned no loss");
      const [value = NaN] = await loss.data();
      loss.dispose();
      return value;
    },
    async predict() {
      const logits = tf.tidy(() => model(layers, sample as T));
      const values = await logits.data() as Float32Array;
      logits.dispose();
      return values;
    },
    device: `${tf.getBackend()}, ${String(threads)} threads`,
  };
}

await serve(open);
