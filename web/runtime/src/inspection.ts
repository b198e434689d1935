/**
 * A look into one training step: what is asked for, and what an answer says.
 *
 * `tools/inspection-of.ts` makes the answer of the program's outputs.
 */

import type { Values } from "./elements.ts";
import { InvalidInputError } from "./errors.ts";
import { asList, type InputArray, type Inputs } from "./inputs.ts";
import type { Manifest } from "./manifest.ts";
import { loadTools } from "./tools.ts";
import type { STATISTICS } from "./tools/inspection-of.ts";

export const INSPECT = "inspect";

/**
 * A tensor in numbers: `zeros` is a share, `nan` and `inf` are counts, the rest is of what is
 * finite.  `histogram` counts it in equal bins from -limit to limit, a power of two above every
 * magnitude.
 */
export type Summary = Record<(typeof STATISTICS)[number], number> & { histogram: Int32Array };

/** What one call of a module returned, and the gradient that came back to it. */
export interface Layer {
  name: string;
  activation: Summary;
  gradient?: Summary;
  /** The share of each unit's outputs that are zero, of a ReLU. */
  silent?: Float32Array;
  /** The share of each unit's outputs near the ends of a tanh or sigmoid. */
  saturated?: Float32Array;
}

/** A parameter or buffer, and what one step on the batch would do to it. */
export interface ParameterView {
  name: string;
  value: Summary;
  gradient?: Summary;
  update?: Summary;
  /** The norm of the update relative to that of the parameter. */
  ratio?: number;
}

/** Units of a layer that are of no use: they never fire, or are saturated. */
export interface Finding {
  kind: "silent" | "saturated";
  layer: string;
  units: readonly number[];
  of: number;
  /** `features.3: 41 of 64 units never fire` */
  message: string;
}

/** One batch seen from inside; layers are in the order of the forward pass. */
export interface Inspection {
  loss: number;
  layers: readonly Layer[];
  parameters: readonly ParameterView[];
  buffers: readonly ParameterView[];
  warnings: readonly Finding[];
  /** The tensors that were asked for, by KIND/NAME. */
  values: Readonly<Record<string, Float32Array>>;
}

export interface InspectOptions {
  /** Tensors to read whole: `activation/features.0`, `activation_gradient/fc1`, … */
  values?: readonly string[];
}

/** What the program gives by name. */
export type Outputs = Readonly<Record<string, Values>>;

/** Runs a program and reads some of its outputs: what a `Trainer` and an engine can do. */
export type RunProgram = (
  program: string, inputs: Readonly<Record<string, InputArray>>, outputs: readonly string[],
) => Promise<Outputs>;

const SATURATED_SHARE = Math.fround(0.95); // as the shares are rounded

/** Looks into one step on a batch, without doing it. */
export async function inspect(
  manifest: Manifest, run: RunProgram, x: Inputs, y: Inputs | undefined,
  { values = [] }: InspectOptions = {},
): Promise<Inspection> {
  const names = outputsOf(manifest);
  const known = valueNames(manifest);
  const unknown = values.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new InvalidInputError(`there are no values "${unknown}"`, {
      remedy: `there are ${known.join(", ") || "none"}`,
    });
  }
  const wanted = names.filter((name) => !name.startsWith("values/"));
  const inputs = inputsByName(manifest, x, y);
  const running = run(INSPECT, inputs, [...wanted, ...values.map((v) => `values/${v}`)]);
  const { inspectionOf } = await loadTools();
  return inspectionOf(manifest, await running);
}

/** What `values` may name. */
export function valueNames(manifest: Manifest): string[] {
  return under("values/", outputsOf(manifest)).filter((name) => !name.startsWith("updates/"));
}

/** Units that were silent, or saturated, in every one of several batches. */
export function uselessUnits(seen: readonly Pick<Inspection, "layers">[]): Finding[] {
  const [first] = seen;
  if (!first) throw new InvalidInputError("there is no inspection to look at");
  const kinds = ["silent", "saturated"] as const;
  return first.layers.flatMap(({ name }, i) => kinds.flatMap((kind) => {
    const shares = seen.flatMap(({ layers }) => layers[i]?.[kind] ?? []);
    const least = kind === "silent" ? 1 : SATURATED_SHARE;
    const of = shares[0]?.length ?? 0;
    const units = [...Array(of).keys()].filter((u) => shares.every((s) => (s[u] ?? 0) >= least));
    if (units.length === 0) return [];
    const what = kind === "silent" ? "never fire" : "are saturated";
    const message = `${name}: ${String(units.length)} of ${String(of)} units ${what}`;
    return [{ kind, layer: name, units, of, message }];
  }));
}

/** The counts of a histogram in bins from -limit to limit, a larger power of two: exactly. */
export function widened({ histogram, limit: own }: Summary, limit: number): Int32Array {
  let counts = histogram;
  for (let range = own; range < limit; range *= 2) {
    const wider = new Int32Array(counts.length);
    counts.forEach((count, i) => {
      const bin = (i + counts.length / 2) >> 1;
      wider[bin] = (wider[bin] ?? 0) + count;
    });
    counts = wider;
  }
  return counts;
}

function outputsOf({ programs }: Manifest): string[] {
  const program = programs[INSPECT];
  if (program) return program.outputs.map(({ name }) => name);
  throw new InvalidInputError("this bundle cannot be looked into", {
    why: `it was compiled without the program "${INSPECT}"`,
    remedy: "compile it with inspect=True",
  });
}

function inputsByName(
  { programs }: Manifest, x: Inputs, y: Inputs | undefined,
): Record<string, InputArray> {
  const entries = programs[INSPECT]?.inputs ?? [];
  const named = (role: "input" | "target", arrays: readonly InputArray[]) => {
    const names = entries.flatMap((entry) => entry.role === role ? [entry.name] : []);
    if (names.length !== arrays.length) {
      throw new InvalidInputError(`${String(arrays.length)} ${role}s given, the program takes \
${String(names.length)}`);
    }
    return names.map((name, i) => [name, arrays[i] ?? []] as const);
  };
  const targets = y === undefined ? [] : asList(y, "y");
  return Object.fromEntries([...named("input", asList(x, "x")), ...named("target", targets)]);
}

/** The rest of the names that begin so. */
export function under(prefix: string, names: readonly string[]): string[] {
  return names.flatMap((name) => name.startsWith(prefix) ? [name.slice(prefix.length)] : []);
}
