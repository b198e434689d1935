/** The value that a callback of `fit` watches: the loss of a validation, or one of its metrics. */

import { requireOneOf } from "./arguments.ts";
import type { EvaluateResult, Scalars } from "./engine.ts";
import { InvalidInputError } from "./errors.ts";

export type Mode = "min" | "max";

/** A number of a validation by name; InvalidInputError where there is none. */
export function monitored(event: Scalars & Partial<EvaluateResult>, name: string): number {
  const value = name === "loss" ? event.loss : event.metrics[name];
  if (value !== undefined) return value;
  const known = ["loss", ...Object.keys(event.metrics)].join(", ");
  const count = event.counts?.[name];
  if (count) {
    throw new InvalidInputError(`"${name}" is no number but counts [${count.shape.join(", ")}]`, {
      why: "only numbers can get better or worse",
      remedy: `monitor one of ${known}, or compile a metric that makes a number of the counts`,
    });
  }
  throw new InvalidInputError(`the validation has no "${name}"; it has ${known}`);
}

/** Times this, less is better; by default so for the loss and nothing else. */
export function signOf(name: string | undefined, mode?: Mode): 1 | -1 {
  if (mode !== undefined) requireOneOf(mode, "mode", ["min", "max"]);
  return (mode ?? (name === "loss" ? "min" : "max")) === "min" ? 1 : -1;
}
