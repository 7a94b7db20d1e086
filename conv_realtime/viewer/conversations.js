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

import { Emitter, onWake, pauseBefore, within } from "./lifecycle.js";
import { Rows } from "./rows.js";

/** @import { Change, Conversation, Message } from "./types.d.ts" */

/**
 * What is used of a client of supabase-js, 2.45 or newer. It must be signed in, or have the option
 * `accessToken`: rows are their owner's.
 *
 * @typedef {{
 *   realtime: any,
 *   auth?: any,
 *   channel: (topic: string, options: any) => any,
 *   removeChannel: (channel: any) => Promise<unknown>,
 *   rpc: (name: string, values: any) => any,
 *   from: (table: string) => any,
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

const RECONCILE_MS = 30_000;
const POLL_MS = 5_000;
const REQUEST_MS = 30_000;
const JOIN_MS = 20_000; // for a channel to be joined, before another one is tried
const REJOIN_MS = 2_000; // for a channel to come back by itself
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
const FIRST_LOOK_MS = 4; // between looks for what was announced and is not visible yet
const LONGEST_LOOK_MS = 500;
const LOOK_FOR_MS = 60_000;
const PAGE_ROWS = 500;
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

/** @typedef {{ changes: { table: string, row: any }[], cursor: string, more: boolean, resync: boolean }} Page */

/** @typedef {{ event: string, payload?: any }} Broadcast */

/** @typedef {{ joined(): void, heard(message: Broadcast): void, told(): void, failed(error: Error): void }} Listener */

/** @typedef {Listener & { changed(page: Page): void }} Follower */

// Reading ------------------------------------------------------------------------------------

/** Reads the changes that a client of supabase-js may see, once for all that follow with it. */
class Reader {
  /** @type {WeakMap<Supabase, Map<string, Reader>>} */
  static #all = new WeakMap();

  /** @param {Supabase} supabase @param {FollowOptions} options */
  static of(supabase, options) {
    const mine = Reader.#all.get(supabase) ?? new Map();
    Reader.#all.set(supabase, mine);
    const key = options.owner ?? "";
    if (!mine.has(key)) mine.set(key, new Reader(supabase, options, () => mine.delete(key)));
    return mine.get(key);
  }

  /** @type {"connecting" | "live" | "polling" | "down"} */
  state = "connecting";

  /** Resolves when there is a cursor: every change after it will be told. */
  begun;

  #supabase;
  #options;
  #forget;
  /** @type {Set<Follower>} */
  #followers = new Set();
  /** @type {Topic | null} */
  #topic = null;
  /** @type {string | undefined} */
  #owner;
  /** @type {string | null} */
  #cursor = null;
  /** @type {string | null} what was announced and is to be reached */
  #target = null;
  #due = false;
  #reading = false;
  #heard = true; // whether somebody said that there is something to read
  #attempt = 0;
  #ended = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #stopListening;
  #abort = new AbortController();
  /** @type {(() => void) | undefined} */
  #begin;

  /** @param {Supabase} supabase @param {FollowOptions} options @param {() => void} forget */
  constructor(supabase, options, forget) {
    this.#supabase = supabase;
    this.#options = options;
    this.#forget = forget;
    this.begun = /** @type {Promise<void>} */ (new Promise((resolve) => (this.#begin = resolve)));
    this.#stopListening = onWake(() => this.look());
    this.look();
  }

  /** @param {Follower} follower */
  add(follower) {
    this.#followers.add(follower);
    return this;
  }

  /** @param {Follower} follower */
  async remove(follower) {
    this.#followers.delete(follower);
    if (this.#followers.size || this.#ended) return;
    this.#ended = true;
    this.#forget();
    this.#stopListening();
    clearTimeout(this.#timer);
    this.#abort.abort();
    this.#begin?.();
    await this.#topic?.remove(this);
  }

  /** Whose rows: as it was given, else who is signed in, else who the token of Realtime names. */
  async owner() {
    this.#owner ??= this.#options.owner ?? (await userOf(this.#supabase));
    return this.#owner;
  }

  /** Reads now, or once more when the read that runs is done. */
  look() {
    if (this.#ended) return;
    this.#due = this.#heard = true;
    if (!this.#reading) void this.#read();
  }

  // What the owner's topic tells ---------------------------------------------------------------

  joined() {
    this.look();
  }

  /** @param {Broadcast} message */
  heard({ event, payload }) {
    if (event !== "changed") return; // every transaction says it, whatever else is told of it
    const cursor = payload?.cursor;
    if (typeof cursor === "string" && (this.#target === null || !reaches(this.#target, cursor))) {
      this.#target = cursor;
    }
    this.look();
  }

  told() {
    this.#say(this.#state());
    if (!this.#reading) this.#wait();
  }

  /** @param {Error} error */
  failed(error) {
    for (const follower of [...this.#followers]) follower.failed(error);
  }

  // The reading --------------------------------------------------------------------------------

  async #read() {
    clearTimeout(this.#timer);
    this.#reading = true;
    try {
      await this.#join();
      while (this.#due && !this.#ended) {
        this.#due = false;
        await this.#catchUp();
      }
      this.#attempt = 0;
      if (!this.#ended) this.#say(this.#state());
    } catch (error) {
      if (!this.#ended) {
        if (this.state !== "down") this.failed(asError(error));
        this.#say("down");
        this.#attempt++;
      }
    } finally {
      this.#reading = false;
      this.#wait();
    }
  }

  async #join() {
    if (this.#topic || this.#ended) return;
    const owner = await this.owner();
    if (this.#ended) return;
    this.#topic = Topic.of(this.#supabase, `conv_realtime:owner:${owner}`, this.#options).add(this);
  }

  /** Reads until nothing more is there and what was announced is reached. */
  async #catchUp() {
    if (this.#cursor === null) {
      this.#cursor = (await this.#page(null)).cursor;
      this.#begin?.();
    }
    let look = FIRST_LOOK_MS;
    const patience = Date.now() + LOOK_FOR_MS;
    while (!this.#ended) {
      const page = await this.#page(this.#cursor);
      if (this.#ended) return;
      this.#cursor = page.cursor;
      if (page.changes.length && !this.#heard) this.#topic?.distrust();
      this.#heard = true;
      if (page.changes.length || page.resync) {
        for (const follower of [...this.#followers]) follower.changed(page);
      }
      if (page.more) continue;
      if (this.#target === null || reaches(page.cursor, this.#target) || Date.now() > patience) break;
      // Committed, but not yet below every running transaction.
      await sleep(look, this.#abort.signal);
      look = Math.min(look * 2, LONGEST_LOOK_MS);
    }
    this.#target = null;
  }

  /** @param {string | null} cursor @returns {Promise<Page>} */
  #page(cursor) {
    const asked = { cursor, max_rows: PAGE_ROWS };
    return answer(this.#supabase.rpc("changes_since", asked), this.#options, this.#abort.signal);
  }

  #wait() {
    clearTimeout(this.#timer);
    if (this.#ended) return;
    const { reconcileMs = RECONCILE_MS, pollMs = POLL_MS } = this.#options;
    let pause = this.#topic?.isJoined ? reconcileMs : pollMs;
    if (this.state === "down") pause = pauseAfter(this.#attempt, this.#options);
    this.#timer = setTimeout(() => {
      this.#heard = !this.#topic?.isJoined;
      this.#due = true;
      void this.#read();
    }, pause);
  }

  #state() {
    if (this.#cursor === null) return "connecting";
    if (this.state === "down" && this.#attempt) return "down";
    return this.#topic?.isJoined ? "live" : "polling";
  }

  /** @param {Reader["state"]} state */
  #say(state) {
    if (state === this.state) return;
    this.state = state;
    for (const follower of [...this.#followers]) follower.told();
  }
}

// Channels -----------------------------------------------------------------------------------

/**
 * A private topic, joined as long as somebody listens. A channel of supabase-js is used until the
 * first sign of trouble that does not pass by itself, then another one takes its place.
 */
class Topic {
  /** @type {WeakMap<Supabase, Map<string, Topic>>} */
  static #all = new WeakMap();

  /** @param {Supabase} supabase @param {string} name @param {FollowOptions} options */
  static of(supabase, name, options) {
    const mine = Topic.#all.get(supabase) ?? new Map();
    Topic.#all.set(supabase, mine);
    if (!mine.has(name)) mine.set(name, new Topic(supabase, name, options, () => mine.delete(name)));
    return mine.get(name);
  }

  isJoined = false;

  #supabase;
  #name;
  #options;
  #forget;
  /** @type {Set<Listener>} */
  #listeners = new Set();
  /** @type {any} */
  #channel = null;
  /** @type {Promise<void>} the change of channels that is under way */
  #changing = Promise.resolve();
  #attempt = 0;
  #failing = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #stopListening;

  /**
   * @param {Supabase} supabase @param {string} name @param {FollowOptions} options
   * @param {() => void} forget
   */
  constructor(supabase, name, options, forget) {
    this.#supabase = supabase;
    this.#name = name;
    this.#options = options;
    this.#forget = forget;
    this.#stopListening = onWake(() => this.isJoined || this.#renew(0));
    this.#renew(0);
  }

  /** @param {Listener} listener */
  add(listener) {
    this.#listeners.add(listener);
    return this;
  }

  /** @param {Listener} listener */
  async remove(listener) {
    this.#listeners.delete(listener);
    if (this.#listeners.size) return;
    this.#forget();
    this.#stopListening();
    clearTimeout(this.#timer);
    await (this.#changing = this.#changing.then(() => this.#leave()));
  }

  /** Says that something came of which it did not tell: after a restart of Postgres a channel can
   * stay joined that never hears anything again. */
  distrust() {
    if (this.isJoined) this.#renew(0);
  }

  /** @param {number} pause before another channel is made, in milliseconds */
  #renew(pause) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#changing = this.#changing.then(() => this.#join());
    }, pause);
  }

  async #join() {
    await this.#leave();
    if (!this.#listeners.size) return;
    this.#renew(JOIN_MS + pauseAfter(this.#attempt++, this.#options));
    try {
      // A token that is fresh, for supabase-js keeps the old one.
      await within(JOIN_MS, this.#supabase.realtime.setAuth());
      if (!this.#listeners.size) return;
      const channel = this.#supabase.channel(this.#name, { config: { private: true } });
      this.#channel = channel;
      channel.on("broadcast", { event: "*" }, (/** @type {Broadcast} */ message) => this.#hear(channel, message));
      channel.subscribe((/** @type {string} */ status, /** @type {Error | undefined} */ error) =>
        this.#become(channel, status, error),
      );
    } catch (error) {
      this.#fail(asError(error));
    }
  }

  /** Removes the channel; only then can there be another one of the same topic. */
  async #leave() {
    const channel = this.#channel;
    this.#channel = null;
    this.#become(null, "LEFT");
    if (!channel) return;
    try {
      await this.#supabase.removeChannel(channel);
    } catch (error) {
      this.#fail(asError(error));
    }
    // With its last channel the socket goes, and one that is going takes no new channel.
    const { realtime } = this.#supabase;
    for (let turn = 0; turn < 100 && realtime.isDisconnecting?.(); turn++) await sleep(20);
  }

  /** @param {any} channel @param {Broadcast} message */
  #hear(channel, message) {
    if (channel === this.#channel) for (const listener of [...this.#listeners]) listener.heard(message);
  }

  /** @param {any} channel @param {string} status @param {Error} [error] */
  #become(channel, status, error) {
    if (channel !== this.#channel) return; // one that was given up
    const was = this.isJoined;
    this.isJoined = status === "SUBSCRIBED";
    if (this.isJoined) {
      this.#attempt = 0;
      this.#failing = false;
      clearTimeout(this.#timer);
      for (const listener of [...this.#listeners]) listener.joined();
    } else if (channel) {
      // It may join again by itself, and most often does: that takes it a second at first. A closed
      // one never does.
      const patience = status === "CLOSED" ? 0 : REJOIN_MS;
      this.#renew(patience + pauseAfter(this.#attempt, this.#options));
      this.#fail(error ?? new Error(`${this.#name}: ${status}`));
    }
    if (was !== this.isJoined) for (const listener of [...this.#listeners]) listener.told();
  }

  /** Tells of trouble once, not at every attempt. @param {Error} error */
  #fail(error) {
    if (this.#failing) return;
    this.#failing = true;
    for (const listener of [...this.#listeners]) listener.failed(error);
  }
}

// Small things -------------------------------------------------------------------------------

/** @param {number} attempt @param {FollowOptions} options */
function pauseAfter(attempt, { firstPauseMs = FIRST_PAUSE_MS, longestPauseMs = LONGEST_PAUSE_MS }) {
  return pauseBefore(attempt, firstPauseMs, longestPauseMs);
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

/**
 * The answer to a query of supabase-js, which gives errors instead of throwing them, and waits for
 * ever where nothing comes back over a line that is dead.
 *
 * @param {any} query @param {FollowOptions} options @param {AbortSignal} signal
 */
async function answer(query, { requestTimeoutMs = REQUEST_MS }, signal) {
  const request = new AbortController();
  try {
    const { data, error } = await within(requestTimeoutMs, query.abortSignal(request.signal), signal);
    if (error) throw new Error(`${error.code || "no answer"}: ${error.message}`, { cause: error });
    return data;
  } finally {
    request.abort(); // of what is answered nothing is left to end
  }
}

/** @param {Supabase} supabase @returns {Promise<string>} */
async function userOf(supabase) {
  try {
    const { data } = await supabase.auth.getSession();
    if (data.session) return data.session.user.id;
  } catch {
    // A client with the option `accessToken` has no auth: its getters throw.
  }
  await supabase.realtime.setAuth();
  const token = supabase.realtime.accessTokenValue;
  const claims = typeof token === "string" ? claimsOf(token) : {};
  if (typeof claims.sub !== "string") throw new Error("nobody is signed in: sign in, or give an accessToken");
  return claims.sub;
}

/** What a token says, unchecked: the server checks it. @param {string} token */
function claimsOf(token) {
  try {
    const [, middle = ""] = token.split(".");
    return JSON.parse(atob(middle.replaceAll("-", "+").replaceAll("_", "/")));
  } catch {
    return {};
  }
}

/**
 * Whether reading up to `cursor` has seen `target`. One of another stream never comes. Positions
 * are numbers joined by "-", too long for JavaScript's own.
 *
 * @param {string} cursor @param {string} target
 */
export function reaches(cursor, target) {
  const [stream, here] = split(cursor);
  const [wanted, there] = split(target);
  if (stream !== wanted || !here || !there) return true;
  for (let at = 0; at < Math.max(here.length, there.length); at++) {
    const [a, b] = [here[at] ?? -1n, there[at] ?? -1n];
    if (a !== b) return a > b;
  }
  return true;
}

/** @param {string} cursor @returns {[string, bigint[] | null]} */
function split(cursor) {
  const dot = cursor.lastIndexOf(".");
  const position = cursor.slice(dot + 1);
  const known = /^\d{1,20}(-\d{1,20}){0,3}$/.test(position);
  return [cursor.slice(0, dot), known ? position.split("-").map(BigInt) : null];
}

/** @param {number} ms @param {AbortSignal} [signal] ends it early */
function sleep(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve(undefined);
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
  });
}

/** @param {unknown} error */
function asError(error) {
  return error instanceof Error ? error : new Error(String(error));
}
