/**
 * Whether a call is faster on one thread or on the whole team, by trying both.
 *
 * Compiled code gives the same bits on any number of threads, so that the choice may depend on
 * time.  Waking a team costs as much as a whole step of a small model.
 */

const WARM_UP = 16; // the browser compiles better code meanwhile, for each thread at its own time
const TRIALS = 32; // the warm-up included; one thread and the team take turns
const LONG_MS = 4; // such a call is worth the team, and too long to try
const FIRST = 4; // calls that may be long for other reasons

interface Trial {
  calls: number;
  aloneMs: number;
  teamMs: number;
  isLong: boolean;
}

export class ThreadChoice {
  private readonly trials = new Map<string, Trial>();

  /** Whether the team should run the next call of a program on a batch size. */
  takesTeam(program: string, batch: number): boolean {
    const { calls, aloneMs, teamMs, isLong } = this.trial(program, batch);
    return isLong || (calls < TRIALS ? calls % 2 === 0 : teamMs < aloneMs);
  }

  /** Notes how long a call took that went where `takesTeam` said. */
  note(program: string, batch: number, ms: number): void {
    const trial = this.trial(program, batch);
    if (trial.isLong || trial.calls >= TRIALS) return;
    const isTeam = trial.calls % 2 === 0;
    trial.isLong = isTeam && trial.calls >= FIRST && ms > LONG_MS;
    if (trial.calls >= WARM_UP) {
      if (isTeam) trial.teamMs = Math.min(trial.teamMs, ms);
      else trial.aloneMs = Math.min(trial.aloneMs, ms);
    }
    trial.calls++;
  }

  private trial(program: string, batch: number): Trial {
    const key = `${program} ${String(batch)}`;
    let trial = this.trials.get(key);
    if (!trial) {
      trial = { calls: 0, aloneMs: Infinity, teamMs: Infinity, isLong: false };
      this.trials.set(key, trial);
    }
    return trial;
  }
}
