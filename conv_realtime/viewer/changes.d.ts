/**
 * The answer to a query of supabase-js, which gives errors instead of throwing them, and waits for
 * ever where nothing comes back over a line that is dead.
 *
 * @param {any} query @param {FollowOptions} options @param {AbortSignal} signal
 */
export function answer(query: any, { requestTimeoutMs }: FollowOptions, signal: AbortSignal): Promise<any>;
/**
 * Whether reading up to `cursor` has seen `target`. One of another stream never comes. Positions
 * are numbers joined by "-", too long for JavaScript's own.
 *
 * @param {string} cursor @param {string} target
 */
export function reaches(cursor: string, target: string): boolean;
/** Reads the changes that a client of supabase-js may see, once for all that follow with it. */
export class Reader {
    /** @type {WeakMap<Supabase, Map<string, Reader>>} */
    static "__#private@#all": WeakMap<Supabase, Map<string, Reader>>;
    /** @param {Supabase} supabase @param {FollowOptions} options */
    static of(supabase: Supabase, options: FollowOptions): any;
    /** @param {Supabase} supabase @param {FollowOptions} options @param {() => void} forget */
    constructor(supabase: Supabase, options: FollowOptions, forget: () => void);
    /** @type {"connecting" | "live" | "polling" | "down"} */
    state: "connecting" | "live" | "polling" | "down";
    /** Resolves when there is a cursor: every change after it will be told. */
    begun: Promise<void>;
    /** @param {Follower} follower */
    add(follower: Follower): this;
    /** @param {Follower} follower */
    remove(follower: Follower): Promise<void>;
    /** Whose rows: as it was given, else who is signed in, else who the token of Realtime names. */
    owner(): Promise<string>;
    /** Reads now, or once more when the read that runs is done. */
    look(): void;
    joined(): void;
    /** @param {Broadcast} message */
    heard({ event, payload }: Broadcast): void;
    told(): void;
    /** @param {Error} error */
    failed(error: Error): void;
    #private;
}
export type Page = {
    changes: {
        table: string;
        row: any;
    }[];
    cursor: string;
    more: boolean;
    resync: boolean;
};
export type Follower = Listener & {
    changed(page: Page): void;
};
import type { FollowOptions } from "./conversations.js";
import type { Broadcast } from "./channels.js";
import type { Supabase } from "./conversations.js";
import type { Listener } from "./channels.js";
