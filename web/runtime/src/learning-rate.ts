/** The learning rates of the optimizer's parameter groups, as a person gives them. */

import { BundleFormatError, InvalidInputError } from "./errors.ts";
import type { Manifest, ScheduleEntry } from "./manifest.ts";
import type { TensorFile } from "./safetensors.ts";

/** The learning rate of a step, `step` steps and `epoch` epochs of its run done before it. */
export type Schedule = (step: number, epoch: number) => number | readonly number[];

/** One rate per group: a number sets all groups, a list one each.  Raises InvalidInputError. */
export function checkedRates(value: number | readonly number[], groups: number): number[] {
  if (groups === 0) {
    throw new InvalidInputError("this bundle has no optimizer, so no learning rate");
  }
  const rates = typeof value === "number" ? new Array<number>(groups).fill(value) : [...value];
  if (rates.length !== groups) {
    throw new InvalidInputError(`${String(rates.length)} learning rates given, the optimizer \
has ${String(groups)} parameter groups`);
  }
  const bad = rates.find((rate) => !(Number.isFinite(rate) && rate >= 0));
  if (bad !== undefined) {
    throw new InvalidInputError(`the learning rate is ${String(bad)}, expected 0 or more`);
  }
  return rates;
}

/** Rates of the groups by epoch or step; the last row holds for ever. */
export interface RateTable {
  readonly interval: ScheduleEntry["interval"];
  readonly rows: readonly (readonly number[])[];
}

/** The table in a bundle's schedule file; BundleFormatError where it does not fit the optimizer. */
export function readSchedule(
  { schedule, optimizer }: Manifest, file: TensorFile | undefined,
): RateTable | undefined {
  if (!schedule) return undefined;
  const groups = optimizer?.groups.length ?? 0;
  const tensor = file?.tensors.get("rates");
  const [length = 0, width] = tensor?.shape ?? [];
  if (tensor?.dtype !== "F64" || width !== groups || length < 1 || groups < 1) {
    throw new BundleFormatError(
      `${schedule.file}: "rates" must be float64 [intervals, ${String(groups)}]`);
  }
  const values = [...new Float64Array(tensor.data.slice().buffer)];
  const rows = Array.from({ length }, (_, i) => values.slice(i * groups, (i + 1) * groups));
  return { interval: schedule.interval, rows };
}

/** The schedule of a table; its first row is for the state after `start` steps. */
export function tableSchedule({ interval, rows }: RateTable, start: number): Schedule {
  return (step, epoch) => {
    const time = interval === "epoch" ? epoch : step - start;
    return rows[Math.min(Math.max(time, 0), rows.length - 1)] ?? [];
  };
}
