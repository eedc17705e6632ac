import { readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

/** The licences of what the component's module has in it go with it wherever it goes. */
const licences: Plugin = {
  name: "licences",
  generateBundle() {
    const source = readFileSync(new URL("../lab-runner/dist/standalone.licenses.md", import.meta.url), "utf8");
    this.emitFile({ type: "asset", fileName: "licenses.md", source });
  },
};

// The API server embeds these four files, under these names.
export default defineConfig({
  plugins: [licences],
  // Relative, so that the page works below the prefix of a proxy, too.
  base: "./",
  build: {
    outDir: "../../api-server/src/http/playground",
    emptyOutDir: true,
    assetsDir: "",
    modulePreload: false,
    target: "es2022",
    rolldownOptions: {
      output: { entryFileNames: "playground.js", assetFileNames: "playground[extname]" },
    },
  },
  server: {
    // For `npm run dev`, beside `make run`.
    proxy: { "/api": process.env.WEB_URL ?? "http://127.0.0.1:8080" },
  },
});
