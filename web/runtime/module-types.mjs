// The declarations that a module exports, and those they mention, in one .d.ts file.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";

/** Of both modules: what index.ts exports, and every declaration of the sources by name. */
export function declarations(here) {
  const folder = `${here}dist/types`;
  tsc(here, "-p", here, "--noEmit", "false", "--declaration", "--emitDeclarationOnly",
    "--rewriteRelativeImportExtensions", "--outDir", folder);
  const [main, data] = [readModule(folder, `${folder}/tools`), readModule(`${folder}/data`)];
  rmSync(folder, { recursive: true });
  return { main, data };
}

/** The text of a .d.ts; what another module declares is imported from there. */
export function moduleTypes({ exported, declared }, [source, other]) {
  const needed = new Set(exported);
  const imported = new Set();
  for (const name of needed) {
    const code = withoutComments(declared.get(name) ?? "");
    for (const [word] of code.matchAll(/\w+/g)) {
      if (declared.has(word)) needed.add(word);
      else if (other?.exported.includes(word)) imported.add(word);
    }
  }
  const texts = [...needed].map((name) => declared.get(name));
  const head = imported.size > 0
    ? `import type { ${[...imported].join(", ")} } from "${source}";\n` : "";
  return `${head}${texts.join("\n")}\nexport { ${exported.join(", ")} };\n`;
}

/** The files of types must be good without our configuration. */
export function checkTypes(here, files) {
  tsc(here, "--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom", "--module", "es2022",
    "--moduleResolution", "bundler", "--typeRoots", `${here}dist`, ...files);
}

function readModule(folder, ...more) {
  const files = [folder, ...more].flatMap((from) => readdirSync(from)
    .filter((name) => name.endsWith(".d.ts") && name !== "index.d.ts").map((name) => `${from}/${name}`));
  const index = readFileSync(`${folder}/index.d.ts`, "utf8");
  return {
    declared: new Map(files.flatMap((name) => declarationsIn(readFileSync(name, "utf8")))),
    exported: [...index.matchAll(/^export (?:type )?\{([^}]*)\} from/gm)]
      .flatMap(([, names]) => names.split(","))
      .map((name) => name.replace("type ", "").trim()).filter(Boolean),
  };
}

/** [name, text with its comment] of every top-level declaration; names are unique in a module. */
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

function tsc(here, ...args) {
  execFileSync(process.execPath, [`${here}node_modules/typescript/bin/tsc`, ...args],
    { stdio: "inherit" });
}
