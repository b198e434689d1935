import assert from "node:assert/strict";
import { test } from "node:test";
import { BundleFormatError } from "../src/errors.ts";
import { parseManifest } from "../src/parse-manifest.ts";
import { encode, fixtureManifest, manifestJson, raises, refusesManifest } from "./fixture.ts";

test("the fixture's manifest is read field by field", () => {
  const manifest = fixtureManifest();
  assert.deepEqual(Object.keys(manifest.programs), ["train", "evaluate", "predict", "gradients"]);
  const { range, except } = manifest.programs["train"]?.inputs[1] ?? {};
  assert.deepEqual([range, except], [[0, 3], -100]);
  assert.deepEqual(JSON.parse(JSON.stringify(manifest)), manifestJson());
});

test("a web page in place of the manifest is named as such", () => {
  const page = new TextEncoder().encode("<!DOCTYPE html><title>404</title>");
  raises(() => parseManifest(page), BundleFormatError, /web page/);
});

test("foreign JSON is no bundle", () => {
  for (const value of [{}, [], null, 7, { format: "onnx", version: 1 }]) {
    raises(() => parseManifest(encode(value)), BundleFormatError, /not a Hearth bundle/);
  }
});

test("a newer bundle is refused before its fields are read", () => {
  refusesManifest(["version"], 2, /newer Hearth/);
});

test("a bad field is named by its path", () => {
  refusesManifest(["state_bytes"], "1792", /manifest\.json\.state_bytes: expected an integer/);
  refusesManifest(["state", 0, "dtype"], "float64", /state\[0\]\.dtype: expected one of float32/);
  refusesManifest(["programs", "train", "slots", 0, 0], [], /programs\.train\.slots\[0\]\[0\]/);
  refusesManifest(["kernels", 1, "workgroups", 0, "per"], 0, /kernels\[1\].*per: .*from 1 up/);
  refusesManifest(["programs", "train", "inputs", 1, "range"], [0], /range: expected a list of 2/);
  refusesManifest(["optimizer", "groups", 0, "learning_rate"], null, /expected a finite number/);
  refusesManifest(["state", 0, "trainable"], 1, /state\[0\]\.trainable: expected true or false/);
  refusesManifest(["model"], undefined, /manifest\.json\.model is missing/);
  refusesManifest(["surprise"], 1, /manifest\.json\.surprise: expected no such field/);
});

test("parts that do not fit together are refused", () => {
  refusesManifest(["programs", "train", "steps", 0, "kernel"], 9, /there is no kernel 9/);
  refusesManifest(["programs", "train", "steps", 0, "buffers", 0], 99, /there is no buffer 99/);
  refusesManifest(["buffers", 8, "slot"], 40, /the program has no slot 40/);
  refusesManifest(["buffers", 8, "slot"], 2, /buffer 8 is larger than its slot/);
  refusesManifest(["buffers", 0, "offset"], 1791, /no multiple of 4/);
  refusesManifest(["buffers", 0, "offset"], 1792, /reaches beyond the state region/);
  refusesManifest(["buffers", 0, "slot"], 0, /either an offset or a slot/);
  refusesManifest(["buffers", 0, "shape"], [[0, 15]], /depends on B/);
  refusesManifest(["state", 0, "offset"], 1780, /reaches beyond the state region/);
  refusesManifest(["state", 1, "name"], "linear.weight", /there is another/);
  refusesManifest(["programs", "evaluate", "steps", 0, "buffers", 1], 8, /slots of train/);
  refusesManifest(["programs", "train", "inputs", 0, "shape"], [[0, 1], 5], /not as large/);
  refusesManifest(["wgsl", "file"], "other.wgsl", /"other.wgsl" is not listed/);
  refusesManifest(["files", "../secret"], { bytes: 1, sha256: "" }, /leaves it or is hidden/);
});
