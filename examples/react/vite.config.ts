import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // the built page runs in any folder of any server
  plugins: [react()],
});
