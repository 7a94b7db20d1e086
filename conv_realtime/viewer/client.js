// A client of /ws: rows that stay current. It subscribes, keeps the rows that a snapshot and the
// events after it give, and comes back by itself after whatever ends a connection: with the newest
// cursor where the server still knows what came after it, else with a new snapshot.
//
//   import { connect } from "http://127.0.0.1:8787/client.js";
//   const live = connect("ws://127.0.0.1:8787/ws", { subscribe: { snapshot: 50 } });
//   live.on("change", () => draw(live.conversations));

import { Emitter, asError, onWake, within } from "./lifecycle.js";
import { Returns, pauseBefore } from "./pauses.js";
import { Rows } from "./rows.js";
import { addressOf, argumentsOf, keep, requestOf, wantedOf } from "./subscription.js";

/** @import { Wanted } from "./subscription.js" */
/** @import { Change, Conversation, DataEvent, Message } from "./types.d.ts" */

/** @typedef {import("./subscription.js").Subscription} Subscription */

/**
 * @typedef {object} Options
 * @property {Subscription} [subscribe] default: every conversation that this client may see
 * @property {string | (() => string | null | undefined | Promise<string | null | undefined>)} [token]
 *   a bearer token, or what gives a fresh one: it is asked before each attempt to connect
 * @property {AbortSignal} [signal] closes the client
 * @property {typeof WebSocket | any} [WebSocket] default: that of the browser or of Node.js 22
 * @property {number} [firstPauseMs] before coming back, at first (250)
 * @property {number} [longestPauseMs] before coming back, after many attempts (15,000)
 */

/**
 * `connecting` at first, `live` while rows are current, `reconnecting` in between, `closed` for good.
 *
 * @typedef {"connecting" | "live" | "reconnecting" | "closed"} Status
 */

/**
 * `change`: rows changed. `event`: an event of the server, after its rows were kept. `resync`:
 * events are missing; rows are fetched anew by themselves. `status`: see `Status`. `error`: what
 * the server or the token's source said; the client goes on unless its status is `closed`.
 *
 * @typedef {{
 *   change: Change[],
 *   event: DataEvent,
 *   resync: { reason: string, cursor: string },
 *   status: Status,
 *   error: Error,
 * }} LiveEvents
 */

const OPEN_MS = 15_000; // for a connection to be welcomed
const ANSWER_MS = 5_000; // for a ping to be answered after this machine has slept
const CALM_MS = 10_000; // between two gaps, or the second one waits
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 15_000;

/**
 * Connects to `/ws` and stays connected until `close()` or the signal.
 *
 * @param {string | URL} url `ws:`, `wss:`, `http:` or `https:`; in a page also a path on its host
 * @param {Options} [options]
 * @throws {RangeError} the subscription is longer than the server takes
 */
export function connect(url, options = {}) {
  return new Live(url, options);
}

/** @extends {Emitter<LiveEvents>} */
export class Live extends Emitter {
  /** @type {Status} */
  status = "connecting";

  /** @type {Error | null} why it closed, if not by `close()` */
  error = null;

  /** Resolves when rows are current for the first time; rejects if it closes before. */
  ready;

  #address;
  #options;
  /** @type {Wanted} */
  #wanted;
  #rows = new Rows();
  /** @type {Rows | null} rows of a snapshot that is not complete */
  #staging = null;
  /** @type {string | null} where to go on from; null asks for everything */
  #cursor = null;
  #unanswered = 0; // subscriptions on their way: until the answer, events are of another filter

  /** @type {WebSocket | null} */
  #socket = null;
  #welcomed = false;
  #returns;
  #welcomedAt = 0;
  #heardAt = 0;
  #gapAt = 0;
  #gaps = 0;
  #heartbeatMs = 20_000;
  /** @type {number | null} what the server asked for when it went away */
  #afterShutdownMs = null;
  /** @type {Map<string, ReturnType<typeof setTimeout>>} */
  #timers = new Map();
  #stopListening;
  /** @type {(() => void) | undefined} */
  #becomeReady;
  /** @type {((error: Error) => void) | undefined} */
  #failReady;

  /** @param {string | URL} url @param {Options} options */
  constructor(url, options) {
    super();
    this.#address = addressOf(url);
    this.#options = options;
    this.#returns = new Returns(this.#firstPauseMs, this.#longestPauseMs);
    this.#wanted = wantedOf(options.subscribe ?? {});
    this.#cursor = options.subscribe?.since ?? null;
    this.ready = /** @type {Promise<void>} */ (
      new Promise((resolve, reject) => ((this.#becomeReady = resolve), (this.#failReady = reject)))
    );
    this.ready.catch(() => {}); // who does not wait for it is told by `status` and `error`
    this.#stopListening = onWake(() => this.#wake());
    options.signal?.addEventListener("abort", this.#aborted);
    if (options.signal?.aborted) this.close();
    else void this.#open();
  }

  /** The conversations by id; the same map until the next `change` of many rows at once. */
  get conversations() {
    return /** @type {ReadonlyMap<string, Conversation>} */ (this.#rows.conversations);
  }

  /**
   * The messages of a conversation by `seq`.
   *
   * @param {string} conversation its id
   * @returns {readonly Message[]}
   */
  messages(conversation) {
    return this.#rows.messages(conversation);
  }

  /** The place behind the last event, to go on from with `since`; null while rows are fetched. */
  get cursor() {
    return this.#cursor;
  }

  /**
   * Follows something else from now on. Rows stay as they are until the new ones are complete;
   * where none are kept, events go on from the present cursor.
   *
   * @param {Subscription} subscription replaces everything that was asked for before
   * @throws {RangeError} it is longer than the server takes
   */
  subscribe(subscription) {
    this.#wanted = wantedOf(subscription);
    this.#cursor = subscription.since ?? (this.#wanted.keeps ? null : this.#cursor);
    this.#stop("again");
    this.#staging = null;
    if (this.#welcomed) this.#ask();
  }

  /** Ends the connection and everything that would go on later. The rows stay. */
  close() {
    this.#end(null);
  }

  // The connection ---------------------------------------------------------------------------

  async #open() {
    let token;
    try {
      const given = this.#options.token;
      // Awaited in any case: who listens from now on is told also of what fails at once.
      token = await (typeof given === "function" ? within(OPEN_MS, given()) : given);
    } catch (error) {
      if (this.status === "closed") return;
      this.emit("error", asError(error));
      return this.#comeBack(1006, 0);
    }
    if (this.status === "closed") return;
    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    if (!Socket) return this.#end(new Error("there is no WebSocket here: give one, as the option WebSocket"));
    /** @type {WebSocket} */
    let socket;
    try {
      socket = new Socket(...argumentsOf(this.#address, token));
    } catch (error) {
      return this.#end(asError(error)); // an address or a runtime that will be no better later
    }
    this.#socket = socket;
    this.#later("silence", OPEN_MS, () => this.#lose(1006));
    socket.onmessage = ({ data }) => this.#hear(socket, data);
    socket.onclose = ({ code }) => this.#lose(code);
    socket.onerror = () => {}; // `close` follows and says as much
  }

  /** @param {WebSocket} socket @param {unknown} text */
  #hear(socket, text) {
    this.#heardAt = Date.now();
    this.#stop("answer");
    let frame;
    try {
      frame = JSON.parse(String(text));
    } catch (error) {
      return this.emit("error", asError(error));
    }
    if (socket === this.#socket) this.#take(frame);
  }

  /** Gives the connection up, whatever it still does. @param {number} code of its end */
  #lose(code) {
    const socket = this.#socket;
    if (!socket) return;
    const lived = this.#welcomed ? Date.now() - this.#welcomedAt : 0;
    this.#drop(socket);
    if (code === 4401 && typeof this.#options.token !== "function") {
      return this.#end(new Error("the token has expired; give a function that returns a fresh one"));
    }
    this.#comeBack(code, lived);
  }

  /** @param {number} code @param {number} lived milliseconds that the connection was in use */
  #comeBack(code, lived) {
    this.#say("reconnecting");
    const pause = this.#returns.after(code, lived, this.#afterShutdownMs);
    this.#afterShutdownMs = null;
    this.#later("pause", pause, () => void this.#open());
  }

  /** The network is back, the page is seen again, or the machine has slept. */
  #wake() {
    if (this.status === "closed") return;
    if (this.#timers.has("pause")) {
      this.#stop("pause");
      void this.#open();
    } else if (this.#welcomed) this.#probe(ANSWER_MS);
  }

  /** @param {number} patience */
  #probe(patience) {
    this.#send("ping", { timestamp: Date.now() });
    if (!this.#timers.has("answer")) this.#later("answer", patience, () => this.#lose(1006));
  }

  #watch() {
    this.#later("silence", this.#heartbeatMs / 2, () => {
      // The server pings once a heartbeat; timers of hidden pages come late, so look at the clock.
      if (Date.now() - this.#heardAt > 1.5 * this.#heartbeatMs) this.#probe(this.#heartbeatMs / 2);
      this.#watch();
    });
  }

  /** @param {WebSocket} socket */
  #drop(socket) {
    this.#socket = null;
    this.#welcomed = false;
    this.#unanswered = 0;
    this.#staging = null;
    for (const name of ["silence", "answer", "again"]) this.#stop(name);
    socket.onmessage = socket.onclose = null; // a dead line can take a minute to close
    socket.onerror = () => {};
    try {
      socket.close();
    } catch {
      // `ws` throws where it is not connected yet, and ends all the same
    }
  }

  /** @param {Error | null} error */
  #end(error) {
    if (this.status === "closed") return;
    this.error = error;
    if (this.#socket) this.#drop(this.#socket);
    for (const name of [...this.#timers.keys()]) this.#stop(name);
    this.#stopListening();
    this.#options.signal?.removeEventListener("abort", this.#aborted);
    this.#failReady?.(error ?? new Error("closed"));
    if (error) this.emit("error", error);
    this.#say("closed");
  }

  #aborted = () => this.close();

  // The protocol -----------------------------------------------------------------------------

  /** @param {{ type: string, data: any }} frame */
  #take({ type, data }) {
    switch (type) {
      case "connection_established":
        this.#welcomed = true;
        this.#welcomedAt = Date.now();
        this.#heartbeatMs = data.heartbeat_seconds * 1000;
        this.#watch();
        if (!this.#wanted.keeps) this.#cursor ??= data.cursor || null;
        return this.#ask();
      case "subscribed":
        return this.#subscribed();
      case "ping":
        this.#send("pong", {});
        return this.#advance(data);
      case "pong":
        return;
      case "server_shutdown":
        this.#afterShutdownMs = data.reconnect_after_ms;
        return;
      case "error":
        return this.#refused(data);
    }
    if (this.#unanswered) return; // of another filter, or before what is asked for
    if (type === "snapshot") return this.#fill(data);
    if (type === "resync") return this.#resync(data);
    const changes = keep(this.#staging ?? this.#rows, type, data, this.#wanted);
    this.#advance(data);
    if (!this.#staging && changes.length) this.emit("change", changes);
    this.emit("event", /** @type {DataEvent} */ ({ type, data }));
  }

  #ask() {
    this.#staging = null;
    this.#unanswered++;
    this.#send("subscribe", requestOf(this.#wanted, this.#cursor));
  }

  #subscribed() {
    if (--this.#unanswered) return;
    if (this.#cursor === null && this.#wanted.keeps) this.#staging = new Rows();
    else this.#becomeLive();
  }

  /** @param {{ conversations: Conversation[], messages: Message[], more: boolean, cursor: string }} part */
  #fill({ conversations, messages, more, cursor }) {
    const filled = this.#staging;
    if (!filled) return;
    if (this.#wanted.conversations) for (const row of conversations) filled.putConversation(row);
    for (const row of messages) filled.putMessage(row);
    if (more) return; // its cursor would skip the rest
    filled.settle(this.#wanted.messages);
    const changes = filled.since(this.#rows);
    this.#rows = filled;
    this.#staging = null;
    this.#cursor = cursor;
    if (changes.length) this.emit("change", changes);
    if (!this.#unanswered) this.#becomeLive(); // unless a listener asked for something else
  }

  /** @param {{ reason: string, cursor: string }} gap */
  #resync(gap) {
    this.emit("resync", gap);
    if (this.status === "closed" || this.#unanswered) return; // by a listener
    if (!this.#wanted.keeps) {
      this.#cursor = gap.cursor || null;
      return;
    }
    this.#cursor = null;
    this.#askAgain();
  }

  /** Asks at once; where gaps follow each other, after a pause: others want to be served, too. */
  #askAgain() {
    this.#gaps = Date.now() - this.#gapAt < CALM_MS ? this.#gaps + 1 : 0;
    this.#gapAt = Date.now();
    this.#staging = null;
    this.#say("reconnecting");
    if (!this.#gaps) return this.#ask();
    const pause = pauseBefore(this.#gaps - 1, this.#firstPauseMs, this.#longestPauseMs);
    this.#later("again", pause, () => this.#ask());
  }

  /** @param {{ code: string, message: string }} refusal */
  #refused({ code, message }) {
    if (this.#unanswered && code === "unavailable") return; // a snapshot, which nobody wants by now
    const error = new Error(`${code}: ${message}`);
    if (this.#unanswered) return this.#end(error); // what follows would be of a filter nobody asked for
    this.emit("error", error);
    if (this.#staging) this.#askAgain();
  }

  /** @param {{ cursor?: string }} data */
  #advance({ cursor }) {
    // While rows are fetched no cursor covers what is missing.
    const covered = this.#cursor !== null || !this.#wanted.keeps;
    if (cursor && covered && !this.#unanswered && !this.#staging) this.#cursor = cursor;
  }

  #becomeLive() {
    this.#say("live");
    this.#becomeReady?.();
  }

  // Small things -----------------------------------------------------------------------------

  get #firstPauseMs() {
    return this.#options.firstPauseMs ?? FIRST_PAUSE_MS;
  }

  get #longestPauseMs() {
    return this.#options.longestPauseMs ?? LONGEST_PAUSE_MS;
  }

  /** @param {string} type @param {object} data */
  #send(type, data) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify({ type, data }));
  }

  /** @param {Status} status */
  #say(status) {
    if (status === this.status || this.status === "closed") return;
    if (status === "reconnecting" && this.status === "connecting") return; // never was
    this.status = status;
    this.emit("status", status);
  }

  /** @param {string} name @param {number} ms @param {() => void} act */
  #later(name, ms, act) {
    this.#stop(name);
    const timer = setTimeout(() => {
      this.#timers.delete(name);
      act();
    }, ms);
    this.#timers.set(name, timer);
  }

  /** @param {string} name */
  #stop(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}
