// What a client of /ws asks for, and what follows from it: which rows it keeps of which events.

/** @import { Rows } from "./rows.js" */
/** @import { Change, DataEvent, Filter } from "./types.d.ts" */

const MOST_REQUEST_BYTES = 64 * 1024;
const DEFAULT_MESSAGES = 50;
const OF_CONVERSATIONS = /** @type {const} */ ([
  ...["new_conversation", "conversation_update", "conversation_deleted"],
]);
const OF_MESSAGES = /** @type {const} */ (["new_message", "message_update", "message_deleted"]);
const PLAIN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/; // what a subprotocol's name may hold

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
export function keep(rows, type, data, wanted) {
  switch (type) {
    case "new_conversation":
    case "conversation_update":
      return wanted.conversations ? rows.putConversation(data) : [];
    case "conversation_deleted":
      return rows.removeConversation(data);
    case "new_message":
    case "message_update":
      return wanted.messages ? rows.putMessage(data) : [];
    case "message_deleted":
      return wanted.messages ? rows.removeMessage(data) : [];
  }
  return [];
}

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
export function wantedOf({ types, conversations: listed, projects, snapshot = true }) {
  const all = (/** @type {readonly DataEvent["type"][]} */ names) =>
    snapshot !== false && names.every((name) => types?.includes(name) ?? true);
  const conversations = all(OF_CONVERSATIONS);
  const messages = all(OF_MESSAGES) ? (snapshot === true ? DEFAULT_MESSAGES : Number(snapshot)) : 0;
  const filter = { types, conversations: listed, projects };
  const wanted = { filter, conversations, messages, keeps: conversations || messages > 0 };
  if (new Blob([JSON.stringify(requestOf(wanted, null))]).size > MOST_REQUEST_BYTES - 256) {
    throw new RangeError(`a subscription has at most ${MOST_REQUEST_BYTES} bytes: follow projects`);
  }
  return wanted;
}

/** @param {Wanted} wanted @param {string | null} cursor */
export function requestOf({ filter, messages, keeps }, cursor) {
  if (cursor !== null) return { ...filter, since: cursor };
  return keeps ? { ...filter, snapshot: messages } : filter;
}

/** @param {string | URL} url */
export function addressOf(url) {
  const address = new URL(url, globalThis.location?.href);
  address.protocol = address.protocol.replace(/^http/, "ws");
  return address;
}

/**
 * What to open a WebSocket with: the token travels as a subprotocol, which nobody logs, if it can.
 *
 * @param {URL} address @param {string | null | undefined} token
 * @returns {[string] | [string, string[]]}
 */
export function argumentsOf(address, token) {
  const bare = token?.trim(); // a file that it was read from ends in a newline
  if (!bare) return [address.href];
  if (PLAIN.test(bare)) return [address.href, ["conv_realtime", `bearer.${bare}`]];
  const named = new URL(address);
  named.searchParams.set("token", bare);
  return [named.href];
}
