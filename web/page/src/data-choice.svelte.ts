/** What the page trains on: the data beside it, or a person's own, which a reload finds again. */

import { explained } from "./explained.ts";
import { importHearthData, type Hearth } from "./hearth.ts";
import { forgetData, keepData, keptData, type Owner } from "./kept-data.ts";
import { fetchServedData, type Splits } from "./served-data.ts";

export class DataChoice {
  current = $state.raw<Splits>();
  private served: Splits | undefined;

  /** `note` hears what happened, and what could not be done. */
  constructor(
    private readonly base: URL, private readonly note: (text: string, tone: "good" | "bad") => void,
  ) {}

  /** Fetches the data beside the page, and opens those that are kept; `report` hears the share. */
  async open(hearth: Hearth, owner: Owner, report: (share: number) => void): Promise<void> {
    this.served = await fetchServedData(
      hearth, new URL("../data/", this.base), owner.manifest, report);
    this.current = await this.kept(owner) ?? this.served;
  }

  /** Trains on a person's own data from now on, also after a reload. */
  async takeOwn(data: Splits, owner: Owner): Promise<void> {
    this.take(data);
    try {
      await keepData(await importHearthData(this.base), owner, data);
    } catch (error) {
      this.note(`a reload will forget these data: ${explained(error)}`, "bad");
    }
  }

  /** Trains on the data beside the page again; a person's own are kept no longer. */
  async takeServed(owner: Owner): Promise<void> {
    if (!this.served) return;
    this.take(this.served);
    await forgetData(await importHearthData(this.base), owner);
  }

  private take(data: Splits): void {
    this.current = data;
    this.note(`training on ${data.name}`, "good");
  }

  private async kept(owner: Owner): Promise<Splits | undefined> {
    try {
      return await keptData(() => importHearthData(this.base), owner);
    } catch (error) {
      this.note(`your own data have to be chosen again: ${explained(error)}`, "bad");
      return undefined;
    }
  }
}
