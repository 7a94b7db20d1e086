// Elements. What a transcript says goes in by textContent alone.

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" }); // made once: it is slow to make
const minute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const second = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Makes the children of `list` these elements, moving only those that are elsewhere. */
export function arrange(list, wanted) {
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

/** Sets a property of an element where it is not so already: writing it costs a layout. */
export function set(target, name, value) {
  if (target[name] !== value) target[name] = value;
}

/** Something folded: its title, and what is in it. */
export function folded(className, title, contents) {
  const made = element("details", className);
  made.append(element("summary", "", title));
  made.append(...contents);
  return made;
}

export function joined(...parts) {
  return [...new Set(parts.filter(Boolean))].join(" · ");
}

export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (Number.isNaN(seconds)) return "";
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return day.format(new Date(time));
}

export function when(time) {
  if (!time) return "";
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  return (today ? second : minute).format(date);
}

export function counted(number, one, many = `${one}s`) {
  return number ? `${number.toLocaleString()} ${number === 1 ? one : many}` : "";
}
