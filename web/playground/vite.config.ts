import { defineConfig } from "vite";

// The API server embeds these three files, under these names.
export default defineConfig({
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
