// One conversation. An element is kept as long as its row is shown, so that reading, selecting and
// scrolling survive what comes in; what lies outside of the window costs no layout.

import { arrange, counted, element, folded, joined, set, when } from "./dom.js";
import { sourceOf, titleOf } from "./list.js";
import { marked } from "./markdown.js";
import { call, result } from "./tools.js";

const LONG = 600; // characters of what the client or a system says, above which it is folded
const NEAR = 80; // pixels from the end that count as being there

const page = Object.fromEntries(
  ["title", "facts", "family", "scroll", "messages", "found"].map((id) => [id, document.getElementById(id)]),
);
const items = new Map(); // message id -> its element, of the conversation that is shown
let shown = null;

/** Draws what stands above the messages; `choose` goes to another conversation. */
export function drawFacts(row, conversations, choose) {
  if (!row) {
    set(page.title, "textContent", "No conversation yet");
    set(page.facts, "textContent", "");
    page.family.hidden = true;
    return;
  }
  set(page.title, "textContent", titleOf(row));
  const tokens = joined(
    counted(row.input_tokens + row.cache_read_tokens + row.cache_write_tokens, "token read", "tokens read"),
    counted(row.output_tokens, "token written", "tokens written"),
  );
  const counts = [counted(row.message_count, "message"), counted(row.tool_usage_count, "tool call")];
  const place = [sourceOf(row), row.project_name, row.git_branch, row.model];
  set(page.facts, "textContent", joined(...place, ...counts, tokens));
  drawFamily(row, conversations, choose);
}

function drawFamily(row, conversations, choose) {
  const parent = conversations.get(row.parent_id);
  const children = [...conversations.values()].filter(({ parent_id }) => parent_id === row.id);
  const links = [...(parent ? [["↑", parent]] : []), ...children.map((child) => ["↳", child])];
  const key = links.map(([, one]) => `${one.id} ${one.title}`).join();
  page.family.hidden = links.length === 0;
  if (page.family.dataset.key === key) return;
  page.family.dataset.key = key;
  page.family.replaceChildren(
    ...links.map(([arrow, one]) => {
      const made = element("button", "", `${arrow} ${titleOf(one)}`);
      made.type = "button";
      made.onclick = () => choose(one.id);
      return made;
    }),
  );
}

/** Draws messages in their order; whoever reads at the end stays there. */
export function drawMessages(conversation, messages, sought) {
  const other = conversation !== shown;
  if (other) (shown = conversation), items.clear();
  const { scrollTop, scrollHeight, clientHeight } = page.scroll;
  const atEnd = other || page.messages.children.length === 0 || scrollHeight - scrollTop - clientHeight < NEAR;
  const ids = new Set(messages.map(({ id }) => id));
  for (const id of items.keys()) if (!ids.has(id)) items.delete(id);
  const above = page.messages.firstChild;
  page.scroll.ariaBusy = String(other); // all of another conversation is not read out
  arrange(page.messages, messages.map(item));
  if (atEnd) page.scroll.scrollTop = page.scroll.scrollHeight;
  else if (above && above !== page.messages.firstChild) {
    page.scroll.scrollTop = scrollTop + page.scroll.scrollHeight - scrollHeight; // earlier ones came in above
  }
  filter(messages, sought);
}

/** Shows the messages alone that hold what is sought. */
function filter(messages, sought) {
  let count = 0;
  for (const { id } of messages) {
    const made = items.get(id);
    const hit = !sought || made.textContent.toLowerCase().includes(sought);
    if (made.hidden === hit) made.hidden = !hit;
    count += hit;
  }
  set(page.found, "textContent", sought ? `${count.toLocaleString()} of ${messages.length.toLocaleString()}` : "");
}

function item(message) {
  let made = items.get(message.id);
  if (!made) items.set(message.id, (made = element("li")));
  if (made.dataset.revision === String(message.revision)) return made;
  const open = new Set([...made.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
  const blocks = Array.isArray(message.content) ? message.content.filter((block) => block?.type) : [];
  const failed = blocks.some((block) => block.type === "tool_result" && block.is_error);
  made.className = message.role;
  made.dataset.revision = message.revision;
  const written = message.usage?.output_tokens ?? 0;
  made.replaceChildren(
    element("p", "who", joined(message.role, when(message.created_at), counted(written, "token"))),
    ...blocks.filter((block) => block.type === "thinking" && block.thinking).map(thought),
    ...said(message, blocks, failed),
    ...blocks.filter((block) => block.type === "tool_use").map(call),
  );
  for (const one of made.querySelectorAll("summary")) if (open.has(one.textContent)) one.parentElement.open = true;
  return made;
}

function said(message, blocks, failed) {
  const text = message.text.trim() + (message.truncated ? " …" : "");
  if (message.role === "tool") return [result(text, failed)];
  if (!text && blocks.length > 0) return [];
  const box = element("div", "text");
  if (message.role === "assistant") box.append(...marked(text));
  else box.textContent = text;
  const aside = message.role === "system" || message.role === "other";
  return aside && text.length > LONG ? [folded("aside", text.slice(0, LONG / 4), [box])] : [box];
}

function thought(block) {
  return folded("thought", "thought", [element("pre", "", block.thinking.trim())]);
}
