import type { Message } from "conv-realtime/types";
import { type ReactNode, memo } from "react";

import { Time } from "./Time";

const BRIEF = 120; // characters of what is folded
const TELLING = ["command", "file_path", "path", "pattern", "query", "url", "description", "prompt"];

/** A part of a message, by its `type`: text, thinking, tool_use, tool_result, … */
interface Block {
  type: string;
  [field: string]: unknown;
}

/** One message: what was said; what was thought, called and given back is folded. */
export const MessageView = memo(function MessageView({ message }: { message: Message }) {
  const blocks = blocksOf(message.content);
  const text = message.text.trim() + (message.truncated ? " …" : "");
  return (
    <li className={message.role}>
      <p className="who">
        {message.role} <Time at={message.created_at} />
      </p>
      {blocks.map((block, place) => {
        const thought = block.type === "thinking" ? String(block.thinking ?? "") : "";
        return thought && <Folded key={place} name="thought" text={thought} />;
      })}
      {text && said(message, text)}
      {blocks.map((block, place) => {
        return block.type === "tool_use" && <Folded key={place} name={String(block.name)} {...called(block.input)} />;
      })}
    </li>
  );
});

function said({ role, content }: Message, text: string): ReactNode {
  if (role === "user" || role === "assistant") return <div className="text">{text}</div>;
  const failed = blocksOf(content).some((block) => block.type === "tool_result" && block.is_error === true);
  return <Folded name={role === "tool" ? (failed ? "failed" : "result") : role} text={text} />;
}

interface FoldedProps {
  name: string;
  text: string;
  brief?: string;
}

function Folded({ name, text, brief = text }: FoldedProps) {
  return (
    <details className={name === "failed" ? "failed" : undefined}>
      <summary>
        {name} <code>{brief.trim().split("\n", 1)[0]?.slice(0, BRIEF)}</code>
      </summary>
      <pre>{text}</pre>
    </details>
  );
}

/** What a tool was called with: all of it, and what is shown on the line that folds it. */
function called(input: unknown): { text: string; brief: string } {
  if (typeof input === "string") return { text: input, brief: input };
  const fields = (input ?? {}) as Record<string, unknown>;
  const brief = TELLING.map((name) => fields[name]).find((value) => typeof value === "string") ?? "";
  return { text: JSON.stringify(input, null, 2), brief };
}

function blocksOf(content: unknown): Block[] {
  return Array.isArray(content) ? content.filter((block): block is Block => typeof block?.type === "string") : [];
}
