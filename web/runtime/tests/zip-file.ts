/** Writes zip archives for tests, with the freedom to be wrong. */

import { crc32, deflateRawSync } from "node:zlib";

export interface Stored {
  path: string;
  data: Uint8Array;
  method?: number;
  crc?: number;
  flags?: number;
  bytes?: number;
}

/** An archive; `zip64` writes sizes and places into the fields for 64 bits. */
export function zipFile(
  files: readonly Stored[], { zip64 = false, comment = "" } = {},
): Uint8Array {
  const [locals, directory]: [Buffer[], Buffer[]] = [[], []];
  let offset = 0;
  for (const { path, data, method = 8, flags = 0, ...given } of files) {
    const packed = method === 8 ? deflateRawSync(data) : Buffer.from(data);
    const name = Buffer.from(path);
    const [crc, bytes] = [given.crc ?? crc32(data), given.bytes ?? data.length];
    const local = record(30,
      [[0, 4, 0x04034b50], [8, 2, method], [26, 2, name.length], [28, 2, 3]]);
    const extra = zip64 ? Buffer.concat([
      record(4, [[0, 2, 1], [2, 2, 24]]), ...[bytes, packed.length, offset].map(word64),
    ]) : Buffer.alloc(0);
    const small = (value: number): number => (zip64 ? 0xffffffff : value);
    directory.push(record(46, [
      [0, 4, 0x02014b50], [8, 2, flags], [10, 2, method], [16, 4, crc],
      [20, 4, small(packed.length)], [24, 4, small(bytes)], [28, 2, name.length],
      [30, 2, extra.length], [42, 4, small(offset)],
    ]), name, extra);
    locals.push(local, name, Buffer.alloc(3), packed);
    offset += 30 + name.length + 3 + packed.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end64 = Buffer.concat([
    record(56, [[0, 4, 0x06064b50]], [[32, files.length], [40, size], [48, offset]]),
    record(20, [[0, 4, 0x07064b50]], [[8, offset + size]]),
  ]);
  const end = record(22, [
    [0, 4, 0x06054b50], [10, 2, zip64 ? 0xffff : files.length],
    [12, 4, zip64 ? 0xffffffff : size], [16, 4, zip64 ? 0xffffffff : offset],
    [20, 2, comment.length],
  ]);
  const parts = [...locals, ...directory, ...(zip64 ? [end64] : []), end, Buffer.from(comment)];
  return new Uint8Array(Buffer.concat(parts));
}

type Field = readonly [at: number, bytes: number, value: number];

function record(
  bytes: number, fields: readonly Field[], wide: readonly (readonly [number, number])[] = [],
): Buffer {
  const made = Buffer.alloc(bytes);
  for (const [at, size, value] of fields) made.writeUIntLE(value, at, size);
  for (const [at, value] of wide) made.writeBigUInt64LE(BigInt(value), at);
  return made;
}

function word64(value: number): Buffer {
  return record(8, [], [[0, value]]);
}
