// Channels of supabase-js, one a topic, for as long as somebody listens.

import { asError, onWake, sleep, within } from "./lifecycle.js";
import { pauseBefore } from "./pauses.js";

/** @import { FollowOptions, Supabase } from "./conversations.js" */

/** @typedef {{ event: string, payload?: any }} Broadcast */

/** @typedef {{ joined(): void, heard(message: Broadcast): void, told(): void, failed(error: Error): void }} Listener */

const JOIN_MS = 20_000; // for a channel to be joined, before another one is tried
const REJOIN_MS = 2_000; // for a channel to come back by itself
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;

/**
 * A private topic, joined as long as somebody listens. A channel of supabase-js is used until the
 * first sign of trouble that does not pass by itself, then another one takes its place.
 */
export class Topic {
  /** @type {WeakMap<Supabase, Map<string, Topic>>} */
  static #all = new WeakMap();

  /** @param {Supabase} supabase @param {string} name @param {FollowOptions} options */
  static of(supabase, name, options) {
    const mine = Topic.#all.get(supabase) ?? new Map();
    Topic.#all.set(supabase, mine);
    if (!mine.has(name)) mine.set(name, new Topic(supabase, name, options, () => mine.delete(name)));
    return mine.get(name);
  }

  isJoined = false;

  #supabase;
  #name;
  #options;
  #forget;
  /** @type {Set<Listener>} */
  #listeners = new Set();
  /** @type {any} */
  #channel = null;
  /** @type {Promise<void>} the change of channels that is under way */
  #changing = Promise.resolve();
  #attempt = 0;
  #failing = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #stopListening;

  /**
   * @param {Supabase} supabase @param {string} name @param {FollowOptions} options
   * @param {() => void} forget
   */
  constructor(supabase, name, options, forget) {
    this.#supabase = supabase;
    this.#name = name;
    this.#options = options;
    this.#forget = forget;
    this.#stopListening = onWake(() => this.isJoined || this.#renew(0));
    this.#renew(0);
  }

  /** @param {Listener} listener */
  add(listener) {
    this.#listeners.add(listener);
    return this;
  }

  /** @param {Listener} listener */
  async remove(listener) {
    this.#listeners.delete(listener);
    if (this.#listeners.size) return;
    this.#forget();
    this.#stopListening();
    clearTimeout(this.#timer);
    await (this.#changing = this.#changing.then(() => this.#leave()));
  }

  /** Says that something came of which it did not tell: after a restart of Postgres a channel can
   * stay joined that never hears anything again. */
  distrust() {
    if (this.isJoined) this.#renew(0);
  }

  /** @param {number} pause before another channel is made, in milliseconds */
  #renew(pause) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#changing = this.#changing.then(() => this.#join());
    }, pause);
  }

  async #join() {
    await this.#leave();
    if (!this.#listeners.size) return;
    this.#renew(JOIN_MS + pauseAfter(this.#attempt++, this.#options));
    try {
      // A token that is fresh, for supabase-js keeps the old one.
      await within(JOIN_MS, this.#supabase.realtime.setAuth());
      if (!this.#listeners.size) return;
      const channel = this.#supabase.channel(this.#name, { config: { private: true } });
      this.#channel = channel;
      channel.on("broadcast", { event: "*" }, (/** @type {Broadcast} */ message) => this.#hear(channel, message));
      channel.subscribe((/** @type {string} */ status, /** @type {Error | undefined} */ error) =>
        this.#become(channel, status, error),
      );
    } catch (error) {
      this.#fail(asError(error));
    }
  }

  /** Removes the channel; only then can there be another one of the same topic. */
  async #leave() {
    const channel = this.#channel;
    this.#channel = null;
    this.#become(null, "LEFT");
    if (!channel) return;
    try {
      await this.#supabase.removeChannel(channel);
    } catch (error) {
      this.#fail(asError(error));
    }
    // With its last channel the socket goes, and one that is going takes no new channel.
    const { realtime } = this.#supabase;
    for (let turn = 0; turn < 100 && realtime.isDisconnecting?.(); turn++) await sleep(20);
  }

  /** @param {any} channel @param {Broadcast} message */
  #hear(channel, message) {
    if (channel === this.#channel) for (const listener of [...this.#listeners]) listener.heard(message);
  }

  /** @param {any} channel @param {string} status @param {Error} [error] */
  #become(channel, status, error) {
    if (channel !== this.#channel) return; // one that was given up
    const was = this.isJoined;
    this.isJoined = status === "SUBSCRIBED";
    if (this.isJoined) {
      this.#attempt = 0;
      this.#failing = false;
      clearTimeout(this.#timer);
      for (const listener of [...this.#listeners]) listener.joined();
    } else if (channel) {
      // It may join again by itself, and most often does: that takes it a second at first. A closed
      // one never does.
      const patience = status === "CLOSED" ? 0 : REJOIN_MS;
      this.#renew(patience + pauseAfter(this.#attempt, this.#options));
      this.#fail(error ?? new Error(`${this.#name}: ${status}`));
    }
    if (was !== this.isJoined) for (const listener of [...this.#listeners]) listener.told();
  }

  /** Tells of trouble once, not at every attempt. @param {Error} error */
  #fail(error) {
    if (this.#failing) return;
    this.#failing = true;
    for (const listener of [...this.#listeners]) listener.failed(error);
  }
}

/** @param {number} attempt @param {FollowOptions} options */
export function pauseAfter(attempt, { firstPauseMs = FIRST_PAUSE_MS, longestPauseMs = LONGEST_PAUSE_MS }) {
  return pauseBefore(attempt, firstPauseMs, longestPauseMs);
}
