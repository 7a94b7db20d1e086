// The Markdown that answers are full of, as elements: headings, lists, quotes, fenced blocks, bold
// words, code and links. Nothing becomes markup by being written: there is no HTML anywhere.

import { element } from "./dom.js";

const FENCE = /^ {0,3}(```+|~~~+)\s*(\S*)/;
// What it looks through for an end is short, or ends at the next beginning: no text takes it long.
const INLINE = /(`{1,20}[^`\n]+`+|\*\*[^*\n]+\*\*|\[[^[\]\n]+\]\(https?:\/\/[^)\s]{1,2000}\))/;
const ITEM = /^(\s*)(?:[-*+]|(\d+)[.)])\s+(.*)$/;

const MOST = 10_000; // pieces: a text of more is shown as it stands

/** Gives what stands in a box with `white-space: pre-wrap`: line breaks stay as they are. */
export function marked(text) {
  const made = pieces(text);
  return made.length > MOST ? [text] : made;
}

function pieces(text) {
  const made = [];
  let plain = [];
  let fenced = null; // the fence that is open, its block so far
  const flush = () => {
    if (plain.length) made.push(...inline(plain.join("\n") + "\n"));
    plain = [];
  };
  for (const line of text.split("\n")) {
    const fence = FENCE.exec(line);
    if (fenced) {
      if (fence && fence[1].startsWith(fenced.fence) && !fence[2]) {
        made.push(code(fenced));
        fenced = null;
      } else fenced.lines.push(line);
      continue;
    }
    if (fence) {
      flush();
      fenced = { fence: fence[1], language: fence[2], lines: [] };
      continue;
    }
    const special = block(line);
    if (special) {
      flush();
      made.push(special);
    } else plain.push(line);
  }
  if (fenced) made.push(code(fenced)); // still being written
  flush();
  return trimmed(made);
}

function block(line) {
  const heading = /^(#{1,6})\s+(.*)$/.exec(line);
  if (heading) return filled(element("span", `heading h${heading[1].length}`), heading[2]);
  const item = ITEM.exec(line);
  if (item) {
    const made = filled(element("span", "item"), item[3]);
    made.dataset.mark = item[2] ? `${item[2]}.` : "•";
    made.dataset.depth = Math.min(4, Math.floor(item[1].length / 2));
    return made;
  }
  const quote = /^>\s?(.*)$/.exec(line);
  return quote ? filled(element("span", "quote"), quote[1]) : null;
}

function code({ language, lines }) {
  const made = element("pre", "", lines.map((line) => `${line}\n`).join(""));
  if (language) made.dataset.language = language;
  if (language === "diff" || language === "patch") return diffed(made.textContent);
  return made;
}

function filled(target, text) {
  target.append(...inline(text));
  return target;
}

function inline(text) {
  const split = text.split(INLINE);
  if (split.length > MOST) return [text];
  return split.map((piece, odd) => {
    if (odd % 2 === 0) return piece;
    if (piece[0] === "*") return element("strong", "", piece.slice(2, -2));
    if (piece[0] === "`") return element("code", "", piece.replace(/^`+|`+$/g, ""));
    const [, words, address] = /^\[([^\]]+)\]\((.*)\)$/.exec(piece);
    const made = element("a", "", words);
    made.href = made.title = address;
    made.rel = "noreferrer noopener";
    made.target = "_blank";
    return made;
  });
}

/** Takes the line breaks away that elements of their own line make anyway. */
function trimmed(pieces) {
  const last = pieces.at(-1);
  if (typeof last === "string") pieces[pieces.length - 1] = last.replace(/\n$/, "");
  return pieces;
}

/** A change as lines that came and lines that went. */
export function diffed(text) {
  const made = element("pre", "diff");
  for (const line of text.replace(/\n$/, "").split("\n")) {
    const kind = { "+": "added", "-": "removed", "@": "place" }[line[0]] ?? "";
    made.append(element("span", kind, `${line}\n`));
  }
  return made;
}
