/** Names that people give, as names of files in a store. */

import { InvalidInputError } from "./errors.ts";

/** Every file system takes it, different names stay different; `decodeURIComponent` undoes it. */
export function encodeName(name: unknown, what: string): string {
  if (typeof name !== "string" || name.length === 0 || name.length > 80) {
    throw new InvalidInputError(`the name of ${what} is ${JSON.stringify(name)}, expected 1 to \
80 characters`);
  }
  // The file system of the origin takes neither "/" nor a trailing dot.
  return encodeURIComponent(name).replaceAll("*", "%2A");
}
