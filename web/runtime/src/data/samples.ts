/**
 * Data sets out of single samples, and out of other data sets.
 *
 * A sample is the same as a batch of one; `collate` puts some of them one after another.
 */

import {
  asList, InvalidInputError, requireWhole, type Batch, type Dataset, type InputArray, type Inputs,
} from "../index.ts";

/** Samples that a function makes, one at a time; all have arrays of the same types and lengths. */
export class SampleDataset implements Dataset {
  constructor(
    readonly length: number,
    private readonly sample: (index: number, signal?: AbortSignal) => Batch | Promise<Batch>,
    private readonly put: (samples: readonly Batch[]) => Batch = collate,
  ) {
    requireWhole(length, "the number of samples", 1);
  }

  async batch(indices: Uint32Array, signal?: AbortSignal): Promise<Batch> {
    return this.put(await Promise.all(Array.from(indices, async (index) =>
      this.sample(index, signal))));
  }
}

/** Samples of equal form as one batch; InvalidInputError says where one differs. */
export function collate(samples: readonly Batch[]): Batch {
  const [first] = samples;
  if (!first) throw new InvalidInputError("a batch of no samples");
  const x = joined(samples.map((sample) => sample.x), "x");
  if (samples.every(({ y }) => y === undefined)) return { x };
  return { x, y: joined(samples.map(({ y }, i) => y ?? missing(i)), "y") };
}

/** One data set of several with the same samples: all their inputs, and all their targets. */
export function combine(...datasets: readonly Dataset[]): Dataset {
  const [first] = datasets;
  const other = datasets.findIndex(({ length }) => length !== first?.length);
  if (!first || other >= 0) {
    throw new InvalidInputError(`data set ${String(other)} has ${String(datasets[other]?.length)} \
samples, the first ${String(first?.length)}`);
  }
  return {
    get length() { return first.length; },
    async batch(indices, signal) {
      const batches = await Promise.all(
        datasets.map(async (dataset) => dataset.batch(indices, signal)));
      const y = batches.flatMap((batch) => (batch.y === undefined ? [] : asList(batch.y, "y")));
      const x = batches.flatMap((batch) => asList(batch.x, "x"));
      return { x: simplest(x), ...(y.length > 0 ? { y: simplest(y) } : {}) };
    },
  };
}

/** The batch cut into its samples. */
export function samplesOf({ x, y }: Batch, samples: number): Batch[] {
  const [xs, ys] = [asList(x, "x"), y === undefined ? undefined : asList(y, "y")];
  const part = (arrays: InputArray[], i: number): Inputs =>
    simplest(arrays.map((array) => {
      const size = array.length / samples;
      return array.slice(i * size, (i + 1) * size);
    }));
  return Array.from({ length: samples }, (_, i) =>
    ({ x: part(xs, i), ...(ys ? { y: part(ys, i) } : {}) }));
}

function joined(given: readonly Inputs[], label: string): Inputs {
  const lists = given.map((inputs) => asList(inputs, label));
  const [first = []] = lists;
  return simplest(first.map((like, k) => concatenated(lists.map((list, i) => {
    const array = list[k];
    const same = list.length === first.length && array?.length === like.length
      && array.constructor === like.constructor;
    if (same) return array;
    throw new InvalidInputError(`${label} of sample ${String(i)} of the batch differs from the \
first: ${describe(list)}, the first has ${describe(first)}`, {
      remedy: "give all samples the same length, as by resizing or padding",
    });
  }))));
}

function concatenated(arrays: readonly InputArray[]): InputArray {
  const [first = []] = arrays;
  if (!ArrayBuffer.isView(first)) return (arrays as readonly number[][]).flat();
  const Values = first.constructor as new (length: number) => Float32Array; // or whichever it is
  const whole = new Values(first.length * arrays.length);
  arrays.forEach((array, i) => { whole.set(array as Float32Array, i * first.length); });
  return whole;
}

function simplest(arrays: readonly InputArray[]): Inputs {
  const [only] = arrays;
  return arrays.length === 1 && only ? only : arrays;
}

function describe(list: readonly InputArray[]): string {
  return list.map(({ constructor, length }) => `${constructor.name}(${String(length)})`).join(", ");
}

function missing(sample: number): never {
  throw new InvalidInputError(`sample ${String(sample)} of the batch has no y, others have`);
}
