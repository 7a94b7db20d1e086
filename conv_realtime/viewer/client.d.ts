/**
 * Connects to `/ws` and stays connected until `close()` or the signal.
 *
 * @param {string | URL} url `ws:`, `wss:`, `http:` or `https:`; in a page also a path on its host
 * @param {Options} [options]
 * @throws {RangeError} the subscription is longer than the server takes
 */
export function connect(url: string | URL, options?: Options): Live;
/** @extends {Emitter<LiveEvents>} */
export class Live extends Emitter<LiveEvents> {
    /** @param {string | URL} url @param {Options} options */
    constructor(url: string | URL, options: Options);
    /** @type {Status} */
    status: Status;
    /** @type {Error | null} why it closed, if not by `close()` */
    error: Error | null;
    /** Resolves when rows are current for the first time; rejects if it closes before. */
    ready: Promise<void>;
    /** The conversations by id; the same map until the next `change` of many rows at once. */
    get conversations(): ReadonlyMap<string, Conversation>;
    /**
     * The messages of a conversation by `seq`.
     *
     * @param {string} conversation its id
     * @returns {readonly Message[]}
     */
    messages(conversation: string): readonly Message[];
    /** The place behind the last event, to go on from with `since`; null while rows are fetched. */
    get cursor(): string | null;
    /**
     * Follows something else from now on. Rows stay as they are until the new ones are complete;
     * where none are kept, events go on from the present cursor.
     *
     * @param {Subscription} subscription replaces everything that was asked for before
     * @throws {RangeError} it is longer than the server takes
     */
    subscribe(subscription: Subscription): void;
    /** Ends the connection and everything that would go on later. The rows stay. */
    close(): void;
    #private;
}
export type Subscription = import("./subscription.js").Subscription;
export type Options = {
    /**
     * default: every conversation that this client may see
     */
    subscribe?: import("./subscription.js").Subscription | undefined;
    /**
     * a bearer token, or what gives a fresh one: it is asked before each attempt to connect
     */
    token?: string | (() => string | null | undefined | Promise<string | null | undefined>) | undefined;
    /**
     * closes the client
     */
    signal?: AbortSignal | undefined;
    /**
     * default: that of the browser or of Node.js 22
     */
    WebSocket?: typeof WebSocket | any;
    /**
     * before coming back, at first (250)
     */
    firstPauseMs?: number | undefined;
    /**
     * before coming back, after many attempts (15,000)
     */
    longestPauseMs?: number | undefined;
};
/**
 * `connecting` at first, `live` while rows are current, `reconnecting` in between, `closed` for good.
 */
export type Status = "connecting" | "live" | "reconnecting" | "closed";
/**
 * `change`: rows changed. `event`: an event of the server, after its rows were kept. `resync`:
 * events are missing; rows are fetched anew by themselves. `status`: see `Status`. `error`: what
 * the server or the token's source said; the client goes on unless its status is `closed`.
 */
export type LiveEvents = {
    change: Change[];
    event: DataEvent;
    resync: {
        reason: string;
        cursor: string;
    };
    status: Status;
    error: Error;
};
import { Emitter } from "./lifecycle.js";
import type { Conversation } from "./types.d.ts";
import type { Message } from "./types.d.ts";
import type { Change } from "./types.d.ts";
import type { DataEvent } from "./types.d.ts";
