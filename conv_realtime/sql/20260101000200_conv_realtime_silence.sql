-- What a write does to a row before it is stored. BEFORE triggers fire in the order of their
-- names: keep what must not change and drop what is older, drop what changes nothing, then
-- stamp the rest with its place among all changes.

-- Places -------------------------------------------------------------------------------------
-- change_tx is (epoch << 48) | transaction id. Transaction ids start again when a database is
-- restored elsewhere; the epoch rises then, so that what came with the dump stays in the past.

create sequence conv_realtime.places;

create table conv_realtime.streams (
  epoch bigint primary key,
  seed uuid not null default gen_random_uuid(),
  fingerprint text not null
);
alter table conv_realtime.streams enable row level security;
revoke all on conv_realtime.streams from public, anon, authenticated, service_role;
revoke all on sequence conv_realtime.places from public, anon, authenticated, service_role;

-- Cluster, timeline and database: differs after a restore from a dump or to a point in time,
-- after a failover and in a branch. A copy of the disk put back in place looks the same.
create function conv_realtime.fingerprint() returns text
language plpgsql stable security definer set search_path = '' as $$
begin
  if pg_is_in_recovery() then -- a read replica is on the stream of its primary
    return (select s.fingerprint from conv_realtime.streams s order by s.epoch desc limit 1);
  end if;
  return format(
    '%s/%s/%s',
    (select system_identifier from pg_control_system()),
    left(pg_walfile_name(pg_current_wal_lsn()), 8),
    (select oid from pg_database where datname = current_database())
  );
exception when insufficient_privilege then
  return 'unknown';
end
$$;

insert into conv_realtime.streams (epoch, fingerprint) values (0, conv_realtime.fingerprint());

create function conv_realtime.begin_epoch() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  latest conv_realtime.streams;
  here text := conv_realtime.fingerprint();
begin
  select * into latest from conv_realtime.streams order by epoch desc limit 1;
  if latest.fingerprint is distinct from here then
    insert into conv_realtime.streams (epoch, fingerprint)
    values (coalesce(latest.epoch, -1) + 1, here)
    on conflict (epoch) do nothing; -- waits for another session that does the same
  end if;
  return null;
end
$$;

create function conv_realtime.stamp() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  epoch bigint := (select max(s.epoch) from conv_realtime.streams s);
begin
  new.change_tx := (epoch << 48) | pg_current_xact_id()::text::bigint;
  new.change_seq := nextval('conv_realtime.places');
  if tg_op = 'INSERT' then
    new.change_created_tx := new.change_tx;
  end if;
  return new;
end
$$;

-- Order --------------------------------------------------------------------------------------

create function conv_realtime.refuse_new_identity() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise exception 'id and owner_id of public.% never change', tg_table_name
    using errcode = 'check_violation';
end
$$;

create function conv_realtime.keep_newest() returns trigger
language plpgsql set search_path = '' as $$
begin
  if new.revision < old.revision or old.metadata @> '{"forgotten": true}' then
    return null;
  end if;
  return new;
end
$$;

-- A project has no revision: machines tell its newest record time in any order.
create function conv_realtime.keep_newest_time() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.updated_at := greatest(old.updated_at, new.updated_at);
  return new;
end
$$;

-- Silence ------------------------------------------------------------------------------------
-- The built-in suppress_redundant_updates_trigger compares stored bytes and therefore misses
-- equal rows whose long values were moved out of line.

create function conv_realtime.drop_equal() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.change_tx := old.change_tx;
  new.change_seq := old.change_seq;
  new.change_created_tx := old.change_created_tx;
  if tg_table_name = 'conversations' then
    new.change_told_at := old.change_told_at;
    new.change_forgotten := old.change_forgotten;
  end if;
  if new is not distinct from old then
    return null;
  end if;
  return new;
end
$$;

-- Forgetting ---------------------------------------------------------------------------------
-- metadata {"forgotten": true} blanks a conversation with its messages and its subagents, on
-- every machine, or one message, for good: the row stays as an empty marker that drops whatever a transcript says later.
-- Its revision rises by one, so that readers who keep the higher one keep this.

-- A file that was rewritten with something else goes on as a child, too, <agent>@<part>, and so does
-- what a person forked. These are other conversations and no subagents.
create function conv_realtime.is_subagent(agent text, metadata jsonb) returns boolean
language sql immutable set search_path = '' as $$
  select metadata -> 'forked_from' is null and (agent is null or agent !~ '@\d+$')
$$;

create function conv_realtime.forget_conversation() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'UPDATE' then
    -- Whoever is about to write messages of it is waited for: `forget_below` sees them then.
    perform from public.conversations c
    where c.id = new.id and c.owner_id = new.owner_id for update;
    new.revision := greatest(new.revision, old.revision + 1);
  end if;
  new.change_forgotten := true;
  new.metadata := '{"forgotten": true}';
  new.project_id := null;
  new.title := null;
  new.status := 'completed';
  new.activity := 'ended';
  new.model := null;
  new.cwd := null;
  new.git_branch := null;
  new.message_count := 0;
  new.tool_usage_count := 0;
  new.input_tokens := 0;
  new.output_tokens := 0;
  new.cache_read_tokens := 0;
  new.cache_write_tokens := 0;
  new.reasoning_tokens := 0;
  new.deleted_at := coalesce(new.deleted_at, new.updated_at, new.created_at, 'epoch');
  return new;
end
$$;

create function conv_realtime.forget_message() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'UPDATE' then
    new.revision := greatest(new.revision, old.revision + 1);
  end if;
  new.metadata := '{"forgotten": true}';
  new.text := '';
  new.content := null;
  new.model := null;
  new.usage := null;
  new.deleted_at := coalesce(new.deleted_at, new.created_at, 'epoch');
  return new;
end
$$;

-- This and the next run as the writer, who finds their own rows alone: a row of another's is then
-- refused like any other, and does not tell by being dropped what that other has forgotten.
create function conv_realtime.drop_forgotten() returns trigger
language plpgsql set search_path = '' as $$
declare
  is_forgotten boolean;
begin
  -- The foreign key takes the same lock later; whoever forgets is waited for.
  select c.change_forgotten into is_forgotten from public.conversations c
  where c.id = new.conversation_id and c.owner_id = new.owner_id for key share;
  if is_forgotten then
    return null;
  end if;
  return new;
end
$$;

-- A subagent of a forgotten conversation comes into the database as what it is: forgotten. So does
-- the same session when another machine reads a copy of its transcript.
create function conv_realtime.forget_relative() returns trigger
language plpgsql set search_path = '' as $$
begin
  if exists (
    select from public.conversations c
    where c.id = new.parent_id and c.owner_id = new.owner_id and c.change_forgotten
      and conv_realtime.is_subagent(new.agent_id, new.metadata)
  ) or exists (
    select from public.conversations c
    where c.owner_id = new.owner_id and c.session_id = new.session_id and c.change_forgotten
      and length(new.session_id) >= 32 -- as long as a UUID without its hyphens
      and c.source = new.source and c.agent_id is not distinct from new.agent_id
      and c.machine <> new.machine
  ) then
    new.metadata := '{"forgotten": true}';
  end if;
  return new;
end
$$;

-- Erases what goes with a conversation. Its updates fire the trigger below again, for what goes
-- with those.
create function conv_realtime.forget_kin(
  erased uuid, owner uuid, origin text, session text, agent text
) returns void
language plpgsql set search_path = '' as $$
begin
  update public.conversations s set metadata = '{"forgotten": true}'
  where s.owner_id = owner and not s.change_forgotten and s.parent_id = erased
    and conv_realtime.is_subagent(s.agent_id, s.metadata);
  update public.conversations s set metadata = '{"forgotten": true}'
  where s.owner_id = owner and not s.change_forgotten and s.session_id = session
    and length(session) >= 32 and s.source = origin and s.agent_id is not distinct from agent;
  update public.messages m set metadata = '{"forgotten": true}'
  where m.conversation_id = erased and m.owner_id = owner;
end
$$;

create function conv_realtime.forget_below() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    perform conv_realtime.forget_kin(f.id, f.owner_id, f.source, f.session_id, f.agent_id)
    from fresh f where f.change_forgotten;
  else
    perform conv_realtime.forget_kin(f.id, f.owner_id, f.source, f.session_id, f.agent_id)
    from fresh f join stale o on o.id = f.id and o.owner_id = f.owner_id
    where f.change_forgotten and not o.change_forgotten;
  end if;
  return null;
end
$$;

-- Triggers -----------------------------------------------------------------------------------

create trigger change_0_epoch before insert or update on public.projects
  for each statement execute function conv_realtime.begin_epoch();
create trigger change_1_identity before update on public.projects
  for each row when (old.id <> new.id or old.owner_id <> new.owner_id)
  execute function conv_realtime.refuse_new_identity();
create trigger change_2_order before update on public.projects
  for each row execute function conv_realtime.keep_newest_time();
create trigger change_3_silence before update on public.projects
  for each row execute function conv_realtime.drop_equal();
create trigger change_5_stamp before insert or update on public.projects
  for each row execute function conv_realtime.stamp();

create trigger change_0_epoch before insert or update on public.conversations
  for each statement execute function conv_realtime.begin_epoch();
create trigger change_1_identity before update on public.conversations
  for each row when (old.id <> new.id or old.owner_id <> new.owner_id)
  execute function conv_realtime.refuse_new_identity();
create trigger change_1_relative before insert on public.conversations
  for each row execute function conv_realtime.forget_relative();
create trigger change_2_order before update on public.conversations
  for each row execute function conv_realtime.keep_newest();
create trigger change_3_silence before update on public.conversations
  for each row execute function conv_realtime.drop_equal();
create trigger change_4_forget before insert or update on public.conversations
  for each row when (new.metadata @> '{"forgotten": true}')
  execute function conv_realtime.forget_conversation();
create trigger change_5_stamp before insert or update on public.conversations
  for each row execute function conv_realtime.stamp();
create trigger change_9_forget_insert after insert on public.conversations
  referencing new table as fresh
  for each statement execute function conv_realtime.forget_below();
create trigger change_9_forget_update after update on public.conversations
  referencing old table as stale new table as fresh
  for each statement execute function conv_realtime.forget_below();

create trigger change_0_epoch before insert or update on public.messages
  for each statement execute function conv_realtime.begin_epoch();
create trigger change_1_identity before update on public.messages
  for each row when (old.id <> new.id or old.owner_id <> new.owner_id)
  execute function conv_realtime.refuse_new_identity();
create trigger change_1_forgotten before insert on public.messages
  for each row execute function conv_realtime.drop_forgotten();
create trigger change_2_order before update on public.messages
  for each row execute function conv_realtime.keep_newest();
create trigger change_3_silence before update on public.messages
  for each row execute function conv_realtime.drop_equal();
create trigger change_4_forget before insert or update on public.messages
  for each row when (new.metadata @> '{"forgotten": true}')
  execute function conv_realtime.forget_message();
create trigger change_5_stamp before insert or update on public.messages
  for each row execute function conv_realtime.stamp();

-- A project is as new as its newest conversation. Rows are locked in the order of their ids.
create function conv_realtime.touch_projects() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  with newest as (
    select f.project_id as id, f.owner_id, max(f.updated_at) as updated_at
    from fresh f where f.project_id is not null
    group by f.project_id, f.owner_id
  ), older as (
    select p.id, p.owner_id, n.updated_at
    from public.projects p join newest n on n.id = p.id and n.owner_id = p.owner_id
    where p.updated_at is null or p.updated_at < n.updated_at
    order by p.id, p.owner_id
    for no key update of p
  )
  update public.projects p set updated_at = o.updated_at
  from older o
  where p.id = o.id and p.owner_id = o.owner_id and o.updated_at is not null;
  return null;
end
$$;

create trigger change_8_project_insert after insert on public.conversations
  referencing new table as fresh
  for each statement execute function conv_realtime.touch_projects();
create trigger change_8_project_update after update on public.conversations
  referencing new table as fresh
  for each statement execute function conv_realtime.touch_projects();

revoke all on function
  conv_realtime.fingerprint(),
  conv_realtime.begin_epoch(),
  conv_realtime.stamp(),
  conv_realtime.refuse_new_identity(),
  conv_realtime.keep_newest(),
  conv_realtime.keep_newest_time(),
  conv_realtime.drop_equal(),
  conv_realtime.forget_conversation(),
  conv_realtime.forget_message(),
  conv_realtime.drop_forgotten(),
  conv_realtime.is_subagent(text, jsonb),
  conv_realtime.forget_relative(),
  conv_realtime.forget_kin(uuid, uuid, text, text, text),
  conv_realtime.forget_below(),
  conv_realtime.touch_projects()
  from public, anon, authenticated, service_role;
-- forget_relative() runs as the writer.
grant execute on function conv_realtime.is_subagent(text, jsonb) to authenticated, service_role;
insert into conv_realtime.versions values ('20260101000200');
