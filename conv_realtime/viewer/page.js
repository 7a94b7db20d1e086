// Draws rows. What a transcript says goes in by textContent alone. An element is kept as long as
// its row is shown, so that reading, selecting and scrolling survive what comes in.

const IDLE_MS = 5 * 60_000; // an assistant that has been silent for so long is not at work
const BRIEF = 160; // characters of a tool's input

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" }); // made once: it is slow to make
const minute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const second = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

const page = Object.fromEntries(
  ["conversations", "none", "title", "facts", "scroll", "messages"].map((id) => [id, document.getElementById(id)]),
);
const lines = new Map(); // conversation id -> its element
const items = new Map(); // message id -> its element, of the conversation that is shown
let shown = null;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Makes the children of `list` these elements, moving only those that are elsewhere. */
function arrange(list, wanted) {
  let at = list.firstChild;
  for (const child of wanted) {
    if (child === at) at = at.nextSibling;
    else list.insertBefore(child, at);
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

function joined(...parts) {
  return [...new Set(parts.filter(Boolean))].join(" · ");
}

// The list ------------------------------------------------------------------------------------

/** Draws the conversations that match, subagents below their parent; returns the newest. */
export function drawList(conversations, chosen, search, choose) {
  const sought = search.trim().toLowerCase();
  const matches = (row) => `${row.title} ${row.project_name} ${row.cwd}`.toLowerCase().includes(sought);
  const all = [...conversations.values()].filter((row) => !sought || matches(row)).sort(newestFirst);
  const ids = new Set(all.map((row) => row.id));
  const children = new Map();
  for (const row of all) children.get(row.parent_id)?.push(row) ?? children.set(row.parent_id, [row]);
  const tops = all.filter((row) => !ids.has(row.parent_id));
  const below = (row, depth) => [[row, depth], ...(children.get(row.id) ?? []).flatMap((child) => below(child, 1))];
  const rows = tops.flatMap((row) => below(row, 0));
  arrange(page.conversations, rows.map(([row, depth]) => line(row, depth, row.id === chosen, choose)));
  page.none.textContent = conversations.size
    ? "No conversation matches."
    : "Nothing yet. A conversation shows up here when its first line is written.";
  return tops[0];
}

function newestFirst(a, b) {
  return String(b.updated_at ?? "") > String(a.updated_at ?? "") ? 1 : -1;
}

function line(row, depth, current, choose) {
  let made = lines.get(row.id);
  if (!made) {
    made = element("li");
    const button = element("button");
    button.type = "button";
    button.append(element("strong"), element("small"));
    button.onclick = () => choose(row.id);
    made.append(button);
    lines.set(row.id, made);
  }
  const button = made.firstChild;
  const activity = activityOf(row);
  const facts = joined(row.project_name, activity, ago(row.updated_at));
  if (button.className !== (depth ? "child" : "")) button.className = depth ? "child" : "";
  if (button.dataset.activity !== activity) button.dataset.activity = activity;
  if (button.getAttribute("aria-current") !== String(current)) button.setAttribute("aria-current", current);
  if (button.firstChild.textContent !== titleOf(row)) button.firstChild.textContent = button.title = titleOf(row);
  if (button.lastChild.textContent !== facts) button.lastChild.textContent = facts;
  return made;
}

function titleOf(row) {
  return row.title || `Untitled, ${String(row.session_id).slice(0, 8)}`;
}

/** The file says that the assistant is at work; the clock may know better. */
function activityOf(row) {
  if (row.status === "error") return "error";
  const silent = Date.now() - Date.parse(row.updated_at);
  return row.activity === "working" && !(silent < IDLE_MS) ? "idle" : row.activity;
}

function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (Number.isNaN(seconds)) return "";
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return day.format(new Date(time));
}

// A conversation ------------------------------------------------------------------------------

/** Draws what stands above the messages; without a row that there is none. */
export function drawFacts(row) {
  if (!row) {
    page.title.textContent = "No conversation yet";
    page.facts.textContent = "";
    return;
  }
  const written = row.output_tokens ? `${row.output_tokens.toLocaleString()} tokens written` : "";
  const counted = `${row.message_count.toLocaleString()} messages`;
  page.title.textContent = titleOf(row);
  page.facts.textContent = joined(row.project_name, row.git_branch, row.model, counted, written);
}

/** Draws messages in their order; whoever reads at the end stays there. */
export function drawMessages(conversation, messages) {
  const other = conversation !== shown;
  if (other) (shown = conversation), items.clear();
  const { scrollTop, scrollHeight, clientHeight } = page.scroll;
  const atEnd = other || page.messages.children.length === 0 || scrollHeight - scrollTop - clientHeight < 80;
  const ids = new Set(messages.map(({ id }) => id));
  for (const id of items.keys()) if (!ids.has(id)) items.delete(id);
  const above = page.messages.firstChild;
  arrange(page.messages, messages.map(item));
  if (atEnd) page.scroll.scrollTop = page.scroll.scrollHeight;
  else if (above && above !== page.messages.firstChild) {
    page.scroll.scrollTop = scrollTop + page.scroll.scrollHeight - scrollHeight; // earlier ones came in above
  }
}

function item(message) {
  let made = items.get(message.id);
  if (!made) items.set(message.id, (made = element("li")));
  if (made.dataset.revision === String(message.revision)) return made;
  const blocks = Array.isArray(message.content) ? message.content.filter((block) => block?.type) : [];
  const failed = blocks.some((block) => block.type === "tool_result" && block.is_error);
  made.className = failed ? `${message.role} failed` : message.role;
  made.dataset.revision = message.revision;
  made.replaceChildren(
    element("p", "who", joined(failed ? "tool, failed" : message.role, when(message.created_at))),
    ...blocks.filter((block) => block.type === "thinking" && block.thinking).map(thought),
    ...said(message, blocks),
    ...blocks.filter((block) => block.type === "tool_use").map(call),
  );
  return made;
}

function when(time) {
  if (!time) return "";
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  return (today ? second : minute).format(date);
}

function said(message, blocks) {
  const text = message.text.trim();
  const silent = !text && blocks.length > 0 && message.role === "assistant";
  if (silent) return [];
  const box = element("div", "text");
  if (message.role === "assistant") box.append(...marked(text));
  else box.textContent = text || (message.role === "tool" ? "no output" : "");
  if (message.truncated) box.append(" …");
  return [box];
}

/** The Markdown that answers are full of: fenced blocks, bold words and code. */
function marked(text) {
  return text.split(/^```.*\n?/m).flatMap((part, number) =>
    number % 2
      ? [element("pre", "", part)]
      : part.split(/(\*\*[^*\n]+\*\*|`[^`\n]+`)/).map((piece, odd) => {
          if (odd % 2 === 0) return piece;
          return piece[0] === "*" ? element("strong", "", piece.slice(2, -2)) : element("code", "", piece.slice(1, -1));
        }),
  );
}

function thought(block) {
  return folded("thought", "thought", block.thinking.trim());
}

function call(block) {
  const { description, command, file_path, path, pattern, query, url, prompt } = block.input ?? {};
  const first = [command, file_path, path, pattern, query, url, description, prompt].find((value) => typeof value === "string");
  const brief = (first ?? "").split("\n", 1)[0].slice(0, BRIEF);
  const made = folded("call", block.name, JSON.stringify(block.input, null, 2));
  made.firstChild.append(" ", element("code", "", brief));
  return made;
}

function folded(className, title, text) {
  const made = element("details", className);
  made.append(element("summary", "", title), element("pre", "", text));
  return made;
}
