/**
 * What the program `inspect` found, by module and parameter.
 *
 * The numbers are the program's (spec/manifest.md names its outputs); here they only get their
 * places.
 */

import type { Values } from "../elements.ts";
import {
  under, uselessUnits, type Inspection, type Layer, type Outputs, type ParameterView, type Summary,
} from "../inspection.ts";
import type { Manifest } from "../manifest.ts";

/** The order of the numbers in an output `statistics/…`. */
export const STATISTICS =
  ["mean", "std", "min", "max", "zeros", "nan", "inf", "norm", "limit"] as const;

/** The outputs of the program by module and parameter. */
export function inspectionOf(manifest: Manifest, outputs: Outputs): Inspection {
  const of = (kind: string): Map<string, Summary> => summaries(outputs, kind);
  const [parameters, gradients, updates] = [of("parameter"), new Map(), new Map()] as
    [Map<string, Summary>, Map<string, Summary>, Map<string, Summary>];
  const ratios = new Map<string, number>();
  groupRows(manifest).forEach((names, k) => {
    names.forEach((name, row) => {
      parameters.set(name, summaryAt(outputs, `parameters/${String(k)}`, row));
      gradients.set(name, summaryAt(outputs, `gradients/${String(k)}`, row));
      updates.set(name, summaryAt(outputs, `updates/${String(k)}`, row));
      ratios.set(name, outputs[`ratios/${String(k)}`]?.[row] ?? NaN);
    });
  });
  const flowing = of("activation_gradient");
  const layers = [...of("activation")].map(([name, activation]): Layer => ({
    name, activation, ...given("gradient", flowing.get(name)),
    ...given("silent", floats(outputs[`silent/${name}`])),
    ...given("saturated", floats(outputs[`saturated/${name}`])),
  }));
  const views = manifest.state.flatMap(({ name }): ParameterView[] => {
    const value = parameters.get(name);
    return value ? [{
      name, value, ...given("gradient", gradients.get(name)),
      ...given("update", updates.get(name)), ...given("ratio", ratios.get(name)),
    }] : [];
  });
  const buffers = [...of("buffer")].map(([name, value]) => ({ name, value }));
  const values = Object.fromEntries(under("values/", Object.keys(outputs)).map((name) =>
    [name, floats(outputs[`values/${name}`]) ?? new Float32Array(0)]));
  const seen = { loss: outputs["loss"]?.[0] ?? NaN, layers, parameters: views, buffers, values };
  return { ...seen, warnings: uselessUnits([seen]) };
}

/** The parameters that have gradients, by group: the rows of what is told of a group. */
function groupRows({ optimizer, programs }: Manifest): string[][] {
  const trained = new Set(programs["gradients"]?.outputs.flatMap(({ role, name }) =>
    role === "gradient" ? [name] : []));
  return (optimizer?.groups ?? []).map(({ parameters }) =>
    parameters.filter((name) => trained.has(name)));
}

function summaries(outputs: Outputs, kind: string): Map<string, Summary> {
  const names = under(`statistics/${kind}/`, Object.keys(outputs));
  return new Map(names.map((name) => [name, summaryAt(outputs, `${kind}/${name}`, 0)]));
}

function summaryAt(outputs: Outputs, name: string, row: number): Summary {
  const numbers = outputs[`statistics/${name}`] ?? [];
  const counts = outputs[`histogram/${name}`] ?? new Int32Array(0);
  const count = STATISTICS.length;
  const bins = counts.length / (numbers.length / count);
  const entries = STATISTICS.map((key, i) => [key, numbers[row * count + i] ?? NaN]);
  return {
    ...Object.fromEntries(entries) as Record<(typeof STATISTICS)[number], number>,
    histogram: Int32Array.from(counts.subarray(row * bins, (row + 1) * bins)),
  };
}

function floats(values: Values | undefined): Float32Array | undefined {
  return values instanceof Float32Array ? values : undefined;
}

/** An optional field that is there, or is not. */
function given<K extends string, T>(key: K, value: T | undefined): Partial<Record<K, T>> {
  return value === undefined ? {} : { [key]: value } as Record<K, T>;
}
