/**
 * Follows a conversation, or the list of an owner's conversations, until `unsubscribe()`.
 *
 * @param {Supabase} supabase
 * @param {FollowOptions} [options]
 */
export function follow(supabase: Supabase, options?: FollowOptions): Following;
/** @extends {Emitter<FollowEvents>} */
export class Following extends Emitter<FollowEvents> {
    /** @param {Supabase} supabase @param {FollowOptions} options */
    constructor(supabase: Supabase, options: FollowOptions);
    /** @type {FollowStatus} */
    status: FollowStatus;
    /** Resolves when rows are there for the first time; rejects if it is ended before. */
    ready: Promise<void>;
    /** The conversations by id; of one that is followed, that one. */
    get conversations(): ReadonlyMap<string, Conversation>;
    /**
     * The messages of a conversation by `seq`.
     *
     * @param {string} [conversation] its id; default: the one that is followed
     * @returns {readonly Message[]}
     */
    messages(conversation?: string): readonly Message[];
    /** Ends it, and leaves its channels once nobody else follows them. The rows stay. */
    unsubscribe(): Promise<void>;
    #private;
}
/**
 * What is used of a client of supabase-js, 2.45 or newer. It must be signed in, or have the option
 * `accessToken`: rows are their owner's. One with types of the database is fine.
 */
export type Supabase = {
    realtime: any;
    auth?: any;
    channel: (topic: string, options: any) => any;
    removeChannel: (channel: any) => Promise<unknown>;
    rpc: (name: any, values: any) => any;
    from: (table: any) => any;
};
export type FollowOptions = {
    /**
     * follow this one, with its messages; default: the owner's list
     */
    conversation?: string | undefined;
    /**
     * id of the user whose rows these are; default: who is signed in
     */
    owner?: string | undefined;
    /**
     * of the conversation, to begin with (200)
     */
    messages?: number | undefined;
    /**
     * unsubscribes
     */
    signal?: AbortSignal | undefined;
    /**
     * between reads that nothing asked for (30,000)
     */
    reconcileMs?: number | undefined;
    /**
     * between reads while Realtime cannot be joined (5,000)
     */
    pollMs?: number | undefined;
    /**
     * for the database to answer (30,000)
     */
    requestTimeoutMs?: number | undefined;
    /**
     * after trouble, before another attempt (500)
     */
    firstPauseMs?: number | undefined;
    /**
     * after much trouble, before another attempt (30,000)
     */
    longestPauseMs?: number | undefined;
};
/**
 * `connecting` until rows are there; `live` while Realtime wakes; `polling` while it does not;
 * `down` while the database cannot be read; `closed` for good.
 */
export type FollowStatus = "connecting" | "live" | "polling" | "down" | "closed";
/**
 * `change`: rows changed. `status`: see `FollowStatus`. `error`: what the database or Realtime
 * said, or that nobody is signed in; it goes on trying.
 */
export type FollowEvents = {
    change: Change[];
    status: FollowStatus;
    error: Error;
};
import { Emitter } from "./lifecycle.js";
import type { Conversation } from "./types.d.ts";
import type { Message } from "./types.d.ts";
import type { Change } from "./types.d.ts";
