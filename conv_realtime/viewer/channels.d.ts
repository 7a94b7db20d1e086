/** @param {number} attempt @param {FollowOptions} options */
export function pauseAfter(attempt: number, { firstPauseMs, longestPauseMs }: FollowOptions): number;
/**
 * A private topic, joined as long as somebody listens. A channel of supabase-js is used until the
 * first sign of trouble that does not pass by itself, then another one takes its place.
 */
export class Topic {
    /** @type {WeakMap<Supabase, Map<string, Topic>>} */
    static "__#private@#all": WeakMap<Supabase, Map<string, Topic>>;
    /** @param {Supabase} supabase @param {string} name @param {FollowOptions} options */
    static of(supabase: Supabase, name: string, options: FollowOptions): any;
    /**
     * @param {Supabase} supabase @param {string} name @param {FollowOptions} options
     * @param {() => void} forget
     */
    constructor(supabase: Supabase, name: string, options: FollowOptions, forget: () => void);
    isJoined: boolean;
    /** @param {Listener} listener */
    add(listener: Listener): this;
    /** @param {Listener} listener */
    remove(listener: Listener): Promise<void>;
    /** Says that something came of which it did not tell: after a restart of Postgres a channel can
     * stay joined that never hears anything again. */
    distrust(): void;
    #private;
}
export type Broadcast = {
    event: string;
    payload?: any;
};
export type Listener = {
    joined(): void;
    heard(message: Broadcast): void;
    told(): void;
    failed(error: Error): void;
};
import type { FollowOptions } from "./conversations.js";
import type { Supabase } from "./conversations.js";
