// How long to wait before coming back. conv_realtime/core/pauses.py has the same rules, and a test
// that compares the two.

const OVERLOAD = [1008, 1013];
const OVERLOADED = 20;
const STEADY_MS = 10_000;
const STEADY_AFTER_OVERLOAD_MS = 60_000;

/**
 * A pause before the next attempt, in milliseconds: doubling, and spread so that crowds do not come
 * back together.
 *
 * @param {number} attempt from 0
 * @param {number} first
 * @param {number} longest
 */
export function pauseBefore(attempt, first, longest) {
  return Math.min(first * 2 ** Math.min(attempt, 30), longest) * (0.5 + Math.random() / 2);
}

/**
 * Pauses by how connections ended. They double with each that came to nothing; one that was in use
 * for ten seconds was no failure. Who was sent away for being too much (1008, 1013) waits twenty
 * times as long, and has to stay for a minute before that is forgotten. A server that says when it
 * is back is asked then: not before, and not by all at once.
 */
export class Returns {
  #first;
  #longest;
  #attempt = 0;

  /** @param {number} first @param {number} longest both in milliseconds */
  constructor(first, longest) {
    this.#first = first;
    this.#longest = longest;
  }

  /**
   * @param {number} code with which a connection was closed
   * @param {number} lived milliseconds that it was in use; 0 if it never was
   * @param {number | null} [asked] milliseconds that the server asked for
   * @returns {number} milliseconds to wait
   */
  after(code, lived, asked = null) {
    const overloaded = OVERLOAD.includes(code);
    if (lived > (overloaded ? STEADY_AFTER_OVERLOAD_MS : STEADY_MS)) this.#attempt = 0;
    const first = overloaded ? this.#first * OVERLOADED : this.#first;
    const pause = pauseBefore(this.#attempt++, first, this.#longest);
    return asked === null ? pause : Math.min(asked, this.#longest) * (1 + Math.random() / 2);
  }
}
