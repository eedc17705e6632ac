/// <reference types="vitest/config" />
import { defineConfig } from "vite";

/** CSS as it is written: with `light-dark()` and nesting, which these were the first to understand. */
const CSS_TARGET = ["chrome123", "firefox121", "safari17.5"];

// Two builds into one folder: the package, whose dependencies stay imports so that a page has each of them once
// (two copies of CodeMirror's state do not work together), and the standalone module, which has everything in it.
export default defineConfig(({ mode }) => {
  const standalone = mode === "standalone";
  return {
    // React's development build is told apart by this word, which no browser knows.
    define: standalone ? { "process.env.NODE_ENV": JSON.stringify("production") } : {},
    build: {
      target: "es2022",
      cssTarget: CSS_TARGET,
      emptyOutDir: !standalone,
      sourcemap: !standalone,
      // Of what the standalone module has in it; with the package they come by themselves.
      license: standalone ? { fileName: "standalone.licenses.md" } : false,
      lib: {
        entry: standalone ? { standalone: "src/entry/standalone.ts" } : { "lab-runner": "src/entry/package.ts" },
        formats: ["es"],
        cssFileName: "lab-runner",
      },
      rolldownOptions: standalone
        ? // Vite leaves the white space in for bundlers that come after it. After this one comes none.
          { output: { minify: true, codeSplitting: false } }
        : {
            external: [/^react($|\/)/, /^react-dom($|\/)/, /^@codemirror\//, /^@lezer\//],
            output: { banner: '"use client";' },
          },
    },
    test: {
      environment: "happy-dom",
      include: ["test/**/*.test.{ts,tsx}"],
      setupFiles: ["test/setup.ts"],
    },
  };
});
