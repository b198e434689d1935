/**
 * The bundle that `python -m tests.browser.least_squares` writes, read from disk, with the
 * arithmetic of its step.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { BundleSource } from "../src/bundle.ts";
import { BundleFormatError, type HearthError } from "../src/errors.ts";
import type { Manifest } from "../src/manifest.ts";
import { parseManifest } from "../src/parse-manifest.ts";

declare const FIXTURES: string;

/** A file of the fixture. */
export function fixtureFile(name: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(join(FIXTURES, "least_squares", name)));
}

/** The fixture as a source; `replaced` files take the place of its own. */
export function fixtureSource(
  replaced: Readonly<Record<string, Uint8Array<ArrayBuffer>>> = {},
): BundleSource {
  return {
    name: "fixture/",
    read: (file) => Promise.resolve(replaced[file] ?? fixtureFile(file)),
  };
}

/** The fixture with other files, which its manifest knows: only their content is new. */
export function changedSource(
  changed: Readonly<Record<string, Uint8Array<ArrayBuffer>>>,
): BundleSource {
  const manifest = manifestJson();
  const sizes = Object.entries(changed).map(([name, data]) => [name, {
    bytes: data.length, sha256: createHash("sha256").update(data).digest("hex"),
  }] as const);
  const files = { ...manifest["files"] as object, ...Object.fromEntries(sizes) };
  return fixtureSource({ ...changed, "manifest.json": encode({ ...manifest, files }) });
}

export function fixtureManifest(): Manifest {
  return parseManifest(fixtureFile("manifest.json"));
}

/** The fixture's manifest as JSON, to be spoilt. */
export function manifestJson(): Record<string, unknown> {
  return JSON.parse(new TextDecoder().decode(fixtureFile("manifest.json"))) as
    Record<string, unknown>;
}

export function encode(value: unknown): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** Asserts that `work` raises the error class with a message that matches. */
export function raises(
  work: () => unknown, name: new (...args: never[]) => HearthError, message: RegExp,
): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof name, String(error));
    assert.match(error.message, message);
    return true;
  });
}

/** The same for a promise. */
export async function rejects(
  work: Promise<unknown>, name: new (...args: never[]) => HearthError, message: RegExp,
): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof name, String(error));
    assert.match(error.message, message);
    return true;
  });
}

/** Asserts that the manifest with one value replaced is refused; the message has the path. */
export function refusesManifest(path: readonly (string | number)[], value: unknown, text: RegExp) {
  const manifest = manifestJson();
  let parent: Record<string | number, unknown> = manifest;
  for (const key of path.slice(0, -1)) parent = parent[key] as typeof parent;
  const last = path.at(-1) ?? "";
  // eslint-disable-next-line @typescript-eslint/no-dynamic-delete
  if (value === undefined) delete parent[last];
  else parent[last] = value;
  raises(() => parseManifest(encode(manifest)), BundleFormatError, text);
}
