/**
 * Calls `act` when what was connected may be no more, or may be again: the network came back, the
 * page is shown again, or the machine has slept.
 *
 * @param {() => void} act
 * @returns {() => void} stops it
 */
export function onWake(act: () => void): () => void;
/**
 * What `promise` gives, if it does so in time: what waits for a network or a lock may wait for ever.
 *
 * @template Value
 * @param {number} ms
 * @param {Value | PromiseLike<Value>} promise
 * @param {AbortSignal} [signal] ends it at once
 * @returns {Promise<Awaited<Value>>}
 */
export function within<Value>(ms: number, promise: Value | PromiseLike<Value>, signal?: AbortSignal): Promise<Awaited<Value>>;
/** @param {number} ms @param {AbortSignal} [signal] ends it early */
export function sleep(ms: number, signal?: AbortSignal): Promise<any>;
/** @param {unknown} error */
export function asError(error: unknown): Error;
/**
 * Calls listeners. What one of them throws is reported as uncaught and stops nothing else.
 *
 * @template {Record<string, unknown>} Events
 */
export class Emitter<Events extends Record<string, unknown>> {
    /**
     * @template {keyof Events} Name
     * @param {Name} name
     * @param {(value: Events[Name]) => void} listener
     * @returns {() => void} stops it
     */
    on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void;
    /**
     * @template {keyof Events} Name
     * @param {Name} name
     * @param {Events[Name]} value
     * @protected
     */
    protected emit<Name extends keyof Events>(name: Name, value: Events[Name]): void;
    #private;
}
