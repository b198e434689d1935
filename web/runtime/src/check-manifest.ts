/**
 * What types cannot say about a manifest: indices, offsets, names, files.
 *
 * Raises BundleFormatError with the path of the bad field.  It does not look into other files.
 */

import { elements, evaluate, isStatic } from "./dims.ts";
import { BundleFormatError } from "./errors.ts";
import { stateElements, type Manifest, type Output, type Program } from "./manifest.ts";
import { buffersOf } from "./plan.ts";

type Check = (ok: boolean, path: string, problem: string) => void;

const check: Check = (ok, path, problem) => {
  if (!ok) throw new BundleFormatError(`manifest.json.${path}: ${problem}`);
};

/** Raises BundleFormatError where the parts of the manifest do not fit together. */
export function checkManifest(manifest: Manifest): void {
  checkState(manifest);
  checkBuffers(manifest);
  for (const [name, program] of Object.entries(manifest.programs)) {
    checkProgram(manifest, program, `programs.${name}`);
  }
  checkSlotOwners(manifest);
  checkFiles(manifest);
}

function checkState({ state, state_bytes }: Manifest): void {
  const names = new Set<string>();
  for (const [i, entry] of state.entries()) {
    const path = `state[${String(i)}]`;
    const bytes = 4 * stateElements(entry);
    check(entry.offset % 4 === 0, `${path}.offset`, "is no multiple of 4");
    check(entry.offset + bytes <= state_bytes, path, "reaches beyond the state region");
    const key = `${entry.role} ${entry.name}`;
    check(!names.has(key), `${path}.name`, `there is another ${key}`);
    names.add(key);
  }
  const single = { seed: 2, step: 1 } as const;
  for (const [role, count] of Object.entries(single)) {
    const entries = state.filter((s) => s.role === role);
    check(entries.length <= 1, "state", `there are several entries of the role ${role}`);
    const sizes = entries.map(stateElements);
    check(sizes.every((n) => n === count), "state", `the ${role} has not ${String(count)} words`);
  }
}

function checkBuffers({ buffers, state_bytes }: Manifest): void {
  for (const [i, buffer] of buffers.entries()) {
    const path = `buffers[${String(i)}]`;
    const inState = buffer.offset !== undefined;
    check(inState !== (buffer.slot !== undefined), path, "needs either an offset or a slot");
    if (buffer.offset === undefined) continue;
    check(buffer.offset % 4 === 0, `${path}.offset`, "is no multiple of 4");
    check(buffer.shape.every(isStatic), path, "is in the state region but depends on B");
    const end = buffer.offset + 4 * elements(buffer.shape, 1);
    check(end <= state_bytes, path, "reaches beyond the state region");
  }
}

function checkProgram(manifest: Manifest, program: Program, path: string): void {
  const { buffers, kernels } = manifest;
  const { half_slots: halves = program.slots } = program;
  check(halves.length === program.slots.length, `${path}.half_slots`, "are not as many as slots");
  const checkBuffer = (index: number, where: string): void => {
    check(index < buffers.length, where, `there is no buffer ${String(index)}`);
    const slot = buffers[index]?.slot ?? -1;
    check(slot < program.slots.length, where, `the program has no slot ${String(slot)}`);
    const sizes = program.slots[slot]?.map((size) => evaluate(size, 1));
    const bytes = 4 * elements(buffers[index]?.shape ?? [], 1);
    const fits = sizes === undefined || sizes.some((size) => size >= bytes);
    check(fits, where, `buffer ${String(index)} is larger than its slot`);
  };
  const { above = [] } = program;
  const isWhole = program.above === undefined || above.length === program.slots.length;
  check(isWhole, `${path}.above`, "has not an entry for each slot");
  for (const [k, below] of above.entries()) {
    const known = below.every((slot) => slot < k);
    check(known, `${path}.above[${String(k)}]`, "names a slot that is not an earlier one");
  }
  for (const kind of ["inputs", "outputs"] as const) {
    for (const [i, entry] of program[kind].entries()) {
      const where = `${path}.${kind}[${String(i)}]`;
      checkBuffer(entry.buffer, `${where}.buffer`);
      const bound = buffers[entry.buffer]?.shape ?? [];
      const same = [1, 2, 3].every((b) => elements(bound, b) === elements(entry.shape, b));
      check(same, where, "is not as large as its buffer");
      if (entry.role === "metric") checkMetric(entry, where);
    }
  }
  for (const [i, step] of program.steps.entries()) {
    const where = `${path}.steps[${String(i)}]`;
    check(step.kernel < kernels.length, where, `there is no kernel ${String(step.kernel)}`);
    step.buffers.forEach((index, k) => {
      checkBuffer(index, `${where}.buffers[${String(k)}]`);
    });
  }
}

function checkMetric({ dtype, shape }: Pick<Output, "dtype" | "shape">, path: string): void {
  check(dtype === "float32", `${path}.dtype`, "a metric is float32");
  const isFixed = shape.every(isStatic);
  check(isFixed, `${path}.shape`, "the shape of a metric does not depend on the batch");
}

/** A slot belongs to its program, so a buffer in a slot belongs to one program only. */
function checkSlotOwners({ buffers, programs }: Manifest): void {
  const owners = new Map<number, string>();
  for (const [name, program] of Object.entries(programs)) {
    for (const index of buffersOf(program)) {
      if (buffers[index]?.slot === undefined) continue;
      const owner = owners.get(index) ?? name;
      check(owner === name, `buffers[${String(index)}]`, `lies in slots of ${owner} and ${name}`);
      owners.set(index, name);
    }
  }
}

function checkFiles({ files, kernels, wasm, wgsl, golden, schedule }: Manifest): void {
  const named: [string, string][] = (wasm?.variants ?? []).map(
    ({ file }, i) => [`wasm.variants[${String(i)}].file`, file],
  );
  if (wgsl) named.push(["wgsl.file", wgsl.file]);
  if (schedule) named.push(["schedule.file", schedule.file]);
  const sets = (wgsl?.variants ?? []).map((variant, i) =>
    [`wgsl.variants[${String(i)}]`, variant] as const);
  for (const [path, variant] of [
    ...sets, ...(wgsl?.halves ? [["wgsl.halves", wgsl.halves] as const] : []),
  ]) {
    named.push([`${path}.file`, variant.file]);
    for (const name of Object.keys(variant.workgroups)) {
      const known = kernels.some((kernel) => kernel.name === name);
      check(known, `${path}.workgroups.${name}`, "there is no such kernel");
    }
    for (const name of Object.keys(variant.finish ?? {})) {
      const known = Object.hasOwn(variant.workgroups, name);
      check(known, `${path}.finish.${name}`, "the variant has no such kernel");
    }
  }
  if (golden) named.push(["golden.file", golden.file]);
  for (const [path, file] of named) {
    check(Object.hasOwn(files, file), path, `"${file}" is not listed in files`);
  }
  for (const file of Object.keys(files)) {
    const inside = /^[^./\\][^/\\]*$/.test(file);
    check(inside, `files.${file}`, "a bundle is one folder; this name leaves it or is hidden");
  }
}
