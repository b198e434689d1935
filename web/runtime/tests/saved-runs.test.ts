import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ArrayDataset, BundleFormatError, DataLoader, earlyStopping, InvalidInputError, saving,
  StorageError, Trainer, type Callback, type FitOptions, type Store,
} from "../src/index.ts";
import { decodeSafetensors, encodeSafetensors, type Bytes } from "../src/safetensors.ts";
import { fixtureSource, rejects } from "./fixture.ts";

const SAMPLES = 50;
const x = Float32Array.from({ length: 4 * SAMPLES }, (_, i) => Math.sin(i));
const y = Int32Array.from({ length: SAMPLES }, (_, i) => i % 3);
const loader = new DataLoader(new ArrayDataset({ x, y, samples: SAMPLES }),
  { batchSize: 4, shuffle: true, seed: 1 });
const OPTIONS = { backend: "wasm", threads: 1 } as const;
const SOURCE = { ...OPTIONS, source: fixtureSource() };

const load = (): Promise<Trainer> => Trainer.load(fixtureSource(), OPTIONS);
const schedule = (step: number, epoch: number): number => 0.1 / (1 + step + epoch);

/** A store in memory, with room for so many bytes. */
function memory(room = Infinity): Store & { files: Map<string, Bytes> } {
  const files = new Map<string, Bytes>();
  return {
    files, kind: "memory",
    names: () => Promise.resolve([...files.keys()]),
    read: (name) => Promise.resolve(files.get(name)),
    write(name, bytes) {
      const used = [...files.values()].reduce((sum, { length }) => sum + length, 0);
      if (used + bytes.length > room) return Promise.reject(new StorageError("there is no room"));
      files.set(name, new Uint8Array(bytes));
      return Promise.resolve();
    },
    remove: (name) => Promise.resolve(void files.delete(name)),
  };
}

async function train(trainer: Trainer, options: FitOptions): Promise<void> {
  const run = trainer.fit(loader, { schedule, validate: loader, ...options });
  const events = run[Symbol.asyncIterator]();
  while (!(await events.next()).done);
}

/** Trains until some step has been done, as if the tab was closed then. */
async function trainUntil(trainer: Trainer, step: number, options: FitOptions): Promise<void> {
  for await (const event of trainer.fit(loader, { schedule, validate: loader, ...options })) {
    if (event.kind === "steps" && trainer.step >= step) return;
  }
}

test("a run resumed in the middle of an epoch ends with the same bits and the same history",
  async () => {
    const [whole, broken, store] = [await load(), await load(), memory()];
    await train(whole, { epochs: 6 });
    const callbacks = [saving("run", { everySteps: 5, store })];
    await trainUntil(broken, 17, { epochs: 6, callbacks });
    await broken.dispose();
    const again = await Trainer.resume("run", { ...SOURCE, store });
    const { cursor, step } = again;
    assert.equal(13 * cursor.epoch + cursor.batch, step);
    assert.ok(step >= 5 && step < 78, String(step));
    await train(again, { epochs: 6, from: again.cursor });
    assert.equal(again.step, 78);
    assert.deepEqual(await again.exportCheckpoint(), await whole.exportCheckpoint());
    assert.equal(again.history.losses.length, 78);
    assert.equal(again.history.validations.length, 6);
  });

test("early stopping ends a resumed run where it would have ended, with the same weights",
  async () => {
    const [whole, broken, store] = [await load(), await load(), memory()];
    // It learns for three epochs and is then led astray.
    const options = (more: readonly Callback[] = []): FitOptions => ({
      epochs: 50, schedule: (step) => (step < 39 ? 0.05 : 2), recovery: false,
      callbacks: [...more, earlyStopping({ patience: 3 })],
    });
    await train(whole, options());
    assert.ok(whole.step > 65 && whole.step < 650, String(whole.step));
    const lastBut = whole.step - 15;
    await trainUntil(broken, lastBut, options([saving("run", { everySteps: 5, store })]));
    await broken.dispose();
    const again = await Trainer.resume("run", { ...SOURCE, store });
    assert.ok(again.step > 52); // the best validation is behind it
    assert.ok(again.log.record.best);
    await train(again, { ...options(), from: again.cursor });
    assert.equal(again.step, whole.step);
    assert.deepEqual(again.history.validations, whole.history.validations);
    assert.deepEqual(await again.exportCheckpoint(), await whole.exportCheckpoint());
    // Another run waits for its own validations.
    await train(again, { ...options(), epochs: 2, schedule: () => 0.05 });
    assert.equal(again.step, whole.step + 26);
  });

test("a loss that was no number is still none after a resume", async () => {
  const [trainer, other] = [await load(), await load()];
  await train(trainer, { epochs: 1 });
  trainer.log.noteValidation({ step: trainer.step, loss: NaN, metrics: { accuracy: NaN } });
  await other.loadCheckpoint(await trainer.exportCheckpoint());
  assert.deepEqual(other.history.validations, trainer.history.validations);
});

test("what steps told beside their losses is still known after a resume", async () => {
  const [trainer, other] = [await load(), await load()];
  await train(trainer, { epochs: 1 });
  const { record } = trainer.log;
  record.metrics = {
    accuracy: record.losses.map((_, i) => i / 16),
    norm: record.losses.map((_, i) => (i < 4 ? NaN : 0.5)),
  };
  const checkpoint = await trainer.exportCheckpoint();
  await other.loadCheckpoint(checkpoint);
  assert.deepEqual(other.history, trainer.history);
  const { tensors, metadata } = decodeSafetensors(checkpoint, "the checkpoint");
  const others = new Map([...tensors].filter(([name]) => name !== "hearth/metrics"));
  const damaged = encodeSafetensors(others, metadata);
  await assert.rejects(other.loadCheckpoint(damaged), /record of the run is damaged/);
});

test("the newest checkpoints are kept, and the best beside them", async () => {
  const [trainer, store] = [await load(), memory()];
  const callbacks = [saving("run", { keep: 3, best: "loss", store })];
  await train(trainer, { epochs: 7, callbacks });
  assert.deepEqual(await Trainer.checkpoints({ store }), [6, 5, 4, "best"].map((number) =>
    ({ name: "run", number })));
  const best = store.files.get("run.best.safetensors") ?? new Uint8Array();
  const losses = trainer.history.validations.map(({ loss }) => loss);
  const lowest = 13 * (1 + losses.indexOf(Math.min(...losses)));
  const again = await load();
  await again.loadCheckpoint(best);
  assert.equal(again.step, lowest);
  await Trainer.removeCheckpoints("run", { store });
  assert.equal(store.files.size, 0);
});

test("names may hold anything, and runs do not mix", async () => {
  const [trainer, store] = [await load(), memory()];
  const names = ["a.1", "a", "../x y*", "日本.best"];
  for (const name of names) {
    await trainer.trainBatch(x, y);
    await trainer.saveCheckpoint(name, { store });
  }
  for (const [i, name] of names.entries()) {
    assert.equal((await Trainer.resume(name, { ...SOURCE, store })).step, i + 1);
  }
  await Trainer.removeCheckpoints("a", { store });
  assert.deepEqual((await Trainer.checkpoints({ store })).map(({ name }) => name).sort(),
    names.filter((name) => name !== "a").sort());
});

test("where the newest checkpoint is damaged the one before it continues", async () => {
  const [trainer, store] = [await load(), memory()];
  for (let i = 0; i < 2; i++) {
    await trainer.trainBatch(x, y);
    await trainer.saveCheckpoint("run", { store });
  }
  const newest = store.files.get("run.1.safetensors") ?? new Uint8Array();
  store.files.set("run.1.safetensors", newest.slice(0, 200));
  const warnings: string[] = [];
  const onWarning = (message: string): void => { warnings.push(message); };
  assert.equal((await Trainer.resume("run", { ...SOURCE, store, onWarning })).step, 1);
  assert.match(warnings[0] ?? "", /run\.1\.safetensors cannot be used/);
  store.files.set("run.0.safetensors", new Uint8Array(3));
  await rejects(Trainer.resume("run", { ...SOURCE, store }), BundleFormatError, /checkpoint/);
});

test("a full store is a typed error that keeps what was saved", async () => {
  const trainer = await load();
  const { length } = await trainer.exportCheckpoint();
  const store = memory(1.5 * length);
  await trainer.saveCheckpoint("run", { store });
  await trainer.trainBatch(x, y);
  await rejects(trainer.saveCheckpoint("run", { store }), StorageError, /no room/);
  assert.equal((await Trainer.resume("run", { ...SOURCE, store })).step, 0);
  assert.equal((await trainer.trainBatch(x, y)).step, 2); // the run itself goes on
});

test("what cannot be saved or resumed says why", async () => {
  const [trainer, store] = [await load(), memory()];
  await rejects(Trainer.resume("run", { ...SOURCE, store }), StorageError, /nothing is saved/);
  await trainer.saveCheckpoint("other", { store });
  await rejects(Trainer.resume("run", { ...SOURCE, store }), StorageError, /there are other/);
  await rejects(Trainer.resume("other", { ...OPTIONS, store }), BundleFormatError, /which bundle/);
  await rejects(trainer.saveCheckpoint("", { store }), InvalidInputError, /1 to 80 characters/);
  await rejects(trainer.saveCheckpoint("a", { keep: 0, store }), InvalidInputError, /keep is 0/);
  await rejects(trainer.saveCheckpoint("a"), StorageError, /cannot keep files/); // none in Node
  assert.throws(() => saving("run", { everySteps: 0 }), InvalidInputError);
});

test("a damaged record is refused, a missing one begins a new history", async () => {
  const trainer = await load();
  await train(trainer, { epochs: 1 });
  const { tensors, metadata } = decodeSafetensors(await trainer.exportCheckpoint(), "it");
  const refuses = (run: string): Promise<void> => rejects(
    trainer.loadCheckpoint(encodeSafetensors(tensors, { ...metadata, run })), BundleFormatError,
    /record of the run is damaged/);
  for (const run of ["{", "1", '{"epoch": -1}', metadata["run"]?.replace('"step":13', '"x":1')]) {
    await refuses(run ?? "");
  }
  const bare = new Map([...tensors].filter(([name]) => name !== "hearth/losses"));
  const { format = "", version = "", optimizer = "" } = metadata;
  await trainer.loadCheckpoint(encodeSafetensors(bare, { format, version, optimizer }));
  assert.deepEqual(trainer.cursor, { epoch: 0, batch: 0 });
  assert.deepEqual([trainer.step, trainer.history.losses], [13, []]);
});

test("a run that was saved between an epoch and its validation does that validation", async () => {
  const [whole, broken, store] = [await load(), await load(), memory()];
  await train(whole, { epochs: 3 });
  const callbacks = [saving("run", { store })]; // at the end of an epoch, before the validation
  for (const epochs of [2, 3]) {
    await trainUntilEpoch(broken, epochs, callbacks);
    const again = await Trainer.resume("run", { ...SOURCE, store });
    assert.deepEqual(again.cursor, { epoch: epochs, batch: 0 });
    assert.equal(again.history.validations.length, epochs - 1);
    await train(again, { epochs: 3, from: again.cursor });
    assert.deepEqual(again.history, whole.history);
    // Done once: the next run does not owe it any more.
    await train(again, { epochs: 3, from: again.cursor });
    assert.equal(again.history.validations.length, 3);
    await broken.loadCheckpoint(await (await load()).exportCheckpoint());
  }
});

/** Trains until so many epochs have been trained and saved, and not validated. */
async function trainUntilEpoch(
  trainer: Trainer, epochs: number, callbacks: FitOptions["callbacks"] = [],
): Promise<void> {
  const options = { epochs, schedule, validate: loader, callbacks };
  for await (const event of trainer.fit(loader, options)) {
    if (event.kind === "epoch" && event.epoch === epochs - 1) return;
  }
}

test("load with a name to resume begins at its checkpoint, or as the bundle is", async () => {
  const store = memory();
  const open = (): Promise<Trainer> =>
    Trainer.load(fixtureSource(), { ...OPTIONS, resume: "run", store });
  const first = await open();
  assert.deepEqual([first.step, first.cursor], [0, { epoch: 0, batch: 0 }]);
  await trainUntil(first, 17, { epochs: 6, callbacks: [saving("run", { everySteps: 5, store })] });
  const second = await open();
  assert.ok(second.step >= 5);
  await train(second, { epochs: 6, from: second.cursor });
  const whole = await load();
  await train(whole, { epochs: 6 });
  assert.deepEqual(await second.exportWeights(), await whole.exportWeights());
  await rejects(Trainer.load(fixtureSource(), { ...OPTIONS, resume: "", store }),
    InvalidInputError, /name of a checkpoint is ""/);
});
