/** The page without its looks: one trainer, its data, a run that can pause. */

import type { DataLoader, DeviceInfo, Fit, FitEvent, Trainer, TrainerOptions } from "../../runtime/src/index.ts";
import { DataChoice } from "./data-choice.svelte.ts";
import { explained } from "./explained.ts";
import { exported, imported, type FileKind } from "./files.ts";
import { importHearth, type Hearth } from "./hearth.ts";
import type { Owner } from "./kept-data.ts";
import { RunView } from "./run-view.svelte.ts";
import { progressOf, scheduleOf } from "./schedule.ts";
import type { Splits } from "./served-data.ts";
import { DEFAULTS, keepPlan, readPlan, type FoundBatchSize, type Settings } from "./settings.ts";
import { MEMORY_BYTES, trainerOptions } from "./trainer-options.ts";

export type Phase = "loading" | "ready" | "training" | "paused" | "evaluating" | "failed";

const SAVE_EVERY_MS = 10_000;
const EVALUATION_BATCH = 256;

export class Workbench {
  phase = $state<Phase>("loading");
  error = $state<string>();
  /** Of the download or of the run; undefined while a run looks for its batch size. */
  progress = $state<number | undefined>(0);
  /** The epoch that trains, from 0. */
  epoch = $state(0);
  device = $state.raw<DeviceInfo>();
  readonly shown = new RunView();
  /** The step at which a checkpoint was saved last. */
  savedStep = $state<number>();
  /** Where a reload went on. */
  resumedStep = $state<number>();
  settings = $state<Settings>({ ...DEFAULTS });
  /** The batch size that the run found, and what it measured. */
  found = $state.raw<FoundBatchSize>();
  /** Whether a run was stopped or cut off before its end: it can go on where it is. */
  unfinished = $state(false);
  trainer = $state.raw<Trainer>();
  hearth: Hearth | undefined;
  private run: Fit | undefined;
  private abort = new AbortController();
  private readonly choice: DataChoice;
  private saved = 0;

  constructor(readonly base: URL, private readonly query: string) {
    this.choice = new DataChoice(base, (text, tone) => { this.note(text, tone); });
  }

  get data(): Splits | undefined {
    return this.choice.current;
  }

  get model(): string {
    return this.trainer?.manifest.model ?? "";
  }

  /** The name of this page's checkpoints. */
  get name(): string {
    return `page ${this.model || this.base.pathname}`;
  }

  /** Samples of a training step. */
  get batchSize(): number {
    return (this.settings.findBatchSize ? this.found?.batchSize : undefined) ?? this.settings.batchSize;
  }

  get isRunning(): boolean {
    return this.phase === "training" || this.phase === "paused";
  }

  /** Loads model and data; goes on with a run that a reload cut off. */
  async open(): Promise<void> {
    try {
      this.hearth = await importHearth(this.base);
      this.trainer = await this.hearth.Trainer.load(this.base, this.options());
      this.device = this.trainer.device;
      this.shown.of(this.trainer.manifest);
      this.settings.learningRate = [this.trainer.learningRate].flat()[0] ?? 0.001;
      await this.choice.open(this.hearth, this.owner(), (share) => { this.progress = share; });
      this.progress = 0;
      await this.goOn();
    } catch (error) {
      this.fail(error);
      if (!this.data) this.phase = "failed";
    }
  }

  /** Trains for the chosen epochs, or goes on with the run that did not come to its end. */
  async train(): Promise<void> {
    const { trainer, hearth, data } = this.begin("training");
    const from = this.unfinished ? trainer.cursor : undefined;
    const before = trainer.step;
    this.unfinished = true;
    const { epochs, seed, shape, findBatchSize } = this.settings;
    const batchSize = findBatchSize ? "auto" : this.settings.batchSize;
    if (!from) this.found = undefined;
    if (findBatchSize && !this.found) this.progress = undefined;
    this.abort = new AbortController();
    try {
      const loader = new hearth.DataLoader(data.train, { batchSize, shuffle: true, seed });
      this.run = trainer.fit(loader, {
        epochs, signal: this.abort.signal, validate: this.tests(hearth, data),
        schedule: scheduleOf(hearth, shape, trainer, loader, epochs, this.rate), ...(from ? { from } : {}),
      });
      this.keep(true);
      for await (const event of this.run) await this.hear(event, loader);
      this.unfinished = false;
      await this.save();
    } catch (error) {
      // What failed before its first step can be begun anew, with other settings.
      if (!from && trainer.step === before) this.unfinished = false;
      if (!this.abort.signal.aborted) this.fail(error);
    } finally {
      this.run = undefined;
      this.progress ??= 0;
      this.keep(false);
      this.phase = "ready";
    }
  }

  pause(): void {
    if (this.phase !== "training") return;
    this.run?.pause();
    this.phase = "paused";
    this.keep(false);
    void this.save();
  }

  resume(): void {
    if (this.phase !== "paused") return;
    this.phase = "training";
    this.keep(true);
    this.run?.resume();
  }

  /** Ends the run; its weights stay. */
  stop(): void {
    this.abort.abort();
    this.run?.resume(); // one that waits would never see the signal
    this.keep(false);
  }

  async evaluate(): Promise<void> {
    const { trainer, hearth, data } = this.begin("evaluating");
    try {
      this.shown.evaluated(trainer.step, await trainer.evaluate(this.tests(hearth, data)));
    } catch (error) {
      this.fail(error);
    } finally {
      this.phase = "ready";
    }
  }

  /** Takes effect with the next step, also in the middle of a run. */
  setLearningRate(rate: number): void {
    if (!(Number.isFinite(rate) && rate >= 0)) {
      this.error = `The learning rate is ${String(rate)}: it has to be a number, 0 or more.`;
      return;
    }
    this.error = undefined;
    this.settings.learningRate = rate;
    if (this.isRunning) this.keep(this.phase === "training");
  }

  /** Trains on a person's own data from now on. */
  async useOwn(data: Splits): Promise<void> {
    this.error = undefined;
    await this.choice.takeOwn(data, this.owner());
  }

  /** Trains on the data beside the page again. */
  async useServed(): Promise<void> {
    this.error = undefined;
    await this.choice.takeServed(this.owner());
  }

  /** Forgets the run and what is saved of it: the weights are those of the bundle again. */
  async startOver(): Promise<void> {
    const { trainer, hearth } = this.parts();
    keepPlan(this.name, undefined);
    await hearth.Trainer.removeCheckpoints(this.name);
    await trainer.dispose();
    this.trainer = await hearth.Trainer.load(this.base, this.options());
    this.device = this.trainer.device;
    this.unfinished = false;
    this.progress = this.epoch = 0;
    this.savedStep = this.resumedStep = this.found = undefined;
    this.shown.clear();
  }

  async save(): Promise<void> {
    const { trainer } = this.parts();
    try {
      await trainer.saveCheckpoint(this.name, { keep: 2 });
      this.savedStep = trainer.step;
      this.saved = performance.now();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Weights or a whole run, as a file for PyTorch. */
  file(kind: FileKind): Promise<{ name: string; bytes: Uint8Array }> {
    return exported(this.parts().trainer, kind);
  }

  /** Weights, or a run that goes on, from a file. */
  async load(file: Blob): Promise<void> {
    this.note(await imported(this.parts().trainer, file), "good");
  }

  /** As many samples as the memory allows that training may take, at most so many. */
  fitting(most: number): number {
    const { trainer } = this.parts();
    let count = most;
    while (count > 1 && trainer.bytesFor(count) > MEMORY_BYTES) count = Math.floor(count / 2);
    return count;
  }

  /** Shows an error; the page goes on. */
  fail(error: unknown): void {
    this.error = explained(error);
  }

  private readonly rate = (): number => this.settings.learningRate;

  private async goOn(): Promise<void> {
    const { trainer, hearth, data } = this.parts();
    const plan = readPlan(this.name);
    const saved = await hearth.Trainer.checkpoints();
    this.phase = "ready";
    if (!saved.some(({ name }) => name === this.name)) return;
    const resumed = await hearth.Trainer.resume(this.name, { ...this.options(), source: this.base });
    await trainer.dispose();
    this.trainer = resumed;
    this.device = resumed.device;
    this.resumedStep = this.savedStep = resumed.step;
    this.shown.history(resumed.history);
    if (!plan) return;
    this.settings = plan.settings;
    this.unfinished = plan.unfinished;
    this.found = plan.found;
    if (this.unfinished && plan.data !== undefined && plan.data !== data.name) {
      this.error = `This run trained on ${plan.data}. Choose it again, then press Continue.`;
    } else if (plan.running) {
      void this.train();
    }
  }

  private async hear(event: FitEvent, loader: DataLoader): Promise<void> {
    this.shown.hear(event, loader.batchSize);
    this.epoch = event.epoch;
    switch (event.kind) {
      case "batchSize":
        this.found = { batchSize: event.batchSize, stepMs: event.stepMs };
        this.keep(this.phase === "training");
        break;
      case "steps": {
        const { done, total } = progressOf(this.parts().trainer, loader, this.settings.epochs);
        this.progress = done / total;
        break;
      }
      case "epoch":
        await this.save();
        break;
      case "device":
        this.device = event.device;
        break;
    }
    if (performance.now() - this.saved > SAVE_EVERY_MS) await this.save();
  }

  private owner(): Owner {
    if (!this.trainer) throw new Error("the model is not loaded yet");
    return { page: this.name, manifest: this.trainer.manifest };
  }

  private note(text: string, tone: "good" | "bad"): void {
    this.shown.note(text, tone, this.trainer?.step ?? 0);
  }

  private keep(running: boolean): void {
    const { settings, unfinished, found } = this;
    keepPlan(this.name, { settings, running, unfinished, found, data: this.data?.name });
  }

  private tests({ DataLoader }: Hearth, { test }: Splits): DataLoader {
    return new DataLoader(test, { batchSize: this.fitting(EVALUATION_BATCH) });
  }

  private begin(phase: Phase) {
    const found = this.parts();
    if (this.phase !== "ready") throw new Error(`the page is ${this.phase}`);
    this.error = undefined;
    this.phase = phase;
    return found;
  }

  private parts() {
    const { trainer, hearth, data } = this;
    if (!trainer || !hearth || !data) throw new Error("the model is not loaded yet");
    return { trainer, hearth, data };
  }

  private options(): TrainerOptions {
    return {
      ...trainerOptions(this.query), onDevice: (device) => { this.device = device; },
      onWarning: (message) => { this.note(message, "bad"); },
    };
  }
}
