/** hearth-data.js: a person's data as data sets for `DataLoader`, beside hearth.js. */

export { CachedDataset } from "./cache.ts";
export {
  CaptureDataset, openWebcam, playStream, type CaptureOptions, type Frame, type RecordOptions,
  type Webcam,
} from "./capture.ts";
export { csvRecords, textOf, type CsvRecord } from "./csv.ts";
export type { ImageSize, PixelOptions, Resize } from "./decode-image.ts";
export { listFiles, openFile, type FileSource, type ListOptions, type NamedFile } from "./files.ts";
export { idxDataset, readIdx, type IdxArray } from "./idx.ts";
export { imageFolder, ImageFolder, type ImageFolderOptions } from "./image-folder.ts";
export { keepDataset, type KeepDataOptions, type Samples } from "./keep.ts";
export {
  KeptDataset, listDatasets, openDataset, removeDataset, type KeptInfo, type StoreOptions,
} from "./kept.ts";
export { PixelDataset, type Normalisation, type NormaliseOptions } from "./pixels.ts";
export { collate, combine, SampleDataset } from "./samples.ts";
export {
  readTable, type Column, type Table, type TableOptions, type TableSchema,
} from "./table.ts";
export {
  LabelledTexts, TextWindows, type LabelledTextsOptions,
} from "./text.ts";
export {
  byteTokenizer, characterTokenizer, tokenizerFrom, trainTokenizer, type Tokenizer,
  type TokenizerData,
} from "./tokenizers.ts";
export { openZip } from "./zip.ts";
