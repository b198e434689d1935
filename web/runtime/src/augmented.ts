/**
 * What a bundle's augmentation makes of batches: to be shown, or kept as a data set.
 *
 * Training needs nothing of it, since the training step augments by itself.  The numbers are those
 * of the step: batch by batch, draw 0 of `augmented` is what step 0 would see of the same batch.
 */

import { batchesOf, isReadOnce, type Batches } from "./data-loader.ts";
import { InvalidInputError } from "./errors.ts";
import { asList, requireWhole, type InputArray, type Inputs } from "./inputs.ts";
import type { InputRole, Program } from "./manifest.ts";
import type { Batch } from "./slice.ts";
import type { Trainer } from "./trainer.ts";

export interface AugmentedOptions {
  /** How often all batches are gone through, each time with other random numbers; 1 by default. */
  copies?: number;
  /** The draw of the first batch; the next one has the next draw. */
  draw?: number;
}

/**
 * The batch as the training step would compute with it; `draw` chooses the random numbers, by
 * default those of the next step.
 *
 * Raises InvalidInputError where the bundle does not augment, or the batch does not fit.
 */
export async function augment(
  trainer: Trainer, batch: Batch, draw = trainer.step,
): Promise<Batch> {
  const { x, y } = batch;
  const program = programOf(trainer);
  requireWhole(draw, "draw", 0);
  const given = { ...named("input", x, "x"), ...named("target", y ?? [], "y") };
  const taken = program.inputs.flatMap(({ name }): [string, InputArray][] => {
    const data = name === "draw" ? [draw] : given[name];
    return data ? [[name, data]] : [];
  });
  const made = { ...given, ...await trainer.run("augment", Object.fromEntries(taken)) };
  const inputs = { ...batch, x: listed("input", made) };
  return y === undefined ? inputs : { ...inputs, y: listed("target", made) };
}

/** Augmented batches, one after another: `copies` times as many as are given. */
export async function* augmented(
  trainer: Trainer, batches: Batches, { copies = 1, draw = 0 }: AugmentedOptions = {},
): AsyncGenerator<Batch, void> {
  programOf(trainer);
  requireWhole(copies, "copies", 1);
  if (copies > 1 && isReadOnce(batches)) {
    throw new InvalidInputError(`the batches can be read once only, and copies is \
${String(copies)}`, { remedy: "give a DataLoader, or an object that can be iterated again" });
  }
  for (let copy = 0; copy < copies; copy++) {
    for await (const batch of batchesOf(batches, copy)) yield augment(trainer, batch, draw++);
  }
}

function programOf({ manifest }: Trainer): Program {
  const program = manifest.programs["augment"];
  if (program) return program;
  throw new InvalidInputError(`${manifest.model} does not augment its batches`, {
    remedy: "compile it from TrainStep(…, augmentation=…)",
  });
}

function named(role: InputRole, given: Inputs, label: string): Record<string, InputArray> {
  const arrays = given.length === 0 ? [] : asList(given, label);
  return Object.fromEntries(arrays.map((data, k) => [`${role}/${String(k)}`, data]));
}

/** All arrays of a role, by their numbers; a single one by itself. */
function listed(role: InputRole, made: Readonly<Record<string, InputArray>>): Inputs {
  const found: InputArray[] = [];
  for (let k = 0; ; k++) {
    const array = made[`${role}/${String(k)}`];
    if (!array) break;
    found.push(array);
  }
  const [only] = found;
  return found.length === 1 && only ? only : found;
}
