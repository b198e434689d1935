/**
 * The six workloads over a small set of layers, which every framework spells in its own API.
 *
 * Layers name their weights as PyTorch's state_dict does: `linear(x, "fc1")` reads `fc1.weight` and,
 * where there is one, `fc1.bias`.
 */

import type { Data, Tensor } from "./session.ts";

/** One framework: T is its tensor.  Image layers use the layout that the framework prefers. */
export interface Layers<T> {
  linear(x: T, name: string): T;
  conv(x: T, name: string, stride: number, padding: number): T;
  batchNorm(x: T, name: string): T;
  layerNorm(x: T, name: string): T;
  relu(x: T): T;
  /** The tanh approximation. */
  gelu(x: T): T;
  add(a: T, b: T): T;
  maxPool2(x: T): T;
  avgPool2(x: T): T;
  /** [B, image, channels] → [B, channels]. */
  imageMean(x: T): T;
  flatten(x: T): T;
  /** Rows of `name.weight`: [B, L] → [B, L, W]. */
  embed(x: T, name: string): T;
  /** [B, L, W] plus the first L rows of `name.weight`. */
  addPositions(x: T, name: string): T;
  /** Of [B, L, 3 W], queries, keys and values side by side: [B, L, W]. */
  attention(x: T, heads: number, causal: boolean): T;
  /** [B, L, W] → [B, W]. */
  tokenMean(x: T): T;
}

export type Model = <T>(layers: Layers<T>, x: T) => T;

export const HEADS = 4;
const PLAIN_DEPTH = 2;
const GPT_DEPTH = 4;

const mlp: Model = (f, x) => f.linear(f.relu(f.linear(x, "fc1")), "fc2");

const lenet5: Model = (f, x) => {
  x = f.maxPool2(f.relu(f.conv(x, "conv1", 1, 2)));
  x = f.flatten(f.maxPool2(f.relu(f.conv(x, "conv2", 1, 0))));
  x = f.relu(f.linear(f.relu(f.linear(x, "fc1")), "fc2"));
  return f.linear(x, "fc3");
};

const cnn: Model = (f, x) => {
  x = f.relu(f.conv(f.relu(f.conv(x, "conv1", 1, 1)), "conv2", 1, 1));
  x = f.flatten(f.avgPool2(f.batchNorm(f.maxPool2(x), "norm")));
  return f.linear(f.relu(f.linear(x, "fc1")), "fc2");
};

const resnet18: Model = <T>(f: Layers<T>, x: T) => {
  const convolution = (y: T, name: string, stride: number, padding: number): T =>
    f.batchNorm(f.conv(y, `${name}.0`, stride, padding), `${name}.1`);
  x = f.relu(convolution(x, "stem", 1, 1));
  for (let i = 0; i < 8; i++) {
    const stride = i > 0 && i % 2 === 0 ? 2 : 1;
    const inner = f.relu(convolution(x, `blocks.${String(i)}.first`, stride, 1));
    const same = stride === 1 ? x : convolution(x, `blocks.${String(i)}.shortcut`, stride, 0);
    x = f.relu(f.add(convolution(inner, `blocks.${String(i)}.second`, 1, 1), same));
  }
  return f.linear(f.imageMean(x), "head");
};

const transformer: Model = (f, x) => {
  x = f.addPositions(f.embed(x, "embed"), "positions.table");
  for (let i = 0; i < PLAIN_DEPTH; i++) {
    const layer = `encoder.layers.${String(i)}`;
    const mixed = f.attention(f.linear(x, `${layer}.self_attn.in_proj`), HEADS, false);
    x = f.layerNorm(f.add(x, f.linear(mixed, `${layer}.self_attn.out_proj`)), `${layer}.norm1`);
    const wide = f.relu(f.linear(x, `${layer}.linear1`));
    x = f.layerNorm(f.add(x, f.linear(wide, `${layer}.linear2`)), `${layer}.norm2`);
  }
  return f.linear(f.tokenMean(x), "head");
};

const gpt: Model = (f, x) => {
  x = f.addPositions(f.embed(x, "embed"), "positions");
  for (let i = 0; i < GPT_DEPTH; i++) {
    const layer = `layers.${String(i)}`;
    const mix = f.linear(f.layerNorm(x, `${layer}.norm1`), `${layer}.attention.mix`);
    x = f.add(x, f.linear(f.attention(mix, HEADS, true), `${layer}.attention.project`));
    const wide = f.gelu(f.linear(f.layerNorm(x, `${layer}.norm2`), `${layer}.mlp.0`));
    x = f.add(x, f.linear(wide, `${layer}.mlp.2`));
  }
  return f.linear(f.layerNorm(x, "norm"), "embed");
};

const MODELS = { mlp, lenet5, cnn, resnet18, transformer, gpt };

export function modelOf(workload: string): Model {
  const found = Object.entries(MODELS).find(([name]) => name === workload);
  if (!found) throw new Error(`there is no workload ${workload}`);
  return found[1];
}

/** Weights that are looked up by row, not multiplied, or both. */
export function isTable(name: string): boolean {
  return /(embed|positions|positions\.table)\.weight$/.test(name);
}

/** The linear layer that reads a flattened image, and its channels. */
export const FLATTENED: Readonly<Record<string, readonly [name: string, channels: number]>> = {
  lenet5: ["fc1.weight", 16], cnn: ["fc1.weight", 64],
};

/**
 * Weights under names that end in `.weight`, `.bias` and so on: `nn.MultiheadAttention` alone says
 * `in_proj_weight`; and every tied weight once.
 */
export function layerWeights(data: Data): Map<string, Tensor> {
  const named = [...data.weights].map(([name, tensor]) =>
    [name.replace("in_proj_", "in_proj."), tensor] as const);
  return new Map(named.filter(([name]) =>
    !(name === "head.weight" && data.weights.has("layers.0.attention.mix.weight"))
    && !name.endsWith("num_batches_tracked")));
}

/** A tensor with its axes in another order. */
export function permuted({ values, shape }: Tensor, order: readonly number[]): Tensor {
  const strides = shape.map((_, i) => shape.slice(i + 1).reduce((product, n) => product * n, 1));
  const result = values.slice();
  const extents = order.map((axis) => shape[axis] ?? 1);
  const steps = order.map((axis) => strides[axis] ?? 1);
  const index = extents.map(() => 0);
  for (let to = 0, from = 0; to < result.length; to++) {
    result[to] = values[from] ?? 0;
    for (let axis = order.length - 1; axis >= 0; axis--) {
      from += steps[axis] ?? 0;
      index[axis] = (index[axis] ?? 0) + 1;
      if ((index[axis] ?? 0) < (extents[axis] ?? 1)) break;
      from -= (steps[axis] ?? 0) * (extents[axis] ?? 1);
      index[axis] = 0;
    }
  }
  return { values: result, shape: extents };
}
