/**
 * Reads zip archives by range: the directory at the end first, then a file when it is asked for.
 *
 * APPNOTE.TXT 6.3.10 (PKWARE): stored and deflated entries, Zip64; neither encrypted ones nor
 * archives in several parts.  The checksum of each file is verified.
 */

import { InvalidInputError } from "../index.ts";
import { crc32 } from "./crc32.ts";
import type { NamedFile } from "./files.ts";
import { inflate } from "./inflate.ts";

const SOURCE = "the zip archive";
const END = { signature: 0x06054b50, bytes: 22 };
const END64 = { signature: 0x06064b50, bytes: 56 };
const LOCATOR64 = { signature: 0x07064b50, bytes: 20 };
const ENTRY = { signature: 0x02014b50, bytes: 46 };
const LOCAL = { signature: 0x04034b50, bytes: 30 };
const IN_ZIP64 = 0xffffffff;
const LONGEST_COMMENT = 0xffff;

interface Entry {
  path: string;
  encrypted: boolean;
  method: number;
  crc: number;
  packedBytes: number;
  bytes: number;
  /** Of its local header in the archive. */
  offset: number;
}

/** The files of an archive, in its order.  Raises InvalidInputError for what is no zip. */
export async function openZip(archive: Blob): Promise<NamedFile[]> {
  const { count, bytes, offset } = await findDirectory(archive);
  const directory = await viewOf(archive, offset, bytes);
  const files: NamedFile[] = [];
  let position = 0;
  for (let i = 0; i < count; i++) {
    const { entry, end } = readEntry(directory, position);
    position = end;
    if (entry.path.endsWith("/")) continue; // a folder
    files.push({ path: entry.path, open: () => readFile(archive, entry) });
  }
  return files;
}

async function findDirectory(archive: Blob) {
  const tail = Math.min(archive.size, END.bytes + LONGEST_COMMENT);
  const start = archive.size - tail;
  const view = await viewOf(archive, start, tail);
  for (let at = tail - END.bytes; at >= 0; at--) {
    if (view.getUint32(at, true) !== END.signature) continue;
    if (at + END.bytes + view.getUint16(at + 20, true) !== tail) continue; // bytes of a comment
    if (view.getUint16(at + 4, true) > 0 && view.getUint16(at + 4, true) < 0xffff) {
      throw new InvalidInputError(`${SOURCE} is in several parts`, { remedy: "join them first" });
    }
    const found = {
      count: view.getUint16(at + 10, true), bytes: view.getUint32(at + 12, true),
      offset: view.getUint32(at + 16, true),
    };
    const large = found.count === 0xffff || found.bytes === IN_ZIP64 || found.offset === IN_ZIP64;
    return large ? await findDirectory64(archive, start + at) : found;
  }
  throw new InvalidInputError("the file is no zip archive", {
    why: "it has no directory at its end: it is something else, or truncated",
  });
}

async function findDirectory64(archive: Blob, end: number) {
  const locator = await viewOf(archive, end - LOCATOR64.bytes, LOCATOR64.bytes);
  requireSignature(locator, 0, LOCATOR64.signature);
  const view = await viewOf(archive, whole(locator, 8), END64.bytes);
  requireSignature(view, 0, END64.signature);
  return { count: whole(view, 32), bytes: whole(view, 40), offset: whole(view, 48) };
}

function readEntry(view: DataView<ArrayBuffer>, at: number): { entry: Entry; end: number } {
  if (at + ENTRY.bytes > view.byteLength) throw truncated();
  requireSignature(view, at, ENTRY.signature);
  const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((i) => view.getUint16(at + i, true)
  ) as [number, number, number];
  const name = at + ENTRY.bytes;
  const extra = name + nameBytes;
  const end = extra + extraBytes + commentBytes;
  if (end > view.byteLength) throw truncated();
  const sizes = [24, 20, 42].map((i) => view.getUint32(at + i, true));
  const [bytes = 0, packedBytes = 0, offset = 0] = inZip64(view, extra, extraBytes, sizes);
  const path = new TextDecoder().decode(new Uint8Array(view.buffer, name, nameBytes));
  const flags = view.getUint16(at + 8, true);
  return {
    entry: {
      path: path.replaceAll("\\", "/"), encrypted: (flags & 1) === 1,
      method: view.getUint16(at + 10, true), crc: view.getUint32(at + 16, true),
      bytes, packedBytes, offset,
    },
    end,
  };
}

/** Numbers of an entry that need more than 32 bits stand in its extra field, in this order. */
function inZip64(view: DataView, extra: number, extraBytes: number, sizes: number[]): number[] {
  if (!sizes.includes(IN_ZIP64)) return sizes;
  for (let at = extra; at + 4 <= extra + extraBytes; at += 4 + view.getUint16(at + 2, true)) {
    if (view.getUint16(at, true) !== 1) continue;
    let next = at + 4;
    return sizes.map((size) => {
      if (size !== IN_ZIP64) return size;
      next += 8;
      if (next > extra + extraBytes) throw truncated();
      return whole(view, next - 8);
    });
  }
  return sizes;
}

async function readFile(archive: Blob, entry: Entry): Promise<Blob> {
  const { path, method, packedBytes, bytes } = entry;
  const name = `${path} in ${SOURCE}`;
  if (entry.encrypted) {
    throw new InvalidInputError(`${name} is encrypted`, { remedy: "unpack the archive first" });
  }
  const local = await viewOf(archive, entry.offset, LOCAL.bytes);
  requireSignature(local, 0, LOCAL.signature);
  // Its own extra field may be another one than the directory's.
  const begin = entry.offset + LOCAL.bytes
    + local.getUint16(26, true) + local.getUint16(28, true);
  if (begin + packedBytes > archive.size) throw truncated();
  const packed = archive.slice(begin, begin + packedBytes);
  if (method !== 0 && method !== 8) {
    throw new InvalidInputError(`${name} is packed by method ${String(method)}`, {
      why: "only stored and deflated files are read", remedy: "pack it again as usual",
    });
  }
  const parts = method === 8 ? await inflate(packed, "deflate-raw", name, bytes)
    : [new Uint8Array(await packed.arrayBuffer())];
  const crc = parts.reduce((before, part) => crc32(part, before), 0);
  if (crc === entry.crc && parts.reduce((sum, part) => sum + part.length, 0) === bytes) {
    return new Blob(parts);
  }
  throw new InvalidInputError(`${name} is damaged`, { why: "its checksum differs" });
}

async function viewOf(archive: Blob, begin: number, bytes: number) {
  if (begin < 0 || begin + bytes > archive.size) throw truncated();
  return new DataView(await archive.slice(begin, begin + bytes).arrayBuffer());
}

function whole(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}

function requireSignature(view: DataView, at: number, signature: number): void {
  if (view.getUint32(at, true) !== signature) throw truncated();
}

function truncated(): InvalidInputError {
  return new InvalidInputError(`${SOURCE} is damaged or truncated`);
}
