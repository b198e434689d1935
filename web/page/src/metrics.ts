/** The metric that the page shows beside the loss: accuracy, or the first that the bundle has. */

import type { Manifest } from "../../runtime/src/index.ts";
import { percent, plain } from "./numbers.ts";

export interface ShownMetric {
  name: string;
  /** As a person reads it. */
  title: string;
  /** Whether it is a share of the samples, from 0 to 1. */
  isShare: boolean;
  /** Whether the training step tells it, too. */
  inTraining: boolean;
}

/** The metric of a bundle; undefined where it has none that is a number. */
export function shownMetric({ programs }: Manifest): ShownMetric | undefined {
  const names = numbersOf(programs["evaluate"]);
  const name = names.includes("accuracy") ? "accuracy" : names[0];
  if (name === undefined) return undefined;
  const title = name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
  const isShare = /^(accuracy|top_\d+)$/.test(name);
  return { name, title, isShare, inTraining: numbersOf(programs["train"]).includes(name) };
}

/** A value of it, with so many digits after the point where it is a share. */
export function metricText({ isShare }: ShownMetric, value: number, digits: number): string {
  return isShare ? percent(value, digits) : plain(value);
}

function numbersOf(program: Manifest["programs"][string] | undefined): string[] {
  const outputs = program?.outputs ?? [];
  return outputs.filter(({ role, shape }) => role === "metric" && shape.length === 0)
    .map(({ name }) => name);
}
