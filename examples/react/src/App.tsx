import { useEffect } from "react";

import { ConversationList } from "./ConversationList";
import { Connection } from "./Connection";
import { SignIn } from "./SignIn";
import { TalkView } from "./TalkView";
import { useConversations } from "./conversations";
import { useHash } from "./page";
import { type Supabase, doubt, signOut, useSession } from "./session";

export function App() {
  const session = useSession();
  if (session === undefined) return null;
  return session ? <Desk supabase={session.supabase} /> : <SignIn />;
}

function Desk({ supabase }: { supabase: Supabase }) {
  const { rows, status, error } = useConversations(supabase);
  const loading = status === "connecting" || status === "down";
  const chosen = useHash();
  useEffect(() => {
    if (error) void doubt(error, supabase);
  }, [error, supabase]);
  return (
    <div className="desk" data-shows={chosen ? "talk" : "list"}>
      <nav aria-label="Conversations">
        <header>
          <h1>Conversations</h1>
          <button type="button" className="quiet" onClick={() => void signOut()}>
            Sign out
          </button>
        </header>
        <Connection status={status} error={error} />
        <ConversationList rows={rows} chosen={chosen} loading={loading} />
      </nav>
      <main>
        {chosen ? (
          <TalkView key={chosen} supabase={supabase} id={chosen} />
        ) : (
          <p className="hint">Choose a conversation, and read along.</p>
        )}
      </main>
    </div>
  );
}
