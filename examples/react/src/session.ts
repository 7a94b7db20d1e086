// Who looks at which project. The browser keeps it, so that a page that is loaded again goes on.

import { type SupabaseClient, createClient } from "@supabase/supabase-js";
import type { Database } from "conv-realtime/database";
import { useSyncExternalStore } from "react";

export type Supabase = SupabaseClient<Database>;

/** A project, and a user's token where nobody can sign in. */
export interface Access {
  url: string;
  key: string;
  token?: string;
}

interface Session {
  access: Access;
  supabase: Supabase;
}

const KEPT = "conv-realtime";
const listeners = new Set<() => void>();

let session: Session | null | undefined; // undefined while it is found out

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

/**
 * Signs in, with the token of `access` or as `user`.
 *
 * @throws Error what the project says of the address, the key, the token or the password
 */
export async function signIn(access: Access, user?: { email: string; password: string }): Promise<void> {
  const supabase = connect(access);
  if (user) {
    const { error } = await supabase.auth.signInWithPassword(user);
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
  become(null);
  if (!access.token) await supabase.auth.signOut({ scope: "local" });
}

function connect({ url, key, token }: Access): Supabase {
  if (token) return createClient<Database>(url, key, { accessToken: async () => token });
  const supabase = createClient<Database>(url, key);
  supabase.auth.onAuthStateChange((event) => {
    if (event === "SIGNED_OUT" && session?.supabase === supabase) become(null);
  });
  return supabase;
}

async function restore(): Promise<void> {
  const kept = localStorage.getItem(KEPT);
  if (!kept) return become(null);
  const access: Access = JSON.parse(kept);
  const supabase = connect(access);
  const known = access.token ?? (await supabase.auth.getSession()).data.session;
  become(known ? { access, supabase } : null);
}

function become(next: Session | null): void {
  session = next;
  for (const listener of [...listeners]) listener();
}

void restore();
