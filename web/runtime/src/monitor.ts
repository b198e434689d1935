/** The value that a callback of `fit` watches: the loss of a validation, or one of its metrics. */

import { requireOneOf } from "./arguments.ts";
import type { EvaluateResult } from "./engine.ts";
import { InvalidInputError } from "./errors.ts";

export type Mode = "min" | "max";

/** A value of a validation by name; InvalidInputError where there is none. */
export function monitored(event: EvaluateResult, name: string): number {
  const value = name === "loss" ? event.loss : event.metrics[name];
  if (value !== undefined) return value;
  const known = ["loss", ...Object.keys(event.metrics)].join(", ");
  throw new InvalidInputError(`the validation has no "${name}"; it has ${known}`);
}

/** Times this, less is better; by default so for the loss and nothing else. */
export function signOf(name: string | undefined, mode?: Mode): 1 | -1 {
  if (mode !== undefined) requireOneOf(mode, "mode", ["min", "max"]);
  return (mode ?? (name === "loss" ? "min" : "max")) === "min" ? 1 : -1;
}
