// The list of conversations: by project, subagents below the conversation that they belong to. An
// element is kept as long as its row is shown, so that focus and scrolling survive what comes in.

import { ago, arrange, element, joined } from "./dom.js";

const IDLE_MS = 5 * 60_000; // an assistant that has been silent for so long is not at work
const LEFT_MS = 24 * 3_600_000; // nobody is going to answer after so long
const WORDS = { left: "", working: "at work", waiting: "your turn", ended: "ended", idle: "silent", error: "error" };

const list = document.getElementById("conversations");
const none = document.getElementById("none");
const groups = new Map(); // project -> its element
const lines = new Map(); // conversation id -> { made, state }: its element, and what stands in it

/** Draws the conversations that match what is sought; returns the newest of them. */
export function drawList(conversations, chosen, sought, choose) {
  const matching = [...conversations.values()].filter((row) => !sought || matches(row, sought));
  const families = familiesOf(matching.sort(newestFirst));
  const projects = byProject(families);
  arrange(
    list,
    [...projects].map(([project, members]) => {
      const rows = members.flatMap((family) => family.map((row, place) => line(row, place > 0, row.id === chosen, choose)));
      return group(project, rows);
    }),
  );
  for (const id of lines.keys()) if (!conversations.has(id)) lines.delete(id);
  for (const project of groups.keys()) if (!projects.has(project)) groups.delete(project);
  none.hidden = matching.length > 0;
  none.textContent = conversations.size
    ? "No conversation matches."
    : none.dataset.nothing || "Nothing yet. A conversation shows up here when its first line is written.";
  return matching[0];
}

/** Moves the focus from one conversation to the next, or back. */
export function moveFocus(by) {
  const buttons = [...list.querySelectorAll("details[open] button")];
  const at = buttons.indexOf(document.activeElement);
  buttons[Math.max(0, Math.min(buttons.length - 1, at + by))]?.focus();
}

function matches(row, sought) {
  const text = `${row.title} ${row.project_name} ${row.cwd} ${row.git_branch} ${row.source}`;
  return text.toLowerCase().includes(sought);
}

function newestFirst(a, b) {
  const [one, other] = [String(a.updated_at ?? ""), String(b.updated_at ?? "")];
  return one === other ? 0 : other > one ? 1 : -1;
}

/** Conversations with all that are below them, in the order of the newest in each. */
function familiesOf(rows) {
  const byId = new Map(rows.map((row) => [row.id, row]));
  const families = new Map();
  for (const row of rows) {
    let top = row;
    for (let steps = 0; steps < 10 && byId.has(top.parent_id); steps++) top = byId.get(top.parent_id);
    families.get(top)?.push(row) ?? families.set(top, [row]);
  }
  return [...families].map(([top, members]) => [top, ...members.filter((row) => row !== top)]);
}

function projectOf(row) {
  return row.project_name || row.cwd || "no project";
}

function byProject(families) {
  const projects = new Map();
  for (const family of families) {
    const project = projectOf(family[0]);
    projects.get(project)?.push(family) ?? projects.set(project, [family]);
  }
  return projects;
}

function group(project, rows) {
  let made = groups.get(project);
  if (!made) {
    made = element("details");
    made.open = true;
    made.append(element("summary", "", project), element("ul"));
    groups.set(project, made);
  }
  arrange(made.lastChild, rows);
  return made;
}

function line(row, below, current, choose) {
  const activity = activityOf(row);
  const facts = joined(WORDS[activity], ago(row.updated_at), sourceOf(row));
  const state = [below, current, activity, facts, titleOf(row)].join("\n"); // reading it off elements is slow
  const known = lines.get(row.id);
  if (known?.state === state) return known.made;
  const made = known?.made ?? newLine(row.id, choose);
  const button = made.firstChild;
  button.className = below ? "child" : "";
  button.ariaCurrent = String(current);
  button.title = titleOf(row);
  button.dataset.activity = activity;
  button.firstChild.textContent = titleOf(row);
  button.lastChild.textContent = facts;
  lines.set(row.id, { made, state });
  return made;
}

function newLine(id, choose) {
  const made = element("li");
  const button = element("button");
  button.type = "button";
  button.append(element("strong"), element("small"));
  button.onclick = () => choose(id);
  made.append(button);
  return made;
}

export function titleOf(row) {
  return row.title || `Untitled, ${String(row.session_id).slice(0, 8)}`;
}

export function sourceOf(row) {
  return String(row.source ?? "").replaceAll("_", " ");
}

/** The file says that the assistant is at work; the clock may know better. */
function activityOf(row) {
  if (row.status === "error") return "error";
  const silent = Date.now() - Date.parse(row.updated_at);
  if (row.activity === "working" && !(silent < IDLE_MS)) return "idle";
  return row.activity === "waiting" && !(silent < LEFT_MS) ? "left" : row.activity;
}
