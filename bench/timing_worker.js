/**
 * Calls exported functions of a module in turn and reports the best time of each, in ms per call.
 *
 * The first worker leads; with `threads` > 1 it starts helpers (this same file), which enter every
 * call with their own index.  They spin between calls: waking is the runtime's business.
 */
"use strict";

const NEXT = 0, FUNCTION = 1, CALLS = 2;
const END = -1;  // in place of a function: a terminated worker may spin on for two seconds
const WARM_UP_MS = 300;  // the browser's compiler has a core to itself while nothing is called
const load = async url => new Uint8Array(await (await fetch(url)).arrayBuffer());

onmessage = async ({data}) => {
  if (data.thread) return help(data);
  postMessage(await lead(data));
};

async function lead(request) {
  const {code, pages, functions, batch, seconds, rounds, threads} = request;
  const shared = threads > 1;
  const memory = new WebAssembly.Memory({initial: pages, maximum: 65536, shared});
  const module = await WebAssembly.compile(await load(code));
  await fill(memory, request);
  const {exports} = await WebAssembly.instantiate(module, {env: {memory}});
  const control = new Int32Array(shared ? new SharedArrayBuffer(12) : 3);
  const helpers = await Promise.all(Array.from({length: threads - 1}, (_, i) =>
    startHelper({module, memory, control, functions, batch, thread: i + 1, threads})));
  const call = (index, calls) => {
    control[FUNCTION] = index;
    control[CALLS] = calls;
    Atomics.add(control, NEXT, 1);
    const run = exports[functions[index]];
    for (let i = 0; i < calls; i++) run(batch, 0, threads);
  };
  functions.forEach((_, index) => call(index, 2));
  await new Promise(resolve => setTimeout(resolve, WARM_UP_MS));
  const best = functions.map(() => Infinity);
  for (let round = 0; round < rounds; round++)
    functions.forEach((_, index) => {
      for (let calls = 1; ; calls *= 2) {
        const begin = performance.now();
        call(index, calls);
        const time = performance.now() - begin;
        if (time > seconds * 1000) { best[index] = Math.min(best[index], time / calls); break; }
      }
    });
  control[FUNCTION] = END;
  Atomics.add(control, NEXT, 1);
  return Object.fromEntries(functions.map((name, i) => [`${name}`, best[i]]));
}

async function fill(memory, {words, numbers, segments}) {
  const u32 = new Uint32Array(memory.buffer), f32 = new Float32Array(memory.buffer);
  for (let i = numbers[0] / 4; i < numbers[1] / 4; i++) f32[i] = Math.sin(i * 12.9898);
  for (const [at, value] of words) u32[at / 4] = value;
  for (const [at, url] of segments) new Uint8Array(memory.buffer).set(await load(url), at);
}

function startHelper(start) {
  return new Promise((resolve, reject) => {
    const worker = new Worker("/worker.js");
    worker.onerror = event => reject(new Error(event.message));
    worker.onmessage = () => resolve(worker);
    worker.postMessage(start);
  });
}

function help({module, memory, control, functions, batch, thread, threads}) {
  const {exports} = new WebAssembly.Instance(module, {env: {memory}});
  postMessage("ready");
  for (let seen = 0; ; seen++) {
    while (Atomics.load(control, NEXT) === seen);
    if (control[FUNCTION] === END) return close();
    const run = exports[functions[control[FUNCTION]]];
    for (let i = control[CALLS]; i > 0; i--) run(batch, thread, threads);
  }
}
