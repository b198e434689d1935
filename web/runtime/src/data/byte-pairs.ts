/** Byte-pair encoding: learning which pairs of tokens become one, and merging them. */

/** Two tokens that become the next new one. */
export type Merge = readonly [left: number, right: number];

const WORD = / ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu; // of GPT-2, without English

/** A text in words, each with the blank before it: joined they are the text. */
export function words(text: string): string[] {
  return text.match(WORD) ?? [];
}

/** One number for a pair; tokens are below 2²⁶. */
export function pairKey(left: number, right: number): number {
  return left * 2 ** 26 + right;
}

/** The tokens of a word: the pair that was learnt first is merged first. */
export function mergeWord(tokens: number[], ranks: ReadonlyMap<number, number>): number[] {
  for (;;) {
    let best = Infinity;
    for (let i = 0; i + 1 < tokens.length; i++) {
      best = Math.min(best, ranks.get(pairKey(tokens[i] ?? 0, tokens[i + 1] ?? 0)) ?? Infinity);
    }
    if (best === Infinity) return tokens;
    tokens = merged(tokens, (key) => ranks.get(key) === best, best);
  }
}

interface Word {
  tokens: number[];
  readonly count: number;
}

/** Up to `most` merges, each of the pair that is most frequent then; of equals the smallest. */
export function learnMerges(text: string, most: number): Merge[] {
  const counts = new Map<string, number>();
  for (const word of words(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  const pairs = new Pairs();
  for (const [word, count] of counts) {
    pairs.add({ tokens: [...new TextEncoder().encode(word)], count });
  }
  const merges: Merge[] = [];
  while (merges.length < most) {
    const key = pairs.mostFrequent();
    if (key === undefined) break; // nothing comes twice
    pairs.merge(key, 256 + merges.length);
    merges.push([Math.floor(key / 2 ** 26), key % 2 ** 26]);
  }
  return merges;
}

/** How often each pair occurs, and in which words. */
class Pairs {
  private readonly counts = new Map<number, number>();
  private readonly places = new Map<number, Set<Word>>();

  add(word: Word): void {
    for (const key of keysOf(word.tokens)) {
      this.counts.set(key, (this.counts.get(key) ?? 0) + word.count);
      const places = this.places.get(key);
      if (places) places.add(word);
      else this.places.set(key, new Set([word]));
    }
  }

  mostFrequent(): number | undefined {
    let [best, most] = [Infinity, 1];
    for (const [key, count] of this.counts) {
      if (count > most || (count === most && key < best && most > 1)) [best, most] = [key, count];
    }
    return best === Infinity ? undefined : best;
  }

  /** Replaces a pair by a token in the words that have it. */
  merge(key: number, token: number): void {
    for (const word of this.places.get(key) ?? []) {
      this.remove(word);
      word.tokens = merged(word.tokens, (found) => found === key, token);
      this.add(word);
    }
  }

  private remove(word: Word): void {
    for (const key of keysOf(word.tokens)) {
      const left = (this.counts.get(key) ?? 0) - word.count;
      this.places.get(key)?.delete(word);
      if (left > 0) this.counts.set(key, left);
      else {
        this.counts.delete(key);
        this.places.delete(key);
      }
    }
  }
}

function keysOf(tokens: readonly number[]): number[] {
  return tokens.slice(1).map((right, i) => pairKey(tokens[i] ?? 0, right));
}

function merged(
  tokens: readonly number[], isPair: (key: number) => boolean, token: number,
): number[] {
  const result: number[] = [];
  for (let i = 0; i < tokens.length; i++) {
    const [left = 0, right] = [tokens[i], tokens[i + 1]];
    const joins = right !== undefined && isPair(pairKey(left, right));
    result.push(joins ? token : left);
    if (joins) i++;
  }
  return result;
}
