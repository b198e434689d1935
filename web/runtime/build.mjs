// Writes dist/hearth.js, hearth-tools.js and hearth-data.js (ES modules, minified), and their types.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { build } from "esbuild";
import { checkTypes, declarations, moduleTypes } from "./module-types.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const MODULES = [
  { name: "hearth", entry: "src/index.ts", limit: 40_000, plugins: [toolsOutside()] },
  { name: "hearth-tools", entry: "src/tools/index.ts", limit: 8_000, plugins: [runtimeGiven(await sharedNames())] },
  { name: "hearth-data", entry: "src/data/index.ts", limit: 16_000, plugins: [runtimeOutside()] },
];

for (const { name, entry, plugins } of MODULES) {
  await build({
    absWorkingDir: here, entryPoints: [entry], outfile: `dist/${name}.js`, plugins,
    bundle: true, minify: true, format: "esm", target: "es2022", legalComments: "none",
  });
}
const { main, data } = declarations(here);
writeFileSync(`${here}dist/hearth.d.ts`, moduleTypes(main, []));
writeFileSync(`${here}dist/hearth-data.d.ts`, moduleTypes(data, ["./hearth.js", main]));
checkTypes(here, ["hearth", "hearth-data"].map((name) => `${here}dist/${name}.d.ts`));
// Fails where hearth.js does not export what hearth-data.js takes from it.
await import("./dist/hearth-data.js");

for (const { name, limit } of MODULES) {
  const code = readFileSync(`${here}dist/${name}.js`);
  const packed = brotliCompressSync(code, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: code.length },
  }).length;
  console.log(`${name}.js: ${code.length} bytes, ${packed} with brotli (limit ${limit})`);
  if (packed > limit) process.exitCode = 1;
}

/** hearth.js loads hearth-tools.js when it needs it. */
function toolsOutside() {
  return {
    name: "tools-outside",
    setup(building) {
      building.onResolve({ filter: /^\.\/tools\/index\.ts$/ },
        () => ({ path: "./hearth-tools.js", external: true }));
      building.onResolve({ filter: /\/tools\// }, ({ path, importer, kind }) => (
        { errors: [{ text: `${importer} imports ${path}, which is not in hearth.js: ${kind}` }] }));
    },
  };
}

/** What hearth.js hands over to hearth-tools.js. */
async function sharedNames() {
  const { metafile } = await build({
    absWorkingDir: here, entryPoints: ["src/shared.ts"], outfile: "shared.js", bundle: true,
    format: "esm", write: false, metafile: true,
  });
  return metafile.outputs["shared.js"].exports.filter((name) => name !== "bind");
}

/** hearth-tools.js has nothing of the rest of the runtime in it, but gets it by `bind`. */
function runtimeGiven(names) {
  const contents = `export let ${names.join(", ")};
export function bind(shared) { ({ ${names.join(", ")} } = shared); }`;
  return {
    name: "runtime-given",
    setup(building) {
      building.onResolve({ filter: /^\.\.\// }, () => ({ path: "shared", namespace: "given" }));
      building.onLoad({ filter: /^shared$/, namespace: "given" }, () => ({ contents }));
    },
  };
}

/** hearth-data.js takes everything outside its folder from the public face of hearth.js. */
function runtimeOutside() {
  return {
    name: "runtime-outside",
    setup(building) {
      building.onResolve({ filter: /^\.\.\// }, ({ path, importer }) => (path === "../index.ts"
        ? { path: "./hearth.js", external: true }
        : { errors: [{ text: `${importer} imports ${path}: only ../index.ts is in hearth.js` }] }));
    },
  };
}
