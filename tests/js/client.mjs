// The official JavaScript client, driven over stdin and stdout by a test.
//
// Each line on stdin is a command, {"id", "do", ...}; each line on stdout is either its answer,
// {"id", "ok"} or {"id", "error"}, or something that arrived, {"event", ...}. SUPABASE_JS names the
// package to use.

import { createInterface } from "node:readline";

const { createClient } = await import(process.env.SUPABASE_JS);
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

// Node 20 has no WebSocket of its own: supabase-js wants to be given one there.
const transport = globalThis.WebSocket ?? (await import("ws")).default;
let token = null; // of the user who is signed in; without one the key speaks
const supabase = createClient(process.env.SUPABASE_URL, process.env.SUPABASE_KEY, {
  accessToken: async () => token,
  realtime: { transport },
});
const channels = new Map();
const answer = ({ data, error }) => ({ data: data ?? null, code: error ? error.code : null });

const commands = {
  async signIn(given) {
    token = given.token;
    await supabase.realtime.setAuth(token);
  },
  async select({ table, columns, where, order }) {
    return answer(await supabase.from(table).select(columns).match(where).order(order));
  },
  async upsert({ table, rows }) {
    return answer(await supabase.from(table).upsert(rows).select());
  },
  async rpc({ function: name, given }) {
    return answer(await supabase.rpc(name, given));
  },
  // Resolves with the first status of the subscription; later ones arrive as events.
  join({ topic, config, events, changes }) {
    const channel = supabase.channel(topic, { config });
    channels.set(topic, channel);
    for (const event of events) {
      channel.on("broadcast", { event }, ({ event, payload, meta }) =>
        say({ event: "broadcast", topic, heard: { event, payload, meta: meta ?? null } }),
      );
    }
    for (const change of changes) {
      channel.on("postgres_changes", change, ({ eventType, table, new: row, old }) =>
        say({ event: "change", topic, heard: { type: eventType, table, new: row, old } }),
      );
    }
    channel.on("system", {}, ({ extension, status }) => {
      if (extension === "postgres_changes") say({ event: "system", topic, status });
    });
    return new Promise((resolve) => {
      let first = true;
      channel.subscribe((status, error) => {
        if (!first) return say({ event: "status", topic, status });
        first = false;
        resolve({ status, reason: error ? error.message : null });
      });
    });
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
