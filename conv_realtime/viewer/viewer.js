// Follows /ws: rows are kept by id, a lower revision never replaces a higher one, and after a
// lost connection the stream goes on from the last cursor. The list of conversations is always
// whole; messages are fetched of the conversation that is looked at, however many there are.

import { drawFacts, drawList, drawMessages } from "./page.js";

const RECENT = 200; // messages of a conversation at first
const MOST = 1000; // messages that a snapshot gives
const SILENT_MS = 60_000; // the server pings three times in this
const AGAIN_MS = 1000;

const scheme = location.protocol === "https:" ? "wss:" : "ws:";
const address = `${scheme}//${location.host}${document.body.dataset.ws}`;
const state = document.getElementById("state");
const search = document.getElementById("search");
const earlier = document.getElementById("earlier");

const conversations = new Map();
let messages = new Map(); // of the chosen conversation
let gone = new Map(); // message id -> revision of its deletion
let chosen = location.hash.slice(1) || null;
let listed = false; // whether the snapshot of the list is complete
let loading = null; // the fetch of the chosen conversation's messages
let cursor = null;
let wait = 250;
let drawing = false;

// The connection that follows everything ------------------------------------------------------

function connect() {
  const socket = new WebSocket(address);
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => socket.close(), SILENT_MS);
  };
  socket.onopen = () => {
    heard();
    show("live");
    subscribe(socket);
  };
  socket.onmessage = ({ data }) => {
    heard();
    wait = 250;
    receive(socket, JSON.parse(data));
  };
  socket.onclose = () => {
    clearTimeout(silence);
    show("reconnecting");
    setTimeout(connect, wait * (0.5 + Math.random() / 2));
    wait = Math.min(wait * 2, 10_000);
  };
}

function subscribe(socket) {
  const data = cursor === null ? { snapshot: 0 } : { since: cursor };
  socket.send(JSON.stringify({ type: "subscribe", data }));
}

function receive(socket, { type, data }) {
  switch (type) {
    case "connection_established":
      return; // its cursor is the head; ours may be older until the replay is through
    case "ping":
      socket.send(JSON.stringify({ type: "pong", data: {} }));
      break;
    case "snapshot":
      data.conversations.forEach(putConversation);
      if (!data.more) listComplete();
      break;
    case "new_conversation":
    case "conversation_update":
      putConversation(data);
      break;
    case "new_message":
    case "message_update":
      if (data.conversation_id === chosen) putMessage(data);
      break;
    case "message_deleted":
      if (data.conversation_id === chosen) removeMessage(data);
      break;
    case "resync": // a gap: everything again, then on from the snapshot's cursor
      cursor = null;
      listed = false;
      subscribe(socket);
      return;
  }
  if (data.cursor) cursor = data.cursor;
}

function listComplete() {
  listed = true;
  if (conversations.has(chosen)) load(loading?.wanted ?? RECENT);
  draw();
}

function show(text) {
  state.dataset.state = text;
  state.textContent = text;
}

// The messages of the chosen conversation -----------------------------------------------------

/** Fetches the last messages over a connection of its own; live events keep them current. */
function load(wanted) {
  if (loading?.socket.readyState === WebSocket.OPEN) loading.socket.close();
  const socket = new WebSocket(address);
  const mine = (loading = { socket, wanted, seen: new Set(), complete: false });
  const subscription = { conversations: [chosen], snapshot: wanted };
  socket.onopen = () => {
    if (loading !== mine) return socket.close(); // another one was chosen meanwhile
    socket.send(JSON.stringify({ type: "subscribe", data: subscription }));
  };
  socket.onmessage = ({ data: frame }) => {
    const { type, data } = JSON.parse(frame);
    if (type !== "snapshot" || loading !== mine) return;
    data.messages.forEach(putMessage);
    if (data.more) return;
    mine.complete = true;
    for (const id of messages.keys()) if (!mine.seen.has(id)) messages.delete(id);
    socket.close();
    draw();
  };
  socket.onclose = () => {
    const lost = loading === mine && !mine.complete;
    if (lost) setTimeout(() => loading === mine && load(wanted), AGAIN_MS);
  };
}

function choose(id) {
  if (id === chosen) return;
  take(id);
  history.replaceState(null, "", `#${id}`);
  draw();
}

function take(id) {
  chosen = id;
  messages = new Map();
  gone = new Map();
  load(RECENT);
}

// The rows ------------------------------------------------------------------------------------

function putConversation(row) {
  const known = conversations.get(row.id);
  if (known && known.revision > row.revision) return;
  conversations.set(row.id, row);
  draw();
}

function putMessage(row) {
  loading?.seen.add(row.id);
  if ((gone.get(row.id) ?? -1) >= row.revision) return;
  const known = messages.get(row.id);
  if (known && known.revision > row.revision) return;
  messages.set(row.id, row);
  draw();
}

function removeMessage({ id, revision }) {
  if ((messages.get(id)?.revision ?? -1) > revision) return;
  gone.set(id, revision);
  messages.delete(id);
  draw();
}

// The page ------------------------------------------------------------------------------------

function draw() {
  if (drawing) return; // once a frame, however many rows came
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const newest = drawList(conversations, chosen, search.value, choose);
    if (listed && newest && !conversations.has(chosen)) take(newest.id);
    const row = conversations.get(chosen);
    if (!row) return;
    drawFacts(row);
    drawMessages(chosen, messages);
    earlier.hidden = !loading?.complete || loading.wanted >= MOST || messages.size < loading.wanted;
  });
}

search.oninput = draw;
window.onhashchange = () => choose(location.hash.slice(1));
earlier.onclick = () => load(MOST);
setInterval(draw, 30_000); // "3 min ago" moves on by itself
connect();
