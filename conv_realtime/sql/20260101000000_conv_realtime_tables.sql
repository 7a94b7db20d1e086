-- Projects, conversations and messages, and who may touch them.

-- A table of that name that somebody else made must never be written into.
do $$
declare
  wanted text;
begin
  foreach wanted in array array['projects', 'conversations', 'messages'] loop
    if to_regclass('public.' || wanted) is null then
      continue;
    elsif obj_description(to_regclass('public.' || wanted), 'pg_class') like 'conv\_realtime:%' then
      raise exception 'conv_realtime is already installed in this database'
        using errcode = 'duplicate_table', hint = 'Apply only the migrations that are missing.';
    else
      raise exception 'public.% exists and does not belong to conv_realtime', wanted
        using errcode = 'duplicate_table', hint = 'Rename that table, or use another project.';
    end if;
  end loop;
end
$$;

-- What clients never call lives here; the Data API does not expose this schema. Everybody may
-- look into it because the policies on realtime.messages, which run for every role, ask
-- conv_realtime.can_read(); each object has rights of its own.
create schema conv_realtime;
comment on schema conv_realtime is 'conv_realtime: internals';
revoke all on schema conv_realtime from public;
grant usage on schema conv_realtime to public;

-- Primary keys are (id, owner_id) and not id: ids can be computed by anybody who knows what
-- they are made of, and a row that a stranger has put there first must not stand in the way.
-- It is also the key that the foreign keys need, so that nothing hangs under another's row.

create table public.projects (
  id uuid not null,
  owner_id uuid not null default auth.uid(),
  machine text not null,
  path text not null,
  name text not null,
  metadata jsonb not null default '{}',
  updated_at timestamptz,
  change_tx bigint not null default 0,
  change_seq bigint not null default 0,
  change_created_tx bigint not null default 0,
  primary key (id, owner_id)
);

create table public.conversations (
  id uuid not null,
  owner_id uuid not null default auth.uid(),
  project_id uuid,
  parent_id uuid,
  source text not null,
  machine text not null,
  session_id text not null,
  agent_id text,
  title text,
  status text not null default 'active' check (status in ('active', 'completed', 'error')),
  activity text not null default 'working' check (activity in ('working', 'waiting', 'ended')),
  model text,
  cwd text,
  git_branch text,
  created_at timestamptz,
  started_at timestamptz,
  updated_at timestamptz,
  message_count integer not null default 0,
  tool_usage_count integer not null default 0,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  cache_read_tokens bigint not null default 0,
  cache_write_tokens bigint not null default 0,
  reasoning_tokens bigint not null default 0,
  revision bigint not null check (revision between 0 and 999999999999999999),
  metadata jsonb not null default '{}',
  deleted_at timestamptz,
  change_tx bigint not null default 0,
  change_seq bigint not null default 0,
  change_created_tx bigint not null default 0,
  change_told_at timestamptz,
  change_forgotten boolean not null default false,
  primary key (id, owner_id),
  foreign key (project_id, owner_id) references public.projects (id, owner_id)
);

create table public.messages (
  id uuid not null,
  owner_id uuid not null default auth.uid(),
  conversation_id uuid not null,
  seq bigint not null,
  revision bigint not null check (revision between 0 and 999999999999999999),
  role text not null check (role in ('user', 'assistant', 'tool', 'system', 'other')),
  text text not null default '',
  content jsonb,
  model text,
  created_at timestamptz,
  usage jsonb,
  metadata jsonb not null default '{}',
  deleted_at timestamptz,
  change_tx bigint not null default 0,
  change_seq bigint not null default 0,
  change_created_tx bigint not null default 0,
  primary key (id, owner_id),
  foreign key (conversation_id, owner_id) references public.conversations (id, owner_id)
    on delete cascade
);

-- Bounds of what a reader can take. A service that reads all owners' rows must not be stopped by
-- a row of one: times outside of the calendar, numbers and nesting that a JSON parser refuses,
-- values too long to be shown as JSON.
alter table public.projects
  add check (updated_at > '0001-01-02 00:00Z' and updated_at < '9999-12-31 00:00Z'),
  add check (jsonb_typeof(metadata) = 'object' and pg_column_size(metadata) <= 16000000),
  add check (not jsonb_path_exists(metadata, '$.** ? (@ > 1e300 || @ < -1e300)')),
  add check (not jsonb_path_exists(metadata, '$.**{200 to last}')),
  add check (greatest(octet_length(machine), octet_length(path), octet_length(name)) <= 1000000);
alter table public.conversations
  add check (created_at > '0001-01-02 00:00Z' and created_at < '9999-12-31 00:00Z'),
  add check (started_at > '0001-01-02 00:00Z' and started_at < '9999-12-31 00:00Z'),
  add check (updated_at > '0001-01-02 00:00Z' and updated_at < '9999-12-31 00:00Z'),
  add check (deleted_at > '0001-01-02 00:00Z' and deleted_at < '9999-12-31 00:00Z'),
  add check (jsonb_typeof(metadata) = 'object' and pg_column_size(metadata) <= 16000000),
  add check (not jsonb_path_exists(metadata, '$.** ? (@ > 1e300 || @ < -1e300)')),
  add check (not jsonb_path_exists(metadata, '$.**{200 to last}')),
  add check (greatest(
    octet_length(source), octet_length(machine), octet_length(session_id), octet_length(agent_id),
    octet_length(title), octet_length(model), octet_length(cwd), octet_length(git_branch)
  ) <= 1000000);
alter table public.messages
  add check (created_at > '0001-01-02 00:00Z' and created_at < '9999-12-31 00:00Z'),
  add check (deleted_at > '0001-01-02 00:00Z' and deleted_at < '9999-12-31 00:00Z'),
  add check (jsonb_typeof(metadata) = 'object' and pg_column_size(metadata) <= 16000000),
  add check (not jsonb_path_exists(metadata, '$.** ? (@ > 1e300 || @ < -1e300)')),
  add check (not jsonb_path_exists(metadata, '$.**{200 to last}')),
  add check (octet_length(text) <= 64000000 and octet_length(model) <= 1000000),
  add check (pg_column_size(content) <= 64000000 and pg_column_size(usage) <= 8192),
  add check (not jsonb_path_exists(content, '$.** ? (@ > 1e300 || @ < -1e300)')),
  add check (not jsonb_path_exists(content, '$.**{200 to last}')),
  add check (jsonb_typeof(usage) = 'object' and not jsonb_path_exists(
    usage, '$.* ? (@.type() != "number" || @ < 0 || @ > 1e15 || @ != @.floor())'));

comment on table public.projects is 'conv_realtime: a working directory on one machine';
comment on table public.conversations is 'conv_realtime: a session, or a subagent of one';
comment on table public.messages is 'conv_realtime: a prompt, response or tool result';
comment on column public.conversations.parent_id is
  'Computed, whether or not that row exists: join on (parent_id, owner_id) = (id, owner_id).';

-- Foreign keys and lists.
create index conversations_project on public.conversations (project_id, owner_id);
create index conversations_parent on public.conversations (parent_id, owner_id)
  where parent_id is not null;
create index conversations_forgotten on public.conversations (owner_id, machine, id)
  where change_forgotten;
create index conversations_forgotten_sessions on public.conversations (owner_id, session_id)
  where change_forgotten;
create index conversations_newest on public.conversations (owner_id, updated_at desc nulls last);
create index messages_order on public.messages (conversation_id, seq);

-- Changes in the order of changes_since, of one owner and, for the service role, of all. The
-- condition holds for every row. It keeps the planner from reading all owners' changes for one:
-- a query that does not state it cannot use these indexes.
create index projects_changes on public.projects (change_tx, change_seq)
  where change_tx >= 0;
create index projects_owner_changes on public.projects (owner_id, change_tx, change_seq);
create index conversations_changes on public.conversations (change_tx, revision, change_seq)
  where change_tx >= 0;
create index conversations_owner_changes
  on public.conversations (owner_id, change_tx, revision, change_seq);
create index messages_changes on public.messages (change_tx, revision, change_seq)
  where change_tx >= 0;
create index messages_owner_changes
  on public.messages (owner_id, change_tx, revision, change_seq);

-- Supabase grants new tables to every API role, newer projects to none: take all, then give.
revoke all on public.projects, public.conversations, public.messages
  from public, anon, authenticated, service_role;
grant select, insert, update on public.projects, public.conversations, public.messages
  to authenticated;
grant all on public.projects, public.conversations, public.messages to service_role;

alter table public.projects enable row level security;
alter table public.conversations enable row level security;
alter table public.messages enable row level security;

create policy "owners read their projects" on public.projects
  for select to authenticated using (owner_id = (select auth.uid()));
create policy "owners add their projects" on public.projects
  for insert to authenticated with check (owner_id = (select auth.uid()));
create policy "owners change their projects" on public.projects
  for update to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));

create policy "owners read their conversations" on public.conversations
  for select to authenticated using (owner_id = (select auth.uid()));
create policy "owners add their conversations" on public.conversations
  for insert to authenticated with check (owner_id = (select auth.uid()));
create policy "owners change their conversations" on public.conversations
  for update to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));

create policy "owners read their messages" on public.messages
  for select to authenticated using (owner_id = (select auth.uid()));
create policy "owners add their messages" on public.messages
  for insert to authenticated with check (owner_id = (select auth.uid()));
create policy "owners change their messages" on public.messages
  for update to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));

-- Which of these files a database has; schema_version() is the newest.
create table conv_realtime.versions (version text primary key);
alter table conv_realtime.versions enable row level security;
revoke all on conv_realtime.versions from public, anon, authenticated, service_role;
grant select on conv_realtime.versions to authenticated, service_role;
create policy "everybody signed in reads the version" on conv_realtime.versions
  for select to authenticated using (true);
insert into conv_realtime.versions values ('20260101000000');

create function public.schema_version() returns text
language sql stable set search_path = '' as $$
  select max(version) from conv_realtime.versions
$$;
comment on function public.schema_version() is 'conv_realtime: the newest migration applied';
revoke all on function public.schema_version() from public, anon, authenticated, service_role;
grant execute on function public.schema_version() to authenticated, service_role;
