/** Pictures of a canvas or a camera, taken class by class: a data set that grows. */

import {
  BackendError, InvalidInputError, OutOfMemoryError, reasonOf, requireWhole, type Batch,
} from "../index.ts";
import { drawPixels, imageSize, type ImageSize, type PixelOptions } from "./decode-image.ts";
import { normalisation, PixelDataset, type NormaliseOptions } from "./pixels.ts";

export interface CaptureOptions extends PixelOptions, NormaliseOptions {
  /** The names of the classes in the order of their labels. */
  classes: readonly string[];
  /** For all pictures, one byte a value; 256 MB by default. */
  limitBytes?: number;
}

/** What a picture is taken of. */
export type Frame = HTMLCanvasElement | OffscreenCanvas | HTMLVideoElement | ImageBitmap;

export interface RecordOptions {
  /** How many pictures to take; without, until `signal` aborts. */
  frames?: number;
  /** Between two pictures, in milliseconds; 100 by default. */
  intervalMs?: number;
  /** Ends the recording: what was taken stays. */
  signal?: AbortSignal;
  onProgress?: (taken: number) => void;
}

interface Taken {
  readonly pixels: Uint8Array;
  readonly label: number;
}

/** Captured pictures with their labels; a DataLoader sees what is there when its epoch begins. */
export class CaptureDataset extends PixelDataset {
  readonly classes: readonly string[];
  private readonly taken: Taken[];
  private readonly size: ImageSize;
  private readonly limitBytes: number;

  constructor(options: CaptureOptions) {
    const size = imageSize(options);
    const taken: Taken[] = [];
    super({
      get length() { return taken.length; },
      batch: (indices) => gather(taken, indices),
    }, normalisation(size.channels, options));
    const { classes, limitBytes = 256e6 } = options;
    requireWhole(classes.length, "the number of classes", 1);
    this.classes = classes;
    this.size = size;
    this.taken = taken;
    this.limitBytes = limitBytes;
  }

  /** The label of every sample. */
  get labels(): Int32Array {
    return Int32Array.from(this.taken, ({ label }) => label);
  }

  /** How many samples each class has. */
  get counts(): number[] {
    return this.classes.map((_, label) => this.taken.filter((one) => one.label === label).length);
  }

  /** Takes a picture for a class, by name or label.  Raises OutOfMemoryError at the limit. */
  add(frame: Frame, label: string | number): void {
    const chosen = typeof label === "number" ? label : this.classes.indexOf(label);
    if (this.classes[chosen] === undefined) {
      throw new InvalidInputError(
        `"${String(label)}" is no class: there are ${this.classes.join(", ")}`);
    }
    const { channels, height, width } = this.size;
    const pixels = new Uint8Array(channels * height * width);
    if (pixels.length * (this.taken.length + 1) > this.limitBytes) {
      throw new OutOfMemoryError(`the ${String(this.taken.length)} pictures take all of the \
${String(this.limitBytes)} bytes for them`, {
        remedy: "take fewer or smaller ones, or give a larger limitBytes",
      });
    }
    const [frameWidth, frameHeight] = "videoWidth" in frame
      ? [frame.videoWidth, frame.videoHeight] : [frame.width, frame.height];
    if (frameWidth === 0 || frameHeight === 0) {
      throw new InvalidInputError("the picture is empty", {
        why: "videoWidth" in frame ? "the video has not begun" : "it has no width or no height",
      });
    }
    drawPixels(frame, frameWidth, frameHeight, this.size, pixels);
    this.taken.push({ pixels, label: chosen });
  }

  /** Takes pictures for a class until there are enough, or the signal ends it; gives how many. */
  async record(
    frame: Frame, label: string | number,
    { frames = Infinity, intervalMs = 100, signal, onProgress }: RecordOptions,
  ): Promise<number> {
    if (frames === Infinity && !signal) {
      throw new InvalidInputError("a recording needs frames or a signal: else it never ends");
    }
    for (let taken = 0; ;) {
      if (signal?.aborted) return taken;
      this.add(frame, label);
      taken++;
      onProgress?.(taken);
      if (taken >= frames) return taken;
      await pause(intervalMs, signal);
    }
  }

  /** Removes one sample; those behind it move up. */
  remove(index: number): void {
    if (!(index in this.taken)) {
      throw new InvalidInputError(`there is no sample ${String(index)}`);
    }
    this.taken.splice(index, 1);
  }

  /** Removes all samples, or those of a class. */
  clear(label?: number): void {
    const kept = label === undefined ? [] : this.taken.filter((one) => one.label !== label);
    this.taken.splice(0, this.taken.length, ...kept);
  }
}

/** A camera that plays; `stop` switches it off. */
export interface Webcam {
  readonly video: HTMLVideoElement;
  readonly stream: MediaStream;
  stop(): void;
}

/** Asks the person for the camera.  Raises BackendError where there is none, or it is refused. */
export async function openWebcam(
  constraints: MediaTrackConstraints = { facingMode: "user" },
): Promise<Webcam> {
  let stream: MediaStream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: constraints });
  } catch (error) {
    throw new BackendError("the camera cannot be used", {
      why: reasonOf(error), remedy: "allow it for this page, and close what else uses it",
    });
  }
  try {
    const video = await playStream(stream);
    return { video, stream, stop: () => { stopStream(stream); } };
  } catch (error) {
    stopStream(stream);
    throw error;
  }
}

/** A video element that shows a stream, once its first picture is there. */
export async function playStream(stream: MediaStream): Promise<HTMLVideoElement> {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true; // else a phone plays it over the whole page
  video.srcObject = stream;
  await video.play();
  return video;
}

function stopStream(stream: MediaStream): void {
  stream.getTracks().forEach((track) => { track.stop(); });
}

function gather(taken: readonly Taken[], indices: Uint32Array): Batch {
  const size = taken[0]?.pixels.length ?? 0;
  const x = new Uint8Array(indices.length * size);
  indices.forEach((index, i) => { x.set(taken[index]?.pixels ?? [], i * size); });
  return { x, y: Int32Array.from(indices, (index) => taken[index]?.label ?? 0) };
}

/** Ends early, without an error, when the signal aborts. */
function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
}
