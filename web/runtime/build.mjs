// Writes dist/hearth.js (one ES module, minified) and dist/hearth.d.ts (one file of types).

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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
tsc("--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom", "--typeRoots", `${here}dist`,
  `${here}dist/hearth.d.ts`); // it must be good without our configuration
const code = readFileSync(`${here}dist/hearth.js`);
const packed = brotliCompressSync(code, {
  params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: code.length },
}).length;
console.log(`hearth.js: ${code.length} bytes, ${packed} with brotli (limit ${LIMIT_BYTES})`);
if (packed > LIMIT_BYTES) process.exitCode = 1;

/** The declarations that index.ts exports, and those they mention, in one file. */
function bundleTypes() {
  const folder = `${here}dist/types`;
  tsc("-p", here, "--noEmit", "false", "--declaration", "--emitDeclarationOnly",
    "--rewriteRelativeImportExtensions", "--outDir", folder);
  const index = readFileSync(`${folder}/index.d.ts`, "utf8");
  const declarations = new Map(readdirSync(folder).filter((name) => name !== "index.d.ts")
    .flatMap((name) => declarationsIn(readFileSync(`${folder}/${name}`, "utf8"))));
  rmSync(folder, { recursive: true });
  const exported = [...index.matchAll(/^export (?:type )?\{([^}]*)\} from/gm)]
    .flatMap(([, names]) => names.split(","))
    .map((name) => name.replace("type ", "").trim()).filter(Boolean);
  const needed = new Set(exported);
  for (const name of needed) {
    const code = withoutComments(declarations.get(name) ?? "");
    for (const [word] of code.matchAll(/\w+/g)) if (declarations.has(word)) needed.add(word);
  }
  const texts = [...needed].map((name) => declarations.get(name));
  return `${texts.join("\n")}\nexport { ${exported.join(", ")} };\n`;
}

/** [name, text with its comment] of every top-level declaration; names are unique in src/. */
function declarationsIn(text) {
  const statement = /^(?:\/\*\*(?:(?!\*\/)[^])*\*\/\n)?(?:export |declare )+(?:abstract )?\w+ (\w+)/gm;
  const starts = [...text.matchAll(statement)];
  return starts.map((match, i) => {
    const body = text.slice(match.index, starts[i + 1]?.index);
    const code = body.replace(/^export \{[^}]*\};\n/gm, "").replace(/^export (declare )?/m, "declare ");
    return [match[1], code.replace(/^declare (?=interface|type)/m, "")];
  });
}

function withoutComments(text) {
  return text.replace(/\/\*[^]*?\*\//g, "");
}

function tsc(...args) {
  execFileSync(process.execPath, [`${here}node_modules/typescript/bin/tsc`, ...args],
    { stdio: "inherit" });
}
