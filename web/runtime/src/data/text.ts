/** Texts as data sets: windows of a long one for language models, short ones with labels. */

import { InvalidInputError, requireWhole, type Batch, type Dataset } from "../index.ts";
import type { Tokenizer } from "./tokenizers.ts";

/** Windows of a long text: `x` are `length` tokens, `y` the same ones moved on by one. */
export class TextWindows implements Dataset {
  readonly length: number;
  private readonly window: number;
  private readonly stride: number;

  /** Windows begin every `stride` tokens, by default where the last one ends. */
  constructor(
    private readonly tokens: Int32Array,
    { length, stride = length }: { length: number; stride?: number },
  ) {
    requireWhole(length, "the length of a window", 1);
    requireWhole(stride, "stride", 1);
    this.length = Math.floor((tokens.length - 1 - length) / stride) + 1;
    this.window = length;
    this.stride = stride;
    if (this.length > 0) return;
    throw new InvalidInputError(`the text has ${String(tokens.length)} tokens, a window needs \
${String(length + 1)}`);
  }

  batch(indices: Uint32Array): Batch {
    const from = (shift: number): Int32Array => {
      const made = new Int32Array(indices.length * this.window);
      indices.forEach((index, i) => {
        const begin = index * this.stride + shift;
        made.set(this.tokens.subarray(begin, begin + this.window), i * this.window);
      });
      return made;
    };
    return { x: from(0), y: from(1) };
  }
}

export interface LabelledTextsOptions {
  texts: readonly string[];
  /** The class of each text. */
  labels?: ArrayLike<number>;
  tokenizer: Tokenizer;
  /** Tokens of every sample: longer texts are cut, shorter ones padded. */
  length: number;
  /** What stands behind the end of a text; `tokenizer.size` by default, a number of its own. */
  padding?: number;
}

/** Texts of one length with their labels. */
export class LabelledTexts implements Dataset {
  readonly length: number;
  readonly padding: number;
  /** How many texts were too long. */
  readonly cut: number;
  private readonly tokens: readonly Int32Array[];

  constructor(private readonly options: LabelledTextsOptions) {
    const { texts, labels, tokenizer, length, padding = tokenizer.size } = options;
    requireWhole(texts.length, "the number of texts", 1);
    requireWhole(length, "the length of a sample", 1);
    requireWhole(padding, "padding", 0);
    if (labels && labels.length !== texts.length) {
      throw new InvalidInputError(
        `${String(labels.length)} labels are given for ${String(texts.length)} texts`);
    }
    const all = texts.map((text) => tokenizer.encode(text));
    this.length = texts.length;
    this.padding = padding;
    this.cut = all.filter((tokens) => tokens.length > length).length;
    this.tokens = all.map((tokens) => tokens.slice(0, length));
  }

  batch(indices: Uint32Array): Batch {
    const { length, labels } = this.options;
    const x = new Int32Array(indices.length * length).fill(this.padding);
    indices.forEach((index, i) => { x.set(this.tokens[index] ?? [], i * length); });
    return labels ? { x, y: Int32Array.from(indices, (index) => labels[index] ?? 0) } : { x };
  }
}
