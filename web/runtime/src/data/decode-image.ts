/** Pictures of any size as bytes of one size, channel by channel. */

import { InvalidInputError, reasonOf, requireWhole } from "../index.ts";

export interface PixelOptions {
  /** Height and width of every sample. */
  size: number | readonly [height: number, width: number];
  /**
   * How a picture of another shape fits: "cover" cuts off what is too long, "contain" leaves
   * black borders, "stretch" distorts.  "cover" by default.
   */
  resize?: Resize;
  /** 3: red, green, blue; 1: grey.  3 by default. */
  channels?: 1 | 3;
}

export type Resize = "cover" | "contain" | "stretch";

export interface ImageSize {
  readonly height: number;
  readonly width: number;
  readonly resize: Resize;
  readonly channels: 1 | 3;
}

/** The options, checked. */
export function imageSize({ size, resize = "cover", channels = 3 }: PixelOptions): ImageSize {
  const [height, width] = typeof size === "number" ? [size, size] : size;
  requireWhole(height, "the height of size", 1);
  requireWhole(width, "the width of size", 1);
  if (!["cover", "contain", "stretch"].includes(resize)) {
    throw new InvalidInputError(`resize is "${resize}", expected cover, contain or stretch`);
  }
  if (![1, 3].includes(channels)) {
    throw new InvalidInputError(`channels is ${String(channels)}, expected 1 or 3`);
  }
  return { height, width, resize, channels };
}

/** Decodes a file; InvalidInputError with its name where it is no picture. */
export async function decodeImage(
  file: Blob, name: string, size: ImageSize, into: Uint8Array,
): Promise<void> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch (error) {
    throw new InvalidInputError(`${name} cannot be decoded as a picture`, {
      why: reasonOf(error), remedy: 'remove it, or give broken: "skip"',
    });
  }
  try {
    drawPixels(bitmap, bitmap.width, bitmap.height, size, into);
  } finally {
    bitmap.close(); // else its pixels stay until the collector finds out
  }
}

let canvas: OffscreenCanvasRenderingContext2D | undefined;

/** The picture at the size of a sample. */
export function drawPixels(
  picture: CanvasImageSource, pictureWidth: number, pictureHeight: number, size: ImageSize,
  into: Uint8Array,
): void {
  const { height, width, resize, channels } = size;
  canvas ??= new OffscreenCanvas(1, 1).getContext("2d", {
    willReadFrequently: true, // in memory: nothing comes back from a GPU
  }) ?? undefined;
  if (!canvas) throw new InvalidInputError("this browser draws on no OffscreenCanvas");
  canvas.canvas.width = width; // clears it, too
  canvas.canvas.height = height;
  canvas.imageSmoothingQuality = "high";
  canvas.fillRect(0, 0, width, height); // black below what is transparent
  const scales = [width / pictureWidth, height / pictureHeight] as const;
  const scale = resize === "cover" ? Math.max(...scales) : Math.min(...scales);
  const [x, y] = resize === "stretch" ? scales : [scale, scale];
  const [w, h] = [x * pictureWidth, y * pictureHeight];
  canvas.drawImage(picture, (width - w) / 2, (height - h) / 2, w, h);
  splitChannels(canvas.getImageData(0, 0, width, height).data, channels, into);
}

function splitChannels(rgba: Uint8ClampedArray, channels: 1 | 3, into: Uint8Array): void {
  const plane = rgba.length / 4;
  for (let i = 0; i < plane; i++) {
    const r = rgba[4 * i] ?? 0;
    const g = rgba[4 * i + 1] ?? 0;
    const b = rgba[4 * i + 2] ?? 0;
    if (channels === 3) {
      into[i] = r;
      into[plane + i] = g;
      into[2 * plane + i] = b;
    } else {
      into[i] = (19595 * r + 38470 * g + 7471 * b + 0x8000) >>> 16; // ITU-R 601-2, as Pillow's "L"
    }
  }
}
