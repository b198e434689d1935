import assert from "node:assert/strict";
import { test } from "node:test";
import { ThreadChoice } from "../src/thread-choice.ts";

/** Where 40 calls went, for milliseconds of the team and alone by number of call. */
function chosen(choice: ThreadChoice, batch: number, team: number, alone: number): boolean[] {
  return Array.from({ length: 40 }, (_, call) => {
    const takes = choice.takesTeam("train", batch);
    const slow = call < 4 ? 100 : call < 16 ? 1 : 0; // the first calls say nothing
    choice.note("train", batch, slow + (takes ? team : alone));
    return takes;
  });
}

test("both ways are tried in turn, then the faster one is taken", () => {
  const choice = new ThreadChoice();
  const small = chosen(choice, 1, 0.4, 0.3);
  assert.deepEqual(small.slice(0, 6), [true, false, true, false, true, false]);
  assert.ok(small.slice(32).every((takes) => !takes));
  assert.ok(chosen(choice, 128, 0.6, 1.1).slice(32).every((takes) => takes));
  assert.ok(chosen(choice, 1, 0.1, 9).every((takes) => !takes), "it was decided before");
});

test("a long call goes to the team without more trials", () => {
  const calls = chosen(new ThreadChoice(), 64, 50, 90);
  assert.deepEqual(calls.slice(0, 7), [true, false, true, false, true, true, true]);
  assert.ok(calls.slice(5).every((takes) => takes));
});
