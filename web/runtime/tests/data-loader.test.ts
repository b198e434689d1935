import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ArrayDataset, balancedWeights, classWeights, DataLoader, InvalidInputError, permutation, split,
  Subset, weightedDraws, type Batch, type Dataset, type LoaderProgress,
} from "../src/index.ts";
import { raises, rejects } from "./fixture.ts";

const x = Float32Array.from({ length: 20 }, (_, i) => i);
const y = Uint8Array.from({ length: 10 }, (_, i) => i % 3);
const dataset = new ArrayDataset({ x, y, samples: 10 });

async function batches(loader: DataLoader, epoch = 0, skip = 0): Promise<Batch[]> {
  const found: Batch[] = [];
  for await (const batch of loader.epoch(epoch, skip)) found.push(batch);
  return found;
}

test("batches hold their samples in order, the last one what is left", async () => {
  const loader = new DataLoader(dataset, { batchSize: 4 });
  const found = await batches(loader);
  assert.equal(loader.length, 3);
  assert.deepEqual(found[1], { x: x.slice(8, 16), y: y.slice(4, 8), samples: 4 });
  assert.deepEqual(found[2], { x: x.slice(16), y: y.slice(8), samples: 2 });
  const dropping = new DataLoader(dataset, { batchSize: 4, dropLast: true });
  assert.deepEqual(await batches(dropping), found.slice(0, 2));
  assert.equal(dropping.length, 2);
});

test("an epoch is shuffled by its seed and number, and can be entered anywhere", async () => {
  const options = { batchSize: 3, shuffle: true, seed: 2 ** 40 + 1 };
  const [one, other] = [new DataLoader(dataset, options), new DataLoader(dataset, options)];
  assert.deepEqual(await batches(one, 7), await batches(other, 7));
  assert.deepEqual(await batches(one, 7, 2), (await batches(one, 7)).slice(2));
  assert.notDeepEqual([...one.order(7)], [...one.order(8)]);
  const low = new DataLoader(dataset, { ...options, seed: 1 });
  assert.notDeepEqual([...one.order(7)], [...low.order(7)]);
  for (const epoch of [0, 1, 2]) {
    assert.deepEqual([...one.order(epoch)].sort((a, b) => a - b), [...Array(10).keys()]);
  }
});

test("every order is as likely as any other", () => {
  const counts = new Map<string, number>();
  const rounds = 6000;
  for (let seed = 0; seed < rounds; seed++) {
    const order = permutation(3, seed).join();
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  const expected = rounds / 6;
  const chi2 = [...counts.values()].reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
  assert.equal(counts.size, 6);
  assert.ok(chi2 < 20.5, String(chi2)); // 5 degrees of freedom, p = 0.001; the seeds are fixed
});

test("a split has no sample twice, and keeps the share of every class", () => {
  const labels = Uint8Array.from({ length: 100 }, (_, i) => (i < 80 ? 0 : 1));
  const [train = [], test = []] = split(100, [0.75, 0.25], { labels, seed: 3 });
  assert.equal(new Set([...train, ...test]).size, 100);
  const ones = (part: ArrayLike<number>): number =>
    Array.from(part).filter((i) => labels[i] === 1).length;
  assert.deepEqual([train.length, ones(train), test.length, ones(test)], [75, 15, 25, 5]);
  const [half = new Uint32Array()] = split(10, [0.5]);
  const subset = new Subset(dataset, half);
  assert.equal(subset.length, 5);
  const first = half[3] ?? 0;
  assert.deepEqual((subset.batch(Uint32Array.of(3)) as Batch).x, x.slice(2 * first, 2 * first + 2));
});

test("class weights make up for rare classes", () => {
  assert.deepEqual([...classWeights([0, 0, 0, 2], 3)].map((w) => +w.toFixed(4)), [0.6667, 0, 2]);
  raises(() => classWeights([3], 3), InvalidInputError, /label 3 is none of 3 classes/);
});

test("plain arrays, lists of inputs and data without targets make batches too", () => {
  const made = new ArrayDataset({ x: [[1, 2, 3, 4], x.subarray(0, 8)], samples: 4 });
  assert.deepEqual(made.batch(Uint32Array.of(2, 0)),
    { x: [[3, 1], Float32Array.of(4, 5, 0, 1)] });
});

test("what does not fit together is refused", async () => {
  raises(() => new ArrayDataset({ x, y, samples: 7 }), InvalidInputError, /x has 20 values/);
  raises(() => new DataLoader(dataset, { batchSize: 0 }), InvalidInputError, /batchSize is 0/);
  raises(() => new DataLoader(dataset, { batchSize: 11, dropLast: true }), InvalidInputError,
    /leaves no batch/);
  raises(() => new Subset(dataset, Uint32Array.of(10)), InvalidInputError, /sample 10 of 10/);
  raises(() => split(10, [0.8, 0.4]), InvalidInputError, /sum of 1/);
  raises(() => split(3, [1], { labels: [1] }), InvalidInputError, /1 labels/);
  const broken = { length: 2, batch: () => Promise.reject(new InvalidInputError("unreadable")) };
  await rejects(batches(new DataLoader(broken, { batchSize: 1 })), InvalidInputError, /unreadable/);
});

/** A data set that says what is asked of it, and answers when it is told to. */
class Watched implements Dataset {
  readonly length = 10;
  readonly asked: number[] = [];
  readonly answers: (() => void)[] = [];
  signal: AbortSignal | undefined;

  batch(indices: Uint32Array, signal?: AbortSignal): Promise<Batch> {
    this.asked.push(indices[0] ?? 0);
    this.signal = signal;
    return new Promise((resolve) => {
      this.answers.push(() => { resolve({ x: [...indices] }); });
    });
  }
}

const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

test("the next batches are prepared while one trains, as many as asked for", async () => {
  const wanted = [[0, [0]], [1, [0, 2]], [3, [0, 2, 4, 6]], [9, [0, 2, 4, 6, 8]]] as const;
  for (const [prefetch, asked] of wanted) {
    const watched = new Watched();
    const epoch = new DataLoader(watched, { batchSize: 2, prefetch }).epoch(0);
    const first = epoch.next();
    await turn();
    assert.deepEqual(watched.asked, [0], "what is waited for comes first");
    watched.answers[0]?.();
    assert.deepEqual((await first).value, { x: [0, 1], samples: 2 });
    assert.deepEqual(watched.asked, asked);
    assert.equal(watched.signal?.aborted, false);
    await epoch.return(undefined);
    assert.equal(watched.signal.aborted, true, "nobody waits for what was prepared");
  }
});

test("an epoch says how far it is, and ends when its signal says so", async () => {
  const stop = new AbortController();
  const heard: LoaderProgress[] = [];
  const loader = new DataLoader(dataset, {
    batchSize: 4, signal: stop.signal, onProgress: (progress) => heard.push(progress),
  });
  await batches(loader, 2);
  assert.deepEqual(heard.map(({ epoch, batch, batches }) => [epoch, batch, batches]),
    [[2, 1, 3], [2, 2, 3], [2, 3, 3]]);
  assert.ok(heard.every(({ waitedMs }) => waitedMs >= 0));
  const epoch = loader.epoch(0);
  await epoch.next();
  stop.abort(new Error("enough"));
  await assert.rejects(epoch.next(), /enough/);
  await assert.rejects(batches(loader), /enough/);
});

test("a data set that grows in an epoch takes part in the next one", async () => {
  const growing = { length: 4, batch: (indices: Uint32Array) => ({ x: [...indices] }) };
  const loader = new DataLoader(growing, { batchSize: 2 });
  const epoch = loader.epoch(0);
  await epoch.next();
  growing.length = 8;
  assert.equal((await epoch.next()).done, false);
  assert.equal((await epoch.next()).done, true);
  assert.equal((await batches(loader, 1)).length, 4);
});

test("weights draw each sample as often as they say, the same for the same epoch", async () => {
  const draws = weightedDraws([1, 0, 3, 0], 40_000, 5);
  const counts = [0, 1, 2, 3].map((i) => draws.filter((index) => index === i).length);
  assert.deepEqual([counts[1], counts[3]], [0, 0]);
  // Binomial with p = 1/4: a standard deviation is 87; five of them.
  assert.ok(Math.abs((counts[0] ?? 0) - 10_000) < 435, counts.join());
  const labels = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
  const weights = balancedWeights(labels);
  const options = { batchSize: 3, weights, samplesPerEpoch: 3000, seed: 8 };
  const [one, other] = [new DataLoader(dataset, options), new DataLoader(dataset, options)];
  assert.equal(one.length, 1000);
  const rare = one.order(4).filter((index) => labels[index] === 1).length;
  assert.ok(Math.abs(rare - 1500) < 140, String(rare)); // five standard deviations
  assert.deepEqual((await batches(one, 4)).slice(997), await batches(other, 4, 997));
  assert.notDeepEqual(one.order(4), one.order(5));
});

test("weights that mean nothing are refused", () => {
  const make = (options: object) => () => new DataLoader(dataset, options);
  raises(make({ weights: [1] }), InvalidInputError, /1 weights are given for 10 samples/);
  raises(make({ weights: Array(10).fill(0) }), InvalidInputError, /all weights are 0/);
  raises(make({ weights: [1, -1, ...Array<number>(8).fill(1)] }), InvalidInputError,
    /weights\[1\] is -1/);
  raises(make({ weights: Array(10).fill(NaN) }), InvalidInputError, /weights\[0\] is NaN/);
  raises(make({ samplesPerEpoch: 5 }), InvalidInputError, /without weights/);
  raises(make({ weights: Array(10).fill(1), samplesPerEpoch: 3, batchSize: 4, dropLast: true }),
    InvalidInputError, /leaves no batch: an epoch has 3/);
  raises(make({ prefetch: -1 }), InvalidInputError, /prefetch is -1/);
});
