// Bundles bench/pages/*.ts into build/bench/pages, one file each, as a site of a user would.

import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const pages = ["hearth", "tfjs", "jax", "ort"];
const sources = new Set(readdirSync(`${here}pages`));
await build({
  absWorkingDir: here, outdir: "../build/bench/pages", bundle: true, minify: true, format: "esm",
  entryPoints: pages.map((name) => `${name}.ts`).filter((file) => sources.has(file))
    .map((file) => `pages/${file}`),
  target: "es2022", legalComments: "none", logLevel: "warning", external: ["/bundle/*"],
  define: { "process.env.NODE_ENV": '"production"' },
});
