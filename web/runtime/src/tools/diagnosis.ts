/**
 * Which layer went wrong first: the steps since the last good state are taken again, one by one.
 *
 * Backwards the error runs from the last layers to the first, so of the gradients that are not
 * finite the one of the last parameter came first.  Forwards only the parameters are known: the
 * layer that grew most is named.
 */

import type { Executor, Result } from "../executor.ts";
import { scalarOf } from "../executor.ts";
import { firstNonFinite, type NonFinite } from "../first-non-finite.ts";
import type { Argument } from "../inputs.ts";
import { INSPECT } from "../inspection.ts";
import { inspectionOf } from "./inspection-of.ts";
import type { Picture, RecordedCall } from "../journal.ts";
import type { Manifest, State } from "../manifest.ts";
import type { Bytes } from "../safetensors.ts";
import { isTrained, nonFiniteEntries, valuesOf } from "../state.ts";

export interface Diagnosis {
  /** The step that went wrong first: before it everything was finite. */
  readonly step: number;
  /** The module whose numbers went first, as `state_dict` names it; "" where none stands out. */
  readonly layer: string;
  /** What is wrong with it. */
  readonly finding: string;
  /** Parameters and optimizer state that are concerned, in the order of the model. */
  readonly names: readonly string[];
}

const NOTABLE_GROWTH = 2;

/** Takes training steps from a good state again; the last of them is known to have failed. */
export async function diagnose(
  executor: Executor, { step, image }: Picture, steps: readonly (readonly RecordedCall[])[],
): Promise<Diagnosis> {
  const { manifest, device } = executor;
  const whole = { offset: 0, bytes: manifest.state_bytes };
  device.writeState(0, image);
  let before: Bytes = image;
  let taken = step;
  for (const calls of steps) {
    taken++;
    for (const call of calls) {
      const loss = scalarOf(await resultsOf(executor, call), "loss") ?? 0; // an update has none
      if (!Number.isFinite(loss)) return forward(executor, call, taken, image, before);
    }
    const after = await device.readState(whole);
    const broken = nonFiniteEntries(manifest, after);
    if (broken.length > 0) return backward(executor, calls, taken, before, broken);
    before = after;
  }
  return growth(manifest, taken, image, before);
}

/** The loss was not finite: the parameters, the outputs or the loss function are at fault. */
async function forward(
  executor: Executor, call: RecordedCall, step: number, start: Bytes, before: Bytes,
): Promise<Diagnosis> {
  const { manifest } = executor;
  const bad = nonFiniteEntries(manifest, before);
  if (bad.length > 0) return named(step, bad, "not finite before the step");
  executor.device.writeState(0, before);
  const seen = await looked(executor, call);
  if (seen?.kind === "activation") {
    return { step, layer: seen.name, finding: "its output is not finite", names: [] };
  }
  const grown = growth(manifest, step, start, before);
  if (grown.layer) return grown;
  executor.device.writeState(0, before);
  const outputs = await repeat(executor, "evaluate", call);
  const isFinite = outputs.filter(({ output }) => output.role === "output")
    .every(({ values }) => Array.from(values, Number).every(Number.isFinite));
  const finding = isFinite ? "the loss function gives it for finite outputs"
    : "the model's outputs are not finite, from finite parameters";
  return { step, layer: "", finding, names: [] };
}

/** The loss was finite, and what the step left was not: a gradient or the update is at fault. */
async function backward(
  executor: Executor, calls: readonly RecordedCall[], step: number, before: Bytes,
  broken: readonly State[],
): Promise<Diagnosis> {
  executor.device.writeState(0, before);
  const gradients: Result[] = [];
  for (const call of calls.filter(({ program }) => program !== "apply")) {
    gradients.push(...await repeat(executor, "gradients", call));
  }
  const bad = new Set(gradients.filter(({ output, values }) =>
    output.role === "gradient" && !Array.from(values, Number).every(Number.isFinite))
    .map(({ output }) => output.name));
  const entries = executor.manifest.state.filter(({ role, name }) =>
    role === "parameter" && bad.has(name));
  const last = entries.at(-1);
  if (!last) return named(step, broken, "too large after the update, from finite gradients");
  const names = entries.map(({ name }) => name);
  return { step, layer: layerOf(last), finding: "its gradient is not finite", names };
}

/** The layer whose parameters grew most since the good state, if any did notably. */
function growth(manifest: Manifest, step: number, start: Bytes, now: Bytes): Diagnosis {
  let [most, found] = [NOTABLE_GROWTH, undefined as State | undefined];
  for (const entry of manifest.state) {
    if (entry.role !== "parameter" || !isTrained(entry)) continue;
    const [old, new_] = [start, now].map((image) => largest(valuesOf(image, entry)));
    const ratio = (new_ ?? 0) / Math.max(old ?? 0, Number.MIN_VALUE);
    // Zeros grow without bound, and say nothing until they are larger than the layer was.
    if (old === 0 || !(ratio > most)) continue;
    [most, found] = [ratio, entry];
  }
  if (!found) return { step, layer: "", finding: "no layer stands out", names: [] };
  const finding = `its largest value grew ${most.toPrecision(2)}-fold since the last good state`;
  return { step, layer: layerOf(found), finding, names: [found.name] };
}

function named(step: number, entries: readonly State[], finding: string): Diagnosis {
  const [first] = entries;
  const names = entries.map(({ name }) => name);
  return { step, layer: first ? layerOf(first) : "", finding: `it is ${finding}`, names };
}

async function resultsOf(executor: Executor, call: RecordedCall): Promise<Result[]> {
  executor.learningRates = call.rates;
  return (await executor.start(call.program, call.given, call.roles)).results;
}

/** What the program `inspect` finds, in a bundle that has it. */
async function looked(
  executor: Executor, call: RecordedCall,
): Promise<NonFinite | undefined> {
  const { manifest } = executor;
  if (!(INSPECT in manifest.programs)) return undefined;
  executor.learningRates = call.rates;
  const found = await repeat(executor, INSPECT, call);
  const outputs = found.map(({ output, values }) => [output.name, values] as const);
  return firstNonFinite(inspectionOf(manifest, Object.fromEntries(outputs)));
}

/** Another program of the bundle on the batch of a training call; nothing where there is none. */
async function repeat(
  executor: Executor, name: string, { given }: RecordedCall,
): Promise<Result[]> {
  if (!(name in executor.manifest.programs)) return [];
  const given_ = executor.program(name).inputs.flatMap((entry): Argument[] => {
    const same = given.find((argument) =>
      argument.entry.role === entry.role && argument.entry.name === entry.name);
    return same ? [{ ...same, entry }] : [];
  });
  return (await executor.start(name, given_)).results;
}

/** The module that a parameter, or its optimizer state, belongs to. */
function layerOf({ name, parameter }: State): string {
  const full = parameter ?? name;
  const dot = full.lastIndexOf(".");
  return dot > 0 ? full.slice(0, dot) : full;
}

function largest(values: Float32Array): number {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}
