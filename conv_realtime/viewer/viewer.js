// The page: the list of conversations is always whole, and messages are those of the one that is
// looked at, however many there are. What keeps both current is the client that anybody can use.

import { connect } from "./client.js";
import { drawList, moveFocus } from "./list.js";
import { drawFacts, drawMessages } from "./talk.js";

const RECENT = 200; // messages of a conversation at first
const MOST = 10_000; // messages that a snapshot gives
const PATIENCE_MS = 1500; // before it is said that the connection is away
const MENDED_MS = 8000; // for how long it is said that a gap was mended

const page = Object.fromEntries(
  ["state", "search", "find", "earlier", "notice", "back"].map((id) => [id, document.getElementById(id)]),
);
const address = document.body.dataset.ws;

const list = connect(address, {
  subscribe: {
    types: ["new_conversation", "conversation_update", "conversation_deleted"],
    snapshot: 0,
  },
});
let talk = null; // follows the chosen conversation
let chosen = location.hash.slice(1) || null;
let wanted = RECENT;
let listed = false; // whether the list was complete once
let drawing = false;
let stale = true; // whether the list has to be drawn
let away = Date.now(); // since when there is no connection
let mendedAt = 0;

list.on("change", () => draw(true));
list.on("status", (status) => {
  page.state.dataset.state = page.state.textContent = status;
  away = status === "live" ? null : (away ?? Date.now());
  notify();
  setTimeout(notify, PATIENCE_MS + 50);
});
list.on("resync", mended);
setTimeout(notify, PATIENCE_MS + 50);
list.ready.then(() => {
  listed = true;
  if (list.conversations.has(chosen)) load(RECENT);
  draw(true);
});

function choose(id) {
  document.body.dataset.shows = "talk";
  if (id === chosen) return;
  take(id);
  history.replaceState(null, "", `#${id}`);
  draw(true);
}

function take(id) {
  chosen = id;
  page.find.value = "";
  load(RECENT);
}

/** Follows the last messages of the chosen conversation. */
function load(messages) {
  wanted = messages;
  const subscribe = { conversations: [chosen], snapshot: messages };
  if (talk) return talk.subscribe(subscribe);
  talk = connect(address, { subscribe });
  talk.on("change", () => draw(false));
  talk.on("resync", mended);
}

function draw(all) {
  stale ||= all;
  if (drawing) return; // once a frame, however many rows came
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (stale) drawConversations();
    const row = list.conversations.get(chosen);
    const messages = (row && talk?.messages(chosen)) ?? []; // of one that is gone nothing may stay
    drawMessages(chosen, messages, page.find.value.trim().toLowerCase());
    page.earlier.hidden = wanted >= MOST || messages.length < wanted;
  });
}

function drawConversations() {
  stale = false;
  const newest = drawList(list.conversations, chosen, page.search.value.trim().toLowerCase(), choose);
  if (listed && newest && !list.conversations.has(chosen)) {
    take(newest.id);
    stale = true;
    draw(true);
  }
  const row = list.conversations.get(chosen);
  if (row || listed) drawFacts(row, list.conversations, choose);
}

// What is said about the connection -------------------------------------------------------------

function mended() {
  mendedAt = Date.now();
  notify();
  setTimeout(notify, MENDED_MS + 50);
}

function notify() {
  const gone = away !== null && Date.now() - away > PATIENCE_MS;
  const text = gone
    ? listed
      ? "The connection is lost. What you see may be out of date; it comes back by itself."
      : "There is no connection yet, and it is tried again. From another machine this page may not connect."
    : Date.now() - mendedAt < MENDED_MS
      ? "Some updates were missed. Everything was fetched again and is complete."
      : "";
  page.notice.hidden = !text;
  page.notice.className = gone ? "gone" : "mended";
  if (page.notice.textContent !== text) page.notice.textContent = text;
}

// What a person does ----------------------------------------------------------------------------

page.search.oninput = () => draw(true);
page.find.oninput = () => draw(false);
page.back.onclick = () => (document.body.dataset.shows = "list");
page.earlier.onclick = () => load(Math.min(MOST, wanted * 10));
window.onhashchange = () => {
  const id = location.hash.slice(1);
  if (list.conversations.has(id)) choose(id);
  else if (chosen) history.replaceState(null, "", `#${chosen}`); // it was the link to the messages
};
document.onkeydown = (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === "Escape" && typing) {
    event.target.value = "";
    event.target.blur();
    draw(true);
  } else if (event.key === "/" && !typing) {
    event.preventDefault();
    page.search.focus();
  } else if (["ArrowDown", "ArrowUp"].includes(event.key) && event.target.closest?.("nav")) {
    event.preventDefault();
    moveFocus(event.key === "ArrowDown" ? 1 : -1);
  }
};
setInterval(() => draw(true), 30_000); // "3 min ago" moves on by itself
