import type { Conversation } from "conv-realtime/types";
import { useEffect, useState } from "react";

import { Time } from "./Time";

const SILENT_MS = 5 * 60_000; // an assistant that has written nothing for so long is not at work
const LOOK_MS = 30_000;

const WORDS = {
  working: "at work",
  waiting: "your turn",
  silent: "silent",
  ended: "ended",
  completed: "completed",
  error: "error",
};

interface Props {
  rows: readonly Conversation[];
  chosen: string;
  loading: boolean;
}

export function ConversationList({ rows, chosen, loading }: Props) {
  const now = useNow();
  if (!rows.length) return <p className="hint">{loading ? "Loading …" : "Nothing yet: talk to an assistant."}</p>;
  return (
    <ul className="list">
      {rows.map((row) => (
        <li key={row.id}>
          <a href={`#${row.id}`} aria-current={row.id === chosen ? "page" : undefined}>
            <strong className={row.parent_id ? "below" : undefined}>{titleOf(row)}</strong>
            <Activity row={row} now={now} />
            <small>{[row.project_name, sourceOf(row)].filter(Boolean).join(" · ")}</small>
            <Time at={row.updated_at} />
          </a>
        </li>
      ))}
    </ul>
  );
}

/** Whose turn it is: the transcript says so, and the clock may know better. */
function Activity({ row, now }: { row: Conversation; now: number }) {
  const silent = now - Date.parse(row.updated_at ?? "") > SILENT_MS;
  const activity = row.activity === "working" && silent ? "silent" : row.activity;
  const state = row.status === "active" ? activity : row.status;
  return (
    <span className="activity" data-state={state}>
      {WORDS[state]}
    </span>
  );
}

export function titleOf(row: Conversation): string {
  return row.title || `Untitled, ${row.session_id.slice(0, 8)}`;
}

export function sourceOf(row: Conversation): string {
  return row.source.replaceAll("_", " ");
}

function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), LOOK_MS);
    return () => clearInterval(timer);
  }, []);
  return now;
}
