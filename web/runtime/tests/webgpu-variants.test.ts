import assert from "node:assert/strict";
import { test } from "node:test";
import type { Bundle } from "../src/bundle.ts";
import { InvalidInputError } from "../src/errors.ts";
import type { Manifest, WgslVariant } from "../src/manifest.ts";
import { recall, remember } from "../src/tuning-cache.ts";
import { compare } from "../src/webgpu-tuning.ts";
import { chooseKernels, featuresOf, usableVariants } from "../src/webgpu-variants.ts";
import { rejects } from "./fixture.ts";

const variant = (name: string, software: boolean, features: WgslVariant["features"]) => ({
  name, software, features, file: `${name}.wgsl`, workgroups: { b: [{ extent: 1, per: 2 }] },
});
const manifest = {
  kernels: [{ name: "a", workgroups: [] }, { name: "b", workgroups: [{ extent: 1, per: 1 }] }],
  files: {},
  wgsl: {
    file: "general.wgsl",
    variants: [variant("quads", true, ["subgroups"]), variant("software", true, []),
      variant("small", false, [])],
  },
} as unknown as Manifest;
const bundle = {
  manifest,
  readText: (file: string) => Promise.resolve(
    `${file === "general.wgsl" ? "// kernel: a\nof a" : ""}\n// kernel: b\nfrom ${file}`),
} as unknown as Bundle;
const adapter = (description: string, ...features: string[]): GPUAdapter =>
  ({ info: { description }, features: new Set(features) }) as unknown as GPUAdapter;

async function chosen(on: GPUAdapter, asked?: string): Promise<[string, string, number]> {
  const set = await chooseKernels(bundle, {} as GPUDevice, on, 1, asked);
  assert.equal(set.sources.get("a")?.trim(), "of a");
  return [set.name, set.sources.get("b")?.trim() ?? "", set.kernels[1]?.workgroups[0]?.per ?? 0];
}

test("a device in software gets the first variant for such that it can run", async () => {
  assert.deepEqual(await chosen(adapter("SwiftShader", "subgroups")),
    ["quads", "from quads.wgsl", 2]);
  assert.deepEqual(await chosen(adapter("SwiftShader")), ["software", "from software.wgsl", 2]);
});

test("a variant is taken by its name, and only by a name that there is", async () => {
  const gpu = adapter("Radeon");
  assert.deepEqual(await chosen(gpu, "small"), ["small", "from small.wgsl", 2]);
  assert.deepEqual(await chosen(gpu, "general"), ["general", "from general.wgsl", 1]);
  for (const name of ["quads", "nothing"]) {
    await rejects(chosen(gpu, name), InvalidInputError, /general or measured or software or small/);
  }
});

test("a device is asked for the features of the variants that it can have", () => {
  const names = usableVariants(manifest, adapter("")).map(({ name }) => name);
  assert.deepEqual(names, ["software", "small"]);
  assert.deepEqual(featuresOf(usableVariants(manifest, adapter("", "subgroups"))), ["subgroups"]);
});

test("what was measured once is not measured again", async () => {
  await remember("Radeon ", { b: "small" });
  assert.deepEqual(await recall("Radeon "), { b: "small" });
  assert.deepEqual(await chosen(adapter("Radeon")), ["measured", "from small.wgsl", 2]);
});

test("the general kernel stays unless another is clearly faster", async () => {
  const candidates = ["general", "x", "y"].map((set) => ({ set })) as never[];
  const winner = (...ms: number[]): Promise<string | undefined> =>
    compare(candidates, (candidate: { set: string }, repeats) =>
      Promise.resolve(repeats * (ms[["general", "x", "y"].indexOf(candidate.set)] ?? 0)));
  assert.equal(await winner(1, 0.97, 2), "general");
  assert.equal(await winner(1, 0.6, 0.5), "y");
  assert.equal(await compare([], () => Promise.resolve(1)), undefined);
});
