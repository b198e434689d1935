/** Whether numbers are finite, four at a time where the browser can. */

// finite.wat in binary: `f(bytes)` of memory `m`.
const MODULE = "0061736d01000000\
01060160017f017f030201000503010001070902016d0200016600000a6a016801017b0340200041c0006b2100\
2000fd0004004101fdab012001fdb90121012000fd0004104101fdab012001fdb90121012000fd0004204101fd\
ab012001fdb90121012000fd0004304101fdab012001fdb901210120000d000b20014180808078fd11fd40fd530b";
const CHUNK = 4096; // floats: they stay in the first-level cache
const FEW = 256; // that many are added up faster
const LINE = 16;

interface Search {
  memory: Float32Array;
  f(bytes: number): number;
}

let known: { search: Search | undefined } | undefined;

export function areFinite(values: Float32Array): boolean {
  if (values.length < FEW) return isSumFinite(values);
  const { search } = known ??= { search: compileSearch() };
  if (!search) return isSumFinite(values);
  const { memory } = search;
  for (let i = 0; i < values.length; i += CHUNK) {
    const chunk = values.subarray(i, i + CHUNK);
    const end = Math.ceil(chunk.length / LINE) * LINE;
    memory.set(chunk);
    memory.fill(0, chunk.length, end);
    if (search.f(end * 4) !== 0) return false;
  }
  return true;
}

/** Undefined where the page's policy or the browser refuses WebAssembly with SIMD. */
export function compileSearch(): Search | undefined {
  const bytes = Uint8Array.from(MODULE.match(/../g) ?? [], (byte) => parseInt(byte, 16));
  try {
    const { m, f } = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
    const { buffer } = m as WebAssembly.Memory;
    return { memory: new Float32Array(buffer), f: f as Search["f"] };
  } catch {
    return undefined;
  }
}

/**
 * Sums of float32 values do not overflow in float64, so they are finite exactly if all values are.
 * There are four, because each addition waits for the last one of its sum.
 */
export function isSumFinite(values: Float32Array): boolean {
  let [a, b, c, d] = [0, 0, 0, 0];
  const end = values.length - values.length % 4;
  for (let i = 0; i < end; i += 4) {
    a += values[i] ?? NaN;
    b += values[i + 1] ?? NaN;
    c += values[i + 2] ?? NaN;
    d += values[i + 3] ?? NaN;
  }
  for (let i = end; i < values.length; i++) a += values[i] ?? NaN;
  return Number.isFinite(a + b + c + d);
}
