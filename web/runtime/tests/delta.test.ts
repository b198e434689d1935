import assert from "node:assert/strict";
import { test } from "node:test";
import { BundleFormatError, NumericalInstabilityError } from "../src/errors.ts";
import { Trainer } from "../src/index.ts";
import {
  decodeSafetensors, encodeSafetensors, type Tensor, type TensorDtype,
} from "../src/safetensors.ts";
import { encodeDelta } from "../src/tools/delta.ts";
import { fixtureSource, rejects } from "./fixture.ts";

const x = Float32Array.from({ length: 40 }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: 10 }, (_, i) => i % 3);
const load = (): Promise<Trainer> => Trainer.load(fixtureSource(), { backend: "wasm", threads: 1 });

type Values = Float32Array | BigInt64Array | Int32Array | Uint8Array;

function tensor(dtype: TensorDtype, values: Values, shape = [values.length]): Tensor {
  return { dtype, shape, data: new Uint8Array(values.buffer.slice(0)) };
}

function file(tensors: Record<string, Tensor>, metadata: Record<string, string> = {}): Uint8Array {
  return encodeSafetensors(new Map(Object.entries(tensors)), metadata);
}

function floats({ data }: Tensor = tensor("F32", new Float32Array())): number[] {
  return [...new Float32Array(data.slice().buffer)];
}

test("a delta is what training has changed, from weights and from a checkpoint alike", async () => {
  const trainer = await load();
  const [before, run] = [await trainer.exportWeights(), await trainer.exportCheckpoint()];
  const none = decodeSafetensors(await trainer.exportDelta(before), "delta").tensors;
  assert.ok([...none.values()].every(({ data }) => data.every((byte) => byte === 0)));
  await trainer.trainBatch(x, y);
  const after = decodeSafetensors(await trainer.exportWeights(), "after").tensors;
  const base = decodeSafetensors(before, "before").tensors;
  const given = before.slice();
  const delta = await trainer.exportDelta(given);
  assert.deepEqual(given, before);
  const { tensors, metadata } = decodeSafetensors(delta, "delta");
  assert.deepEqual([...tensors.keys()], [...base.keys()]);
  assert.deepEqual([metadata["format"], metadata["version"]], ["hearth-delta", "1"]);
  for (const name of ["linear.weight", "linear.bias"]) {
    const [old, own] = [floats(base.get(name)), floats(after.get(name))];
    const changed = own.map((value, i) => Math.fround(value - (old[i] ?? NaN)));
    assert.deepEqual(floats(tensors.get(name)), changed);
  }
  const again = decodeSafetensors(await trainer.exportDelta(run.slice().buffer), "delta");
  assert.equal(again.metadata["base"], metadata["base"]);
  assert.deepEqual(new Map([...again.tensors].sort()), new Map([...tensors].sort()));
});

test("whole numbers differ as int64, from whatever they were", async () => {
  const before = {
    a: tensor("I64", BigInt64Array.of(2n ** 60n)), b: tensor("I32", Int32Array.of(-2147483648)),
    c: tensor("BOOL", Uint8Array.of(1, 0)),
  };
  const after = {
    a: tensor("I64", BigInt64Array.of(2n ** 60n + 1n)), b: tensor("I32", Int32Array.of(2147483647)),
    c: tensor("BOOL", Uint8Array.of(0, 1)),
  };
  const { tensors } = decodeSafetensors(await encodeDelta(file(before), file(after)), "delta");
  const values = [...tensors.values()].map(({ dtype, data }) =>
    [dtype, ...new BigInt64Array(data.slice().buffer)]);
  assert.deepEqual(values, [["I64", 1n], ["I64", 4294967295n], ["I64", -1n, 1n]]);
});

test("weights of another model are refused by name", async () => {
  const trainer = await load();
  const { tensors } = decodeSafetensors(await trainer.exportWeights(), "weights");
  const change = (name: string, made?: Tensor): Uint8Array => {
    const changed = new Map(tensors);
    if (made) changed.set(name, made);
    else changed.delete(name);
    return encodeSafetensors(changed);
  };
  const wide = tensor("F32", new Float32Array(12), [4, 3]);
  const cases = [
    [change("linear.bias"), /"linear.bias" is missing in [^]*F32 \[3\] in the model/],
    [change("foreign", wide), /"foreign" is F32 \[4, 3\] in [^]*missing in the model/],
    [change("linear.weight", wide), /"linear.weight" is F32 \[4, 3\] [^]*F32 \[3, 4\] in/],
    [change("linear.bias", tensor("I32", new Int32Array(3))), /"linear.bias" is I32 \[3\] in/],
    [new TextEncoder().encode('{"weights":{}}'), /weights before announces a header/],
    [new Uint8Array(3), /has 3 bytes/],
  ] as const;
  for (const [bytes, text] of cases) {
    await rejects(trainer.exportDelta(bytes), BundleFormatError, text);
  }
  const infinite = change("linear.bias", tensor("F32", Float32Array.of(0, Infinity, 0)));
  const refused = trainer.exportDelta(infinite);
  await rejects(refused, NumericalInstabilityError, /of "linear.bias" is not/);
});
