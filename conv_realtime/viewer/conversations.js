// A conversation, or an owner's list of them, over Supabase alone: rows that stay current.
//
//   import { follow } from "./conversations.js";
//   const talk = follow(supabase, { conversation: id });
//   talk.on("change", () => draw(talk.messages(id)));
//   await talk.unsubscribe();
//
// Realtime is a hint, Postgres the truth: rows are read with `changes_since`, at every join and
// every `changed`, and now and then without either. So a lost broadcast costs time and no data.
// All that follows with one client of supabase-js shares one reader and one channel a topic; the
// times of the first that asks are those of all.

import { Reader, answer } from "./changes.js";
import { Topic, pauseAfter } from "./channels.js";
import { Emitter, asError } from "./lifecycle.js";
import { Rows } from "./rows.js";

/** @import { Page } from "./changes.js" */
/** @import { Broadcast } from "./channels.js" */
/** @import { Change, Conversation, Message } from "./types.d.ts" */

/**
 * What is used of a client of supabase-js, 2.45 or newer. It must be signed in, or have the option
 * `accessToken`: rows are their owner's. One with types of the database is fine.
 *
 * @typedef {{
 *   realtime: any,
 *   auth?: any,
 *   channel: (topic: string, options: any) => any,
 *   removeChannel: (channel: any) => Promise<unknown>,
 *   rpc: (name: any, values: any) => any,
 *   from: (table: any) => any,
 * }} Supabase
 */

/**
 * @typedef {object} FollowOptions
 * @property {string} [conversation] follow this one, with its messages; default: the owner's list
 * @property {string} [owner] id of the user whose rows these are; default: who is signed in
 * @property {number} [messages] of the conversation, to begin with (200)
 * @property {AbortSignal} [signal] unsubscribes
 * @property {number} [reconcileMs] between reads that nothing asked for (30,000)
 * @property {number} [pollMs] between reads while Realtime cannot be joined (5,000)
 * @property {number} [requestTimeoutMs] for the database to answer (30,000)
 * @property {number} [firstPauseMs] after trouble, before another attempt (500)
 * @property {number} [longestPauseMs] after much trouble, before another attempt (30,000)
 */

/**
 * `connecting` until rows are there; `live` while Realtime wakes; `polling` while it does not;
 * `down` while the database cannot be read; `closed` for good.
 *
 * @typedef {"connecting" | "live" | "polling" | "down" | "closed"} FollowStatus
 */

/**
 * `change`: rows changed. `status`: see `FollowStatus`. `error`: what the database or Realtime
 * said, or that nobody is signed in; it goes on trying.
 *
 * @typedef {{ change: Change[], status: FollowStatus, error: Error }} FollowEvents
 */

const SELECT_ROWS = 1000; // PostgREST cuts longer answers without a word
const MESSAGES = 200;

const CONVERSATION = /** @type {const} */ ([
  ...["id", "revision", "title", "status", "activity", "message_count", "tool_usage_count"],
  ...["created_at", "started_at", "updated_at", "source", "session_id", "project_id", "project_name"],
  ...["cwd", "git_branch", "model", "input_tokens", "output_tokens", "cache_read_tokens"],
  ...["cache_write_tokens", "reasoning_tokens", "parent_id", "machine"],
]);
const MESSAGE = /** @type {const} */ ([
  ...["id", "conversation_id", "seq", "revision", "role", "text", "content", "model", "created_at"],
  ...["usage", "truncated"],
]);

/**
 * Follows a conversation, or the list of an owner's conversations, until `unsubscribe()`.
 *
 * @param {Supabase} supabase
 * @param {FollowOptions} [options]
 */
export function follow(supabase, options = {}) {
  return new Following(supabase, options);
}

/** @extends {Emitter<FollowEvents>} */
export class Following extends Emitter {
  /** @type {FollowStatus} */
  status = "connecting";

  /** Resolves when rows are there for the first time; rejects if it is ended before. */
  ready;

  #rows = new Rows();
  #supabase;
  #options;
  /** @type {Reader | null} */
  #reader;
  /** @type {Topic | null} */
  #topic = null;
  /** @type {Page[] | null} what was read while the first rows are on their way */
  #waiting = [];
  #loading = 0;
  #attempt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #again;
  #abort = new AbortController();
  /** What the reader and the topic tell. */
  #listener = {
    changed: (/** @type {Page} */ page) => this.#changed(page),
    heard: (/** @type {Broadcast} */ message) => this.#heard(message),
    joined: () => this.#reader?.look(),
    failed: (/** @type {Error} */ error) => this.emit("error", error),
    told: () => this.#told(),
  };
  /** @type {(() => void) | undefined} */
  #becomeReady;
  /** @type {((error: Error) => void) | undefined} */
  #failReady;

  /** @param {Supabase} supabase @param {FollowOptions} options */
  constructor(supabase, options) {
    super();
    this.#supabase = supabase;
    this.#options = options;
    this.ready = /** @type {Promise<void>} */ (
      new Promise((resolve, reject) => ((this.#becomeReady = resolve), (this.#failReady = reject)))
    );
    this.ready.catch(() => {}); // who does not wait for it is told by `status`
    this.#reader = Reader.of(supabase, options).add(this.#listener);
    if (options.conversation) {
      const name = `conv_realtime:conversation:${options.conversation}`;
      this.#topic = Topic.of(supabase, name, options).add(this.#listener);
    }
    options.signal?.addEventListener("abort", this.#aborted);
    if (options.signal?.aborted) void this.unsubscribe();
    else void this.#load();
  }

  /** The conversations by id; of one that is followed, that one. */
  get conversations() {
    return /** @type {ReadonlyMap<string, Conversation>} */ (this.#rows.conversations);
  }

  /**
   * The messages of a conversation by `seq`.
   *
   * @param {string} [conversation] its id; default: the one that is followed
   * @returns {readonly Message[]}
   */
  messages(conversation = this.#options.conversation) {
    return conversation === undefined ? [] : this.#rows.messages(conversation);
  }

  /** Ends it, and leaves its channels once nobody else follows them. The rows stay. */
  async unsubscribe() {
    if (this.status === "closed") return;
    this.#say("closed");
    this.#options.signal?.removeEventListener("abort", this.#aborted);
    clearTimeout(this.#again);
    this.#abort.abort();
    this.#failReady?.(new Error("closed"));
    const left = [this.#topic?.remove(this.#listener), this.#reader?.remove(this.#listener)];
    this.#topic = this.#reader = null;
    await Promise.all(left);
  }

  #aborted = () => void this.unsubscribe();

  /** @param {Page} page of changes behind those of the last page */
  #changed(page) {
    if (page.resync) return void this.#load();
    if (this.#waiting) this.#waiting.push(page);
    else this.#tell(this.#keepPage(this.#rows, page));
  }

  /** @param {Broadcast} message from the conversation's topic */
  #heard({ event, payload }) {
    // The row itself, ahead of the read that `changed` asks for. Before the first rows are there
    // nothing tells whether it belongs to them, and the read brings it again.
    const data = payload?.data;
    if (this.#waiting || typeof data?.revision !== "number") return;
    if (event === "message_deleted") this.#tell(this.#rows.removeMessage(data));
    else if (event === "conversation_deleted") this.#tell(this.#rows.removeConversation(data));
    else if (event === "new_message" || event === "message_update") {
      this.#tell(this.#rows.putMessage(messageOf(data)));
    } else if ((event === "new_conversation" || event === "conversation_update") && !data.truncated) {
      this.#tell(this.#rows.putConversation(conversationOf(data)));
    }
  }

  #told() {
    const state = this.#reader?.state;
    if (!state || this.status === "closed") return;
    if (state === "down" || !this.#waiting) this.#say(state);
    else if (this.#again !== undefined) void this.#load(); // the database is there again
  }

  // Rows -------------------------------------------------------------------------------------

  /** Fetches the rows anew. What changes meanwhile is read by the reader and kept for after. */
  async #load() {
    const mine = ++this.#loading;
    this.#waiting = [];
    clearTimeout(this.#again);
    this.#again = undefined;
    try {
      await this.#reader?.begun;
      if (mine !== this.#loading || !this.#reader) return;
      const rows = await this.#fetch();
      if (mine !== this.#loading || this.status === "closed") return;
      for (const page of this.#waiting ?? []) this.#keepPage(rows, page);
      const changes = rows.since(this.#rows);
      this.#rows = rows;
      this.#waiting = null;
      this.#attempt = 0;
      this.#tell(changes);
      this.#becomeReady?.();
      this.#told();
    } catch (error) {
      if (mine !== this.#loading || this.status === "closed") return;
      this.emit("error", asError(error));
      this.#again = setTimeout(() => void this.#load(), pauseAfter(this.#attempt++, this.#options));
    }
  }

  async #fetch() {
    const { conversation, messages = MESSAGES } = this.#options;
    const owner = await this.#reader?.owner();
    const rows = new Rows();
    const columns = CONVERSATION.filter((name) => name !== "project_name").join();
    const projects = new Map((await this.#select("projects", "id,name", owner)).map((row) => [row.id, row.name]));
    for (const row of await this.#select("conversations", columns, owner, conversation)) {
      rows.putConversation(conversationOf({ ...row, project_name: projects.get(row.project_id) ?? null }));
    }
    if (conversation) {
      for (const row of await this.#lastMessages(conversation, owner, messages)) rows.putMessage(messageOf(row));
      rows.settle(messages);
    }
    return rows;
  }

  /**
   * Every matching row, in pages by ascending id.
   *
   * @param {string} table @param {string} columns @param {string | undefined} owner
   * @param {string} [id] of the only one
   */
  async #select(table, columns, owner, id) {
    /** @type {any[]} */
    const rows = [];
    for (;;) {
      let query = this.#supabase.from(table).select(columns).eq("owner_id", owner);
      if (id) query = query.eq("id", id);
      if (table !== "projects") query = query.is("deleted_at", null);
      if (rows.length) query = query.gt("id", rows[rows.length - 1].id);
      const page = await this.#answer(query.order("id").limit(SELECT_ROWS));
      rows.push(...page);
      if (page.length < SELECT_ROWS) return rows;
    }
  }

  /** @param {string} conversation @param {string | undefined} owner @param {number} most */
  async #lastMessages(conversation, owner, most) {
    /** @type {any[]} */
    const rows = [];
    const columns = MESSAGE.filter((name) => name !== "truncated").join();
    while (rows.length < most) {
      const wanted = Math.min(most - rows.length, SELECT_ROWS);
      let query = this.#supabase.from("messages").select(columns).eq("conversation_id", conversation);
      query = query.eq("owner_id", owner).is("deleted_at", null);
      if (rows.length) query = query.lt("seq", rows[rows.length - 1].seq);
      const page = await this.#answer(query.order("seq", { ascending: false }).limit(wanted));
      rows.push(...page);
      if (page.length < wanted) break;
    }
    return rows;
  }

  /** @param {any} query */
  #answer(query) {
    return answer(query, this.#options, this.#abort.signal);
  }

  /** @param {Rows} rows @param {Page} page @returns {Change[]} */
  #keepPage(rows, page) {
    const { conversation } = this.#options;
    /** @type {Change[]} */
    const changes = [];
    for (const { table, row } of page.changes) {
      if (table === "conversations" && (conversation ?? row.id) === row.id) {
        changes.push(...(row.deleted_at ? rows.removeConversation(row) : rows.putConversation(conversationOf(row))));
      } else if (table === "messages" && conversation === row.conversation_id) {
        changes.push(...(row.deleted_at ? rows.removeMessage(row) : rows.putMessage(messageOf(row))));
      }
    }
    return changes;
  }

  /** @param {Change[]} changes */
  #tell(changes) {
    if (changes.length && this.status !== "closed") this.emit("change", changes);
  }

  /** @param {FollowStatus} status */
  #say(status) {
    if (status === this.status || this.status === "closed") return;
    this.status = status;
    this.emit("status", status);
  }
}

/** @param {any} row @returns {Conversation} */
function conversationOf(row) {
  return /** @type {any} */ (Object.fromEntries(CONVERSATION.map((name) => [name, row[name] ?? null])));
}

/** @param {any} row @returns {Message} */
function messageOf(row) {
  const message = Object.fromEntries(MESSAGE.map((name) => [name, row[name] ?? null]));
  return /** @type {any} */ ({ ...message, truncated: row.truncated ?? false });
}
