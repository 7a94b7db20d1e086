// The changes that a user may see, read from the database: Realtime only says when to look.

import { Topic, pauseAfter } from "./channels.js";
import { asError, onWake, sleep, within } from "./lifecycle.js";

/** @import { Broadcast, Listener } from "./channels.js" */
/** @import { FollowOptions, Supabase } from "./conversations.js" */

/** @typedef {{ changes: { table: string, row: any }[], cursor: string, more: boolean, resync: boolean }} Page */

/** @typedef {Listener & { changed(page: Page): void }} Follower */

const RECONCILE_MS = 30_000;
const POLL_MS = 5_000;
const REQUEST_MS = 30_000;
const FIRST_LOOK_MS = 4; // between looks for what was announced and is not visible yet
const LONGEST_LOOK_MS = 500;
const LOOK_FOR_MS = 60_000;
const PAGE_ROWS = 500;

/** Reads the changes that a client of supabase-js may see, once for all that follow with it. */
export class Reader {
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
    const { owner, requestTimeoutMs = REQUEST_MS } = this.#options;
    this.#owner ??= owner ?? (await within(requestTimeoutMs, userOf(this.#supabase), this.#abort.signal));
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
  async #page(cursor) {
    const asked = { cursor, max_rows: PAGE_ROWS };
    /** @type {Page} */
    const page = await answer(this.#supabase.rpc("changes_since", asked), this.#options, this.#abort.signal);
    // A secret key reads everybody's, and a page may have signed in as somebody else meanwhile.
    return { ...page, changes: page.changes.filter(({ row }) => row.owner_id === this.#owner) };
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

/**
 * The answer to a query of supabase-js, which gives errors instead of throwing them, and waits for
 * ever where nothing comes back over a line that is dead.
 *
 * @param {any} query @param {FollowOptions} options @param {AbortSignal} signal
 */
export async function answer(query, { requestTimeoutMs = REQUEST_MS }, signal) {
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
