/**
 * Times dispatches on WebGPU: all in one pass as a training step, and each alone by timestamps.
 *
 * `measure` is called by bench/webgpu.py with modules, dispatches of them, and what lies in memory.
 */
"use strict";

const decode = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));

globalThis.measure = async request => {
  const adapter = await navigator.gpu.requestAdapter();
  const requiredFeatures = ["timestamp-query", "subgroups"].filter(f => adapter.features.has(f));
  const {maxBufferSize, maxStorageBufferBindingSize} = adapter.limits;
  const device = await adapter.requestDevice({
    requiredFeatures, requiredLimits: {maxBufferSize, maxStorageBufferBindingSize},
  });
  device.onuncapturederror = ({error}) => { throw error; };
  try {
    return await run(device, request);
  } finally {
    device.destroy();
  }
};

async function run(device, {modules, dispatches, arenaBytes, segments, batch, rounds, seconds}) {
  const {STORAGE, COPY_DST, UNIFORM} = GPUBufferUsage;
  const arena = device.createBuffer({size: arenaBytes, usage: STORAGE | COPY_DST});
  const fill = () => {
    for (const [at, text] of segments) device.queue.writeBuffer(arena, at, decode(text));
  };
  const uniform = device.createBuffer({size: 16, usage: UNIFORM | COPY_DST});
  device.queue.writeBuffer(uniform, 0, new Uint32Array([batch, 0, 0, 0]));
  const layout = (type, count) => device.createBindGroupLayout({
    entries: Array.from({length: count}, (_, binding) =>
      ({binding, visibility: GPUShaderStage.COMPUTE, buffer: {type}})),
  });
  const sizeLayout = layout("uniform", 1);
  const begin = performance.now();
  const shaders = modules.map(code => device.createShaderModule({code}));
  const pipelines = new Map();
  const work = dispatches.map(({phases, bindings}) => {
    const own = layout("storage", bindings.length);
    const pipelineLayout = device.createPipelineLayout({bindGroupLayouts: [own, sizeLayout]});
    for (const {module} of phases) {
      if (pipelines.has(module)) continue;
      const compute = {module: shaders[module], entryPoint: "main"};
      pipelines.set(module, device.createComputePipelineAsync({layout: pipelineLayout, compute}));
    }
    const entries = bindings.map(([offset, size], binding) =>
      ({binding, resource: {buffer: arena, offset, size}}));
    return {phases, own: device.createBindGroup({layout: own, entries})};
  });
  const size = device.createBindGroup({layout: sizeLayout,
    entries: [{binding: 0, resource: {buffer: uniform}}]});
  for (const one of work) {
    one.size = size;
    one.phases = await Promise.all(one.phases.map(async ({module, counts}) =>
      ({pipeline: await pipelines.get(module), counts})));
  }
  const compileMs = performance.now() - begin;
  fill();
  return {
    compile_ms: compileMs,
    step_ms: await steps(device, work, rounds, seconds),
    kernels_ms: await kernels(device, work, rounds),
  };
}

function encode(pass, {phases, own, size}) {
  pass.setBindGroup(0, own);
  pass.setBindGroup(1, size);
  for (const {pipeline, counts} of phases) {
    pass.setPipeline(pipeline);
    pass.dispatchWorkgroups(...counts);
  }
}

/** The times of whole steps: one pass, one submit, awaited. */
async function steps(device, work, rounds, seconds) {
  const times = [];
  const end = performance.now() + seconds * 1000;
  for (let i = 0; i <= rounds || performance.now() < end; i++) {
    const begin = performance.now();
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const one of work) encode(pass, one);
    pass.end();
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
    if (i > 0) times.push(performance.now() - begin);
  }
  return times;
}

/** The best time of every dispatch in its place, by timestamps around a pass of its own. */
async function kernels(device, work, rounds) {
  const {QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ} = GPUBufferUsage;
  const count = 2 * work.length;
  const querySet = device.createQuerySet({type: "timestamp", count});
  const resolved = device.createBuffer({size: 8 * count, usage: QUERY_RESOLVE | COPY_SRC});
  const staging = device.createBuffer({size: 8 * count, usage: MAP_READ | COPY_DST});
  const best = work.map(() => Infinity);
  for (let round = 0; round < rounds; round++) {
    const encoder = device.createCommandEncoder();
    work.forEach((one, i) => {
      const pass = encoder.beginComputePass({timestampWrites: {
        querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1,
      }});
      encode(pass, one);
      pass.end();
    });
    encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 8 * count);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const times = new BigUint64Array(staging.getMappedRange());
    work.forEach((_, i) => {
      best[i] = Math.min(best[i], Number(times[2 * i + 1] - times[2 * i]) / 1e6);
    });
    staging.unmap();
  }
  return best;
}
