import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { idxDataset, listFiles, openFile, openZip, readIdx } from "../src/data/index.ts";
import { InvalidInputError, StorageError } from "../src/index.ts";
import { rejects } from "./fixture.ts";
import { zipFile, type Stored } from "./zip-file.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const FILES: Stored[] = [
  { path: "cats/", data: text(""), method: 0 },
  { path: "cats/ä.txt", data: text("meow ".repeat(1000)) },
  { path: "dogs\\b.txt", data: text("woof"), method: 0 },
  { path: "empty", data: text("") },
];

async function contents(archive: Uint8Array): Promise<[string, string][]> {
  const files = await openZip(new Blob([archive as BlobPart]));
  return Promise.all(files.map(async (file) =>
    [file.path, await (await file.open()).text()] as [string, string]));
}

test("an archive gives its files, stored or deflated, large fields or small", async () => {
  const wanted = [
    ["cats/ä.txt", "meow ".repeat(1000)], ["dogs/b.txt", "woof"], ["empty", ""],
  ];
  for (const options of [{}, { zip64: true }, { comment: "PK\x05\x06 and more, not the end" }]) {
    assert.deepEqual(await contents(zipFile(FILES, options)), wanted, JSON.stringify(options));
  }
});

test("an archive that is damaged is refused, every cut of it too", async () => {
  const spoilt: readonly [Partial<Stored>, RegExp][] = [
    [{ crc: 1 }, /a.txt in the zip archive is damaged/],
    [{ bytes: 4999 }, /holds more than the 4999 bytes it announces/],
    [{ bytes: 5001 }, /checksum differs/],
    [{ method: 9 }, /packed by method 9/],
    [{ flags: 1 }, /is encrypted/],
  ];
  for (const [change, message] of spoilt) {
    const file = { path: "a.txt", data: text("meow ".repeat(1000)), ...change };
    await rejects(contents(zipFile([file])), InvalidInputError, message);
  }
  const whole = zipFile(FILES);
  for (let length = 0; length < whole.length; length += 3) {
    await rejects(contents(whole.slice(0, length)), InvalidInputError, /no zip archive|truncated/);
  }
  await rejects(contents(whole.slice(40)), InvalidInputError, /damaged|cannot be decompressed/);
});

test("the files of a zip and of a list are the same: sorted, without hidden ones", async () => {
  const hidden = ["__MACOSX/cats/a", ".DS_Store", "cats/.thumbs"].map(
    (path) => ({ path, data: text("") }));
  const archive = new Blob([zipFile([...hidden, ...FILES.slice(1)].reverse()) as BlobPart]);
  const wanted = ["cats/ä.txt", "dogs/b.txt", "empty"];
  const heard: number[] = [];
  const files = await listFiles(archive, { onProgress: (count) => heard.push(count) });
  assert.deepEqual(files.map(({ path }) => path), wanted);
  assert.deepEqual(heard, [1, 2, 3]);
  assert.deepEqual((await listFiles([...files].reverse())).map(({ path }) => path), wanted);
  const plain = await listFiles([new File(["x"], "b"), new File(["y"], "a")]);
  assert.equal(await (await openFile(plain[0] ?? assert.fail())).text(), "y");
  await rejects(listFiles({} as Blob), InvalidInputError, /neither a folder, a list, nor a zip/);
  const missing = new DOMException("gone", "NotFoundError");
  const gone = { path: "cats/1", open: () => Promise.reject(missing) };
  await rejects(openFile(gone), StorageError, /cannot read cats\/1/);
});

/** An IDX file: type, sizes, values in so many bytes. */
function idx(type: number, shape: readonly number[], body: Uint8Array): Blob {
  const head = Buffer.alloc(4 + 4 * shape.length);
  head.writeUInt8(type, 2);
  head.writeUInt8(shape.length, 3);
  shape.forEach((extent, i) => head.writeUInt32BE(extent, 4 + 4 * i));
  return new Blob([head, body as BlobPart]);
}

test("IDX files hold arrays of six types, packed or not", async () => {
  const wide = (bytes: number, write: (buffer: Buffer) => void): Uint8Array => {
    const made = Buffer.alloc(bytes);
    write(made);
    return made;
  };
  const table: readonly [number, Uint8Array, unknown][] = [
    [8, Uint8Array.of(0, 255), Uint8Array.of(0, 255)],
    [9, Uint8Array.of(1, 255), Int8Array.of(1, -1)],
    [11, wide(4, (b) => { b.writeInt16BE(-300, 2); }), Int16Array.of(0, -300)],
    [12, wide(8, (b) => { b.writeInt32BE(70_000, 4); }), Int32Array.of(0, 70_000)],
    [13, wide(8, (b) => { b.writeFloatBE(1.5, 4); }), Float32Array.of(0, 1.5)],
    [14, wide(16, (b) => { b.writeDoubleBE(0.1, 8); }), Float64Array.of(0, 0.1)],
  ];
  for (const [type, body, wanted] of table) {
    const file = idx(type, [2, 1], body);
    assert.deepEqual(await readIdx(file), { shape: [2, 1], data: wanted });
    const packed = new Blob([gzipSync(await file.bytes())]);
    assert.deepEqual(await readIdx(packed), { shape: [2, 1], data: wanted });
  }
});

test("bytes of IDX images become normalised floats, labels stay whole", async () => {
  const images = idx(8, [2, 1, 2], Uint8Array.of(0, 255, 51, 102));
  const labels = idx(8, [2], Uint8Array.of(7, 3));
  const dataset = await idxDataset(images, labels, { mean: 0.5, std: 0.25 });
  const { x, y } = await dataset.batch(Uint32Array.of(1, 0));
  assert.deepEqual(x, Float32Array.from([0.2, 0.4, 0, 1], (v) => (v - 0.5) / 0.25));
  assert.deepEqual(y, Int32Array.of(3, 7));
  const coloured = await idxDataset(idx(8, [1, 2, 1, 1], Uint8Array.of(0, 255)),
    idx(8, [1], Uint8Array.of(0)), { mean: [0, 1], std: [1, 2] });
  assert.deepEqual((await coloured.batch(Uint32Array.of(0))).x, Float32Array.of(0, 0));
  await rejects(idxDataset(images, labels, { std: 0 }), InvalidInputError, /std is 0/);
  await rejects(idxDataset(images, labels, { mean: [0, 0] }), InvalidInputError,
    /expected 1 finite/);
  await rejects(idxDataset(images, idx(8, [1], Uint8Array.of(7))), InvalidInputError,
    /2 × 1 × 2 and labels of shape 1 do not belong/);
});

test("IDX files that are none, or too short or long, are refused", async () => {
  const good = await idx(8, [2, 2], Uint8Array.of(1, 2, 3, 4)).bytes();
  for (let length = 0; length < good.length; length++) {
    await rejects(readIdx(new Blob([good.slice(0, length)])), InvalidInputError,
      /no IDX file|truncated/);
  }
  await rejects(readIdx(new Blob([good, "x"])), InvalidInputError, /surplus/);
  await rejects(readIdx(new Blob([gzipSync(good).subarray(0, 20)])), InvalidInputError,
    /cannot be decompressed/);
});

/** A dropped folder as browsers give it: its entries come some at a time, and one call later. */
function dropOf(folders: Readonly<Record<string, readonly string[]>>): DataTransfer {
  const fileEntry = (fullPath: string): FileSystemEntry => ({
    isFile: true, fullPath,
    file: (take: (file: File) => void) => { take(new File([fullPath], fullPath)); },
  }) as unknown as FileSystemEntry;
  const entries = Object.entries(folders).map(([name, files]) => ({
    isFile: false, fullPath: `/${name}`,
    createReader: () => {
      const left = files.map((file) => fileEntry(`/${name}/${file}`));
      return { readEntries: (take: (some: unknown) => void) => { take(left.splice(0, 2)); } };
    },
  }));
  let ended = false;
  queueMicrotask(() => { ended = true; });
  const items = entries.map((entry) => ({ webkitGetAsEntry: () => (ended ? null : entry) }));
  return { dropEffect: "none", items, files: [] } as unknown as DataTransfer;
}

test("a drop gives the files of its folders, if it is read in its event", async () => {
  const files = await listFiles(dropOf({ dogs: ["3"], cats: ["1", "2", "5", "4", ".x"] }));
  assert.deepEqual(files.map(({ path }) => path),
    ["cats/1", "cats/2", "cats/4", "cats/5", "dogs/3"]);
  assert.equal(await (await openFile(files[2] ?? assert.fail())).text(), "/cats/4");
});
