// Rows as they stand: conversations by id, and the messages of each by `seq`. Whatever comes twice,
// late or in another order ends in the same rows, because a lower revision never replaces a higher.

/** @import { Change, Conversation, Message } from "./types.d.ts" */

/**
 * The messages of one conversation. Below `floor` they were not fetched, so that what changes
 * there is not shown with a hole behind it.
 *
 * @typedef {{ byId: Map<string, Message>, sorted: Message[] | null, floor: number }} Talk
 */

const MOST_GONE = 10_000; // deletions remembered against what comes late

export class Rows {
  /** @type {Map<string, Conversation>} */
  conversations = new Map();

  /** @type {Map<string, Talk>} */
  #talks = new Map();

  /** @type {Map<string, number>} id -> the revision with which it went */
  #gone = new Map();

  /**
   * The messages of a conversation by `seq`, of which the last is the newest.
   *
   * @param {string} conversation
   * @returns {readonly Message[]} the same array until a message changes
   */
  messages(conversation) {
    const talk = this.#talks.get(conversation);
    if (!talk) return [];
    return (talk.sorted ??= [...talk.byId.values()].sort((a, b) => a.seq - b.seq));
  }

  /**
   * @param {Conversation} row
   * @returns {Change[]} what it changed: one change or none
   */
  putConversation(row) {
    const previous = this.conversations.get(row.id);
    if (this.#wentAfter(row) || !replaces(row, previous)) return [];
    this.conversations.set(row.id, row);
    return [{ kind: "conversation", id: row.id, row, previous }];
  }

  /**
   * @param {Message} row
   * @returns {Change[]} what it changed: one change or none
   */
  putMessage(row) {
    const { id, conversation_id } = row;
    const talk = this.#talk(conversation_id);
    const previous = talk.byId.get(id);
    if (row.seq < talk.floor || this.#wentAfter(row) || !replaces(row, previous)) return [];
    talk.byId.set(id, row);
    talk.sorted = null;
    return [{ kind: "message", id, conversation_id, row, previous }];
  }

  /**
   * @param {{ id: string, conversation_id: string, revision: number }} deleted
   * @returns {Change[]} what it changed: one change or none
   */
  removeMessage({ id, conversation_id, revision }) {
    const talk = this.#talks.get(conversation_id);
    const previous = talk?.byId.get(id);
    if (previous && previous.revision > revision) return [];
    this.#remember(id, revision);
    if (!talk || !previous) return [];
    talk.byId.delete(id);
    talk.sorted = null;
    return [{ kind: "message", id, conversation_id, previous }];
  }

  /**
   * Takes a conversation away, with its messages.
   *
   * @param {{ id: string, revision: number }} deleted
   * @returns {Change[]} what it changed, messages first
   */
  removeConversation({ id, revision }) {
    const previous = this.conversations.get(id);
    if (previous && previous.revision > revision) return [];
    this.#remember(id, revision);
    /** @type {Change[]} */
    const changes = this.messages(id).map((row) => gone(row));
    this.#talks.delete(id);
    this.conversations.delete(id);
    if (previous) changes.push({ kind: "conversation", id, previous });
    return changes;
  }

  /**
   * Says that of each conversation the last `most` messages were fetched and no earlier ones.
   *
   * @param {number} most
   */
  settle(most) {
    for (const [conversation, talk] of this.#talks) {
      if (talk.byId.size >= most) talk.floor = this.messages(conversation)[0]?.seq ?? -Infinity;
    }
  }

  /**
   * What makes the rows of `before` into these, conversations first.
   *
   * @param {Rows} before
   * @returns {Change[]}
   */
  since(before) {
    /** @type {Change[]} */
    const changes = [];
    for (const [id, row] of this.conversations) {
      const previous = before.conversations.get(id);
      if (!same(row, previous)) changes.push({ kind: "conversation", id, row, previous });
    }
    for (const [id, previous] of before.conversations) {
      if (!this.conversations.has(id)) changes.push({ kind: "conversation", id, previous });
    }
    for (const [conversation_id, { byId }] of this.#talks) {
      const known = before.#talks.get(conversation_id)?.byId;
      for (const [id, row] of byId) {
        const previous = known?.get(id);
        if (!same(row, previous)) changes.push({ kind: "message", id, conversation_id, row, previous });
      }
    }
    for (const [conversation, { byId }] of before.#talks) {
      const here = this.#talks.get(conversation)?.byId;
      for (const [id, row] of byId) if (!here?.has(id)) changes.push(gone(row));
    }
    return changes;
  }

  /** @param {string} conversation */
  #talk(conversation) {
    let talk = this.#talks.get(conversation);
    if (!talk) this.#talks.set(conversation, (talk = { byId: new Map(), sorted: null, floor: -Infinity }));
    return talk;
  }

  /**
   * What went at the same revision came back: a database that had refused it took it after all.
   *
   * @param {{ id: string, revision: number }} row
   */
  #wentAfter({ id, revision }) {
    return (this.#gone.get(id) ?? -1) > revision;
  }

  /** @param {string} id @param {number} revision */
  #remember(id, revision) {
    const known = this.#gone.get(id) ?? -1;
    this.#gone.delete(id);
    this.#gone.set(id, Math.max(known, revision));
    if (this.#gone.size > MOST_GONE) this.#gone.delete(/** @type {string} */ (this.#gone.keys().next().value));
  }
}

/** @param {Message} previous @returns {Change} */
function gone(previous) {
  return { kind: "message", id: previous.id, conversation_id: previous.conversation_id, previous };
}

/**
 * Whether `row` takes the place of what is known: a higher revision does, an equal one with
 * something else in it too, unless it was only cut for the way.
 *
 * @param {Conversation | Message} row
 * @param {Conversation | Message | undefined} known
 */
function replaces(row, known) {
  if (!known || row.revision > known.revision) return true;
  if (row.revision < known.revision) return false;
  const cut = "truncated" in row && row.truncated && "truncated" in known && !known.truncated;
  return !cut && !same(row, known);
}

/**
 * Whether two states of a row say the same.
 *
 * @param {Conversation | Message} row
 * @param {Conversation | Message | undefined} known
 */
export function same(row, known) {
  return row === known || (known?.revision === row.revision && told(row) === told(known));
}

/** @param {Conversation | Message} row */
function told(row) {
  // The place in the stream and what is said in passing of the conversation are not the row.
  return JSON.stringify({ ...row, cursor: undefined, conversation: undefined });
}
