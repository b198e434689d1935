/**
 * Tensors that a device cannot bind: a GPU has a limit for one, however many buffers it gives.
 */

import { formatShape, largestBatch } from "./dims.ts";
import { OutOfMemoryError } from "./errors.ts";
import { stateElements, type Manifest } from "./manifest.ts";
import { bufferBytes, buffersOf, ELEMENT_BYTES } from "./plan.ts";

/** Raises OutOfMemoryError where a tensor is larger than one binding, and names it. */
export function requireBindable(manifest: Manifest, batch: number, limitBytes: number): void {
  const size = (buffer: number): number => bufferBytes(manifest, buffer, batch);
  const largest = usedBuffers(manifest).reduce((a, b) => (size(b) > size(a) ? b : a), 0);
  if (size(largest) <= limitBytes) return;
  const suggestedBatchSize = largestBindable(manifest, limitBytes);
  const [what, where] = describe(manifest, largest);
  const smaller = suggestedBatchSize > 0
    ? `at most ${String(suggestedBatchSize)} samples per batch` : "a smaller layer";
  throw new OutOfMemoryError(
    `${what} takes ${String(size(largest))} bytes for a batch of ${String(batch)}, and this GPU \
binds at most ${String(limitBytes)} in one piece`,
    { where, remedy: `use ${smaller}, or backend: "wasm"`, suggestedBatchSize },
  );
}

/** The largest batch size of which every tensor can be bound, or 0. */
export function largestBindable(manifest: Manifest, limitBytes: number): number {
  const used = usedBuffers(manifest);
  return largestBatch((batch) => used.every((i) => bufferBytes(manifest, i, batch) <= limitBytes));
}

function usedBuffers({ programs }: Manifest): number[] {
  return [...new Set(Object.values(programs).flatMap(buffersOf))];
}

/** What a buffer holds, for people, and where in the model that comes from. */
function describe(manifest: Manifest, buffer: number): [what: string, where: string] {
  const { offset, shape = [] } = manifest.buffers[buffer] ?? {};
  if (offset !== undefined) return [describeState(manifest, buffer, offset), ""];
  const form = formatShape(shape);
  for (const [name, { inputs, outputs, steps }] of Object.entries(manifest.programs)) {
    const port = [...inputs, ...outputs].find((entry) => entry.buffer === buffer);
    if (port) return [`${port.name} ${form} of the program ${name}`, ""];
    const step = steps.find(({ buffers }) => buffers.includes(buffer));
    const kernel = manifest.kernels[step?.kernel ?? -1];
    if (kernel) return [`a tensor ${form} of the kernel ${kernel.name}`, kernel.origin ?? ""];
  }
  return [`a tensor ${form}`, ""];
}

function describeState(manifest: Manifest, buffer: number, start: number): string {
  const end = start + bufferBytes(manifest, buffer, 1);
  const inside = manifest.state.filter((entry) =>
    entry.offset < end && start < entry.offset + ELEMENT_BYTES * stateElements(entry));
  const [first = "a table", ...more] = inside.map(({ role, name }) => `${role} ${name}`);
  const last = more.at(-1);
  return last === undefined ? first
    : `the vector from ${first} to ${last}, which one kernel updates,`;
}
