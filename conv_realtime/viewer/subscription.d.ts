/**
 * What to follow. `snapshot` is how many messages of each conversation to begin with: `true` (which
 * is the default) for 50, at most 10,000, 0 for the conversations alone. `false` keeps no rows: then
 * `since` is a cursor to go on from, and a gap is told by a `resync` event alone. Where `types`
 * leaves out an event of conversations or of messages, their rows could not stay true, so none of
 * that kind are kept.
 *
 * @typedef {Filter & { snapshot?: boolean | number, since?: string }} Subscription
 */
/**
 * Keeps what an event says; returns what that changed.
 *
 * @param {Rows} rows @param {string} type @param {any} data @param {Wanted} wanted
 * @returns {Change[]}
 */
export function keep(rows: Rows, type: string, data: any, wanted: Wanted): Change[];
/**
 * A subscription, and the rows that follow from it: conversations or not, how many messages.
 *
 * @typedef {{ filter: Filter, conversations: boolean, messages: number, keeps: boolean }} Wanted
 */
/**
 * @param {Subscription} subscription
 * @returns {Wanted}
 * @throws {RangeError} it is longer than the server takes
 */
export function wantedOf({ types, conversations: listed, projects, snapshot }: Subscription): Wanted;
/** @param {Wanted} wanted @param {string | null} cursor */
export function requestOf({ filter, messages, keeps }: Wanted, cursor: string | null): Filter | {
    since: string;
    types?: import("./types.d.ts").DataType[];
    conversations?: string[];
    projects?: string[];
} | {
    snapshot: number;
    types?: import("./types.d.ts").DataType[];
    conversations?: string[];
    projects?: string[];
};
/** @param {string | URL} url */
export function addressOf(url: string | URL): URL;
/**
 * What to open a WebSocket with: the token travels as a subprotocol, which nobody logs, if it can.
 *
 * @param {URL} address @param {string | null | undefined} token
 * @returns {[string] | [string, string[]]}
 */
export function argumentsOf(address: URL, token: string | null | undefined): [string] | [string, string[]];
/**
 * What to follow. `snapshot` is how many messages of each conversation to begin with: `true` (which
 * is the default) for 50, at most 10,000, 0 for the conversations alone. `false` keeps no rows: then
 * `since` is a cursor to go on from, and a gap is told by a `resync` event alone. Where `types`
 * leaves out an event of conversations or of messages, their rows could not stay true, so none of
 * that kind are kept.
 */
export type Subscription = Filter & {
    snapshot?: boolean | number;
    since?: string;
};
/**
 * A subscription, and the rows that follow from it: conversations or not, how many messages.
 */
export type Wanted = {
    filter: Filter;
    conversations: boolean;
    messages: number;
    keeps: boolean;
};
import type { Rows } from "./rows.js";
import type { Change } from "./types.d.ts";
import type { Filter } from "./types.d.ts";
