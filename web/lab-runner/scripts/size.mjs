// Measures what a page has to load, gzipped, and compares it with the bounds in the README.
//
//   npm run build && npm run size
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "vite";

const here = new URL("../", import.meta.url);
const read = (path) => readFileSync(new URL(path, here));

/** The package as a page's own bundler sees it: with CodeMirror, and with the page's React. */
async function withDependencies() {
  const { output } = [
    await build({
      root: here.pathname,
      configFile: false,
      logLevel: "error",
      build: {
        write: false,
        lib: { entry: "dist/lab-runner.js", formats: ["es"] },
        rolldownOptions: { external: [/^react($|\/)/, /^react-dom($|\/)/], output: { minify: true } },
      },
    }),
  ].flat()[0];
  return output[0].code;
}

const measured = {
  "the component's own code": read("dist/lab-runner.js"),
  "with CodeMirror, without React": await withDependencies(),
  "`standalone.js`, all of it": read("dist/standalone.js"),
  "`lab-runner.css`": read("dist/lab-runner.css"),
};

const rows = read("README.md")
  .toString()
  .split("\n")
  .map((line) => line.split("|").map((cell) => cell.trim()));
let failures = 0;
for (const [name, content] of Object.entries(measured)) {
  const bound = Number.parseInt(rows.find((cells) => cells[1] === name)?.[2] ?? "", 10);
  const size = gzipSync(content, { level: 9 }).length / 1000;
  const fits = size <= bound;
  if (!fits) failures++;
  console.log(`${fits ? "ok  " : "FAIL"} size of ${name}: ${size.toFixed(1)} kB, at most ${bound} kB`);
}
process.exit(failures > 0 ? 1 : 0);
