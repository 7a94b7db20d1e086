// Who looks at which project. The browser keeps it, so that a page that is loaded again goes on.

import { type SupabaseClient, createClient, isAuthRetryableFetchError } from "@supabase/supabase-js";
import type { Database } from "conv-realtime/database";
import { useSyncExternalStore } from "react";

export type Supabase = SupabaseClient<Database>;

/** A project, and as whom: by e-mail, or with a user's token where nobody can sign in. */
export interface Access {
  url: string;
  key: string;
  email?: string;
  token?: string;
}

interface Session {
  access: Access;
  supabase: Supabase;
}

const KEPT = "conv-realtime";
const NOT_TAKEN = ["PGRST301", "PGRST303"]; // what the Data API says of a token that does not hold
const listeners = new Set<() => void>();

let session: Session | null | undefined; // undefined while it is found out
let ended: Access | null = null; // of a session that nobody signed out of

/** Who is signed in: null is nobody, and undefined that nobody knows yet. */
export function useSession(): Session | null | undefined {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => session,
  );
}

/** With what the last session began, if it ended by itself: revoked, expired, the user gone. */
export function lastAccess(): Access | null {
  return ended;
}

/**
 * Signs in, with the token of `access` or with its e-mail and this password.
 *
 * @throws Error what the project says of the address, the key, the token or the password
 */
export async function signIn(access: Access, password: string): Promise<void> {
  const supabase = connect(access);
  if (!access.token) {
    const { error } = await supabase.auth.signInWithPassword({ email: access.email ?? "", password });
    if (error) throw error;
  }
  const { error } = await supabase.rpc("schema_version");
  if (error) throw new Error(error.message || "this is not the address of a Supabase project");
  localStorage.setItem(KEPT, JSON.stringify(access));
  become({ access, supabase });
}

export async function signOut(): Promise<void> {
  if (!session) return;
  const { access, supabase } = session;
  localStorage.removeItem(KEPT);
  end();
  if (!access.token) await supabase.auth.signOut({ scope: "local" });
}

/**
 * Ends the session if an error comes of its being over. supabase-js tells of that late: it keeps a
 * session that cannot be renewed until the token has expired, and then for another minute.
 */
export async function doubt(error: Error, supabase: Supabase): Promise<void> {
  const { code } = (error.cause ?? {}) as { code?: string };
  const isRefused = NOT_TAKEN.includes(code ?? "");
  if (session?.supabase !== supabase) return;
  if (session.access.token) return isRefused ? end() : undefined;
  const { data, error: reason } = await (isRefused ? supabase.auth.refreshSession() : supabase.auth.getSession());
  const isOver = !data.session && !isAuthRetryableFetchError(reason);
  if (isOver && session?.supabase === supabase) end();
}

function connect({ url, key, token }: Access): Supabase {
  if (token) return createClient<Database>(url, key, { accessToken: async () => token });
  const supabase = createClient<Database>(url, key);
  supabase.auth.onAuthStateChange((event) => {
    if (event === "SIGNED_OUT" && session?.supabase === supabase) end();
  });
  return supabase;
}

async function restore(): Promise<void> {
  const access = kept();
  if (!access) return become(null);
  const supabase = connect(access);
  const known = access.token ?? (await supabase.auth.getSession()).data.session;
  if (known) become({ access, supabase });
  else end();
}

function kept(): Access | null {
  const text = localStorage.getItem(KEPT);
  return text && JSON.parse(text);
}

function end(): void {
  ended = kept(); // nothing where somebody signed out, in whichever tab
  become(null);
}

function become(next: Session | null): void {
  session = next;
  for (const listener of [...listeners]) listener();
}

window.addEventListener("storage", ({ key, newValue }) => {
  if (key === KEPT && !newValue && session) end();
});
void restore();
