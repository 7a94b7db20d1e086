import type { FollowStatus } from "conv-realtime/conversations";

import { useOnline } from "./page";

const WORDS: Record<FollowStatus, string> = {
  connecting: "Connecting …",
  live: "Live",
  polling: "Realtime is away: looking every few seconds",
  down: "Supabase cannot be read: trying again",
  closed: "Ended",
};

/** How the rows stay current, in words. */
export function Connection({ status, error }: { status: FollowStatus; error: Error | null }) {
  const online = useOnline();
  return (
    <div className="connection" role="status" data-status={online ? status : "offline"}>
      <p>{online ? WORDS[status] : "Offline: catching up when the network is back"}</p>
      {error && online && status !== "live" && <p className="error">{error.message}</p>}
    </div>
  );
}
