/** Says of every training step whether it went well. */

import { isCount } from "./counts.ts";
import type { Scalars, TrainResult } from "./engine.ts";
import { NumericalInstabilityError } from "./errors.ts";
import { scalarOf, type Result } from "./executor.ts";
import type { Journal } from "./journal.ts";
import { LossWatch } from "./loss-watch.ts";
import type { Guard } from "./slice.ts";

export class StepJudge {
  private run: number | undefined;
  private guard: Guard | undefined;
  private watch: LossWatch | undefined;

  constructor(private readonly journal: Journal) {}

  /** The steps that follow are of a run, guarded or not; true if that is another run. */
  begin(run: number, guard: Guard | undefined): boolean {
    if (run === this.run) return false;
    this.run = run;
    this.guard = guard;
    this.watch = guard && new LossWatch(guard);
    this.journal.isGuarded = guard !== undefined;
    return true;
  }

  /** Loss and metrics of a step; NumericalInstabilityError if it went wrong. */
  step(results: readonly Result[][], step: number): TrainResult {
    const { loss, metrics } = meanScalars(results);
    if (!this.guard) this.journal.confirm(step);
    if (!Number.isFinite(loss)) throw instability(loss, step, "training diverged: the weights are \
probably not finite any more");
    const { isExploded = false, spike } = this.watch?.note(loss) ?? {};
    if (isExploded) throw instability(loss, step, "training diverged: no loss before was like it");
    if (spike === undefined) {
      this.journal.confirm(step);
      return { loss, metrics, step };
    }
    if (this.guard?.rollBackSpikes) {
      throw instability(loss, step, `that is ${spike.toPrecision(3)} deviations above its mean`);
    }
    return { loss, metrics, step, spike };
  }
}

/** Loss and metrics of a step of several programs: means, each over those that give it. */
function meanScalars(programs: readonly Result[][]): Scalars {
  const [only] = programs;
  if (only && programs.length === 1) return scalars(only);
  const found = new Map<string, { role: string; values: number[] }>();
  for (const { output: { name, role }, values } of programs.flat()) {
    const known = found.get(name) ?? { role, values: [] };
    found.set(name, known);
    known.values.push(values[0] ?? NaN);
  }
  const means = [...found].map(([name, { role, values }]) =>
    ({ name, role, mean: values.reduce((sum, value) => sum + value, 0) / values.length }));
  const metrics = means.filter(({ role }) => role !== "loss");
  return {
    loss: means.find(({ role }) => role === "loss")?.mean ?? NaN,
    metrics: Object.fromEntries(metrics.map(({ name, mean }) => [name, mean])),
  };
}

/** Loss and metrics of a training or evaluation step, without its counts. */
export function scalars(results: readonly Result[]): Scalars {
  const metrics: Record<string, number> = {};
  for (const { output, values } of results) {
    if (output.role === "loss" || isCount(output)) continue;
    metrics[output.name] = values[0] ?? NaN;
  }
  return { loss: scalarOf(results, "loss") ?? NaN, metrics };
}

function instability(loss: number, step: number, why: string): NumericalInstabilityError {
  return new NumericalInstabilityError(`the loss of step ${String(step)} is ${String(loss)}`, {
    why, step,
    remedy: "load earlier weights and lower the learning rate, or clip the gradient norm",
  });
}
