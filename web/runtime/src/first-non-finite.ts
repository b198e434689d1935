/** Where values that are not finite came from. */

import type { Inspection, Summary } from "./inspection.ts";

/** The first tensor with elements that are not finite. */
export interface NonFinite {
  kind:
    "parameter" | "buffer" | "activation" | "loss" | "activation_gradient" | "gradient" | "update";
  name: string;
}

/**
 * The first in the order of computation: parameters, buffers and module outputs forwards, the loss,
 * gradients backwards.  Undefined where all is finite.
 */
export function firstNonFinite(
  { loss, layers, parameters, buffers }: Inspection,
): NonFinite | undefined {
  const backwards = [...parameters].reverse();
  const order: readonly [NonFinite["kind"], readonly [string, Summary | undefined][]][] = [
    ["parameter", parameters.map(({ name, value }) => [name, value])],
    ["buffer", buffers.map(({ name, value }) => [name, value])],
    ["activation", layers.map(({ name, activation }) => [name, activation])],
  ];
  const after: typeof order = [
    ["activation_gradient", [...layers].reverse().map(({ name, gradient }) => [name, gradient])],
    ["gradient", backwards.map(({ name, gradient }) => [name, gradient])],
    ["update", backwards.map(({ name, update }) => [name, update])],
  ];
  return first(order) ?? (Number.isFinite(loss) ? first(after) : { kind: "loss", name: "loss" });
}

function first(
  order: readonly [NonFinite["kind"], readonly [string, Summary | undefined][]][],
): NonFinite | undefined {
  for (const [kind, summaries] of order) {
    const found = summaries.find(([, summary]) => summary && summary.nan + summary.inf > 0);
    if (found) return { kind, name: found[0] };
  }
  return undefined;
}
