// The rows of `follow` as React wants them: a snapshot that is another one when anything changed.

import { type FollowStatus, type Following, follow } from "conv-realtime/conversations";
import type { Conversation, Message } from "conv-realtime/types";
import { useMemo, useSyncExternalStore } from "react";

import type { Supabase } from "./session";

/** Rows, how they stay current, and what went wrong last if it is not mended. */
export interface Followed<Rows> {
  rows: Rows;
  status: FollowStatus;
  error: Error | null;
}

/** A conversation with its last 200 messages, and with all that come. */
export interface Talk {
  conversation: Conversation | undefined;
  messages: readonly Message[];
}

const MESSAGES = 200;

/** The user's conversations, the newest first. */
export function useConversations(supabase: Supabase): Followed<readonly Conversation[]> {
  const store = useMemo(() => storeOf(() => follow(supabase), newestFirst, []), [supabase]);
  return useSyncExternalStore(store.subscribe, store.snapshot);
}

/** A conversation by its id. */
export function useConversation(supabase: Supabase, id: string): Followed<Talk> {
  const store = useMemo(() => {
    const look = (following: Following): Talk => ({
      conversation: following.conversations.get(id),
      messages: following.messages(),
    });
    const nothing = { conversation: undefined, messages: [] };
    return storeOf(() => follow(supabase, { conversation: id, messages: MESSAGES }), look, nothing);
  }, [supabase, id]);
  return useSyncExternalStore(store.subscribe, store.snapshot);
}

/** A store that follows while somebody looks, and leaves the channels when nobody does. */
function storeOf<Rows>(begin: () => Following, look: (following: Following) => Rows, nothing: Rows) {
  let current: Followed<Rows> = { rows: nothing, status: "connecting", error: null };
  return {
    snapshot: () => current,
    subscribe(listener: () => void): () => void {
      const following = begin();
      const become = (changed: Partial<Followed<Rows>>) => {
        current = { ...current, ...changed };
        listener();
      };
      const stops = [
        following.on("change", () => become({ rows: look(following) })),
        following.on("status", (status) => become(status === "live" ? { status, error: null } : { status })),
        following.on("error", (error) => become({ error })),
      ];
      return () => {
        for (const stop of stops) stop();
        void following.unsubscribe();
      };
    },
  };
}

function newestFirst({ conversations }: Following): Conversation[] {
  return [...conversations.values()].sort((one, other) => timeOf(other) - timeOf(one));
}

function timeOf({ updated_at }: Conversation): number {
  return updated_at ? Date.parse(updated_at) : 0;
}
