/** What a person chooses for a run, kept in this browser so that a reload goes on with it. */

import type { BatchSize } from "../../runtime/src/index.ts";
import { SHAPES, type Shape } from "./schedule.ts";

export interface Settings {
  epochs: number;
  batchSize: number;
  /** Whether a run finds its batch size itself, and leaves `batchSize` aside. */
  findBatchSize: boolean;
  /** The base of the schedule. */
  learningRate: number;
  shape: Shape;
  /** Of the order of the samples. */
  seed: number;
}

/** What a run measured before its first step, and took. */
export type FoundBatchSize = Pick<BatchSize, "batchSize" | "stepMs">;

/** A run that a reload goes on with. */
export interface Plan {
  settings: Settings;
  /** Whether it was training when it was kept. */
  running: boolean;
  /** Whether it did not come to its end. */
  unfinished: boolean;
  /** The name of the data that it trained on. */
  data: string | undefined;
  /** The batch size that it found. */
  found: FoundBatchSize | undefined;
}

export const LIMITS = { epochs: [1, 10_000], batchSize: [1, 4096] } as const;

export const DEFAULTS: Settings = {
  epochs: 5, batchSize: 64, findBatchSize: false, learningRate: 0.001, shape: "constant", seed: 1,
};

/**
 * The plan kept under a name; undefined if there is none, or storage is closed to the page.
 *
 * Another version of the page may have kept it: what is missing or of another kind has its default.
 */
export function readPlan(name: string): Plan | undefined {
  try {
    const text = localStorage.getItem(name);
    return text === null ? undefined : planOf(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function planOf(kept: Partial<Record<keyof Settings | "running" | "unfinished" | "data" | "found", unknown>>): Plan {
  const settings = Object.fromEntries(Object.entries(DEFAULTS).map(([name, usual]) => {
    const value = kept[name as keyof Settings];
    return [name, typeof value === typeof usual ? value : usual];
  })) as unknown as Settings;
  if (!(settings.shape in SHAPES)) settings.shape = DEFAULTS.shape;
  const found = kept.found as Partial<FoundBatchSize> | undefined;
  return {
    settings, running: kept.running === true, unfinished: kept.unfinished === true,
    data: typeof kept.data === "string" ? kept.data : undefined,
    found: typeof found?.batchSize === "number" && found.stepMs ? found as FoundBatchSize : undefined,
  };
}

/** Keeps a plan, or forgets it; without storage a reload starts anew, and nothing else is lost. */
export function keepPlan(name: string, plan: Plan | undefined): void {
  try {
    if (!plan) return localStorage.removeItem(name);
    const { settings, ...rest } = plan;
    localStorage.setItem(name, JSON.stringify({ ...settings, ...rest }));
  } catch {
    // A private window may refuse.
  }
}
