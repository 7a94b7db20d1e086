// Our own clients, driven over stdin and stdout by a test; the protocol is that of client.mjs.
//
// SUPABASE_JS names the package to use. Node.js 20 has no WebSocket of its own and is given one. Of
// what Realtime sends, and of what the Data API is asked, some can be lost or changed on the way.

import { createInterface } from "node:readline";

import { connect } from "../../conv_realtime/viewer/client.js";
import { reaches } from "../../conv_realtime/viewer/changes.js";
import { follow } from "../../conv_realtime/viewer/conversations.js";
import { Returns } from "../../conv_realtime/viewer/pauses.js";

const { createClient } = await import(process.env.SUPABASE_JS ?? "@supabase/supabase-js");
const given = globalThis.WebSocket ? {} : { WebSocket: (await import("ws")).default };
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

let lost = 0; // the share of broadcasts that get lost
let dropped = 0;
let answers = null; // what the next reader of changes asks instead
let requests = 0; // of the Data API
let read = 0; // changes
let held = null; // answers of one part of the Data API that wait

const waits = []; // of all timers
const { setTimeout } = globalThis;
globalThis.setTimeout = (act, ms, ...given) => {
  waits.push(ms);
  return setTimeout(act, ms, ...given);
};

class Lossy extends (given.WebSocket ?? WebSocket) {
  get onmessage() {
    return super.onmessage;
  }
  set onmessage(listener) {
    // Broadcasts from the database are the binary frames.
    super.onmessage = (event) => {
      if (typeof event.data !== "string" && Math.random() < lost) dropped++;
      else listener(event);
    };
  }
}

async function fetchOrNot(url, options) {
  requests++;
  if (answers && String(url).includes("/rpc/changes_since")) {
    const asked = JSON.parse(options.body);
    if (asked.cursor) options = { ...options, body: JSON.stringify({ ...asked, ...answers }) };
    answers = null;
  }
  const response = await fetch(url, options);
  if (held && String(url).includes(held.of)) {
    held.answers++;
    await held.released;
  }
  if (String(url).includes("/rpc/changes_since")) read += (await response.clone().json()).changes?.length ?? 0;
  return response;
}

const clients = new Map();
const supabases = new Map();
const purses = new Map(); // the tokens of each

/** A client of supabase-js, one a name, that takes its token from `tokens` one after the other. */
function supabaseOf(name, { url, key, tokens }) {
  if (!supabases.has(name)) {
    purses.set(name, tokens);
    const supabase = createClient(url, key, {
      accessToken: async () => {
        const token = tokens.length > 1 ? tokens.shift() : tokens[0];
        return token ?? new Promise(() => {}); // none: as if another tab held the lock of the session
      },
      global: { fetch: fetchOrNot },
      realtime: { transport: Lossy },
    });
    supabases.set(name, supabase);
  }
  return supabases.get(name);
}

function watch(name, client) {
  const seen = { client, changes: 0, statuses: [client.status], errors: [], events: [], resyncs: 0 };
  clients.set(name, seen);
  client.on("change", (changes) => (seen.changes += changes.length));
  client.on("status", (status) => seen.statuses.push(status));
  client.on("error", (error) => seen.errors.push(String(error)));
  client.on("event", ({ type, data }) => seen.events.push([type, data.id, data.revision]));
  client.on("resync", () => seen.resyncs++);
}

const commands = {
  connect({ name, url, tokens, options }) {
    const token = tokens && (() => (tokens.length > 1 ? tokens.shift() : tokens[0]));
    watch(name, connect(url, { token, ...given, ...options }));
  },
  follow({ name, supabase, options }) {
    watch(name, follow(supabaseOf(supabase.name ?? name, supabase), options));
  },
  ready({ name }) {
    return clients.get(name).client.ready;
  },
  subscribe({ name, to }) {
    clients.get(name).client.subscribe(to);
  },
  /** The revisions of all rows by id, and whether messages stand in order. */
  rows({ name }) {
    const { client } = clients.get(name);
    const rows = {};
    for (const [id, row] of client.conversations) {
      rows[id] = row.revision;
      let last = -1;
      for (const message of client.messages(id)) {
        if (message.seq <= last) throw new Error("messages are not in order");
        last = message.seq;
        rows[message.id] = message.revision;
      }
    }
    return rows;
  },
  texts({ name, conversation }) {
    return clients.get(name).client.messages(conversation).map(({ text }) => text);
  },
  conversations({ name }) {
    return [...clients.get(name).client.conversations.values()];
  },
  seen({ name }) {
    const { client, ...seen } = clients.get(name);
    return { ...seen, status: client.status, cursor: client.cursor ?? null };
  },
  async end({ name }) {
    const { client } = clients.get(name);
    await (client.close ? client.close() : client.unsubscribe());
  },
  lose({ share }) {
    lost = share;
  },
  answer({ instead }) {
    answers = instead;
  },
  channels({ name }) {
    const supabase = supabases.get(name);
    return supabase.getChannels().map(({ topic, state }) => [topic, state]);
  },
  renew({ name, token }) {
    purses.get(name).splice(0, Infinity, token);
  },
  /** Pauses, in milliseconds, without jitter: after these ends of connections. */
  returns({ first, longest, ends }) {
    const random = Math.random;
    Math.random = () => 1;
    const returns = new Returns(first, longest);
    const pauses = ends.map((end) => returns.after(...end));
    Math.random = random;
    return pauses;
  },
  /** How long was waited, but for what is always waited as long: pauses have a jitter. */
  pauses() {
    return waits.filter((ms) => !Number.isInteger(ms));
  },
  reaches({ cursor, target }) {
    return reaches(cursor, target);
  },
  dropped() {
    return dropped;
  },
  hold({ of = "/rest/v1/messages" }) {
    let release;
    held = { of, answers: 0, released: new Promise((resolve) => (release = resolve)), release: () => release() };
  },
  holding() {
    return { answers: held.answers, read };
  },
  release() {
    held.release();
    held = null;
  },
  requests() {
    return requests;
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
