/** Checks of what a page gives: InvalidInputError names argument, value and what is wanted. */

import { InvalidInputError } from "./errors.ts";

/** A number above `low`, or `low` itself if that is admitted, and up to `high`. */
export function requireNumber(
  value: unknown, name: string, low: number, { high = Infinity, admitsLow = false } = {},
): void {
  const isHighEnough = typeof value === "number" && (admitsLow ? value >= low : value > low);
  if (isHighEnough && value <= high) return;
  const from = low === -Infinity ? "" : ` ${admitsLow ? "from" : "above"} ${String(low)}`;
  const to = high === Infinity ? "" : `${from ? " and" : ""} up to ${String(high)}`;
  refuse(value, name, `a number${from}${to}`);
}

export function requireOneOf(value: unknown, name: string, choices: readonly string[]): void {
  if (!choices.includes(value as string)) {
    refuse(value, name, choices.map((choice) => JSON.stringify(choice)).join(" or "));
  }
}

export function requireFunction(value: unknown, name: string): void {
  if (typeof value !== "function") refuse(value, name, "a function");
}

function refuse(value: unknown, name: string, expected: string): never {
  const shown = typeof value === "string" ? JSON.stringify(value) : String(value);
  throw new InvalidInputError(`${name} is ${shown}, expected ${expected}`);
}
