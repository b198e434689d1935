/**
 * Texts as numbers and back: bytes, characters, or pairs learnt from a text.
 *
 * A tokenizer is plain data besides its functions: `toJSON` is what `tokenizerFrom` takes.
 */

import { BundleFormatError, InvalidInputError } from "../index.ts";
import { learnMerges, mergeWord, pairKey, words, type Merge } from "./byte-pairs.ts";

export interface Tokenizer {
  /** Tokens are the numbers below; an embedding for padded texts has a row more. */
  readonly size: number;
  encode(text: string): Int32Array;
  /** Numbers that are no token, such as padding, are left out. */
  decode(tokens: ArrayLike<number>): string;
  toJSON(): TokenizerData;
}

export type TokenizerData =
  | { kind: "bytes" }
  | { kind: "characters"; characters: string; unknown: boolean }
  | { kind: "pairs"; merges: readonly Merge[] };

/** The 256 bytes of UTF-8: every text has tokens, nothing is learnt. */
export function byteTokenizer(): Tokenizer {
  return {
    size: 256,
    encode: (text) => Int32Array.from(new TextEncoder().encode(text)),
    decode: (tokens) => new TextDecoder().decode(
      Uint8Array.from(Array.from(tokens).filter((token) => token >= 0 && token < 256))),
    toJSON: () => ({ kind: "bytes" }),
  };
}

/**
 * The characters of a text (code points) in their order.
 *
 * Others raise InvalidInputError, or with `unknown` become one more token, decoded as U+FFFD.
 */
export function characterTokenizer(
  text: string, { unknown = false }: { unknown?: boolean } = {},
): Tokenizer {
  const characters = [...new Set(text)].sort((a, b) =>
    (a.codePointAt(0) ?? 0) - (b.codePointAt(0) ?? 0));
  const tokens = new Map(characters.map((character, i) => [character, i]));
  const other = characters.length;
  return {
    size: other + Number(unknown),
    encode: (given) => Int32Array.from(Array.from(given, (character, i) => {
      const token = tokens.get(character) ?? (unknown ? other : undefined);
      if (token !== undefined) return token;
      throw new InvalidInputError(
        `character ${String(i)}, ${JSON.stringify(character)}, has no token`, {
          remedy: "make the tokenizer of a text that has it, or with { unknown: true }",
        });
    })),
    decode: (given) => Array.from(given, (token) =>
      characters[token] ?? (unknown && token === other ? "\uFFFD" : "")).join(""),
    toJSON: () => ({ kind: "characters", characters: characters.join(""), unknown }),
  };
}

/**
 * Bytes and their most frequent sequences, learnt from a text: byte-pair encoding.
 *
 * R. Sennrich, B. Haddow, A. Birch 2016, Neural Machine Translation of Rare Words with Subword
 * Units, on bytes as in GPT-2; sequences do not cross words.  `size` counts the 256 bytes.
 */
export function trainTokenizer(text: string, size: number): Tokenizer {
  if (!(Number.isInteger(size) && size >= 256)) {
    throw new InvalidInputError(
      `the size of the vocabulary is ${String(size)}, expected a whole number from 256`);
  }
  return pairTokenizer(learnMerges(text, size - 256));
}

/** The tokenizer that `toJSON` described; BundleFormatError for anything else. */
export function tokenizerFrom(data: unknown): Tokenizer {
  const { kind, ...rest } = (typeof data === "object" && data !== null ? data : {}) as
    Record<string, unknown>;
  if (kind === "bytes") return byteTokenizer();
  if (kind === "characters" && typeof rest["characters"] === "string") {
    return characterTokenizer(rest["characters"], { unknown: rest["unknown"] === true });
  }
  if (kind === "pairs" && isMerges(rest["merges"])) return pairTokenizer(rest["merges"]);
  throw new BundleFormatError("this is no tokenizer", { why: `its kind is ${String(kind)}` });
}

function pairTokenizer(merges: readonly Merge[]): Tokenizer {
  const bytes = Array.from({ length: 256 }, (_, byte) => [byte]);
  for (const [left, right] of merges) bytes.push([...bytes[left] ?? [], ...bytes[right] ?? []]);
  const ranks = new Map(merges.map(([left, right], i) => [pairKey(left, right), 256 + i]));
  const known = new Map<string, readonly number[]>(); // words come again and again
  const ofWord = (word: string): readonly number[] => {
    const found = known.get(word);
    if (found) return found;
    const tokens = mergeWord([...new TextEncoder().encode(word)], ranks);
    if (known.size < MOST_KNOWN_WORDS) known.set(word, tokens);
    return tokens;
  };
  return {
    size: bytes.length,
    encode: (text) => Int32Array.from(words(text).flatMap(ofWord)),
    decode: (tokens) => new TextDecoder().decode(
      Uint8Array.from(Array.from(tokens).flatMap((token) => bytes[token] ?? []))),
    toJSON: () => ({ kind: "pairs", merges }),
  };
}

const MOST_KNOWN_WORDS = 100_000;

function isMerges(value: unknown): value is Merge[] {
  return Array.isArray(value) && value.every((pair: unknown, i) => Array.isArray(pair)
    && pair.length === 2 && pair.every((n) => Number.isInteger(n) && n >= 0 && n < 256 + i));
}
