/** jax-js 0.1.25: the whole step, Adam included, under one `jit`; weights in PyTorch's layouts. */

import {
  blockUntilReady, defaultDevice, init, jit, lax, nn, numpy as np, valueAndGrad,
} from "@jax-js/jax";
import { layerWeights, modelOf, type Layers } from "./models.ts";
import { firstSample, serve, type Data, type Spec, type Tensor, type Training } from "./session.ts";

type T = np.Array;
type Tree = Record<string, T>;

/**
 * An operation of jax-js takes its arguments away unless they are given as `.ref`.  Here every
 * argument is, since the layers are only run while `jit` traces them, once.
 */
class JaxLayers implements Layers<T> {
  constructor(private readonly weights: Tree) {}

  linear(x: T, name: string): T {
    const product = np.matmul(x.ref, np.matrixTranspose(this.weight(`${name}.weight`)));
    return this.weights[`${name}.bias`] ? product.add(this.weight(`${name}.bias`)) : product;
  }

  conv(x: T, name: string, stride: number, padding: number): T {
    const result = lax.convGeneralDilated(x.ref, this.weight(`${name}.weight`), [stride, stride],
      [[padding, padding], [padding, padding]]);
    if (!this.weights[`${name}.bias`]) return result;
    return result.add(this.weight(`${name}.bias`).reshape([1, -1, 1, 1]));
  }

  batchNorm(x: T, name: string): T {
    const shape = [1, -1, 1, 1];
    const mean = np.mean(x.ref, [0, 2, 3], { keepdims: true });
    const centered = x.ref.sub(mean);
    const variance = np.mean(np.square(centered.ref), [0, 2, 3], { keepdims: true });
    const normal = centered.div(np.sqrt(variance.add(1e-5)));
    return normal.mul(this.weight(`${name}.weight`).reshape(shape))
      .add(this.weight(`${name}.bias`).reshape(shape));
  }

  layerNorm(x: T, name: string): T {
    const centered = x.ref.sub(np.mean(x.ref, -1, { keepdims: true }));
    const variance = np.mean(np.square(centered.ref), -1, { keepdims: true });
    return centered.div(np.sqrt(variance.add(1e-5)))
      .mul(this.weight(`${name}.weight`)).add(this.weight(`${name}.bias`));
  }

  relu(x: T): T { return nn.relu(x.ref); }

  gelu(x: T): T {
    const inner = x.ref.add(x.ref.mul(x.ref).mul(x.ref).mul(0.044715));
    return x.ref.mul(0.5).mul(np.tanh(inner.mul(Math.sqrt(2 / Math.PI))).add(1));
  }

  add(a: T, b: T): T { return a.ref.add(b.ref); }

  maxPool2(x: T): T { return np.max(windows(x), [3, 5]); }

  avgPool2(x: T): T { return np.mean(windows(x), [3, 5]); }

  imageMean(x: T): T { return np.mean(x.ref, [2, 3]); }

  flatten(x: T): T { return x.ref.reshape([x.shape[0] ?? 1, -1]); }

  embed(x: T, name: string): T { return np.take(this.weight(`${name}.weight`), x.ref, 0); }

  addPositions(x: T, name: string): T {
    return x.ref.add(this.weight(`${name}.weight`).slice([0, x.shape[1] ?? 0]));
  }

  attention(x: T, heads: number, causal: boolean): T {
    const [rows = 1, length = 1, wide = 1] = x.shape;
    const size = wide / 3 / heads;
    const parts = np.split(x.ref, 3, 2).map((part) => part.reshape([rows, length, heads, size]));
    const [query, key, value] = parts as [T, T, T];
    const mixed = nn.dotProductAttention(query, key, value, { isCausal: causal });
    return mixed.reshape([rows, length, wide / 3]);
  }

  tokenMean(x: T): T { return np.mean(x.ref, 1); }

  private weight(name: string): T {
    const found = this.weights[name];
    if (!found) throw new Error(`there is no weight ${name}`);
    return found.ref;
  }
}

/** 2×2 windows of [B, C, H, W]; a maximum over them is faster here than `lax.reduceWindow`. */
function windows(x: T): T {
  const [rows = 1, channels = 1, height = 1, width = 1] = x.shape;
  return x.ref.reshape([rows, channels, height / 2, 2, width / 2, 2]);
}

type State = { weights: Tree; means: Tree; squares: Tree; step: T };

const [RATE, BETA1, BETA2, EPSILON] = [1e-3, 0.9, 0.999, 1e-8];

function trainingStep(workload: string, state: State, x: T, y: T): [State, T] {
  const model = modelOf(workload);
  const lossOf = (weights: Tree, inputs: T, classes: T): T => {
    const logits = model(new JaxLayers(weights), inputs);
    const count = logits.shape.at(-1) ?? 1;
    const rows = nn.logSoftmax(logits.reshape([-1, count]), -1);
    return np.mean(np.sum(rows.mul(nn.oneHot(classes.ref, count)), 1)).neg();
  };
  const [loss, gradients] = valueAndGrad(lossOf)(state.weights, x, y) as unknown as [T, Tree];
  const step = state.step.ref.add(1);
  const [correction1, correction2] = [BETA1, BETA2].map((beta) =>
    np.subtract(1, np.exp(step.ref.mul(Math.log(beta))))) as [T, T];
  const next: State = { weights: {}, means: {}, squares: {}, step };
  for (const [name, weight] of Object.entries(state.weights)) {
    const [g, m, v] = [gradients[name], state.means[name], state.squares[name]] as [T, T, T];
    const mean = m.ref.mul(BETA1).add(g.ref.mul(1 - BETA1));
    const square = v.ref.mul(BETA2).add(np.square(g.ref).mul(1 - BETA2));
    const scale = np.sqrt(square.ref.div(correction2.ref)).add(EPSILON);
    next.weights[name] = weight.ref.sub(mean.ref.div(correction1.ref).mul(RATE).div(scale));
    next.means[name] = mean;
    next.squares[name] = square;
  }
  return [next, loss];
}

function array({ values, shape }: Tensor): T {
  const dtype = values instanceof Float32Array ? np.float32 : np.int32;
  return np.array(values, { shape: [...shape], dtype });
}

async function open(data: Data, spec: Spec): Promise<Training> {
  const device = spec.backend as "wasm" | "webgpu";
  const found = await init(device);
  if (!found.includes(device)) throw new Error(`${device} does not start`);
  defaultDevice(device);
  const trained = [...layerWeights(data)].filter(([name]) => !name.includes("running_"));
  const tree = (make: (tensor: Tensor) => T): Tree =>
    Object.fromEntries(trained.map(([name, tensor]) => [name, make(tensor)]));
  let state: State = {
    weights: tree(array), means: tree(({ shape }) => np.zeros([...shape])),
    squares: tree(({ shape }) => np.zeros([...shape])), step: np.array(0, { dtype: np.float32 }),
  };
  const step = jit((now: State, x: T, y: T) => trainingStep(spec.workload, now, x, y));
  const predict = jit((weights: Tree, x: T) => modelOf(spec.workload)(new JaxLayers(weights), x));
  const batches = data.batches.map(({ x, y }) => [array(x),
    array({ values: y.values, shape: [y.values.length] })] as const);
  const batch = (i: number) => batches[i] ?? batches[0] as (typeof batches)[0];
  const sample = data.batches.slice(0, 1).map(({ x }) => array(firstSample(x)))[0] as T;
  return {
    async step(i) {
      const [x, y] = batch(i);
      const [next, loss] = step(state as never, x.ref as never, y.ref as never) as
        unknown as [State, T];
      state = next;
      const [value = NaN] = await loss.data();
      await blockUntilReady(state); // the loss may be there long before the new weights
      return value;
    },
    async predict() {
      const weights = Object.fromEntries(Object.entries(state.weights)
        .map(([name, weight]) => [name, weight.ref]));
      const logits = predict(weights as never, sample.ref as never) as unknown as T;
      return await logits.data() as Float32Array;
    },
    device,
  };
}

await serve(open);
