/**
 * What a training run can go back to: a picture of its state now and then, and every call since.
 *
 * A picture and the calls after it give the state of every step again, bit for bit.  A device that
 * is lost is replaced by that (`session.ts`), and a step that went wrong is taken back
 * (`recovery.ts`).  The oldest picture stays until the run went well for some steps after the next.
 *
 *     [ picture | call call call … ][ picture | call call … ]
 */

import { memoryOf } from "./batch-memory.ts";
import type { Executor, Result, Wanted } from "./executor.ts";
import type { Argument, InputArray } from "./inputs.ts";
import type { Manifest } from "./manifest.ts";
import type { Bytes } from "./safetensors.ts";
import { nonFiniteEntries } from "./state.ts";

/** Enough of a call to make it again. */
export interface RecordedCall {
  readonly program: string;
  readonly given: readonly Argument[];
  readonly roles: Wanted | undefined;
  readonly rates: readonly number[];
  /** What it gives on the device that took over, if one did. */
  again?: { executor: Executor; results: Promise<Result[]> };
}

/** The state after so many steps. */
export interface Picture {
  readonly step: number;
  readonly image: Bytes;
}

/** A picture, on its way at first, and the calls after it. */
interface Segment {
  readonly step: number;
  image: Bytes | undefined;
  readonly calls: RecordedCall[];
  bytes: number;
}

export const EVERY_STEPS = 50;
const MOST_BYTES = 16 * 2 ** 20; // of batches after one picture
const FEWEST_STEPS = 4; // between pictures, however large the batches are

/** Whether a program completes a training step: as a whole, or the last of its parts. */
export function endsStep(program: string): boolean {
  return program === "train" || program === "apply";
}

/** Programs that leave the state as it is (spec/manifest.md, "Programs"). */
const PURE: ReadonlySet<string> = new Set(["evaluate", "predict", "gradients"]);

export class Journal {
  /** Steps between pictures; undefined keeps none. */
  everySteps: number | undefined;
  /** Whether steps may be taken back: then a picture with values that are not finite is none. */
  isGuarded = false;
  private segments: Segment[] = [];
  /** The memory of a picture that is not needed any more. */
  private spare: Bytes | undefined;
  /** That of batches which are not needed any more. */
  private spent: ArrayBuffer[] = [];

  constructor(private readonly manifest: Manifest) {}

  /** Whether a picture of the state after so many steps is due before the next call. */
  isDue(step: number): boolean {
    const { everySteps } = this;
    if (everySteps === undefined) return false;
    const last = this.segments.at(-1);
    if (!last) return true;
    const since = step - last.step;
    if (since < Math.min(FEWEST_STEPS, everySteps)) return false;
    return last.bytes > MOST_BYTES || (step % everySteps === 0 && since >= everySteps / 2);
  }

  /** Memory for the next picture, if there is some to use again. */
  takeSpare(): Bytes | undefined {
    const { spare } = this;
    this.spare = undefined;
    return spare;
  }

  /** The memory of a guarded run's batches that cannot be taken again any more. */
  takeSpent(): readonly ArrayBuffer[] {
    const { spent } = this;
    this.spent = [];
    return spent;
  }

  /** Begins with a new picture; its values may still be on their way. */
  begin(step: number, image: Promise<Bytes>): void {
    const segment: Segment = { step, image: undefined, calls: [], bytes: 0 };
    this.segments.push(segment);
    image.then((bytes) => { this.develop(segment, bytes); }, () => { this.merge(segment); });
  }

  add(call: RecordedCall): void {
    const last = this.segments.at(-1);
    if (!last) return;
    last.calls.push(call);
    last.bytes += bytesOf(call);
  }

  /** A call has its results: those that change nothing need not be made again. */
  settle(call: RecordedCall): void {
    if (PURE.has(call.program)) this.remove(call);
  }

  /** A call that came to nothing. */
  remove(call: RecordedCall): void {
    for (const { calls } of this.segments) {
      const i = calls.indexOf(call);
      if (i >= 0) calls.splice(i, 1);
    }
  }

  /** Steps up to this one went well: pictures that are older than needed go. */
  confirm(step: number): void {
    const wait = this.isGuarded ? Math.ceil((this.everySteps ?? 0) / 2) : 0;
    for (let next = this.segments[1]; next?.image && step >= next.step + wait;) {
      const last = this.segments.shift();
      this.spare = last?.image;
      if (this.isGuarded) this.spent.push(...memoryOf(last?.calls.flatMap(arraysOf) ?? []));
      next = this.segments[1];
    }
  }

  /** The newest picture, and the calls after it; undefined where there is none. */
  newest(): { picture: Picture; calls: readonly RecordedCall[] } | undefined {
    const developed = this.segments.map(({ image }) => image !== undefined);
    return this.from(developed.lastIndexOf(true));
  }

  /** The oldest picture, and the training calls after it; undefined where there is none. */
  oldest(): { picture: Picture; calls: readonly RecordedCall[] } | undefined {
    return this.from(this.segments[0]?.image ? 0 : -1);
  }

  /** Forgets what came after a picture: from there on the run is another one. */
  rewind({ step, image }: Picture): void {
    this.segments = [{ step, image, calls: [], bytes: 0 }];
  }

  /** Forgets everything: the state was replaced. */
  reset(): void {
    this.segments = [];
  }

  private from(start: number) {
    const { step, image } = this.segments[start] ?? {};
    if (step === undefined || !image) return undefined;
    const calls = this.segments.slice(start).flatMap((segment) => segment.calls);
    return { picture: { step, image }, calls };
  }

  private develop(segment: Segment, image: Bytes): void {
    const isFirst = segment === this.segments[0];
    const isBad = this.isGuarded && !isFirst && nonFiniteEntries(this.manifest, image).length > 0;
    if (isBad) this.merge(segment);
    else segment.image = image;
  }

  /** A picture that failed: its calls follow those of the one before. */
  private merge(segment: Segment): void {
    const i = this.segments.indexOf(segment);
    if (i < 0) return;
    this.segments.splice(i, 1);
    const before = this.segments[i - 1];
    if (!before) this.segments = [];
    before?.calls.push(...segment.calls);
    if (before) before.bytes += segment.bytes;
  }
}

function arraysOf({ given }: RecordedCall): InputArray[] {
  return given.map(({ data }) => data);
}

function bytesOf(call: RecordedCall): number {
  return arraysOf(call).reduce((sum, data) =>
    sum + (ArrayBuffer.isView(data) ? data.byteLength : 8 * data.length), 0);
}
