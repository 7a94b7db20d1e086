// The official JavaScript client, driven over stdin and stdout by a test.
//
// Each line on stdin is a command, {"id", "do", ...}; each line on stdout is either its answer,
// {"id", "ok"} or {"id", "error"}, or something that arrived, {"event", ...}.

import { createInterface } from "node:readline";
import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

// Node 20 has no WebSocket of its own: supabase-js wants to be given one.
const supabase = createClient(process.env.SUPABASE_URL, process.env.SUPABASE_KEY, {
  auth: { persistSession: false, autoRefreshToken: false },
  realtime: { transport: WebSocket },
});
const channels = new Map();

const commands = {
  // Resolves with the first status of the subscription; later ones arrive as events.
  join({ topic, config = {} }) {
    const channel = supabase.channel(topic, { config });
    channels.set(topic, channel);
    channel.on("broadcast", { event: "*" }, (message) => say({ event: "broadcast", topic, message }));
    return new Promise((resolve) => {
      let first = true;
      channel.subscribe((status, error) => {
        if (!first) return say({ event: "status", topic, status });
        first = false;
        resolve({ status, reason: error ? error.message : null });
      });
    });
  },
  async token({ token }) {
    await supabase.realtime.setAuth(token);
  },
  send({ topic, event, payload }) {
    return channels.get(topic).send({ type: "broadcast", event, payload });
  },
  httpSend({ topic, event, payload }) {
    return channels.get(topic).httpSend(event, payload);
  },
  leave({ topic }) {
    return supabase.removeChannel(channels.get(topic));
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: name, ...given } = JSON.parse(line);
  // Not awaited: what arrives meanwhile must not wait for an answer.
  Promise.resolve()
    .then(() => commands[name](given))
    .then((ok) => say({ id, ok: ok ?? null }))
    .catch((error) => say({ id, error: String(error) }));
}
process.exit(0);
