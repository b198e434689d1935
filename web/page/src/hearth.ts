/** The runtime, as it lies in the bundle: the page brings none of its own. */

export type Hearth = typeof import("../../runtime/src/index.ts");
export type HearthData = typeof import("../../runtime/src/data/index.ts");

/** hearth.js of the bundle under `base`. */
export function importHearth(base: URL): Promise<Hearth> {
  return import(/* @vite-ignore */ new URL("hearth.js", base).href) as Promise<Hearth>;
}

/** The readers of files, which a page needs only when a person brings data. */
export function importHearthData(base: URL): Promise<HearthData> {
  return import(/* @vite-ignore */ new URL("hearth-data.js", base).href) as Promise<HearthData>;
}
