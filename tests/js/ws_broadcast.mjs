// The package `ws`, for a benchmark: broadcasts the lines of its input, as tests/bench/servers says.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, backlog: 4096 });
server.on("listening", () => console.log(JSON.stringify({ port: server.address().port })));

let rest = Buffer.alloc(0);
process.stdin.on("data", (data) => {
  rest = rest.length ? Buffer.concat([rest, data]) : data;
  for (let end; (end = rest.indexOf(10)) >= 0; rest = rest.subarray(end + 1)) {
    const line = rest.subarray(0, end);
    for (const client of server.clients) client.send(line, { binary: false });
  }
});
process.stdin.on("end", () => process.exit(0));
