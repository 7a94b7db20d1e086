// What the page itself knows: which conversation its address names, and whether anybody looks.

import { useSyncExternalStore } from "react";

const onHash = listenTo(window, "hashchange");
const onNetwork = listenTo(window, "online", "offline");
const onSight = listenTo(document, "visibilitychange");

/** What stands behind the # of the address; another one is gone to by a link. */
export function useHash(): string {
  return useSyncExternalStore(onHash, () => location.hash.slice(1));
}

/** Whether there is a network, as far as the browser can tell. */
export function useOnline(): boolean {
  return useSyncExternalStore(onNetwork, () => navigator.onLine);
}

/** Whether the page is out of sight: another tab, a locked screen, sleep. */
export function useHidden(): boolean {
  return useSyncExternalStore(onSight, () => document.hidden);
}

function listenTo(target: EventTarget, ...names: string[]) {
  return (listener: () => void) => {
    for (const name of names) target.addEventListener(name, listener);
    return () => {
      for (const name of names) target.removeEventListener(name, listener);
    };
  };
}
