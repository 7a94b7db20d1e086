// Follows /ws: rows are kept by id, a lower revision never replaces a higher one, and after a
// lost connection the stream goes on from the last cursor. Text goes in by textContent alone.

const RECENT = 200; // messages of each conversation in a snapshot
const SILENT_MS = 60_000; // the server pings three times in this

const conversations = new Map();
const messages = new Map(); // conversation id -> Map of message id -> message
const gone = new Map(); // message id -> revision of its deletion
const items = new Map(); // message id -> its element, of the chosen conversation
const page = Object.fromEntries(
  ["state", "conversations", "title", "facts", "messages"].map((id) => [id, document.getElementById(id)]),
);

let cursor = null;
let chosen = location.hash.slice(1) || null;
let wait = 250;
let drawing = false;

// The connection ------------------------------------------------------------------------------

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}${document.body.dataset.ws}`);
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
  const data = cursor === null ? { snapshot: RECENT } : { since: cursor };
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
      data.messages.forEach(putMessage);
      break;
    case "new_conversation":
    case "conversation_update":
      putConversation(data);
      break;
    case "new_message":
    case "message_update":
      putMessage(data);
      break;
    case "message_deleted":
      removeMessage(data);
      break;
    case "resync": // a gap: everything again, then on from the snapshot's cursor
      cursor = null;
      subscribe(socket);
      return;
  }
  if (data.cursor) cursor = data.cursor;
}

function show(state) {
  page.state.dataset.state = state;
  page.state.textContent = state;
}

// The rows ------------------------------------------------------------------------------------

function putConversation(row) {
  const known = conversations.get(row.id);
  if (known && known.revision > row.revision) return;
  conversations.set(row.id, row);
  draw();
}

function putMessage(row) {
  if ((gone.get(row.id) ?? -1) >= row.revision) return;
  let rows = messages.get(row.conversation_id);
  if (!rows) messages.set(row.conversation_id, (rows = new Map()));
  const known = rows.get(row.id);
  if (known && known.revision > row.revision) return;
  rows.set(row.id, row);
  draw();
}

function removeMessage({ id, conversation_id, revision }) {
  const rows = messages.get(conversation_id);
  if ((rows?.get(id)?.revision ?? -1) > revision) return;
  gone.set(id, revision);
  rows?.delete(id);
  draw();
}

// The page ------------------------------------------------------------------------------------

function draw() {
  if (drawing) return; // once a frame, however many rows came
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    drawConversations();
    drawMessages();
  });
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function newestFirst(a, b) {
  return String(b.updated_at).localeCompare(String(a.updated_at));
}

function drawConversations() {
  const all = [...conversations.values()].sort(newestFirst);
  const shown = all.filter((row) => !conversations.has(row.parent_id));
  if (!conversations.has(chosen) && shown.length) chosen = shown[0].id;
  const lines = shown.flatMap((row) => [row, ...all.filter((child) => child.parent_id === row.id)]);
  page.conversations.replaceChildren(...lines.map(conversationLine));
}

function conversationLine(row) {
  const button = element("button", conversations.has(row.parent_id) ? "child" : "");
  button.type = "button";
  button.setAttribute("aria-current", String(row.id === chosen));
  button.append(
    element("strong", "", row.title || row.session_id),
    element("small", "", [row.project_name, `${row.message_count} messages`, row.activity].filter(Boolean).join(" · ")),
  );
  button.onclick = () => {
    chosen = row.id;
    history.replaceState(null, "", `#${row.id}`);
    items.clear();
    page.messages.replaceChildren();
    draw();
  };
  const line = element("li");
  line.append(button);
  return line;
}

function drawMessages() {
  const row = conversations.get(chosen);
  if (!row) return;
  page.title.textContent = row.title || row.session_id;
  page.facts.textContent = [row.project_name, row.git_branch, row.model, `${row.output_tokens} tokens written`]
    .filter(Boolean)
    .join(" · ");
  const list = page.messages;
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  const rows = [...(messages.get(chosen)?.values() ?? [])].sort((a, b) => a.seq - b.seq);
  const wanted = new Set(rows.map((message) => message.id));
  for (const [id, item] of items) if (!wanted.has(id)) (item.remove(), items.delete(id));
  rows.forEach((message, place) => {
    const item = messageItem(message);
    if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
  });
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function messageItem(message) {
  let item = items.get(message.id);
  if (!item) {
    item = element("li");
    item.append(element("p", "who"), element("div", "text"));
    items.set(message.id, item);
  }
  if (item.dataset.revision !== String(message.revision)) {
    const when = message.created_at ? new Date(message.created_at).toLocaleTimeString() : "";
    item.className = message.role;
    item.dataset.revision = message.revision;
    item.firstChild.textContent = [message.role, when].filter(Boolean).join(" · ");
    item.lastChild.textContent = message.truncated ? `${message.text} …` : message.text;
  }
  return item;
}

connect();
