/** Files that a person chose or dropped, as data for the model at hand. */

import type { Dataset, Manifest } from "../../runtime/src/index.ts";
import type { FileSource, NamedFile } from "../../runtime/src/data/index.ts";
import type { Hearth, HearthData } from "./hearth.ts";
import type { Splits } from "./served-data.ts";

/** What the model takes, as far as it is told before a batch is there. */
interface Wanted {
  /** Of one sample. */
  shape: readonly number[];
  /** Of the targets, where they are classes. */
  classes: number | undefined;
}

const TEST_SHARE = 0.2;

/**
 * Pictures in a folder for each class, a table, MNIST's files, or a zip archive of pictures.
 *
 * A fifth is kept for testing, of every class alike.  Errors say what is missing, for a person.
 */
export async function chosenData(
  hearth: Hearth, readers: HearthData, manifest: Manifest, source: FileSource,
): Promise<Splits> {
  const wanted = wantedBy(manifest);
  const files = await readers.listFiles(source);
  const [first] = files;
  if (!first) throw new Error("no file was chosen");
  if (files.every(({ path }) => /idx\d/.test(path))) return idxFiles(hearth, readers, files);
  if (/\.(csv|tsv)$/i.test(first.path)) return table(hearth, readers, first, wanted);
  const archive = /\.zip$/i.test(first.path) ? await first.open() : undefined;
  return pictures(hearth, readers, archive ?? files, wanted);
}

function wantedBy({ programs }: Manifest): Wanted {
  const inputs = programs["train"]?.inputs ?? [];
  const input = inputs.find(({ role }) => role === "input");
  const target = inputs.find(({ role }) => role === "target");
  const shape = (input?.shape ?? []).slice(1).map((extent) =>
    (typeof extent === "number" ? extent : extent[0] ?? 0));
  return { shape, classes: target?.range?.[1] };
}

async function pictures(
  hearth: Hearth, { imageFolder }: HearthData, source: Blob | readonly NamedFile[],
  { shape, classes }: Wanted,
): Promise<Splits> {
  const [channels = 0, height = 0, width = 0] = shape;
  if (shape.length !== 3 || (channels !== 1 && channels !== 3)) {
    throw new Error(`this model takes ${shape.join(" × ")} numbers, not pictures: choose a .csv`);
  }
  const folder = await imageFolder(source, { size: [height, width], channels, broken: "skip" });
  const found = folder.classes.length;
  if (classes !== undefined && found > classes) {
    throw new Error(`${String(found)} classes were found (${folder.classes.join(", ")}), the `
      + `model has ${String(classes)}`);
  }
  return divided(hearth, `${String(folder.length)} pictures of ${folder.classes.join(", ")}`,
    folder, folder.labels);
}

async function table(
  hearth: Hearth, { csvRecords, readTable, textOf }: HearthData, file: NamedFile,
  { shape, classes }: Wanted,
): Promise<Splits> {
  const content = await file.open();
  const names = (await csvRecords(textOf(content)).next()).value?.cells ?? [];
  const { dataset, width } = await readTable(content, {
    target: names.at(-1) ?? "", missing: "skip", standardise: true,
    regression: classes === undefined,
  });
  const values = shape.reduce((product, extent) => product * extent, 1);
  if (width !== values) {
    throw new Error(`${file.path} has ${String(width)} ${width === 1 ? "column" : "columns"} `
      + `beside the last, the model takes ${String(values)} numbers`);
  }
  return divided(hearth, file.path, dataset, undefined);
}

async function idxFiles(
  hearth: Hearth, { idxDataset }: HearthData, files: readonly NamedFile[],
): Promise<Splits> {
  const named = async (part: RegExp): Promise<Blob> => {
    const file = files.find(({ path }) => part.test(path));
    if (!file) throw new Error(`the files of images and of labels belong together; none is ${String(part)}`);
    return file.open();
  };
  const read = async (part: string) => idxDataset(
    await named(new RegExp(`${part}.*idx3`)), await named(new RegExp(`${part}.*idx1`)));
  const train = await read("train");
  if (!files.some(({ path }) => path.includes("t10k"))) {
    return divided(hearth, "IDX files", train, undefined);
  }
  return { name: "IDX files", train, test: await read("t10k") };
}

function divided(
  { split, Subset }: Hearth, name: string, dataset: Dataset, labels: Int32Array | undefined,
): Splits {
  const [train, test] = split(dataset.length, [1 - TEST_SHARE, TEST_SHARE], labels ? { labels } : {});
  if (!train || !test || train.length === 0 || test.length === 0) {
    throw new Error(`${String(dataset.length)} samples are too few to train and to test`);
  }
  return { name, train: new Subset(dataset, train), test: new Subset(dataset, test) };
}
