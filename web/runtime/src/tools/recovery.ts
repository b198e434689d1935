/**
 * A step that went wrong is taken back: the last good state returns, and the steps since are taken
 * again at a lower learning rate.
 */

import { diagnose, type Diagnosis } from "./diagnosis.ts";
import { BackendError, NumericalInstabilityError, type ErrorData } from "../errors.ts";
import type { Result } from "../executor.ts";
import { endsStep, type RecordedCall } from "../journal.ts";
import type { TrainResult } from "../engine.ts";
import type { Session } from "../session.ts";

export interface RecoverRequest {
  /** The step that failed, and how. */
  step: number;
  failure: ErrorData;
  /** The learning rate is multiplied by this at every attempt. */
  factor: number;
  attempts: number;
  /** Attempts in this run before. */
  tried: number;
}

export interface Recovered {
  /** Completed training steps: all but the one that failed, or those of the last good state. */
  step: number;
  /** The step of the last good state. */
  restored: number;
  /** What the learning rates are multiplied with from now on. */
  scale: number;
  learningRates: readonly number[];
  /** Attempts that it took. */
  attempts: number;
  /** The steps that were taken again, and the rate of the first parameter group in each. */
  steps: readonly TrainResult[];
  rates: readonly number[];
  diagnosis?: Diagnosis;
  /** Whether a batch before the failed step was left out: it broke the state a second time. */
  isLeftOut: boolean;
  /** Why it was given up; the last good state is back. */
  failure?: ErrorData;
}

export type Judge = (results: readonly Result[][], step: number) => TrainResult;

/**
 * Recovers from a failed step; `judge` raises NumericalInstabilityError for a step that fails.
 *
 * `suspects` are the batches that broke the state once without failing themselves.
 */
export async function recover(
  session: Session, { step, failure, factor, attempts, tried }: RecoverRequest,
  judge: Judge, suspects: WeakSet<RecordedCall["given"]>,
): Promise<Recovered> {
  const rates = session.executor.learningRates;
  const good = session.journal.oldest();
  if (!good) return { ...unchanged(session, rates), failure };
  const { picture } = good;
  const taken = trainingSteps(good.calls).slice(0, step - picture.step);
  const diagnosis = await diagnose(session.executor, picture, taken).catch(noDevice);
  const culprit = diagnosis && taken[diagnosis.step - picture.step - 1];
  const batch = culprit?.at(0)?.given; // the same object each time that it is taken
  const isKnown = batch !== undefined && suspects.has(batch);
  if (batch) suspects.add(batch);
  const before = taken.slice(0, -1).filter((calls) => !(isKnown && calls === culprit));
  const last = taken.at(-1)?.at(-1)?.rates ?? rates;
  let steps: TrainResult[] | undefined;
  let attempt = 0;
  while (!steps && attempt < attempts) {
    await session.restore(picture);
    steps = await takeAgain(session, before, factor ** ++attempt, judge);
  }
  if (!steps) await session.restore(picture);
  const scale = steps ? factor ** attempt : 1;
  session.executor.learningRates = last.map((rate) => rate * scale);
  const common = {
    step: session.completed, restored: picture.step, scale, attempts: attempt,
    learningRates: session.executor.learningRates, ...(diagnosis ? { diagnosis } : {}),
    isLeftOut: steps !== undefined && before.length < taken.length - 1,
  };
  if (steps) {
    const first = before.map((calls) => calls.at(-1)?.rates[0] ?? NaN);
    return { ...common, steps, rates: first.map((rate) => rate * scale) };
  }
  const error = givenUp(failure, diagnosis, tried + attempts, picture.step);
  return { ...common, steps: [], rates: [], failure: error };
}

/** The training steps among calls, each with the calls that it takes. */
function trainingSteps(calls: readonly RecordedCall[]): RecordedCall[][] {
  const steps: RecordedCall[][] = [];
  let step: RecordedCall[] = [];
  for (const call of calls) {
    if (call.program === "accumulate" || endsStep(call.program)) step.push(call);
    if (!endsStep(call.program)) continue;
    steps.push(step);
    step = [];
  }
  return steps;
}

/** Steps from now on at lower rates; undefined if one of them fails. */
async function takeAgain(
  session: Session, taken: readonly (readonly RecordedCall[])[], scale: number, judge: Judge,
): Promise<TrainResult[] | undefined> {
  const steps: TrainResult[] = [];
  for (const calls of taken) {
    const results: Result[][] = [];
    for (const { program, given, roles, rates } of calls) {
      const lower = rates.map((rate) => rate * scale);
      results.push(await session.perform({ program, given, roles, rates: lower }));
    }
    try {
      steps.push(judge(results, ++session.completed));
    } catch (error) {
      if (error instanceof NumericalInstabilityError) return undefined;
      throw error;
    }
  }
  return steps;
}

/** A device that fails in the middle of a diagnosis is noticed again by the next call. */
function noDevice(error: unknown): undefined {
  if (!(error instanceof BackendError)) throw error;
}

function unchanged({ completed: step }: Session, learningRates: readonly number[]) {
  return {
    step, restored: step, scale: 1, learningRates, attempts: 0, steps: [], rates: [],
    isLeftOut: false,
  };
}

function givenUp(
  failure: ErrorData, diagnosis: Diagnosis | undefined, attempts: number, restored: number,
): ErrorData {
  const { what, why } = failure;
  const tried = attempts > 0 ? `; ${String(attempts)} lower learning rates did not help` : "";
  const found = diagnosis && describe(diagnosis);
  const data: ErrorData = {
    name: failure.name, what: what + tried, step: restored,
    remedy: `lower the learning rate, or clip the gradient norm; the state is that after step \
${String(restored)} again`,
  };
  if (found ?? why) data.why = found ?? why ?? "";
  if (diagnosis?.layer) data.where = diagnosis.layer;
  return data;
}

/** A diagnosis in words. */
export function describe({ step, layer, finding }: Diagnosis): string {
  return `${layer ? `${layer} went first, in step ${String(step)}: ` : ""}${finding}`;
}
