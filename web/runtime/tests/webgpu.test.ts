import assert from "node:assert/strict";
import { test } from "node:test";
import { adapterName, isSoftware } from "../src/features.ts";
import { workgroupCounts } from "../src/webgpu-arena.ts";
import { splitKernels } from "../src/webgpu-kernels.ts";
import { fixtureFile, fixtureManifest } from "./fixture.ts";

test("a file of kernels falls into one module per kernel", () => {
  const sources = splitKernels(new TextDecoder().decode(fixtureFile("kernels.wgsl")));
  assert.deepEqual([...sources.keys()], fixtureManifest().kernels.map(({ name }) => name));
  for (const code of sources.values()) assert.equal(code.match(/fn main\(/g)?.length, 1);
});

test("workgroups fill one dimension, and a second one where it overflows", () => {
  const kernel = { name: "k", workgroups: [{ extent: [0, 3], per: 64 }, { extent: 5, per: 2 }] };
  assert.deepEqual(workgroupCounts(kernel, 1), [3, 1]);
  assert.deepEqual(workgroupCounts(kernel, 64), [9, 1]);
  assert.deepEqual(workgroupCounts(kernel, 1_500_000), [65535, 4]);
  const empty = { name: "empty", workgroups: [{ extent: 0, per: 1 }] };
  assert.deepEqual(workgroupCounts(empty, 1), [0, 0]);
});

test("a software adapter is known by its flag or its name", () => {
  const adapter = (info?: Partial<GPUAdapterInfo>): GPUAdapter => ({ info }) as GPUAdapter;
  assert.ok(isSoftware(adapter({ vendor: "google", architecture: "swiftshader" })));
  assert.ok(isSoftware(adapter({ description: "llvmpipe (LLVM 15.0.6, 256 bits)" })));
  assert.ok(isSoftware(adapter({ description: "Microsoft Basic Render Driver" })));
  assert.ok(isSoftware(adapter({ vendor: "acme", isFallbackAdapter: true })));
  assert.ok(!isSoftware(adapter({ vendor: "nvidia", architecture: "hopper" })));
  assert.ok(!isSoftware(adapter()));
  assert.equal(adapterName(adapter()), "unknown adapter");
  assert.equal(adapterName(adapter({ vendor: "apple", architecture: "apple" })), "apple");
});
