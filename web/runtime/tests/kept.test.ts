import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CachedDataset, collate, combine, keepDataset, listDatasets, openDataset, PixelDataset,
  removeDataset, SampleDataset,
} from "../src/data/index.ts";
import {
  ArrayDataset, DataLoader, InvalidInputError, StorageError, Subset, type Batch, type Dataset,
  type Store,
} from "../src/index.ts";
import { raises, rejects } from "./fixture.ts";

/** A store in memory; `room` is how many writes it takes. */
function memoryStore(room = Infinity): Store & { files: Map<string, Uint8Array<ArrayBuffer>> } {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  return {
    files, kind: "memory",
    names: () => Promise.resolve([...files.keys()]),
    read: (name) => Promise.resolve(files.get(name)?.slice()),
    write: (name, bytes) => {
      if (--room < 0) return Promise.reject(new StorageError("there is no room"));
      files.set(name, Uint8Array.from(bytes));
      return Promise.resolve();
    },
    remove: (name) => {
      files.delete(name);
      return Promise.resolve();
    },
  };
}

const SAMPLES = 50;
const SIZE = 40_000; // floats: 26 samples in a file
const x = Float32Array.from({ length: SAMPLES * SIZE }, (_, i) => i % 1013);
const y = Int32Array.from({ length: SAMPLES }, (_, i) => (i * 7) % 5);
const dataset = new ArrayDataset({ x, y, samples: SAMPLES });
const INDICES = Uint32Array.of(49, 0, 25, 26, 27, 3, 3);

test("a kept data set gives the same samples, read by the batch", async () => {
  const store = memoryStore();
  const heard: number[] = [];
  const kept = await keepDataset("my / digits.*", dataset, {
    store, about: { classes: ["a", "b"] }, onProgress: (samples) => heard.push(samples),
  });
  assert.equal(store.files.size, 3);
  assert.deepEqual(heard, [50]);
  const again = await openDataset("my / digits.*", { store });
  for (const opened of [kept, again]) {
    assert.deepEqual(await opened.batch(INDICES), dataset.batch(INDICES));
    assert.deepEqual([opened.length, opened.labels, opened.about],
      [SAMPLES, y, { classes: ["a", "b"] }]);
  }
  assert.deepEqual(await listDatasets({ store }),
    [{ name: "my / digits.*", samples: SAMPLES, bytes: SAMPLES * (4 * SIZE + 4) }]);
  await removeDataset("my / digits.*", { store });
  assert.deepEqual([...store.files.keys()], []);
  await rejects(openDataset("my / digits.*", { store }), StorageError, /no data set "my/);
});

test("all kinds of values come back, several inputs, no targets", async () => {
  const store = memoryStore();
  const arrays = [Float64Array.of(0.1, 2), Int8Array.of(-1, 1, -2, 2), BigInt64Array.of(5n, -5n),
    Uint16Array.of(1, 65_535)];
  const given = new ArrayDataset({ x: arrays, samples: 2 });
  const kept = await keepDataset("kinds", given, { store });
  assert.deepEqual(await kept.batch(Uint32Array.of(1, 0)), given.batch(Uint32Array.of(1, 0)));
  assert.equal(kept.labels, undefined);
});

test("batches of any origin can be kept, if they say how many samples they hold", async () => {
  const store = memoryStore();
  async function* doubled(): AsyncGenerator<Batch> {
    const loader = new DataLoader(dataset, { batchSize: 16 });
    for await (const { x, y, samples } of loader.epoch(0)) {
      yield { x: (x as Float32Array).map((value) => 2 * value), y, samples };
    }
  }
  const kept = await keepDataset("twice", doubled(), { store });
  assert.deepEqual(((await kept.batch(INDICES)).x),
    (dataset.batch(INDICES).x as Float32Array).map((value) => 2 * value));
  const refused: readonly [Iterable<Batch>, RegExp][] = [
    [[], /no sample to keep/],
    [[{ x: Float32Array.of(1) }], /batch 0 does not say how many samples/],
    [[{ x: Float32Array.of(1), samples: 2 }], /x has 1 values, which is no multiple of the 2/],
    [[{ x: [1], samples: 1 }], /x is a list/],
    [[{ x: Float32Array.of(1), samples: 1 }, { x: Uint8Array.of(1), samples: 1 }],
      /batch 1 has samples of x: Uint8Array\(1\), those before have x: Float32Array\(1\)/],
  ];
  for (const [batches, message] of refused) {
    await rejects(keepDataset("bad", batches, { store }), InvalidInputError, message);
  }
  await rejects(keepDataset("", dataset, { store }), InvalidInputError, /name of a data set is ""/);
  assert.deepEqual((await listDatasets({ store })).map(({ name }) => name), ["twice"]);
  assert.deepEqual([...store.files.keys()].filter((name) => name.startsWith("bad")), []);
});

test("what fails in the middle leaves nothing, and what was there before", async () => {
  const [old, other] = [0, 1].map((shift) => new ArrayDataset({
    x: Float32Array.from({ length: 3 }, (_, i) => i + shift), samples: 3,
  }));
  const store = memoryStore(3);
  await keepDataset("set", old ?? assert.fail(), { store }); // its samples and its index
  await rejects(keepDataset("set", other ?? assert.fail(), { store }), StorageError, /no room/);
  assert.equal(store.files.size, 2);
  const all = Uint32Array.of(0, 1, 2);
  assert.deepEqual(await (await openDataset("set", { store })).batch(all), old?.batch(all));
  const stop = new AbortController();
  stop.abort(new Error("enough"));
  await assert.rejects(
    keepDataset("set", dataset, { store: memoryStore(), signal: stop.signal }), /enough/);
});

test("a new version takes the place of the old one; who reads the old one is told", async () => {
  const store = memoryStore();
  const kept = await keepDataset("set", dataset, { store });
  const newer = await keepDataset("set", new Subset(dataset, INDICES), { store });
  assert.equal(newer.length, 7);
  assert.equal(store.files.size, 2);
  await rejects(Promise.resolve(kept.batch(INDICES)), StorageError, /replaced or removed/);
});

test("every damage to a file is noticed", async () => {
  const store = memoryStore();
  const kept = await keepDataset("set", new ArrayDataset({ x: Float32Array.of(1, 2), samples: 2 }),
    { store });
  const all = Uint32Array.of(0, 1);
  const refused = async (name: string, spoilt: Uint8Array<ArrayBuffer>): Promise<void> => {
    store.files.set(name, spoilt);
    const read = async (): Promise<Batch> => (await openDataset("set", { store })).batch(all);
    await rejects(read(), StorageError, /cannot be read|is damaged/);
  };
  assert.deepEqual((await kept.batch(all)).x, Float32Array.of(1, 2));
  for (const [name, bytes] of [...store.files]) {
    for (let i = 0; i < bytes.length; i++) {
      await refused(name, bytes.map((byte, k) => (k === i ? byte ^ 4 : byte)));
    }
    await refused(name, bytes.slice(1));
    await refused(name, bytes.slice(0, -1));
    store.files.set(name, bytes);
  }
});

test("pictures are kept as bytes and read as floats", async () => {
  const store = memoryStore();
  const bytes = Uint8Array.from({ length: 24 }, (_, i) => i * 9);
  const pixels = new ArrayDataset({ x: bytes, samples: 2 });
  const pictures = new PixelDataset(pixels, { channels: 3, mean: [0, 0.5, 1], std: [1, 2, 3] });
  const kept = await keepDataset("pictures", new Subset(pictures, Uint32Array.of(1, 0)), { store });
  assert.deepEqual(
    await kept.batch(Uint32Array.of(0, 1)), await pictures.batch(Uint32Array.of(1, 0)));
  assert.equal((await listDatasets({ store }))[0]?.bytes, 24);
});

test("single samples make batches, and data sets with the same samples one", async () => {
  const numbers = new SampleDataset(4, (i) => ({ x: Float32Array.of(i, i), y: Int32Array.of(i) }));
  const names = new SampleDataset(4, (i) => Promise.resolve({ x: [Int32Array.of(10 * i)] }));
  const both = combine(numbers, names);
  assert.deepEqual(await both.batch(Uint32Array.of(2, 1)), {
    x: [Float32Array.of(2, 2, 1, 1), Int32Array.of(20, 10)], y: Int32Array.of(2, 1),
  });
  assert.deepEqual(collate([{ x: [1, 2], y: [true] }, { x: [3, 4], y: [false] }]),
    { x: [1, 2, 3, 4], y: [true, false] });
  raises(() => collate([{ x: [1] }, { x: [1, 2] }]), InvalidInputError,
    /x of sample 1 of the batch differs from the first: Array\(2\)/);
  raises(() => collate([{ x: [1] }, { x: [1], y: [2] }]), InvalidInputError, /sample 0 .* no y/);
  raises(() => combine(numbers, new Subset(names, Uint32Array.of(0))), InvalidInputError,
    /data set 1 has 1 samples, the first 4/);
});

test("a cache keeps what was used last, up to its bytes", async () => {
  const asked: number[][] = [];
  const slow: Dataset = {
    length: 10,
    batch(indices) {
      asked.push([...indices]);
      return { x: Float32Array.from(indices, (i) => i / 2), y: Int32Array.from(indices) };
    },
  };
  const cached = new CachedDataset(slow, { bytes: 3 * 8 });
  const batch = (...indices: number[]): Promise<Batch> => cached.batch(Uint32Array.from(indices));
  assert.deepEqual(await batch(1, 2), slow.batch(Uint32Array.of(1, 2)));
  assert.deepEqual(await batch(2, 3, 1), slow.batch(Uint32Array.of(2, 3, 1)));
  await batch(4); // 2 goes: it was used first
  assert.deepEqual(await batch(3, 1, 2), slow.batch(Uint32Array.of(3, 1, 2)));
  const wanted = [[1, 2], [1, 2], [3], [2, 3, 1], [4], [2], [3, 1, 2]];
  assert.deepEqual(asked, wanted);
  assert.equal(cached.bytes, 24);
  const none = new CachedDataset(slow, { bytes: 7 });
  await none.batch(Uint32Array.of(1));
  assert.equal(none.bytes, 0);
});
