import assert from "node:assert/strict";
import { test } from "node:test";
import { csvRecords, readTable, textOf, type TableOptions } from "../src/data/index.ts";
import { InvalidInputError, type Batch } from "../src/index.ts";
import { rejects } from "./fixture.ts";

async function* inPieces(text: string, size: number): AsyncGenerator<string> {
  for (let i = 0; i < text.length; i += size) yield await Promise.resolve(text.slice(i, i + size));
}

async function cells(pieces: AsyncIterable<string>, delimiter?: string): Promise<string[][]> {
  const found: string[][] = [];
  for await (const record of csvRecords(pieces, delimiter)) found.push([...record.cells]);
  return found;
}

const READ: readonly [string, string[][]][] = [
  ["", []],
  ["a", [["a"]]],
  ["a,b\n1,2\n", [["a", "b"], ["1", "2"]]],
  ["a,b\r\n1,2\r\n", [["a", "b"], ["1", "2"]]],
  ["a,b\r1,2", [["a", "b"], ["1", "2"]]],
  ["a,,\n,,c", [["a", "", ""], ["", "", "c"]]],
  ["\n\na\n\n\nb\n", [["a"], ["b"]]],
  ['""\n', [[""]]],
  ['"a,b",c', [["a,b", "c"]]],
  ['"a ""quoted"" word","two\nlines"\r\nx,y', [['a "quoted" word', "two\nlines"], ["x", "y"]]],
  ['"\r\n"\r\n1', [["\r\n"], ["1"]]],
  ['5" disk,b', [['5" disk', "b"]]],
  ["ä,😀\n", [["ä", "😀"]]],
];

test("CSV is read as RFC 4180 has it, wherever the pieces are cut", async () => {
  for (const [text, wanted] of READ) {
    for (const size of [1, 2, 3, 100]) {
      assert.deepEqual(await cells(inPieces(text, size)), wanted, JSON.stringify([text, size]));
    }
    assert.deepEqual(await cells(textOf(new Blob([`\uFEFF${text}`]))), wanted);
  }
  assert.deepEqual(await cells(inPieces("a;b,c\n", 4), ";"), [["a", "b,c"]]);
});

test("what was written comes back", async () => {
  const odd = ['"', ",", "\n", "\r\n", "a", " ", "", '""', "é", "😀,"];
  const some = (i: number): string => odd[i % 10] ?? "";
  const rows = Array.from({ length: 60 }, (_, i) =>
    Array.from({ length: 4 }, (_, k) => some(i * 7 + k * 3) + some(i + k)));
  const quote = (cell: string): string => `"${cell.replaceAll('"', '""')}"`;
  const text = rows.map((row) => row.map(quote).join(",")).join("\r\n");
  assert.deepEqual(await cells(inPieces(text, 5)), rows);
});

test("broken quotes are refused with their place", async () => {
  await rejects(cells(inPieces('a\nb,"c', 9)), InvalidInputError,
    /opened in line 2 is never closed/);
  await rejects(cells(inPieces('a\nb,"c"d', 9)), InvalidInputError,
    /line 2, column 2: "d" follows a closing quote/);
  await rejects(cells(inPieces("a", 1), "::"), InvalidInputError, /delimiter/);
});

const FLOWERS = `length, colour ,width,kind
1.5,red,2,a
2.5,blue,4,b

3.5,red,?,a
`;

async function rows(text: string, options: TableOptions): Promise<Batch> {
  const { dataset } = await readTable(text, options);
  return dataset.batch(Uint32Array.from({ length: dataset.length }, (_, i) => i));
}

test("numbers stay, names become one-hot, a target of names its number", async () => {
  const table = await readTable(FLOWERS, { target: "kind", missing: "skip" });
  assert.deepEqual([table.width, table.skipped, table.dataset.length], [4, 1, 2]);
  assert.deepEqual(await rows(FLOWERS, { target: "kind", missing: "skip" }), {
    x: Float32Array.of(1.5, 0, 1, 2, 2.5, 1, 0, 4), y: Int32Array.of(0, 1),
  });
  assert.deepEqual(table.schema.features.map(({ name, kind }) => [name, kind]),
    [["length", "number"], ["colour", "category"], ["width", "number"]]);
});

test("categories can be indices, features chosen, empty cells filled", async () => {
  assert.deepEqual(
    await rows(FLOWERS, {
      target: "kind", features: ["width", "colour"], categories: "index", missing: "fill",
    }),
    { x: [Float32Array.of(2, 4, 3), Int32Array.of(1, 0, 1)], y: Int32Array.of(0, 1, 0) });
});

test("standardised numbers have mean 0 and deviation 1, by the schema also of other files",
  async () => {
    const text = "a,b\n1,5\n3,5\n";
    const { schema } = await readTable(text, { standardise: true });
    assert.deepEqual((await rows(text, { standardise: true })).x, Float32Array.of(-1, 0, 1, 0));
    const kept = JSON.parse(JSON.stringify(schema)) as typeof schema;
    assert.deepEqual((await rows("b,a\n6,4\n", { schema: kept })).x, Float32Array.of(2, 1));
  });

test("targets are labels where they are whole, amounts where asked or not", async () => {
  const text = "x,y,z\n1,3,0.5\n2,4,1.5";
  assert.deepEqual((await rows(text, { target: "y", features: ["x"] })).y, Int32Array.of(3, 4));
  assert.deepEqual((await rows(text, { target: "y", regression: true, features: ["x"] })).y,
    Float32Array.of(3, 4));
  assert.deepEqual((await rows(text, { target: "y", categorical: ["y"], features: ["x"] })).y,
    Int32Array.of(0, 1));
  assert.deepEqual((await rows(text, { target: ["y", "z"] })).y, Float32Array.of(3, 0.5, 4, 1.5));
  assert.deepEqual(await rows("1,2\n3,4", { header: false, target: "1" }),
    { x: Float32Array.of(1, 3), y: Int32Array.of(2, 4) });
});

test("a table that does not fit is refused with line and column", async () => {
  const { schema } = await readTable(FLOWERS, { target: "kind", missing: "skip" });
  const refused: readonly [string, TableOptions, RegExp][] = [
    [FLOWERS, { target: "kind" }, /line 5, column "width" is empty/],
    [FLOWERS, { target: "smell" }, /no column "smell"[^]*length, colour, width, kind/],
    [FLOWERS, { categorical: ["smell"] }, /no column "smell"/],
    ["a,b\n1\n", {}, /line 2 has 1 cells, the first line has 2/],
    ["a,a\n1,2\n", {}, /two columns are named "a"/],
    ["a,b\n", {}, /the table has no row/],
    ["a\n?\n", { missing: "skip" }, /1 rows have an empty cell/],
    ["length,colour,width,kind\n1,green,1,a", { schema }, /line 2, column "colour" is "green"/],
    ["length,colour,width,kind\n1m,red,1,a", { schema },
      /column "length" is "1m", expected a number/],
    ["kind\na", { target: "kind" }, /no feature/],
  ];
  for (const [text, options, message] of refused) {
    await rejects(readTable(text, options), InvalidInputError, message);
  }
});
