/**
 * The page where a person trains a bundle: served as `/`, the bundle under ./bundle/, and data
 * under ./data/ (`served-data.ts` says in which form).
 *
 * Query: ?backend=auto|webgpu|wasm, ?threads=N, ?seed=N.
 *
 * For a driver without hands `window.hearthPage` is the `Workbench` (`workbench.svelte.ts`).
 */

import { mount } from "svelte";
import App from "./App.svelte";
import "./style.css";
import { Workbench } from "./workbench.svelte.ts";

const bench = new Workbench(new URL("bundle/", document.baseURI), location.search);
Object.assign(window, { hearthPage: bench });
mount(App, { target: document.body, props: { bench } });
void bench.open();
