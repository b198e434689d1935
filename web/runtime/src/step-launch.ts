/**
 * The programs of one training step: `train`, or `accumulate` for each of its batches and `apply`
 * (spec/manifest.md, "Gradient accumulation").
 */

import type { Result } from "./executor.ts";
import { positionalArguments, type Argument, type Inputs } from "./inputs.ts";
import type { OutputRole, Program } from "./manifest.ts";
import type { Launch, Session } from "./session.ts";
import type { Batch } from "./slice.ts";

export const MEASURED: readonly OutputRole[] = ["loss", "metric", "norm"];

/** A step that the device has got: the results of its programs, in order. */
export interface StartedStep {
  results: Promise<Result[][]>;
  /** Completed training steps, this one included. */
  step: number;
}

/** Starts a step; nothing else, such as a look at the state, comes between its programs. */
export async function startStep(
  session: Session, batches: readonly Batch[],
): Promise<StartedStep> {
  const [only] = batches;
  const launches = only && batches.length === 1 ? [launchOf(session, "train", only)] : [
    ...batches.map((batch, number) => launchOf(session, "accumulate", batch, [number])),
    launchOf(session, "apply", undefined, [batches.length]),
  ];
  const launched = await session.launchAll(launches);
  const results = Promise.all(launched.map(({ running }) => running.results));
  return { results, step: launched.at(-1)?.step ?? session.completed };
}

/** Inputs and targets of a program, as a model takes them. */
export function batchArguments(
  program: Program, x: Inputs, y: Inputs | undefined,
): Argument[] {
  return [
    ...positionalArguments(program, "input", x, "x"),
    ...positionalArguments(program, "target", y, "y"),
  ];
}

function launchOf(
  session: Session, name: string, batch: Batch | undefined, count?: readonly number[],
): Launch {
  const given = (): Argument[] => {
    const program = session.executor.program(name);
    const counts = program.inputs.filter((entry) => COUNTS.has(entry.name));
    return [
      ...(batch ? batchArguments(program, batch.x, batch.y) : []),
      ...counts.map((entry) => ({ entry, label: entry.name, data: count ?? [] })),
    ];
  };
  return { program: name, roles: MEASURED, given };
}

/** What tells a program where in its step it is. */
const COUNTS: ReadonlySet<string> = new Set(["micro_batch", "micro_batches"]);
