/**
 * Every error the runtime raises, sorted by who can act: the names of `hearth/errors.py`.
 *
 * A message says what happened, where in the user's model, why, and what to do.  Errors cross
 * from the worker to the page as `ErrorData` and arrive as the same class.
 */

export interface ErrorDetail {
  /** Where in the user's model, as the manifest knows it. */
  where?: string;
  why?: string;
  /** What to do about it. */
  remedy?: string;
  /** Completed training steps, if the step that raised it was taken nevertheless. */
  step?: number | undefined;
  /** Of memory that is too small: a batch size that fits, 0 where none does. */
  suggestedBatchSize?: number | undefined;
}

/** An error as it crosses between threads. */
export interface ErrorData extends ErrorDetail {
  name: string;
  what: string;
}

/** Base of all errors raised by Hearth. */
export class HearthError extends Error {
  override readonly name: string = "HearthError";
  readonly what: string;
  readonly where: string;
  readonly why: string;
  readonly remedy: string;
  readonly step: number | undefined;

  constructor(what: string, detail: ErrorDetail = {}) {
    const { where = "", why = "", remedy = "", step } = detail;
    const lines = [what];
    if (where) lines.push(`  in your model: ${where}`);
    if (why) lines.push(`  because ${why}`);
    if (remedy) lines.push(`  what to do: ${remedy}`);
    super(lines.join("\n"));
    this.what = what;
    this.where = where;
    this.why = why;
    this.remedy = remedy;
    this.step = step;
  }
}

/** An argument has the wrong shape, dtype, range, or is not finite. */
export class InvalidInputError extends HearthError {
  override readonly name = "InvalidInputError";
}

/** The device cannot hold the step for this batch size. */
export class OutOfMemoryError extends HearthError {
  override readonly name = "OutOfMemoryError";
  /** The largest batch size that is known to fit, or a guess at load; 0 where nothing fits. */
  readonly suggestedBatchSize: number;

  constructor(what: string, detail: ErrorDetail = {}) {
    super(what, detail);
    this.suggestedBatchSize = detail.suggestedBatchSize ?? 0;
  }
}

/** The loss stopped being finite. */
export class NumericalInstabilityError extends HearthError {
  override readonly name = "NumericalInstabilityError";
}

/** A device is missing, refused a kernel, or computes wrong numbers. */
export class BackendError extends HearthError {
  override readonly name: string = "BackendError";
}

/** The device disappeared while it worked. */
export class DeviceLostError extends BackendError {
  override readonly name = "DeviceLostError";
}

/** A file or the browser's storage could not be read or written. */
export class StorageError extends HearthError {
  override readonly name = "StorageError";
}

/** A bundle or weight file is malformed, truncated, foreign or newer than this version. */
export class BundleFormatError extends HearthError {
  override readonly name = "BundleFormatError";
}

/** The compiler has no rule for an operator: the same name as there; this runtime raises none. */
export class UnsupportedOpError extends HearthError {
  override readonly name = "UnsupportedOpError";
}

/** A broken invariant of the runtime: please report it with the message. */
export class InternalError extends HearthError {
  override readonly name = "InternalError";
}

const CLASSES = {
  HearthError, InvalidInputError, OutOfMemoryError, NumericalInstabilityError, BackendError,
  DeviceLostError, StorageError, BundleFormatError, UnsupportedOpError, InternalError,
} as const;

/** Any thrown value as plain data; what is not ours becomes an InternalError. */
export function errorToData(error: unknown): ErrorData {
  if (error instanceof HearthError) {
    const { name, what, where, why, remedy, step } = error;
    const data: ErrorData = { name, what, where, why, remedy, step };
    if (error instanceof OutOfMemoryError) data.suggestedBatchSize = error.suggestedBatchSize;
    return data;
  }
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return { name: "InternalError", what: text, remedy: "please report this with the message" };
}

/** The error that `data` describes, as an instance of its own class. */
export function errorFromData(data: ErrorData): HearthError {
  const known = Object.entries(CLASSES).find(([name]) => name === data.name);
  return new (known?.[1] ?? HearthError)(data.what, data);
}

/** What a thrown value says, on one line. */
export function reasonOf(error: unknown): string {
  if (error instanceof HearthError) {
    const details = [error.where, error.why].filter(Boolean).join(": ");
    return details ? `${error.what} (${details})` : error.what;
  }
  return error instanceof Error ? error.message : String(error);
}
