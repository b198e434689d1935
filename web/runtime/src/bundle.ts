/**
 * The files of a bundle: fetched, and checked against the manifest's lengths and hashes.
 *
 * A truncated or foreign file must never train, so nothing is used before it is checked.
 */

import { BundleFormatError, InvalidInputError, reasonOf, StorageError } from "./errors.ts";
import type { FileEntry, Manifest } from "./manifest.ts";
import { parseManifest } from "./parse-manifest.ts";
import { decodeSafetensors, type Bytes, type TensorFile } from "./safetensors.ts";
import { sha256 } from "./sha256.ts";

/** Where the files come from; a page uses `fetchSource`, a test may read a folder. */
export interface BundleSource {
  /** For messages: the address of the bundle. */
  readonly name: string;
  /** The bytes of one file, `fresh` past every cache; BundleFormatError where there is none. */
  read(file: string, fresh?: boolean): Promise<Bytes>;
}

/** A bundle under a URL: the folder, or its manifest.json. */
export function fetchSource(url: string): BundleSource {
  const base = url.replace(/[?#].*$/, "").replace(/manifest\.json$/, "").replace(/\/?$/, "/");
  const read = (file: string, fresh?: boolean): Promise<Bytes> =>
    fetchFile(new URL(encodeURIComponent(file), base).href, fresh);
  return { name: base, read };
}

async function fetchFile(url: string, fresh = false): Promise<Bytes> {
  let response: Response;
  try {
    response = await fetch(url, { cache: fresh ? "reload" : "default" });
  } catch (error) {
    throw new StorageError(`cannot fetch ${url}`, {
      why: reasonOf(error), remedy: "check the address, the network and the server's CORS headers",
    });
  }
  if (!response.ok) {
    throw new BundleFormatError(`cannot fetch ${url}: HTTP ${String(response.status)}`, {
      remedy: "load the folder that `hearth compile` wrote, and serve all its files",
    });
  }
  try {
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    throw new BundleFormatError(`the download of ${url} broke off`, {
      why: reasonOf(error), remedy: "load again",
    });
  }
}

/** In what the bytes differ from the manifest's entry, or "". */
async function differenceOf(bytes: Bytes, entry: FileEntry): Promise<string> {
  if (bytes.length !== entry.bytes) {
    return `it has ${String(bytes.length)} bytes instead of ${String(entry.bytes)}`;
  }
  return (await sha256(bytes)) === entry.sha256 ? "" : "its SHA-256 differs";
}

/** A manifest and its files. */
export class Bundle {
  private constructor(private readonly source: BundleSource, readonly manifest: Manifest) {}

  /** Reads and checks the manifest. */
  static async open(source: BundleSource): Promise<Bundle> {
    const bytes = await source.read("manifest.json", true);
    return new Bundle(source, parseManifest(bytes, `${source.name}manifest.json`));
  }

  has(file: string): boolean {
    return Object.hasOwn(this.manifest.files, file);
  }

  /** The bytes of a file; BundleFormatError if they are not what the manifest promises. */
  async read(file: string): Promise<Bytes> {
    const entry = this.has(file) ? this.manifest.files[file] : undefined;
    if (!entry) throw new BundleFormatError(`the manifest lists no file "${file}"`);
    const cached = await this.source.read(file);
    if (!(await differenceOf(cached, entry))) return cached;
    const bytes = await this.source.read(file, true);
    const difference = await differenceOf(bytes, entry);
    if (!difference) return bytes;
    throw new BundleFormatError(`${file} is not the file that the manifest promises`, {
      why: `${difference}: it is truncated, damaged, or from another bundle`,
      remedy: "copy the whole bundle again",
    });
  }

  async readText(file: string): Promise<string> {
    return new TextDecoder().decode(await this.read(file));
  }

  async readTensors(file: string): Promise<TensorFile> {
    return decodeSafetensors(await this.read(file), file);
  }
}

/** The address of a bundle, seen from this page; InvalidInputError for what is none. */
export function absoluteUrl(url: string | URL): string {
  const base = (globalThis.document as Document | undefined)?.baseURI
    ?? (globalThis.location as Location | undefined)?.href;
  try {
    return new URL(url, base).href;
  } catch {
    throw new InvalidInputError(`${JSON.stringify(url)} is not the address of a bundle`);
  }
}
