// Frames of a page and tasks of its thread that are longer than 50 ms, in windows of time in which
// it rests and trains by turns: `measureFrames` runs in the page.

globalThis.measureFrames = async (hearth, { bundle, worker, threads, batch, features, windows, ms }) => {
  const { ArrayDataset, DataLoader, Trainer } = hearth;
  const samples = 4 * batch;
  const x = Float32Array.from({ length: samples * features }, (_, i) => Math.sin(i));
  const y = Int32Array.from({ length: samples }, (_, i) => i % 10);
  const data = new ArrayDataset({ x, y, samples });
  const trainer = await Trainer.load(bundle, { backend: "wasm", threads, worker });
  const end = new AbortController();
  const loader = new DataLoader(data, { batchSize: batch, shuffle: true });
  const run = trainer.fit(loader, { epochs: 1e9, signal: end.signal });
  const ended = (async () => { for await (const _ of run); })().catch(() => undefined);
  const found = [];
  try {
    while (trainer.step < 5) await passed(10); // what is compiled and loaded first is no training
    for (let i = 0; i < 2 * windows; i++) {
      const trains = i % 2 === 1;
      if (trains) run.resume();
      else run.pause();
      await passed(200);
      const { step } = trainer;
      found.push({ trains, ...await frames(ms), steps: trainer.step - step });
    }
  } finally {
    end.abort();
    run.resume();
    await ended;
    await trainer.dispose();
  }
  return found;
};

const passed = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const nextFrame = () => new Promise((resolve) => requestAnimationFrame(resolve));

/** Frames within so many milliseconds, and the long tasks of the page's thread. */
async function frames(ms) {
  const observer = new PerformanceObserver(() => undefined);
  const long = [];
  observer.observe({ type: "longtask" });
  const begin = await nextFrame();
  let [count, now] = [0, begin];
  for (; now - begin < ms; count++) {
    now = await nextFrame();
    long.push(...observer.takeRecords());
  }
  await passed(0); // a task is told of after its end
  long.push(...observer.takeRecords());
  observer.disconnect();
  return { perSecond: 1000 * count / (now - begin), longTasks: long.map(({ duration }) => duration) };
}
