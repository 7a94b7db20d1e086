// What travels: the frames of `/ws` and the rows in them, as DESIGN and conv_realtime/events.py
// have them. A test compares the names here with the Python models.

/** A conversation's row. Times are RFC 3339 in UTC. */
export interface Conversation {
  id: string;
  revision: number;
  title: string | null;
  status: "active" | "completed" | "error";
  activity: "working" | "waiting" | "ended";
  message_count: number;
  tool_usage_count: number;
  created_at: string | null;
  started_at: string | null;
  updated_at: string | null;
  source: string;
  session_id: string;
  project_id: string | null;
  project_name: string | null;
  cwd: string | null;
  git_branch: string | null;
  model: string | null;
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
  reasoning_tokens: number;
  parent_id: string | null;
  machine: string;
  /** On `/ws` alone. */
  cursor?: string;
}

/** What a message says of its conversation. */
export interface ConversationSummary {
  id: string;
  title: string | null;
  source: string;
  project_name: string | null;
  status: Conversation["status"];
  activity: Conversation["activity"];
  message_count: number;
}

/** A message's row; show messages by `seq`. */
export interface Message {
  id: string;
  conversation_id: string;
  seq: number;
  revision: number;
  role: "user" | "assistant" | "tool" | "system" | "other";
  text: string;
  content: unknown;
  model: string | null;
  created_at: string | null;
  usage: Record<string, number> | null;
  /** Whether `content` was left out, or `text` cut, to fit into a frame. */
  truncated: boolean;
  /** On `/ws` alone. */
  cursor?: string;
  conversation?: ConversationSummary | null;
}

export interface Deleted {
  id: string;
  conversation_id: string;
  revision: number;
  cursor: string;
}

export interface DeletedConversation {
  id: string;
  revision: number;
  cursor: string;
}

export interface Project {
  id: string;
  name: string;
  path: string;
  conversation_count: number;
  status: "active" | "inactive";
  updated_at: string | null;
  cursor: string;
}

export interface FileUpdate {
  path: string;
  change: "created" | "modified" | "deleted";
  size: number;
}

/** What can be subscribed to. */
export type DataType =
  | "new_conversation"
  | "conversation_update"
  | "conversation_deleted"
  | "new_message"
  | "message_update"
  | "message_deleted"
  | "project_update"
  | "file_update";

/** An event of `/ws` about rows or files. */
export type DataEvent =
  | { type: "new_conversation" | "conversation_update"; data: Conversation & { cursor: string } }
  | { type: "conversation_deleted"; data: DeletedConversation }
  | { type: "new_message" | "message_update"; data: Message & { cursor: string } }
  | { type: "message_deleted"; data: Deleted }
  | { type: "project_update"; data: Project }
  | { type: "file_update"; data: FileUpdate };

/** Which rows: an absent key is unrestricted, keys are ANDed. */
export interface Filter {
  types?: DataType[];
  conversations?: string[];
  projects?: string[];
}

/** A row that changed; without `row` it is gone, without `previous` it is new. */
export type Change =
  | { kind: "conversation"; id: string; row?: Conversation; previous?: Conversation }
  | { kind: "message"; id: string; conversation_id: string; row?: Message; previous?: Message };
