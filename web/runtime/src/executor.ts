/**
 * Runs the programs of a bundle on a device: checks the batch, makes room for it, starts the
 * program, and gives its outputs their names.
 *
 * It keeps no queue: calls must come one after another until each has started (`engine.ts`).
 */

import type { Device } from "./device.ts";
import { toValues, type Values } from "./elements.ts";
import { InvalidInputError } from "./errors.ts";
import { checkBatch, type Argument } from "./inputs.ts";
import type { Manifest, Output, OutputRole, Program } from "./manifest.ts";
import { requireBudget } from "./memory.ts";

/** The name of the live hyper-parameter with one float32 per parameter group. */
const LEARNING_RATE = "learning_rate";

/** Which outputs to read: those of some roles, or of some names. */
export type Wanted = readonly OutputRole[] | { readonly names: readonly string[] };

export interface Result {
  output: Output;
  values: Values;
}

/** A program under way; `results` arrive when the device has finished. */
export interface Running {
  /** Samples that it works on. */
  batch: number;
  results: Promise<Result[]>;
}

export class Executor {
  learningRates: readonly number[];

  constructor(
    readonly manifest: Manifest, readonly device: Device,
    /** What the device may take. */
    readonly budgetBytes = Infinity,
  ) {
    this.learningRates = (manifest.optimizer?.groups ?? []).map((group) => group.learning_rate);
  }

  /** The program of a name; InvalidInputError if the bundle was compiled without it. */
  program(name: string): Program {
    const { programs } = this.manifest;
    const program = Object.hasOwn(programs, name) ? programs[name] : undefined;
    if (program) return program;
    const known = Object.keys(programs).join(", ");
    throw new InvalidInputError(`the bundle has no program "${name}"; it has ${known}`);
  }

  /** Starts a program; reads the outputs that are wanted, or all. */
  async start(
    name: string, given: readonly Argument[], roles?: Wanted,
  ): Promise<Running> {
    const program = this.program(name);
    const trains = this.manifest.optimizer !== undefined;
    const { batch, feeds } = checkBatch([...given, ...this.hyper(program, given)], trains);
    await this.makeRoom(batch);
    const outputs = program.outputs.filter((output) => isWanted(output, roles));
    const wanted = outputs.map(({ buffer }) => buffer);
    const { results } = await this.device.start(name, batch, feeds, wanted);
    return {
      batch,
      results: results.then((parts) => outputs.flatMap((output, i) => {
        const elements = parts[i];
        return elements ? [{ output, values: toValues(output.dtype, elements) }] : [];
      })),
    };
  }

  /** Plans for batches of a size; OutOfMemoryError leaves the old plan. */
  async makeRoom(batch: number): Promise<void> {
    const { info } = this.device;
    if (batch <= info.batchSize) return;
    requireBudget(this.manifest, batch, info, this.budgetBytes);
    await this.device.resize(batch);
  }

  /** The hyper-parameters that the caller did not give. */
  private hyper(program: Program, given: readonly Argument[]): Argument[] {
    const missing = program.inputs.filter((input) =>
      input.role === "hyper" && !given.some(({ entry }) => entry === input));
    return missing.map((entry) => {
      if (entry.name !== LEARNING_RATE) {
        throw new InvalidInputError(`the hyper-parameter "${entry.name}" needs a value`, {
          remedy: "call run(program, inputs) and give it there",
        });
      }
      return { entry, label: "the learning rate", data: this.learningRates };
    });
  }
}

function isWanted({ role, name }: Output, wanted: Wanted | undefined): boolean {
  if (!wanted) return true;
  return "names" in wanted ? wanted.names.includes(name) : wanted.includes(role);
}

/** The scalar of a role, if there is one. */
export function scalarOf(results: readonly Result[], role: OutputRole): number | undefined {
  return results.find(({ output }) => output.role === role)?.values[0];
}
