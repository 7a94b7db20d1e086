// chokidar, for a benchmark: `watching`, then a line with time and path for each change.
import { watch } from "chokidar";
import { writeSync } from "node:fs";

const watcher = watch(process.argv[2], { ignoreInitial: true });
watcher.on("change", (path) => writeSync(1, `${process.hrtime.bigint()} ${path}\n`));
watcher.on("ready", () => writeSync(1, "watching\n"));
process.stdin.on("end", () => process.exit()).resume();
