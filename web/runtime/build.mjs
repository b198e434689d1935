// Writes dist/hearth.js (one ES module, minified) and dist/hearth.d.ts (one file of types).

import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const LIMIT_BYTES = 40_000;

await build({
  absWorkingDir: here, entryPoints: ["src/index.ts"], outfile: "dist/hearth.js",
  bundle: true, minify: true, format: "esm", target: "es2022", legalComments: "none",
});
writeFileSync(`${here}dist/hearth.d.ts`, bundleTypes());
const code = readFileSync(`${here}dist/hearth.js`);
const packed = brotliCompressSync(code, {
  params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: code.length },
}).length;
console.log(`hearth.js: ${code.length} bytes, ${packed} with brotli (limit ${LIMIT_BYTES})`);
if (packed > LIMIT_BYTES) process.exitCode = 1;

/** The declarations that index.ts needs, in one file: imports drop out, names stay unique. */
function bundleTypes() {
  const folder = `${here}dist/types`;
  execFileSync(process.execPath, [
    `${here}node_modules/typescript/bin/tsc`, "-p", here, "--noEmit", "false", "--declaration",
    "--emitDeclarationOnly", "--rewriteRelativeImportExtensions", "--outDir", folder,
  ], { stdio: "inherit" });
  const seen = new Set(["index"]);
  const parts = [];
  const visit = (name) => {
    const text = readFileSync(`${folder}/${name}.d.ts`, "utf8");
    for (const [, next] of text.matchAll(/from "\.\/([\w-]+)\.(?:ts|js)"/g)) {
      if (!seen.has(next)) seen.add(next) && visit(next);
    }
    if (name !== "index") parts.push(withoutModules(text));
  };
  visit("index");
  const index = readFileSync(`${folder}/index.d.ts`, "utf8");
  const exported = [...index.matchAll(/^export (?:type )?\{([^}]*)\} from/gm)]
    .flatMap(([, names]) => names.split(","))
    .map((name) => name.replace("type ", "").trim()).filter(Boolean);
  rmSync(folder, { recursive: true });
  return `${parts.join("\n")}\nexport { ${exported.join(", ")} };\n`;
}

function withoutModules(text) {
  return text.replace(/^import [^;]*;\n/gm, "").replace(/^export \{[^}]*\}[^;]*;\n/gm, "")
    .replace(/^export (declare )?/gm, "declare ").replace(/^declare (?=interface|type)/gm, "");
}
