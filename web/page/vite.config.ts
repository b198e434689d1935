import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // the page is served from any folder
  plugins: [svelte()],
  build: { target: "es2023", modulePreload: false },
});
