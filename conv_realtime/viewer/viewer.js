// The page: the list of conversations is always whole, and messages are those of the one that is
// looked at, however many there are. What keeps both current is the client that anybody can use.

import { connect } from "./client.js";
import { drawFacts, drawList, drawMessages } from "./page.js";

const RECENT = 200; // messages of a conversation at first
const MOST = 1000; // messages that a snapshot gives

const state = document.getElementById("state");
const search = document.getElementById("search");
const earlier = document.getElementById("earlier");
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

list.on("change", draw);
list.on("status", (status) => {
  state.dataset.state = state.textContent = status;
});
list.ready.then(() => {
  listed = true;
  if (list.conversations.has(chosen)) load(RECENT);
  draw();
});

function choose(id) {
  if (id === chosen) return;
  take(id);
  history.replaceState(null, "", `#${id}`);
  draw();
}

function take(id) {
  chosen = id;
  load(RECENT);
}

/** Follows the last messages of the chosen conversation. */
function load(messages) {
  wanted = messages;
  const subscribe = { conversations: [chosen], snapshot: messages };
  if (talk) return talk.subscribe(subscribe);
  talk = connect(address, { subscribe });
  talk.on("change", draw);
}

function draw() {
  if (drawing) return; // once a frame, however many rows came
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const newest = drawList(list.conversations, chosen, search.value, choose);
    if (listed && newest && !list.conversations.has(chosen)) take(newest.id);
    const row = list.conversations.get(chosen);
    if (row || listed) drawFacts(row); // of one that is gone nothing may stay
    const messages = (row && talk?.messages(chosen)) ?? [];
    drawMessages(chosen, messages);
    earlier.hidden = wanted >= MOST || messages.length < wanted;
  });
}

search.oninput = draw;
window.onhashchange = () => choose(location.hash.slice(1));
earlier.onclick = () => load(MOST);
setInterval(draw, 30_000); // "3 min ago" moves on by itself
