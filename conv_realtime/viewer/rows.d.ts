/**
 * Whether two states of a row say the same.
 *
 * @param {Conversation | Message} row
 * @param {Conversation | Message | undefined} known
 */
export function same(row: Conversation | Message, known: Conversation | Message | undefined): boolean;
export class Rows {
    /** @type {Map<string, Conversation>} */
    conversations: Map<string, Conversation>;
    /**
     * The messages of a conversation by `seq`, of which the last is the newest.
     *
     * @param {string} conversation
     * @returns {readonly Message[]} the same array until a message changes
     */
    messages(conversation: string): readonly Message[];
    /**
     * @param {Conversation} row
     * @returns {Change[]} what it changed: one change or none
     */
    putConversation(row: Conversation): Change[];
    /**
     * @param {Message} row
     * @returns {Change[]} what it changed: one change or none
     */
    putMessage(row: Message): Change[];
    /**
     * @param {{ id: string, conversation_id: string, revision: number }} deleted
     * @returns {Change[]} what it changed: one change or none
     */
    removeMessage({ id, conversation_id, revision }: {
        id: string;
        conversation_id: string;
        revision: number;
    }): Change[];
    /**
     * Takes a conversation away, with its messages.
     *
     * @param {{ id: string, revision: number }} deleted
     * @returns {Change[]} what it changed, messages first
     */
    removeConversation({ id, revision }: {
        id: string;
        revision: number;
    }): Change[];
    /**
     * Says that of each conversation the last `most` messages were fetched and no earlier ones.
     *
     * @param {number} most
     */
    settle(most: number): void;
    /**
     * What makes the rows of `before` into these, conversations first.
     *
     * @param {Rows} before
     * @returns {Change[]}
     */
    since(before: Rows): Change[];
    #private;
}
/**
 * The messages of one conversation. Below `floor` they were not fetched, so that what changes
 * there is not shown with a hole behind it.
 */
export type Talk = {
    byId: Map<string, Message>;
    sorted: Message[] | null;
    floor: number;
};
import type { Conversation } from "./types.d.ts";
import type { Message } from "./types.d.ts";
import type { Change } from "./types.d.ts";
