import assert from "node:assert/strict";
import { test } from "node:test";
import {
  byteTokenizer, characterTokenizer, LabelledTexts, TextWindows, tokenizerFrom, trainTokenizer,
  type Tokenizer, type TokenizerData,
} from "../src/data/index.ts";
import { BundleFormatError, InvalidInputError } from "../src/index.ts";
import { raises } from "./fixture.ts";

type Merges = Extract<TokenizerData, { kind: "pairs" }>;

const PROSE = "low lower lowest, newer wider 2026! Ähnliche Wörter 😀\n\tlow low  newer newer";
const TOKENIZERS: readonly [string, Tokenizer][] = [
  ["bytes", byteTokenizer()], ["characters", characterTokenizer(PROSE)],
  ["pairs", trainTokenizer(PROSE, 280)],
];

test("every tokenizer gives back the text, and is the same after JSON", () => {
  for (const [name, tokenizer] of TOKENIZERS) {
    const tokens = tokenizer.encode(PROSE);
    assert.equal(tokenizer.decode(tokens), PROSE, name);
    assert.ok(tokens.every((token) => token >= 0 && token < tokenizer.size), name);
    const again = tokenizerFrom(JSON.parse(JSON.stringify(tokenizer)));
    assert.deepEqual(again.encode(PROSE), tokens, name);
    assert.equal(again.size, tokenizer.size);
    assert.equal(again.decode([tokenizer.size, ...tokens]), PROSE, "padding is no text");
  }
});

test("pairs are learnt by frequency: those of the paper's own example", () => {
  // Sennrich et al. 2016, Algorithm 1: e s, es t, l o, lo w (there with an end of word).
  const counts = { low: 5, lower: 2, newest: 6, widest: 3 };
  const text = Object.entries(counts).map(([word, n]) => `${word} `.repeat(n)).join("");
  const { merges } = trainTokenizer(text, 256 + 4).toJSON() as Merges;
  const [e, s, t, l, o, w] = new TextEncoder().encode("estlow");
  assert.deepEqual(merges, [[e, s], [256, t], [l, o], [258, w]]);
  const tokenizer = trainTokenizer(text, 300);
  assert.ok(tokenizer.encode("newest lowest").length <= 5);
  assert.equal(trainTokenizer("abc", 300).size, 256, "nothing comes twice");
});

/** Byte-pair encoding as one would say it, without any bookkeeping. */
function plainMerges(words: readonly string[], most: number): [number, number][] {
  let texts = words.map((word) => [...new TextEncoder().encode(word)]);
  const merges: [number, number][] = [];
  while (merges.length < most) {
    const counts = new Map<string, number>();
    for (const tokens of texts) {
      for (let i = 0; i + 1 < tokens.length; i++) {
        const pair = `${String(tokens[i])},${String(tokens[i + 1])}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const numbers = (pair: string): [number, number] =>
      pair.split(",").map(Number) as [number, number];
    const [best] = [...counts].filter(([, count]) => count > 1).sort(([p, a], [q, b]) =>
      b - a || (numbers(p)[0] - numbers(q)[0]) || (numbers(p)[1] - numbers(q)[1]));
    if (!best) break;
    const [left, right] = numbers(best[0]);
    texts = texts.map((tokens) => {
      const out: number[] = [];
      for (let i = 0; i < tokens.length; i++) {
        const joins = tokens[i] === left && tokens[i + 1] === right;
        out.push(joins ? 256 + merges.length : tokens[i] ?? 0);
        if (joins) i++;
      }
      return out;
    });
    merges.push([left, right]);
  }
  return merges;
}

test("the bookkeeping of pairs learns what plain counting learns", () => {
  const words = Array.from({ length: 400 }, (_, i) =>
    "abcd".repeat(4).slice(i % 5, 5 + (i * i) % 9));
  const { merges } = trainTokenizer(words.join("\n"), 256 + 30).toJSON() as Merges;
  assert.deepEqual(merges, plainMerges([...words, ...Array<string>(399).fill("\n")], 30));
});

test("characters that are not known are refused, or become one token", () => {
  raises(() => characterTokenizer("ab").encode("abc"), InvalidInputError, /character 2, "c"/);
  const tokenizer = characterTokenizer("ba", { unknown: true });
  assert.deepEqual(tokenizer.encode("abc😀"), Int32Array.of(0, 1, 2, 2));
  assert.equal(tokenizer.decode([0, 1, 2, 3]), "ab\uFFFD");
});

test("what is no tokenizer is refused", () => {
  for (const data of [null, 3, {}, { kind: "pairs", merges: [[256, 1]] }, { kind: "characters" }]) {
    raises(() => tokenizerFrom(data), BundleFormatError, /no tokenizer/);
  }
  raises(() => trainTokenizer("a", 255), InvalidInputError,
    /255, expected a whole number from 256/);
});

test("windows of a text: y is x moved on by one", () => {
  const tokens = Int32Array.from({ length: 10 }, (_, i) => i);
  const windows = new TextWindows(tokens, { length: 3 });
  assert.equal(windows.length, 3);
  assert.deepEqual(windows.batch(Uint32Array.of(2, 0)),
    { x: Int32Array.of(6, 7, 8, 0, 1, 2), y: Int32Array.of(7, 8, 9, 1, 2, 3) });
  assert.equal(new TextWindows(tokens, { length: 3, stride: 1 }).length, 7);
  assert.equal(new TextWindows(tokens, { length: 9 }).length, 1);
  raises(() => new TextWindows(tokens, { length: 10 }), InvalidInputError,
    /10 tokens, a window needs 11/);
});

test("labelled texts are padded or cut to one length", () => {
  const options = {
    texts: ["ab", "abcd", ""], labels: [2, 0, 1], tokenizer: characterTokenizer("abcd"), length: 3,
  };
  const texts = new LabelledTexts(options);
  assert.deepEqual(texts.batch(Uint32Array.of(0, 1, 2)),
    { x: Int32Array.of(0, 1, 4, 0, 1, 2, 4, 4, 4), y: Int32Array.of(2, 0, 1) });
  assert.deepEqual([texts.cut, texts.padding, texts.length], [1, 4, 3]);
  assert.deepEqual(new LabelledTexts({ ...options, padding: 0 }).batch(Uint32Array.of(2)).x,
    Int32Array.of(0, 0, 0));
  raises(() => new LabelledTexts({ ...options, labels: [1] }), InvalidInputError,
    /1 labels are given/);
});
