/** What a model looks at: the programs of `hearth.explain`, with the weights of now. */

import { elements, isStatic } from "./dims.ts";
import { InvalidInputError } from "./errors.ts";
import { requireWhole, type InputArray } from "./inputs.ts";
import type { Manifest, Program } from "./manifest.ts";
import type { RunProgram } from "./inspection.ts";

export interface ExplainOptions {
  /** The class to explain, for all images or one each; for maximization a channel. */
  class: number | readonly number[];
  /** Of activation maximization: how far one step goes. */
  rate?: number;
  /** Of activation maximization: how many steps. */
  steps?: number;
}

const IMAGES = "input/0";
const CLASSES = "input/1";
const RATE = "input/2";
const MAP = "output/0";
const MAXIMIZED = "output/images";

/**
 * The maps of images, one after another; or, of activation maximization, the images after `steps`.
 *
 * A program that takes one image at a time is run for each.
 */
export async function explain(
  manifest: Manifest, run: RunProgram, method: string, images: Float32Array,
  { class: classes, rate = 0.1, steps = 1 }: ExplainOptions,
): Promise<Float32Array> {
  const program = methodOf(manifest, method);
  const shape = program.inputs.find(({ name }) => name === IMAGES)?.shape ?? [];
  const size = shape.every(isStatic) ? elements(shape, 1) : elements(shape, 2) - elements(shape, 1);
  const count = images.length / size;
  if (!Number.isInteger(count) || count === 0) {
    throw new InvalidInputError(`${String(images.length)} values are no images of \
${String(size)} values each`);
  }
  const wanted = typeof classes === "number" ? Array<number>(count).fill(classes) : [...classes];
  if (wanted.length !== count) {
    throw new InvalidInputError(`${String(wanted.length)} classes for ${String(count)} images`);
  }
  const maximizes = program.inputs.some(({ name }) => name === RATE);
  const output = maximizes ? MAXIMIZED : MAP;
  if (maximizes) requireWhole(steps, "steps", 0);
  const explained = async (part: Float32Array, labels: readonly number[]) => {
    let current = part;
    for (let step = 0; step < (maximizes ? steps : 1); step++) {
      const given: Record<string, InputArray> = { [IMAGES]: current, [CLASSES]: [...labels] };
      if (maximizes) given[RATE] = [rate];
      current = (await run(method, given, [output]))[output] as Float32Array;
    }
    return current;
  };
  if (!shape.every(isStatic)) return explained(images, wanted);
  const parts: Float32Array[] = [];
  for (const [i, label] of wanted.entries()) {
    parts.push(await explained(images.slice(i * size, (i + 1) * size), [label]));
  }
  return joined(parts);
}

function methodOf({ programs }: Manifest, method: string): Program {
  const program = Object.hasOwn(programs, method) ? programs[method] : undefined;
  const names = new Set([...program?.inputs ?? [], ...program?.outputs ?? []]
    .map(({ name }) => name));
  const isMethod = [IMAGES, CLASSES, names.has(RATE) ? MAXIMIZED : MAP].every((n) => names.has(n));
  if (program && isMethod) return program;
  throw new InvalidInputError(`the bundle cannot explain by "${method}"`, {
    why: `it has the programs ${Object.keys(programs).join(", ")}`,
    remedy: "compile it with explain=hearth.explain(model, images)",
  });
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const result = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let end = 0;
  for (const part of parts) {
    result.set(part, end);
    end += part.length;
  }
  return result;
}
