// What both clients need of the world around them: listeners, time, and the moment to look again.

/**
 * Calls listeners. What one of them throws is reported as uncaught and stops nothing else.
 *
 * @template {Record<string, unknown>} Events
 */
export class Emitter {
  /** @type {Map<keyof Events, Set<(value: any) => void>>} */
  #listeners = new Map();

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(value: Events[Name]) => void} listener
   * @returns {() => void} stops it
   */
  on(name, listener) {
    let all = this.#listeners.get(name);
    if (!all) this.#listeners.set(name, (all = new Set()));
    const added = (/** @type {Events[Name]} */ value) => listener(value);
    all.add(added);
    return () => void all.delete(added);
  }

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {Events[Name]} value
   * @protected
   */
  emit(name, value) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/**
 * Calls `act` when what was connected may be no more, or may be again: the network came back, the
 * page is shown again, or the machine has slept.
 *
 * @param {() => void} act
 * @returns {() => void} stops it
 */
export function onWake(act) {
  const page = globalThis.document;
  const shown = () => page.visibilityState === "visible" && act();
  globalThis.addEventListener?.("online", act);
  globalThis.addEventListener?.("pageshow", act);
  page?.addEventListener("visibilitychange", shown);
  let last = Date.now();
  const clock = setInterval(() => {
    const slept = Date.now() - last > 2 * TICK_MS;
    last = Date.now();
    if (slept && page?.visibilityState !== "hidden") act(); // of hidden pages timers are slow, too
  }, TICK_MS);
  return () => {
    globalThis.removeEventListener?.("online", act);
    globalThis.removeEventListener?.("pageshow", act);
    page?.removeEventListener("visibilitychange", shown);
    clearInterval(clock);
  };
}

const TICK_MS = 15_000;

/**
 * What `promise` gives, if it does so in time: what waits for a network or a lock may wait for ever.
 *
 * @template Value
 * @param {number} ms
 * @param {Value | PromiseLike<Value>} promise
 * @param {AbortSignal} [signal] ends it at once
 * @returns {Promise<Awaited<Value>>}
 */
export async function within(ms, promise, signal) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {(() => void) | undefined} */
  let end;
  const ended = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
    end = () => reject(new Error("ended"));
    signal?.addEventListener("abort", end);
  });
  try {
    return /** @type {Awaited<Value>} */ (await Promise.race([promise, ended]));
  } finally {
    clearTimeout(timer);
    if (end) signal?.removeEventListener("abort", end);
  }
}

/** @param {number} ms @param {AbortSignal} [signal] ends it early */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve(undefined);
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
  });
}

/** @param {unknown} error */
export function asError(error) {
  return error instanceof Error ? error : new Error(String(error));
}
