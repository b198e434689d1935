/** The learning rates of the optimizer's parameter groups, as a person gives them. */

import { InvalidInputError } from "./errors.ts";

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
