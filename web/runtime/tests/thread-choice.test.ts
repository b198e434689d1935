import assert from "node:assert/strict";
import { test } from "node:test";
import { ThreadChoice } from "../src/thread-choice.ts";

/** Where 20 calls went, for milliseconds of the team and alone by number of call. */
function chosen(choice: ThreadChoice, batch: number, team: number, alone: number): boolean[] {
  return Array.from({ length: 20 }, (_, call) => {
    const takes = choice.takesTeam("train", batch);
    const slow = call < 2 ? 100 : 0; // the first calls say nothing
    choice.note("train", batch, slow + (takes ? team : alone));
    return takes;
  });
}

test("both ways are tried in turn, then the faster one is taken", () => {
  const choice = new ThreadChoice();
  assert.deepEqual(chosen(choice, 1, 0.4, 0.3).slice(0, 9),
    [true, false, true, false, true, false, true, false, false]);
  assert.ok(chosen(choice, 128, 0.6, 1.1).slice(8).every((takes) => takes));
  assert.ok(chosen(choice, 1, 0.1, 9).every((takes) => !takes), "it was decided before");
});
