// Bundles each tests/*.test.ts with esbuild and runs them all with Node's own test runner.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const outdir = mkdtempSync(join(tmpdir(), "hearth-tests-"));
const fixtures = join(here, "../../../spec/fixtures");
try {
  await build({
    entryPoints: readdirSync(here).filter((name) => name.endsWith(".test.ts"))
      .map((name) => join(here, name)),
    outdir, outExtension: { ".js": ".mjs" }, bundle: true, platform: "node", format: "esm",
    sourcemap: "inline", target: "node20",
    define: { FIXTURES: JSON.stringify(fixtures) },
  });
  const files = readdirSync(outdir).map((name) => join(outdir, name));
  const result = spawnSync(process.execPath,
    ["--enable-source-maps", "--test", ...process.argv.slice(2), ...files], { stdio: "inherit" });
  process.exitCode = result.status ?? 1;
} finally {
  rmSync(outdir, { recursive: true });
}
