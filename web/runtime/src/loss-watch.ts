/**
 * Watches the losses of a run for spikes and explosions.
 *
 * A spike is a loss many deviations above the running mean; an explosion one far above all that
 * the run began with.  Both follow from the losses alone: a run is judged the same everywhere.
 */

export interface WatchOptions {
  /** A loss so many times the largest of the first ten has exploded. */
  explosion: number;
  /** A loss so many deviations above the running mean is a spike. */
  deviations: number;
  /** Whether a spike fails its step; then it teaches nothing. */
  rollBackSpikes: boolean;
}

export interface Verdict {
  isExploded: boolean;
  /** Deviations above the running mean, where they make a spike. */
  spike?: number;
}

const FIRST_STEPS = 10;
const WARM_UP = 20; // steps before anything is a spike
const NEWEST_WEIGHT = 0.02; // of the newest loss in the running mean
const LEAST_DEVIATION = 0.05; // of the mean: a loss that hardly moves is no measure

export class LossWatch {
  private count = 0;
  private largest = 0;
  private mean = 0;
  private variance = 0;

  constructor(private readonly options: WatchOptions) {}

  /** What to think of the next loss, a finite one. */
  note(loss: number): Verdict {
    const { explosion, deviations, rollBackSpikes } = this.options;
    const isExploded = this.count >= FIRST_STEPS && this.largest > 0
      && loss > explosion * this.largest;
    const deviation = Math.max(Math.sqrt(this.variance), LEAST_DEVIATION * Math.abs(this.mean));
    const above = (loss - this.mean) / deviation;
    const isSpike = this.count >= WARM_UP && above > deviations;
    if (!isExploded && !(isSpike && rollBackSpikes)) this.learn(loss);
    return isSpike ? { isExploded, spike: above } : { isExploded };
  }

  private learn(loss: number): void {
    const weight = Math.max(NEWEST_WEIGHT, 1 / ++this.count);
    if (this.count <= FIRST_STEPS) this.largest = Math.max(this.largest, loss);
    const change = loss - this.mean;
    this.mean += weight * change;
    this.variance = (1 - weight) * (this.variance + weight * change * change);
  }
}
