/**
 * A pause before the next attempt, in milliseconds: doubling, and spread so that crowds do not come
 * back together.
 *
 * @param {number} attempt from 0
 * @param {number} first
 * @param {number} longest
 */
export function pauseBefore(attempt: number, first: number, longest: number): number;
/**
 * Pauses by how connections ended. They double with each that came to nothing; one that was in use
 * for ten seconds was no failure. Who was sent away for being too much (1008, 1013) waits twenty
 * times as long, and has to stay for a minute before that is forgotten. A server that says when it
 * is back is asked then: not before, and not by all at once.
 */
export class Returns {
    /** @param {number} first @param {number} longest both in milliseconds */
    constructor(first: number, longest: number);
    /**
     * @param {number} code with which a connection was closed
     * @param {number} lived milliseconds that it was in use; 0 if it never was
     * @param {number | null} [asked] milliseconds that the server asked for
     * @returns {number} milliseconds to wait
     */
    after(code: number, lived: number, asked?: number | null): number;
    #private;
}
