/**
 * The common part of every page: reads the data, takes the first step, and times the others.
 *
 * Python calls `globalThis.bench`; it exists once the first step is done or has failed.
 */

export interface Spec {
  readonly workload: string;
  readonly rows: number;
  readonly backend: string;
  readonly threads?: number;
  readonly worker?: boolean;
  readonly fit?: boolean;
}

export type Values = Float32Array | Int32Array;

export interface Tensor {
  readonly values: Values;
  readonly shape: readonly number[];
}

export interface Data {
  /** By the names of PyTorch's state_dict, in its order. */
  readonly weights: ReadonlyMap<string, Tensor>;
  /** The names of what is trained; the others are buffers, such as BatchNorm's statistics. */
  readonly trained: readonly string[];
  readonly batches: readonly { x: Tensor; y: Tensor }[];
}

/** A model in training: one step on a batch, up to the loss as a number of JavaScript. */
export interface Training {
  step(batch: number): number | Promise<number>;
  /** The logits of the first sample, as numbers of JavaScript. */
  predict?(): Promise<Values>;
  /** Takes steps for so long, if there is a better way than one by one; the time of each. */
  train?(seconds: number): Promise<number[]>;
  /** What computes, in words. */
  readonly device: string;
}

export type Open = (data: Data, spec: Spec) => Promise<Training>;

interface Table {
  arrays: { name: string; dtype: string; shape: number[]; offset: number }[];
  trained: string[];
}

/** Opens the peer on the data of this page and puts its session where Python finds it. */
export async function serve(open: Open): Promise<void> {
  try {
    const spec = JSON.parse(decodeURIComponent(location.search.slice(1))) as Spec;
    const data = await readData();
    const training = await open(data, spec);
    const first = await training.step(0);
    const session = new Session(training, data.batches.length, first, performance.now());
    Object.assign(globalThis, { bench: session });
  } catch (error) {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    Object.assign(globalThis, { bench: { problem: text } });
  }
}

class Session {
  readonly problem = "";
  private next = 1;

  constructor(
    private readonly training: Training, private readonly batches: number,
    private readonly first: number, private readonly firstStepMs: number,
  ) {}

  async losses(count: number): Promise<number[]> {
    const found = [this.first];
    while (found.length < count) found.push(await this.step());
    return found;
  }

  async times(seconds: number): Promise<number[]> {
    if (this.training.train) return this.training.train(seconds);
    const found: number[] = [];
    const end = performance.now() + seconds * 1000;
    for (let start = performance.now(); ;) {
      await this.step();
      const now = performance.now();
      found.push(now - start);
      if (now >= end) return found;
      start = now;
    }
  }

  /** The time of each prediction for one sample; none where the peer only trains. */
  async predictions(seconds: number): Promise<number[]> {
    const found: number[] = [];
    const end = performance.now() + seconds * 1000;
    for (let start = performance.now(); this.training.predict && start < end;) {
      await this.training.predict();
      const now = performance.now();
      found.push(now - start);
      start = now;
    }
    return found;
  }

  /** The same while steps go on, and how many of those there were. */
  async predictionsWhileTraining(seconds: number): Promise<{ times: number[]; steps: number }> {
    let [steps, done] = [0, false];
    const train = async (): Promise<void> => {
      for (; !done; steps++) await this.step();
    };
    const trained = train();
    const times = await this.predictions(seconds);
    done = true;
    await trained;
    return { times, steps };
  }

  facts(): Record<string, unknown> {
    return { first_step_ms: this.firstStepMs, device: this.training.device };
  }

  private async step(): Promise<number> {
    return this.training.step(this.next++ % this.batches);
  }
}

/** The first sample of a batch. */
export function firstSample({ values, shape }: Tensor): Tensor {
  const [rows = 1, ...rest] = shape;
  return { values: values.slice(0, values.length / rows), shape: [1, ...rest] };
}

/** Apart from the file, so that its weights need not stay in memory. */
function copied({ values, shape }: Tensor): Tensor {
  return { values: values.slice(), shape };
}

async function readData(): Promise<Data> {
  const [table, block] = await Promise.all([
    fetch("/data.json").then((response) => response.json() as Promise<Table>),
    fetch("/data.bin").then((response) => response.arrayBuffer()),
  ]);
  const tensors = new Map(table.arrays.map(({ name, dtype, shape, offset }) => {
    const kind = dtype === "float32" ? Float32Array : Int32Array;
    const values = new kind(block, offset, shape.reduce((product, n) => product * n, 1));
    return [name, { values, shape }] as const;
  }));
  const weights = new Map([...tensors].filter(([name]) => name.startsWith("weight/"))
    .map(([name, tensor]) => [name.slice("weight/".length), tensor] as const));
  const batches = [];
  for (let i = 0; ; i++) {
    const x = tensors.get(`x/${String(i)}`);
    const y = tensors.get(`y/${String(i)}`);
    if (!x || !y) break;
    batches.push({ x: copied(x), y: copied(y) });
  }
  return { weights, trained: table.trained, batches };
}
