// What a user of the clients may write, and what not: compiled by a test, never run.

import { createClient } from "@supabase/supabase-js";
import { createClient as createCurrent } from "supabase-js-newest";

import { connect, type Live, type Status } from "../../../conv_realtime/viewer/client.js";
import { follow } from "../../../conv_realtime/viewer/conversations.js";
import type { Database, Json, Tables, TablesInsert } from "../../../conv_realtime/viewer/database.d.ts";
import type { Change, Message } from "../../../conv_realtime/viewer/types.d.ts";

const live: Live = connect("/ws", {
  token: async () => "fresh",
  subscribe: { conversations: ["an id"], types: ["new_message"], snapshot: 200 },
  signal: AbortSignal.timeout(1000),
});
const texts: string[] = live.messages("an id").map((message: Message) => message.text);
const title: string | null | undefined = live.conversations.get("an id")?.title;
const stop: () => void = live.on("change", (changes: Change[]) => {
  for (const change of changes) {
    if (change.kind === "message") change.row?.seq.toFixed();
    else change.row?.message_count.toFixed();
  }
});
live.on("event", (event) => {
  if (event.type === "message_deleted") event.data.revision.toFixed();
  if (event.type === "new_message") event.data.text.trim();
  // @ts-expect-error a conversation has no text
  if (event.type === "new_conversation") event.data.text.trim();
});
live.on("status", (status: Status) => status === "live");
live.on("resync", ({ reason }) => reason.trim());
// @ts-expect-error there is no such event
live.on("changes", () => {});
// @ts-expect-error there is no such type
live.subscribe({ types: ["new_thing"] });
// @ts-expect-error rows are read, not written
live.conversations.set("an id", undefined);
await live.ready;
live.close();

const talk = follow(createClient("https://project.supabase.co", "key"), { conversation: "an id" });
const list = follow(createCurrent("https://project.supabase.co", "key"), { owner: "a user" });
const said: readonly Message[] = talk.messages();
list.on("status", (status) => status === "polling");
// @ts-expect-error something that is no client of supabase-js
follow({ from: () => null });
await Promise.all([talk.unsubscribe(), list.unsubscribe()]);

const typed = createClient<Database>("https://project.supabase.co", "key");
const current = createCurrent<Database>("https://project.supabase.co", "key");
const { data } = await typed.from("messages").select("text, seq, conversations(title)").limit(9);
for (const row of data ?? []) {
  row.text.trim();
  row.conversations?.title?.trim();
  // @ts-expect-error the column was not asked for
  row.role.trim();
}
const project: TablesInsert<"projects"> = { id: "an id", machine: "m", path: "/p", name: "p" };
await current.from("projects").upsert(project);
// @ts-expect-error a conversation has a source
await current.from("conversations").insert({ id: "an id", machine: "m", session_id: "s", revision: 1 });
// @ts-expect-error there is no such table
typed.from("talks");
const changes: Json | null = (await typed.rpc("changes_since", { cursor: "start" })).data;
const row: Tables<"conversations"> | undefined = undefined;
await follow(typed, { conversation: "an id" }).unsubscribe();

export { changes, row, said, stop, texts, title };
