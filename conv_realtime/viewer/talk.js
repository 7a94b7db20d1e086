// One conversation. An element is kept as long as its row is shown, so that reading, selecting and
// scrolling survive what comes in. Messages lie on sheets of a hundred: one that is outside of the
// window costs no layout, whatever is on it.

import { arrange, counted, element, folded, joined, set, when } from "./dom.js";
import { sourceOf, titleOf } from "./list.js";
import { marked } from "./markdown.js";
import { same } from "./rows.js";
import { call, result } from "./tools.js";

const LONG = 600; // characters of what the client or a system says, above which it is folded
const NEAR = 80; // pixels from the end that count as being there
const SHEET = 100; // messages

const page = Object.fromEntries(
  ["title", "facts", "family", "scroll", "messages", "found"].map((id) => [id, document.getElementById(id)]),
);
const items = new Map(); // message id -> { made, row }: its element, and of which state it is
let shown = null;
let sifted = false; // whether messages may be hidden

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
  const first = page.messages.firstChild?.firstChild;
  const atEnd = other || !first || scrollHeight - scrollTop - clientHeight < NEAR;
  const earlier = !atEnd && messages.length > 0 && items.get(messages[0].id)?.made !== first;
  const top = earlier ? first.getBoundingClientRect().top : 0;
  const ids = new Set(messages.map(({ id }) => id));
  for (const id of items.keys()) if (!ids.has(id)) items.delete(id);
  page.scroll.ariaBusy = String(other); // all of another conversation is not read out
  lay(messages.map(item));
  if (atEnd) page.scroll.scrollTop = page.scroll.scrollHeight;
  else if (earlier && first.isConnected) page.scroll.scrollTop += first.getBoundingClientRect().top - top;
  filter(messages, sought);
}

function lay(elements) {
  const sheets = [];
  for (let at = 0; at < elements.length; at += SHEET) {
    const sheet = page.messages.children[sheets.length] ?? element("ol");
    arrange(sheet, elements.slice(at, at + SHEET));
    sheets.push(sheet);
  }
  arrange(page.messages, sheets);
}

/** Shows the messages alone that hold what is sought. */
function filter(messages, sought) {
  if (!sought && !sifted) return;
  sifted = Boolean(sought);
  let count = 0;
  for (const { id } of messages) {
    const { made } = items.get(id);
    const hit = !sought || made.textContent.toLowerCase().includes(sought);
    if (made.hidden === hit) made.hidden = !hit;
    count += hit;
  }
  set(page.found, "textContent", sought ? `${count.toLocaleString()} of ${messages.length.toLocaleString()}` : "");
}

function item(message) {
  const known = items.get(message.id);
  const made = known?.made ?? element("li");
  items.set(message.id, { made, row: message });
  if (known && same(message, known.row)) return made;
  const open = new Set([...made.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
  const blocks = Array.isArray(message.content) ? message.content.filter((block) => block?.type) : [];
  const failed = blocks.some((block) => block.type === "tool_result" && block.is_error);
  made.className = message.role;
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
