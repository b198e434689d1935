/** Numbers as a person reads them. */

export function percent(share: number, digits = 1): string {
  return `${(100 * share).toFixed(digits)} %`;
}

/** Three significant digits, without an exponent where none is needed. */
export function plain(value: number): string {
  if (!Number.isFinite(value)) return "–";
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en")
    : String(Number(value.toPrecision(3)));
}

export function bytes(count: number): string {
  const [unit, size] = count >= 1e6 ? ["MB", 1e6] as const : ["kB", 1e3] as const;
  return `${(count / size).toFixed(count < 10 * size ? 1 : 0)} ${unit}`;
}

export function milliseconds(ms: number): string {
  return `${plain(ms)} ms`;
}

/** A share of any size, in per cent with two significant digits. */
export function share(value: number): string {
  return `${String(Number((100 * value).toPrecision(2)))} %`;
}

export function threadsText(threads: number): string {
  return threads > 1 ? `${String(threads)} threads` : "one thread";
}
