/**
 * Reads CSV (RFC 4180) as it arrives: quoted cells, doubled quotes, line breaks in quotes, both
 * kinds of line ends, a byte order mark; a blank line is no record.
 */

import { InvalidInputError } from "../index.ts";

export interface CsvRecord {
  readonly cells: readonly string[];
  /** Of the file, where it begins; the first is 1. */
  readonly line: number;
}

/** The records of a text in pieces.  Raises InvalidInputError with line and column. */
export async function* csvRecords(
  pieces: AsyncIterable<string>, delimiter = ",",
): AsyncGenerator<CsvRecord> {
  if (delimiter.length !== 1 || /["\r\n]/.test(delimiter)) {
    throw new InvalidInputError(`the delimiter is ${JSON.stringify(delimiter)}, expected one \
character that is neither a quote nor a line break`);
  }
  const parser = new Parser(delimiter);
  for await (const piece of pieces) yield* parser.take(piece);
  yield* parser.end();
}

/** The text of a file in pieces, UTF-8. */
export async function* textOf(file: Blob | string): AsyncGenerator<string> {
  if (typeof file === "string") {
    yield file.replace(/^\uFEFF/, "");
    return;
  }
  const decoder = new TextDecoder(); // leaves out a byte order mark
  const reader = file.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    yield decoder.decode(value, { stream: !done });
    if (done) return;
  }
}

/** At the beginning of a cell, in a bare cell, in a quoted one, after a quote in a quoted one. */
type State = "begin" | "bare" | "quoted" | "quote";

class Parser {
  private state: State = "begin";
  private cells: string[] = [];
  private cell = "";
  private line = 1;
  private recordLine = 1;
  private quoteLine = 1;
  private afterReturn = false;

  constructor(private readonly delimiter: string) {}

  *take(piece: string): Generator<CsvRecord> {
    for (let i = 0; i < piece.length; i++) {
      if (this.state === "quoted" || this.state === "bare") i = this.run(piece, i);
      const char = piece[i];
      if (char === undefined) return;
      const isBreak = char === "\n" || char === "\r";
      const second = char === "\n" && this.afterReturn; // of one line end
      this.afterReturn = char === "\r";
      if (isBreak && !second) this.line++;
      if (this.state === "quoted") this.quoted(char);
      else if (isBreak) {
        if (!second) yield* this.record();
      } else this.unquoted(char);
    }
  }

  *end(): Generator<CsvRecord> {
    if (this.state === "quoted") {
      throw new InvalidInputError(
        `the quote that is opened in line ${String(this.quoteLine)} is never closed`);
    }
    this.line++;
    yield* this.record();
  }

  /** Takes the characters up to the next one that means something; gives its index. */
  private run(piece: string, from: number): number {
    let i = from;
    for (; i < piece.length; i++) {
      const char = piece[i];
      if (char === "\n" || char === "\r" || char === '"') break;
      if (this.state === "bare" && char === this.delimiter) break;
    }
    if (i > from) this.afterReturn = false;
    this.cell += piece.slice(from, i);
    return i;
  }

  private quoted(char: string): void {
    if (char === '"') this.state = "quote";
    else this.cell += char;
  }

  private unquoted(char: string): void {
    if (char === this.delimiter) this.endCell();
    else if (char === '"' && this.state === "begin") {
      this.state = "quoted";
      this.quoteLine = this.line;
    } else if (char === '"' && this.state === "quote") {
      this.cell += char; // doubled
      this.state = "quoted";
    } else if (this.state === "quote") {
      throw new InvalidInputError(`line ${String(this.line)}, column \
${String(this.cells.length + 1)}: ${JSON.stringify(char)} follows a closing quote`, {
        remedy: 'write a quote inside a quoted cell twice: ""',
      });
    } else {
      this.cell += char;
      this.state = "bare";
    }
  }

  private endCell(): void {
    this.cells.push(this.cell);
    this.cell = "";
    this.state = "begin";
  }

  private *record(): Generator<CsvRecord> {
    const blank = this.cells.length === 0 && this.state === "begin";
    this.endCell();
    const { cells, recordLine } = this;
    this.cells = [];
    this.recordLine = this.line;
    if (!blank) yield { cells, line: recordLine };
  }
}
