// The tables and functions as supabase-js wants to know them, made from the schema by
// `python -m tests.sql.typescript`:
//
//   import type { Database } from "./database.d.ts";
//   const supabase = createClient<Database>(url, key);
//
// It is what `supabase gen types` gives; where your project has tables of its own, run that.

export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  public: {
    Tables: {
      conversations: {
        Row: {
          activity: string;
          agent_id: string | null;
          cache_read_tokens: number;
          cache_write_tokens: number;
          change_created_tx: number;
          change_forgotten: boolean;
          change_seq: number;
          change_told_at: string | null;
          change_tx: number;
          created_at: string | null;
          cwd: string | null;
          deleted_at: string | null;
          git_branch: string | null;
          id: string;
          input_tokens: number;
          machine: string;
          message_count: number;
          metadata: NonNullable<Json>;
          model: string | null;
          output_tokens: number;
          owner_id: string;
          parent_id: string | null;
          project_id: string | null;
          reasoning_tokens: number;
          revision: number;
          session_id: string;
          source: string;
          started_at: string | null;
          status: string;
          title: string | null;
          tool_usage_count: number;
          updated_at: string | null;
        };
        Insert: {
          activity?: string;
          agent_id?: string | null;
          cache_read_tokens?: number;
          cache_write_tokens?: number;
          change_created_tx?: number;
          change_forgotten?: boolean;
          change_seq?: number;
          change_told_at?: string | null;
          change_tx?: number;
          created_at?: string | null;
          cwd?: string | null;
          deleted_at?: string | null;
          git_branch?: string | null;
          id: string;
          input_tokens?: number;
          machine: string;
          message_count?: number;
          metadata?: NonNullable<Json>;
          model?: string | null;
          output_tokens?: number;
          owner_id?: string;
          parent_id?: string | null;
          project_id?: string | null;
          reasoning_tokens?: number;
          revision: number;
          session_id: string;
          source: string;
          started_at?: string | null;
          status?: string;
          title?: string | null;
          tool_usage_count?: number;
          updated_at?: string | null;
        };
        Update: {
          activity?: string;
          agent_id?: string | null;
          cache_read_tokens?: number;
          cache_write_tokens?: number;
          change_created_tx?: number;
          change_forgotten?: boolean;
          change_seq?: number;
          change_told_at?: string | null;
          change_tx?: number;
          created_at?: string | null;
          cwd?: string | null;
          deleted_at?: string | null;
          git_branch?: string | null;
          id?: string;
          input_tokens?: number;
          machine?: string;
          message_count?: number;
          metadata?: NonNullable<Json>;
          model?: string | null;
          output_tokens?: number;
          owner_id?: string;
          parent_id?: string | null;
          project_id?: string | null;
          reasoning_tokens?: number;
          revision?: number;
          session_id?: string;
          source?: string;
          started_at?: string | null;
          status?: string;
          title?: string | null;
          tool_usage_count?: number;
          updated_at?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "conversations_project_id_owner_id_fkey";
            columns: ["project_id", "owner_id"];
            isOneToOne: false;
            referencedRelation: "projects";
            referencedColumns: ["id", "owner_id"];
          },
        ];
      };
      messages: {
        Row: {
          change_created_tx: number;
          change_seq: number;
          change_tx: number;
          content: Json | null;
          conversation_id: string;
          created_at: string | null;
          deleted_at: string | null;
          id: string;
          metadata: NonNullable<Json>;
          model: string | null;
          owner_id: string;
          revision: number;
          role: string;
          seq: number;
          text: string;
          usage: Json | null;
        };
        Insert: {
          change_created_tx?: number;
          change_seq?: number;
          change_tx?: number;
          content?: Json | null;
          conversation_id: string;
          created_at?: string | null;
          deleted_at?: string | null;
          id: string;
          metadata?: NonNullable<Json>;
          model?: string | null;
          owner_id?: string;
          revision: number;
          role: string;
          seq: number;
          text?: string;
          usage?: Json | null;
        };
        Update: {
          change_created_tx?: number;
          change_seq?: number;
          change_tx?: number;
          content?: Json | null;
          conversation_id?: string;
          created_at?: string | null;
          deleted_at?: string | null;
          id?: string;
          metadata?: NonNullable<Json>;
          model?: string | null;
          owner_id?: string;
          revision?: number;
          role?: string;
          seq?: number;
          text?: string;
          usage?: Json | null;
        };
        Relationships: [
          {
            foreignKeyName: "messages_conversation_id_owner_id_fkey";
            columns: ["conversation_id", "owner_id"];
            isOneToOne: false;
            referencedRelation: "conversations";
            referencedColumns: ["id", "owner_id"];
          },
        ];
      };
      projects: {
        Row: {
          change_created_tx: number;
          change_seq: number;
          change_tx: number;
          id: string;
          machine: string;
          metadata: NonNullable<Json>;
          name: string;
          owner_id: string;
          path: string;
          updated_at: string | null;
        };
        Insert: {
          change_created_tx?: number;
          change_seq?: number;
          change_tx?: number;
          id: string;
          machine: string;
          metadata?: NonNullable<Json>;
          name: string;
          owner_id?: string;
          path: string;
          updated_at?: string | null;
        };
        Update: {
          change_created_tx?: number;
          change_seq?: number;
          change_tx?: number;
          id?: string;
          machine?: string;
          metadata?: NonNullable<Json>;
          name?: string;
          owner_id?: string;
          path?: string;
          updated_at?: string | null;
        };
        Relationships: [
        ];
      };
    };
    Views: { [_ in never]: never };
    Functions: {
      changes_since: { Args: { cursor?: string; max_rows?: number }; Returns: Json };
      conversation_digests: { Args: { ids: string[] }; Returns: Json };
      schema_version: { Args: Record<PropertyKey, never>; Returns: string };
    };
    Enums: { [_ in never]: never };
    CompositeTypes: { [_ in never]: never };
  };
};

type Public = Database["public"]["Tables"];

export type Tables<Name extends keyof Public> = Public[Name]["Row"];
export type TablesInsert<Name extends keyof Public> = Public[Name]["Insert"];
export type TablesUpdate<Name extends keyof Public> = Public[Name]["Update"];
