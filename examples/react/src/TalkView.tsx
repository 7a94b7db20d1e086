import type { Conversation, Message } from "conv-realtime/types";
import { Fragment, useEffect, useLayoutEffect, useRef, useState } from "react";

import { sourceOf, titleOf } from "./ConversationList";
import { MessageView } from "./MessageView";
import { useConversation } from "./conversations";
import { useHidden, useOnline } from "./page";
import type { Supabase } from "./session";

const NEAR = 80; // pixels from the end that count as being there

/** One conversation, live. */
export function TalkView({ supabase, id }: { supabase: Supabase; id: string }) {
  const { rows, status } = useConversation(supabase, id);
  const { conversation, messages } = rows;
  const loading = status === "connecting" || status === "down";
  const scroll = useScroll(messages);
  const seen = useSeen(messages);
  const missed = messages.find(({ seq }) => seq > seen);
  return (
    <>
      <header>
        <a className="back" href="#">
          ← Conversations
        </a>
        <h1>{conversation ? titleOf(conversation) : loading ? "Loading …" : "Not here"}</h1>
        <p className="facts">{conversation && factsOf(conversation)}</p>
      </header>
      <div className="scroll" role="log" aria-label="Messages" aria-busy={loading} tabIndex={0} {...scroll}>
        <ol>
          {messages.map((message) => (
            <Fragment key={message.id}>
              {message === missed && <li className="missed">While you were away</li>}
              <MessageView message={message} />
            </Fragment>
          ))}
        </ol>
      </div>
    </>
  );
}

/** The `seq` of the last message that was there when the reader went away; Infinity before that. */
function useSeen(messages: readonly Message[]): number {
  const [hidden, online] = [useHidden(), useOnline()];
  const away = hidden || !online;
  const [seen, setSeen] = useState(Infinity);
  const last = messages.at(-1)?.seq;
  useEffect(() => {
    if (away && last !== undefined) setSeen(last);
  }, [away]); // what comes while away is unseen
  return seen;
}

/** Keeps a reader who is at the end there. */
function useScroll(messages: readonly Message[]) {
  const ref = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  useEffect(() => ref.current?.focus({ preventScroll: true }), []); // keys scroll what was chosen
  useLayoutEffect(() => {
    if (ref.current && atEnd.current) ref.current.scrollTop = ref.current.scrollHeight;
  }, [messages]);
  const onScroll = () => {
    const { scrollTop = 0, scrollHeight = 0, clientHeight = 0 } = ref.current ?? {};
    atEnd.current = scrollHeight - scrollTop - clientHeight < NEAR;
  };
  return { ref, onScroll };
}

function factsOf(row: Conversation): string {
  const counts = [`${row.message_count} messages`, `${row.tool_usage_count} tool calls`];
  return [row.project_name, sourceOf(row), row.git_branch, row.model, ...counts].filter(Boolean).join(" · ");
}
