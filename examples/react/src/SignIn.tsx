import { type FormEvent, useState } from "react";

import { lastAccess, signIn } from "./session";

const { VITE_SUPABASE_URL = "http://127.0.0.1:54321", VITE_SUPABASE_PUBLISHABLE_KEY = "" } = import.meta.env;

/** Signs in by e-mail and password where there is sign-in, and with a token where there is none. */
export function SignIn() {
  const last = lastAccess();
  const local = /^http:\/\/(127\.|localhost)/.test(VITE_SUPABASE_URL);
  const [byToken, setByToken] = useState(last ? Boolean(last.token) : local);
  const [error, setError] = useState(last ? "Your session has ended. Sign in again, and go on where you were." : "");
  const [pending, setPending] = useState(false);

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const given = (name: string) => String(form.get(name) ?? "").trim();
    const access = { url: given("url"), key: given("key") };
    const as = byToken ? { token: given("token") } : { email: given("email") };
    setError("");
    setPending(true);
    try {
      await signIn({ ...access, ...as }, String(form.get("password")));
    } catch (cause) {
      setError(cause instanceof Error ? cause.message : String(cause));
      setPending(false);
    }
  }

  return (
    <main className="sign-in">
      <h1>Conversations</h1>
      <p>What your AI assistants say, live from your Supabase project.</p>
      <form onSubmit={(event) => void submit(event)}>
        <label>
          Project URL
          <input name="url" type="url" required defaultValue={last?.url ?? VITE_SUPABASE_URL} />
        </label>
        <label>
          Publishable key
          <input name="key" required defaultValue={last?.key ?? VITE_SUPABASE_PUBLISHABLE_KEY} autoComplete="off" />
        </label>
        <fieldset>
          <legend>Sign in</legend>
          <label>
            <input type="radio" name="way" checked={!byToken} onChange={() => setByToken(false)} />
            with e-mail and password
          </label>
          <label>
            <input type="radio" name="way" checked={byToken} onChange={() => setByToken(true)} />
            with a token, on the local Supabase
          </label>
        </fieldset>
        {byToken ? (
          <label>
            Token
            <input name="token" type="password" required autoComplete="off" aria-describedby="token-hint" />
            <small id="token-hint">
              The local Supabase has no sign-in. <code>conv-realtime token</code> prints what belongs here, and{" "}
              <code>conv-realtime status --json</code> the URL and the key.
            </small>
          </label>
        ) : (
          <>
            <label>
              E-mail
              <input name="email" type="email" required defaultValue={last?.email} autoComplete="username" />
            </label>
            <label>
              Password
              <input name="password" type="password" required autoComplete="current-password" />
            </label>
          </>
        )}
        <p role="alert">{error}</p>
        <button type="submit" disabled={pending}>
          {pending ? "Signing in …" : "Sign in"}
        </button>
      </form>
    </main>
  );
}
