// What tools are called with and what they gave back: folded, and changes of files as changes.

import { element, folded } from "./dom.js";
import { diffed } from "./markdown.js";

const BRIEF = 160; // characters of a tool's input
const TELLING = ["command", "cmd", "file_path", "path", "pattern", "query", "url", "description", "prompt"];
const CONTEXT = 3; // unchanged lines around a change

/** The call of a tool: its name, what it is about, and all that it was given. */
export function call(block) {
  const input = block.input ?? {};
  const told = typeof input === "string" ? input : TELLING.map((name) => input[name]).map(asText).find(Boolean);
  const made = folded("call", block.name, contents(input));
  made.firstChild.append(" ", element("code", "", brief(told ?? "")));
  return made;
}

/** What a tool gave back: its first line, and all of it. */
export function result(text, failed) {
  const lines = text ? text.split("\n").length : 0;
  const title = failed ? "failed" : "result";
  const made = folded(failed ? "result failed" : "result", title, [
    isDiff(text) ? diffed(text) : element("pre", "text", text || "no output"),
  ]);
  made.firstChild.append(" ", element("code", "", brief(text || "no output")));
  if (lines > 1) made.firstChild.append(element("small", "", `${lines.toLocaleString()} lines`));
  return made;
}

function asText(value) {
  if (typeof value === "string") return value;
  return Array.isArray(value) && value.every((one) => typeof one === "string") ? value.join(" ") : "";
}

function brief(text) {
  return text.trimStart().split("\n", 1)[0].slice(0, BRIEF);
}

function contents(input) {
  if (typeof input === "string") return [isDiff(input) ? diffed(input) : element("pre", "", input)];
  const changes = changesOf(input);
  if (changes.length) return changes.map(([before, after]) => diffed(difference(before, after)));
  const patch = [input.input, input.patch, input.diff].find((value) => typeof value === "string" && isDiff(value));
  return [patch ? diffed(patch) : element("pre", "", JSON.stringify(input, null, 2))];
}

/** What an editing tool takes away and puts there, as pairs of texts. */
function changesOf(input) {
  const edits = Array.isArray(input.edits) ? input.edits : [input];
  return edits
    .filter((edit) => typeof edit?.old_string === "string" && typeof edit?.new_string === "string")
    .map((edit) => [edit.old_string, edit.new_string]);
}

function isDiff(text) {
  return /^(diff --git |--- |\*\*\* Begin Patch|@@ )/m.test(text.slice(0, 2000)) && /^[+-]/m.test(text);
}

/** The lines that went and those that came, between those at both ends that stayed. */
function difference(before, after) {
  const [old, fresh] = [before.split("\n"), after.split("\n")];
  let start = 0;
  while (start < old.length && start < fresh.length && old[start] === fresh[start]) start++;
  let end = 0;
  const most = Math.min(old.length, fresh.length) - start;
  while (end < most && old.at(-1 - end) === fresh.at(-1 - end)) end++;
  const stayed = (lines) => lines.map((line) => `  ${line}`);
  return [
    ...stayed(old.slice(Math.max(0, start - CONTEXT), start)),
    ...old.slice(start, old.length - end).map((line) => `- ${line}`),
    ...fresh.slice(start, fresh.length - end).map((line) => `+ ${line}`),
    ...stayed(old.slice(old.length - end, old.length - end + CONTEXT)),
  ].join("\n");
}
