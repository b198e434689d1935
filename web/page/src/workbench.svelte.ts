/**
 * The page without its looks: one trainer, its data, a run that can pause.
 */

import type {
  DataLoader, DeviceInfo, Fit, FitEvent, Trainer, TrainerOptions,
} from "../../runtime/src/index.ts";
import { importHearth, type Hearth } from "./hearth.ts";
import { RunView, type Note } from "./run-view.svelte.ts";
import { fetchServedData, type Splits } from "./served-data.ts";
import { keepPlan, readPlan, scheduleOf, type Settings } from "./settings.ts";

export type Phase = "loading" | "ready" | "training" | "paused" | "evaluating" | "failed";

const SAVE_EVERY_MS = 10_000;
const EVALUATION_BATCH = 256;

export class Workbench {
  phase = $state<Phase>("loading");
  error = $state<string>();
  progress = $state(0);
  device = $state.raw<DeviceInfo>();
  data = $state.raw<Splits>();
  readonly shown = new RunView();
  /** The step at which a checkpoint was saved last. */
  savedStep = $state<number>();
  /** Where a reload went on. */
  resumedStep = $state<number>();
  settings = $state<Settings>({
    epochs: 5, batchSize: 64, learningRate: 0.001, shape: "constant", seed: 1,
  });
  /** Whether a run was stopped or cut off before its end: it can go on where it is. */
  unfinished = $state(false);
  trainer = $state.raw<Trainer>();
  hearth: Hearth | undefined;
  private run: Fit | undefined;
  private abort = new AbortController();
  private served: Splits | undefined;
  private saved = 0;

  constructor(readonly base: URL, private readonly query: string) {}

  get model(): string {
    return this.trainer?.manifest.model ?? "";
  }

  /** The name of this page's checkpoints. */
  get name(): string {
    return `page ${this.model || this.base.pathname}`;
  }

  get isBusy(): boolean {
    return this.phase === "training" || this.phase === "paused" || this.phase === "evaluating";
  }

  /** Loads model and data; goes on with a run that a reload cut off. */
  async open(): Promise<void> {
    try {
      this.hearth = await importHearth(this.base);
      this.trainer = await this.hearth.Trainer.load(this.base, this.options());
      this.device = this.trainer.device;
      this.settings.learningRate = [this.trainer.learningRate].flat()[0] ?? 0.001;
      this.served = this.data = await fetchServedData(
        this.hearth, new URL("../data/", this.base), this.hasFloatTargets(),
        (share) => { this.progress = share; });
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
    this.unfinished = true;
    const { epochs, batchSize, seed, shape } = this.settings;
    this.abort = new AbortController();
    try {
      const loader = new hearth.DataLoader(data.train, { batchSize, shuffle: true, seed });
      const first = from ? from.epoch * loader.length + from.batch : 0;
      const begun = trainer.step - first;
      const shaped = scheduleOf(hearth, shape, epochs * loader.length, this.rate);
      this.run = trainer.fit(loader, {
        epochs, signal: this.abort.signal, validate: this.tests(hearth, data),
        schedule: (step, epoch) => shaped(step - begun, epoch),
        ...(from ? { from } : {}),
      });
      this.keep(true);
      for await (const event of this.run) await this.hear(event, loader, begun);
      this.unfinished = false;
      this.keep(false);
      await this.save();
    } catch (error) {
      if (!this.abort.signal.aborted) this.fail(error);
    } finally {
      this.run = undefined;
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
      const { loss, metrics } = await trainer.evaluate(this.tests(hearth, data));
      this.shown.evaluated(trainer.step, loss, metrics["accuracy"]);
    } catch (error) {
      this.fail(error);
    } finally {
      this.phase = "ready";
    }
  }

  /** Takes effect with the next step, also in the middle of a run. */
  setLearningRate(rate: number): void {
    if (!(Number.isFinite(rate) && rate >= 0)) {
      this.error = `the learning rate is ${String(rate)}, expected 0 or more`;
      return;
    }
    this.error = undefined;
    this.settings.learningRate = rate;
    if (this.isBusy) this.keep(this.phase === "training");
  }

  /** Trains on other data from now on. */
  use(data: Splits): void {
    this.data = data;
    this.error = undefined;
    this.note(`training on ${data.name}`, "good");
  }

  useServed(): void {
    if (this.served) this.use(this.served);
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
    this.progress = 0;
    this.savedStep = this.resumedStep = undefined;
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
  async file(kind: "safetensors" | "json" | "checkpoint"): Promise<{ name: string; bytes: Uint8Array }> {
    const { trainer } = this.parts();
    const bytes = kind === "checkpoint" ? await trainer.exportCheckpoint()
      : await trainer.exportWeights(kind);
    const model = this.model.toLowerCase().replace(/[^a-z0-9]+/g, "-") || "model";
    const suffix = kind === "checkpoint" ? "checkpoint.safetensors" : kind;
    return { name: `${model}.${suffix}`, bytes };
  }

  /** Weights, or a run that goes on, from a file. */
  async load(file: Blob): Promise<void> {
    const { trainer } = this.parts();
    const bytes = await file.arrayBuffer();
    try {
      await trainer.loadCheckpoint(bytes);
      this.note(`continued a checkpoint at step ${trainer.step.toLocaleString("en")}`, "good");
    } catch (reason) {
      if (!String(reason).includes("not a Hearth checkpoint")) throw reason;
      await trainer.loadWeights(bytes);
      this.note("loaded weights", "good");
    }
  }

  /** Shows an error; the page goes on. */
  fail(error: unknown): void {
    this.error = error instanceof Error ? error.message : String(error);
  }

  private readonly rate = (): number => this.settings.learningRate;

  private async goOn(): Promise<void> {
    const { trainer, hearth } = this.parts();
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
    const { running, unfinished, ...settings } = plan;
    this.settings = settings;
    this.unfinished = unfinished;
    if (running) void this.train();
  }

  private async hear(event: FitEvent, loader: DataLoader, begun: number): Promise<void> {
    switch (event.kind) {
      case "steps":
        this.progress = (this.parts().trainer.step - begun) / (this.settings.epochs * loader.length);
        this.shown.steps(event.steps, loader.batchSize);
        break;
      case "batchSize":
        this.note(`batches of ${String(event.batchSize)} train fastest here`, "good", event.step);
        break;
      case "validation":
        this.shown.evaluated(event.step, event.loss, event.metrics["accuracy"]);
        break;
      case "epoch":
        this.shown.steps([], loader.batchSize, true);
        await this.save();
        break;
      case "spike":
        this.note(`the loss jumped to ${event.loss.toPrecision(3)}`, "bad", event.step);
        break;
      case "recovery": {
        const { layer = "", finding = "" } = event.diagnosis ?? {};
        const where = layer ? ` (${layer}: ${finding})` : "";
        this.shown.loss.truncate(event.restored);
        this.note(`${event.reason}${where}. Back to step ${String(event.restored)}, learning rate `
          + event.learningRate.toPrecision(2), "bad", event.step);
        break;
      }
      case "device":
        this.device = event.device;
        this.note(`${event.reason}; going on with ${event.device.backend}`, "bad", event.step);
        break;
    }
    if (performance.now() - this.saved > SAVE_EVERY_MS) await this.save();
    this.shown.redraw();
  }

  private note(text: string, tone: Note["tone"], step = this.trainer?.step ?? 0): void {
    this.shown.note({ step, text, tone });
  }

  private keep(running: boolean): void {
    keepPlan(this.name, { ...this.settings, running, unfinished: this.unfinished });
  }

  private tests({ DataLoader }: Hearth, { test }: Splits): DataLoader {
    return new DataLoader(test, { batchSize: EVALUATION_BATCH });
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

  private hasFloatTargets(): boolean {
    const inputs = this.trainer?.manifest.programs["train"]?.inputs ?? [];
    return inputs.find(({ role }) => role === "target")?.dtype === "float32";
  }

  private options(): TrainerOptions {
    const query = new URLSearchParams(this.query);
    const numbers = ["threads", "seed"].flatMap((name) => {
      const value = query.get(name);
      return value === null ? [] : [[name, Number(value)] as const];
    });
    const backend = (query.get("backend") ?? "auto") as NonNullable<TrainerOptions["backend"]>;
    return {
      backend, ...Object.fromEntries(numbers), onDevice: (device) => { this.device = device; },
      onWarning: (message) => { this.note(message, "bad"); },
    };
  }
}
