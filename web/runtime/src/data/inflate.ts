/** Decompression by the browser's own DecompressionStream. */

import { InvalidInputError, reasonOf } from "../index.ts";

/** The inflated bytes; InvalidInputError where the data are damaged or hold more than `limit`. */
export async function inflate(
  data: Blob, format: "gzip" | "deflate-raw", source: string, limit = Infinity,
): Promise<Uint8Array<ArrayBuffer>[]> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  try {
    const stream = data.stream().pipeThrough(new DecompressionStream(format));
    const reader = stream.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return parts;
      size += value.length;
      if (size > limit) {
        await reader.cancel();
        break;
      }
      parts.push(value);
    }
  } catch (error) {
    throw new InvalidInputError(`${source} cannot be decompressed`, {
      why: reasonOf(error), remedy: "it is damaged or truncated: get it again",
    });
  }
  throw new InvalidInputError(
    `${source} holds more than the ${String(limit)} bytes it announces`);
}
