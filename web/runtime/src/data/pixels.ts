/**
 * Pictures as bytes, a quarter of the room of float32, scaled only when a batch is made.
 *
 * A sample is channels × height × width bytes, as PyTorch has it (CHW).
 */

import { InvalidInputError, type Batch, type Dataset } from "../index.ts";

export interface NormaliseOptions {
  /** Of values from 0 to 1, one for all channels or one each; 0 by default. */
  mean?: number | readonly number[];
  /** In the same way; 1 by default. */
  std?: number | readonly number[];
}

/** The float32 of a byte is (byte / 255 - mean) / std, of its channel. */
export interface Normalisation {
  readonly channels: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** Raises InvalidInputError where the numbers do not fit the channels. */
export function normalisation(
  channels: number, { mean = 0, std = 1 }: NormaliseOptions,
): Normalisation {
  const each = (
    given: number | readonly number[], name: string, isGood: (n: number) => boolean,
  ): readonly number[] => {
    const list = typeof given === "number" ? Array<number>(channels).fill(given) : [...given];
    if (list.length === channels && list.every(isGood)) return list;
    throw new InvalidInputError(`${name} is ${list.join(", ")}, expected ${String(channels)} \
finite numbers${name === "std" ? " above 0" : ""}`);
  };
  return {
    channels, mean: each(mean, "mean", Number.isFinite),
    std: each(std, "std", (n) => n > 0 && n < Infinity),
  };
}

/** A data set whose `x` are bytes, as one of float32; `pixels` gives the bytes themselves. */
export class PixelDataset implements Dataset {
  private readonly floats: readonly Float32Array[];

  /** `pixels` gives batches with one input, a Uint8Array. */
  constructor(readonly pixels: Dataset, readonly normalisation: Normalisation) {
    const { mean, std } = normalisation;
    this.floats = mean.map((m, c) => Float32Array.from(
      { length: 256 }, (_, byte) => (byte / 255 - m) / (std[c] ?? 1)));
  }

  get length(): number {
    return this.pixels.length;
  }

  async batch(indices: Uint32Array, signal?: AbortSignal): Promise<Batch> {
    const { x, y } = await this.pixels.batch(indices, signal);
    if (!(x instanceof Uint8Array)) throw new InvalidInputError("pixels are no Uint8Array");
    const floats = this.scaled(x, indices.length);
    return y === undefined ? { x: floats } : { x: floats, y };
  }

  private scaled(bytes: Uint8Array, samples: number): Float32Array {
    const scaled = new Float32Array(bytes.length);
    const planes = samples * this.floats.length;
    const size = bytes.length / planes;
    for (let plane = 0; plane < planes; plane++) {
      const floats = this.floats[plane % this.floats.length] ?? scaled;
      for (let i = plane * size; i < (plane + 1) * size; i++) {
        scaled[i] = floats[bytes[i] ?? 0] ?? 0;
      }
    }
    return scaled;
  }
}
