/**
 * Tables as data sets: numbers as they are or standardised, categories one-hot or as indices.
 *
 * The file is read twice, never held: first for what its columns are (the schema), then for the
 * values.  The schema of the training file reads the others, so that a category has the same number
 * everywhere.
 */

import {
  ArrayDataset, InvalidInputError, type InputArray,
} from "../index.ts";
import { csvRecords, textOf, type CsvRecord } from "./csv.ts";

export interface TableOptions {
  /** The column to predict, or several columns of numbers. */
  target?: string | readonly string[];
  /** The columns to predict from; by default all others, in the order of the file. */
  features?: readonly string[];
  /** Columns whose values are names, also where they look like numbers. */
  categorical?: readonly string[];
  /** Categories as 0 and 1 beside the numbers, or as an Int32Array of their own, for embeddings. */
  categories?: "one-hot" | "index";
  /** Subtracts the mean of each feature that is a number, and divides by its deviation. */
  standardise?: boolean;
  /**
   * A row with an empty cell: an error, left out, or filled with the column's mean or its most
   * frequent name; without its target a row is left out.
   */
  missing?: "error" | "skip" | "fill";
  /** What counts as empty, by default "", "NA", "NaN", "null" and "?". */
  missingValues?: readonly string[];
  /** Targets that are whole numbers stay float32: they are amounts, not labels. */
  regression?: boolean;
  /** Whether the first line has the names of the columns; else they are "0", "1", … */
  header?: boolean;
  delimiter?: string;
  /** Of another file, such as the training set: what is a category there has the same number. */
  schema?: TableSchema;
}

/** What is known of a column; it can be kept as JSON. */
export type Column =
  | { kind: "number"; name: string; mean: number; std: number; whole: boolean }
  | { kind: "category"; name: string; values: readonly string[]; most: number };

export interface TableSchema {
  readonly features: readonly Column[];
  readonly targets: readonly Column[];
  readonly categories: "one-hot" | "index";
  readonly standardise: boolean;
}

export interface Table {
  /**
   * `x`: one Float32Array; with `categories: "index"` and both kinds of columns, two arrays.
   * `y`: Int32Array of a category or of whole numbers, else Float32Array.
   */
  readonly dataset: ArrayDataset;
  readonly schema: TableSchema;
  /** Values of a sample in the Float32Array. */
  readonly width: number;
  /** Rows that were left out. */
  readonly skipped: number;
}

const MISSING = ["", "NA", "NaN", "null", "?"];
const MOST_CATEGORIES = 65_536;

/**
 * Reads a CSV file.  Raises InvalidInputError with line and column for what does not fit.
 */
export async function readTable(file: Blob | string, options: TableOptions = {}): Promise<Table> {
  const layout = new Layout(options);
  const schema = options.schema ?? await survey(file, layout, options);
  return fill(file, layout, schema, options);
}

/** Which cell of a record belongs to which column. */
class Layout {
  names: readonly string[] = [];
  private readonly missing: ReadonlySet<string>;

  constructor(private readonly options: TableOptions) {
    this.missing = new Set(options.missingValues ?? MISSING);
  }

  /** All records but the names, each with as many cells as there are names. */
  async *records(file: Blob | string): AsyncGenerator<CsvRecord> {
    const { header = true, delimiter } = this.options;
    let first = true;
    for await (const record of csvRecords(textOf(file), delimiter)) {
      if (first) {
        this.names = header ? record.cells.map((name) => name.trim())
          : record.cells.map((_, i) => String(i));
        const twice = this.names.find((name, i) => this.names.indexOf(name) < i);
        if (twice !== undefined) throw new InvalidInputError(`two columns are named "${twice}"`);
      }
      if (record.cells.length !== this.names.length) {
        throw new InvalidInputError(`line ${String(record.line)} has \
${String(record.cells.length)} cells, the first line has ${String(this.names.length)}`);
      }
      if (!first || !header) yield record;
      first = false;
    }
  }

  place(name: string): number {
    const found = this.names.indexOf(name);
    if (found >= 0) return found;
    throw new InvalidInputError(`there is no column "${name}"`, {
      why: `the columns are ${this.names.join(", ")}`,
    });
  }

  /** The cell without blanks around it; undefined where it is missing. */
  cell({ cells }: CsvRecord, place: number): string | undefined {
    const cell = (cells[place] ?? "").trim();
    return this.missing.has(cell) ? undefined : cell;
  }
}

/** What a column has held so far. */
class Census {
  private numbers = true;
  private whole = true;
  /** Up to a limit beyond which it can only be a column of numbers. */
  private readonly values = new Map<string, number>();
  private count = 0;
  private mean = 0;
  private squares = 0;

  constructor(readonly name: string, private readonly isNamed: boolean) {}

  take(cell: string, line: number): void {
    if (this.values.size < MOST_CATEGORIES || this.values.has(cell)) {
      this.values.set(cell, (this.values.get(cell) ?? 0) + 1);
    }
    const value = toNumber(cell);
    this.numbers &&= value !== undefined && !this.isNamed;
    if (!this.numbers && this.values.size >= MOST_CATEGORIES) {
      throw new InvalidInputError(`line ${String(line)}: the column "${this.name}" has more than \
${String(MOST_CATEGORIES)} different values`, { remedy: "leave it out of features" });
    }
    if (value === undefined) return;
    this.whole &&= Number.isInteger(value);
    this.count++; // B. P. Welford 1962, Note on a Method for Calculating Corrected Sums
    const off = value - this.mean;
    this.mean += off / this.count;
    this.squares += off * (value - this.mean);
  }

  column(): Column {
    const { name } = this;
    if (this.numbers) {
      const std = Math.sqrt(this.squares / this.count);
      return { kind: "number", name, mean: this.mean, std: std > 0 ? std : 1, whole: this.whole };
    }
    const values = [...this.values.keys()].sort();
    const counts = values.map((value) => this.values.get(value) ?? 0);
    return { kind: "category", name, values, most: counts.indexOf(Math.max(...counts)) };
  }
}

async function survey(
  file: Blob | string, layout: Layout, options: TableOptions,
): Promise<TableSchema> {
  const {
    target = [], categorical = [], categories = "one-hot", standardise = false, regression = false,
  } = options;
  const targets = typeof target === "string" ? [target] : target;
  let columns: { census: Census; place: number }[] | undefined;
  for await (const record of layout.records(file)) {
    columns ??= surveyed(layout, targets, options).map((name) => (
      { census: new Census(name, categorical.includes(name)), place: layout.place(name) }));
    for (const { census, place } of columns) {
      const cell = layout.cell(record, place);
      if (cell !== undefined) census.take(cell, record.line);
    }
  }
  categorical.forEach((name) => layout.place(name));
  const known = columns?.map(({ census }) => census.column()) ?? [];
  return {
    features: known.slice(0, known.length - targets.length),
    targets: known.slice(known.length - targets.length).map((column) =>
      (column.kind === "number" && regression ? { ...column, whole: false } : column)),
    categories, standardise,
  };
}

/** The names of the features, then of the targets. */
function surveyed(
  layout: Layout, targets: readonly string[], { features }: TableOptions,
): readonly string[] {
  return [...features ?? layout.names.filter((name) => !targets.includes(name)), ...targets];
}

async function fill(
  file: Blob | string, layout: Layout, schema: TableSchema, { missing = "error" }: TableOptions,
): Promise<Table> {
  const rows = new Rows(schema);
  const columns = [...schema.features, ...schema.targets];
  const ofTargets = missing === "fill" ? "skip" : missing;
  const readers = columns.map((column, i) =>
    cellReader(column, i < schema.features.length ? missing : ofTargets));
  let places: number[] | undefined;
  let skipped = 0;
  for await (const record of layout.records(file)) {
    places ??= columns.map(({ name }) => layout.place(name));
    const values = readers.map((read, i) => {
      const where = `line ${String(record.line)}, column "${columns[i]?.name ?? ""}"`;
      return read(layout.cell(record, places?.[i] ?? 0), where);
    });
    if (values.every((value) => value !== undefined)) rows.add(values);
    else skipped++;
  }
  if (rows.count > 0) return { dataset: rows.dataset(), schema, width: rows.width, skipped };
  throw new InvalidInputError("the table has no row", {
    why: skipped > 0 ? `${String(skipped)} rows have an empty cell` : "",
  });
}

/** The number of a cell, for a category its index; undefined where the row is to be left out. */
function cellReader(column: Column, missing: "error" | "skip" | "fill") {
  const indices = new Map(column.kind === "category"
    ? column.values.map((value, i) => [value, i]) : []);
  return (cell: string | undefined, where: string): number | undefined => {
    if (cell === undefined) {
      if (missing === "skip") return undefined;
      if (missing === "fill") return column.kind === "number" ? column.mean : column.most;
      throw new InvalidInputError(`${where} is empty`, {
        remedy: 'give missing: "skip" to leave such rows out, or "fill"',
      });
    }
    const value = column.kind === "number" ? toNumber(cell) : indices.get(cell);
    if (value !== undefined) return value;
    throw new InvalidInputError(`${where} is ${JSON.stringify(cell)}, \
${column.kind === "number" ? "expected a number" : "which the schema does not have"}`);
  };
}

/** Values as they will lie in the batches. */
class Rows {
  count = 0;
  readonly width: number;
  private readonly floats: number[] = [];
  private readonly indices: number[] = [];
  private readonly targets: number[] = [];

  constructor(private readonly schema: TableSchema) {
    this.width = schema.features.reduce((sum, column) => sum + this.widthOf(column), 0);
  }

  add(values: readonly number[]): void {
    const { features, standardise } = this.schema;
    this.count++;
    features.forEach((column, i) => {
      const value = values[i] ?? 0;
      if (column.kind === "number") {
        this.floats.push(standardise ? (value - column.mean) / column.std : value);
      } else if (this.schema.categories === "index") this.indices.push(value);
      else column.values.forEach((_, k) => { this.floats.push(Number(k === value)); });
    });
    this.targets.push(...values.slice(features.length));
  }

  dataset(): ArrayDataset {
    const x: InputArray[] = [];
    if (this.floats.length > 0) x.push(Float32Array.from(this.floats));
    if (this.indices.length > 0) x.push(Int32Array.from(this.indices));
    if (x.length === 0) throw new InvalidInputError("the table has no feature");
    const [column] = this.schema.targets;
    if (!column) return new ArrayDataset({ x, samples: this.count });
    const whole = this.schema.targets.length === 1 && (column.kind === "category" || column.whole);
    const bad = whole ? this.targets.find((value) => !Number.isInteger(value)) : undefined;
    if (bad !== undefined) {
      throw new InvalidInputError(`the target "${column.name}" is ${String(bad)}, in the data of \
the schema it is a whole number`, { remedy: "read those with regression: true" });
    }
    const y = whole ? Int32Array.from(this.targets) : Float32Array.from(this.targets);
    return new ArrayDataset({ x, y, samples: this.count });
  }

  private widthOf(column: Column): number {
    if (column.kind === "number") return 1;
    return this.schema.categories === "index" ? 0 : column.values.length;
  }
}

function toNumber(cell: string): number | undefined {
  const value = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(cell) ? Number(cell) : NaN;
  return Number.isFinite(value) ? value : undefined;
}
