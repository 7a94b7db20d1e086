-- Telling Realtime. Private topics, one event a row, and one `changed` a transaction and topic:
--
--   conv_realtime:conversation:<id>  new_message, message_update, message_deleted,
--                                    new_conversation, conversation_update,
--                                    conversation_deleted
--   conv_realtime:owner:<owner_id>   new_conversation, conversation_update (at most one a second
--                                    and conversation), conversation_deleted, project_update,
--                                    changed
--   conv_realtime:changes            changed
--
-- A payload is {"data": {...}, "cursor"}: data has the fields of the /ws event of that name, and
-- reading changes_since up to payload.cursor has seen the whole transaction. Those cursors are
-- targets and no place to start from: an older transaction may still be uncommitted.
-- `changed` comes with every transaction that changed a row, whatever else was sent: a reader
-- who follows it alone misses nothing.
--
-- Request headers of a writer:
--   x-conv-realtime-history: 1  these rows are history: `changed` alone
--   x-conv-realtime-more: 1     another request follows at once and will tell: no `changed`

create function conv_realtime.request_says(header text) returns boolean
language sql stable set search_path = '' as $$
  select coalesce(
    nullif(current_setting('request.headers', true), '')::json ->> header = '1', false)
$$;

-- The place of a row, and what has read all of the transaction now running.
create function conv_realtime.place(
  stream text, tx bigint, rank int, revision bigint, seq bigint
) returns text
language sql immutable set search_path = '' as $$
  select format('%s.%s-%s-%s-%s', stream, tx, rank, revision, seq)
$$;

create function conv_realtime.target(stream text) returns text
language sql stable set search_path = '' as $$
  select format('%s.%s', stream, ((max(s.epoch) << 48) | pg_current_xact_id()::text::bigint) + 1)
  from conv_realtime.streams s
$$;

-- Who wrote a conversation's id first: the one whose topic it is. For ids that follow from
-- their owner there is no other.
create function conv_realtime.topic_owner(conversation uuid) returns uuid
language sql stable security definer set search_path = '' as $$
  select c.owner_id from public.conversations c where c.id = conversation
  order by c.change_created_tx, c.owner_id limit 1
$$;

create function conv_realtime.tell(topic text, event text, data jsonb, target text)
returns void
language plpgsql set search_path = '' as $$
begin
  perform realtime.send(
    jsonb_build_object('data', data, 'cursor', target),
    event, 'conv_realtime:' || topic, true);
end
$$;

-- Topics that `changed` went to in this transaction. A setting that is local to the transaction goes with it, and
-- a rollback to a savepoint takes it back together with what was sent.
create function conv_realtime.remember_told(topic text) returns void
language sql set search_path = '' as $$
  select set_config('conv_realtime.told',
    coalesce(current_setting('conv_realtime.told', true), '') || ' ' || topic || ' ', true)
$$;

create function conv_realtime.was_told(topic text) returns boolean
language sql stable set search_path = '' as $$
  select position(' ' || topic || ' '
    in coalesce(current_setting('conv_realtime.told', true), '')) > 0
$$;

create function conv_realtime.tell_changed(owners uuid[], target text) returns void
language plpgsql set search_path = '' as $$
declare
  topic text;
begin
  if conv_realtime.request_says('x-conv-realtime-more') then
    return;
  end if;
  foreach topic in array array['changes'] || array(select 'owner:' || id from unnest(owners) id)
  loop
    if not conv_realtime.was_told(topic) then
      perform conv_realtime.tell(
        topic, 'changed', jsonb_build_object('cursor', target), target);
      perform conv_realtime.remember_told(topic);
    end if;
  end loop;
end
$$;

-- Keeps a payload below 200 KB, of 256 KB that the free plan lets pass: content above 8 KB is
-- left out, other long values are cut, and truncated says so. Bytes are those of the JSON.
create function conv_realtime.fit(data jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  result jsonb := data;
  field text;
  value text;
begin
  if octet_length((data -> 'content')::text) > 8192 then
    result := result || '{"content": null, "truncated": true}';
  end if;
  if octet_length((data -> 'usage')::text) > 8192 then
    result := result || '{"usage": null, "truncated": true}';
  end if;
  if octet_length(result::text) <= 180000 then
    return result;
  end if;
  for field in select key from jsonb_each(result) where jsonb_typeof(result -> key) = 'string' loop
    value := conv_realtime.cut(result ->> field, case field when 'text' then 120000 else 4000 end);
    result := jsonb_set(result, array[field], to_jsonb(value));
  end loop;
  for field in select jsonb_object_keys(coalesce(result -> 'conversation', '{}')) loop
    if jsonb_typeof(result #> array['conversation', field]) = 'string' then
      value := conv_realtime.cut(result #>> array['conversation', field], 4000);
      result := jsonb_set(result, array['conversation', field], to_jsonb(value));
    end if;
  end loop;
  if result ? 'truncated' then
    result := result || '{"truncated": true}';
  end if;
  return result;
end
$$;

-- The longest beginning (to within a twentieth) that takes at most so many bytes as JSON.
create function conv_realtime.cut(value text, max_bytes int) returns text
language plpgsql immutable strict set search_path = '' as $$
declare
  kept text := left(value, max_bytes);
  bytes int := octet_length(to_json(kept)::text);
begin
  while bytes > max_bytes loop
    kept := left(kept, least(
      length(kept) - 1, (length(kept)::bigint * max_bytes / bytes)::int, length(kept) * 19 / 20));
    bytes := octet_length(to_json(kept)::text);
  end loop;
  return kept;
end
$$;

-- Messages -----------------------------------------------------------------------------------

create function conv_realtime.tell_messages() returns trigger
language plpgsql security definer set search_path = '' set timezone = 'UTC' as $$
declare
  stream text;
  target text;
  written record;
begin
  if not exists (select from fresh) then
    return null; -- statement triggers also fire for no rows
  end if;
  stream := (conv_realtime.head()).stream;
  target := conv_realtime.target(stream);
  if not conv_realtime.request_says('x-conv-realtime-history') then
    for written in
      select f.conversation_id,
        case
          when f.deleted_at is not null then 'message_deleted'
          when tg_op = 'INSERT' then 'new_message'
          else 'message_update'
        end as event,
        case when f.deleted_at is not null then jsonb_build_object(
          'id', f.id, 'conversation_id', f.conversation_id, 'revision', f.revision,
          'cursor', conv_realtime.place(stream, f.change_tx, 3, f.revision, f.change_seq))
        else conv_realtime.fit(jsonb_build_object(
          'id', f.id, 'conversation_id', f.conversation_id, 'seq', f.seq,
          'revision', f.revision, 'role', f.role, 'text', f.text, 'content', f.content,
          'model', f.model, 'created_at', f.created_at, 'usage', f.usage, 'truncated', false,
          'cursor', conv_realtime.place(stream, f.change_tx, 3, f.revision, f.change_seq),
          'conversation', jsonb_build_object(
            'id', c.id, 'title', c.title, 'source', c.source, 'project_name', p.name,
            'status', c.status, 'activity', c.activity, 'message_count', c.message_count)))
        end as data
      from fresh f
      join public.conversations c on c.id = f.conversation_id and c.owner_id = f.owner_id
      left join public.projects p on p.id = c.project_id and p.owner_id = c.owner_id
      where conv_realtime.topic_owner(f.conversation_id) = f.owner_id
      order by f.conversation_id, f.revision, f.change_seq
    loop
      perform conv_realtime.tell(
        'conversation:' || written.conversation_id, written.event, written.data, target);
    end loop;
  end if;
  perform conv_realtime.tell_changed(array(select distinct owner_id from fresh), target);
  return null;
end
$$;

create trigger change_7_tell_insert after insert on public.messages
  referencing new table as fresh
  for each statement execute function conv_realtime.tell_messages();
create trigger change_7_tell_update after update on public.messages
  referencing new table as fresh
  for each statement execute function conv_realtime.tell_messages();

-- Conversations ------------------------------------------------------------------------------

-- Marks the rows that the owner's topic is to hear of, the others come within a second of the
-- last: there `changed` takes their place.
create function conv_realtime.pace() returns trigger
language plpgsql set search_path = '' as $$
begin
  if new.change_told_at > clock_timestamp() - interval '1 second'
    or conv_realtime.request_says('x-conv-realtime-history') then
    return new;
  end if;
  new.change_told_at := clock_timestamp();
  return new;
end
$$;

create trigger change_6_pace before insert or update on public.conversations
  for each row execute function conv_realtime.pace();

create function conv_realtime.tell_conversations() returns trigger
language plpgsql security definer set search_path = '' set timezone = 'UTC' as $$
declare
  stream text;
  target text;
  due uuid[];
  written record;
begin
  if not exists (select from fresh) then
    return null; -- statement triggers also fire for no rows
  end if;
  stream := (conv_realtime.head()).stream;
  target := conv_realtime.target(stream);
  if tg_op = 'INSERT' then
    due := array(select f.id from fresh f where f.change_told_at is not null);
  else
    due := array(
      select f.id from fresh f join stale o on o.id = f.id and o.owner_id = f.owner_id
      where f.change_told_at is distinct from o.change_told_at);
  end if;
  if not conv_realtime.request_says('x-conv-realtime-history') then
    for written in
      select f.id, f.owner_id,
        f.deleted_at is not null as gone,
        case
          when f.deleted_at is not null then 'conversation_deleted'
          when tg_op = 'INSERT' then 'new_conversation'
          else 'conversation_update'
        end as event,
        case when f.deleted_at is not null then jsonb_build_object(
          'id', f.id, 'revision', f.revision,
          'cursor', conv_realtime.place(stream, f.change_tx, 2, f.revision, f.change_seq))
        else conv_realtime.fit(jsonb_build_object(
          'id', f.id, 'revision', f.revision, 'title', f.title, 'status', f.status,
          'activity', f.activity, 'message_count', f.message_count,
          'tool_usage_count', f.tool_usage_count, 'created_at', f.created_at,
          'started_at', f.started_at, 'updated_at', f.updated_at, 'source', f.source,
          'session_id', f.session_id, 'project_id', f.project_id, 'project_name', p.name,
          'cwd', f.cwd, 'git_branch', f.git_branch, 'model', f.model,
          'input_tokens', f.input_tokens, 'output_tokens', f.output_tokens,
          'cache_read_tokens', f.cache_read_tokens, 'cache_write_tokens', f.cache_write_tokens,
          'reasoning_tokens', f.reasoning_tokens, 'parent_id', f.parent_id,
          'machine', f.machine,
          'cursor', conv_realtime.place(stream, f.change_tx, 2, f.revision, f.change_seq)))
        end as data
      from fresh f
      left join public.projects p on p.id = f.project_id and p.owner_id = f.owner_id
      order by f.id, f.owner_id
    loop
      if conv_realtime.topic_owner(written.id) = written.owner_id then
        perform conv_realtime.tell(
          'conversation:' || written.id, written.event, written.data, target);
      end if;
      if written.gone or written.id = any (due) then
        perform conv_realtime.tell(
          'owner:' || written.owner_id, written.event, written.data, target);
      end if;
    end loop;
  end if;
  perform conv_realtime.tell_changed(array(select distinct owner_id from fresh), target);
  return null;
end
$$;

create trigger change_7_tell_insert after insert on public.conversations
  referencing new table as fresh
  for each statement execute function conv_realtime.tell_conversations();
create trigger change_7_tell_update after update on public.conversations
  referencing old table as stale new table as fresh
  for each statement execute function conv_realtime.tell_conversations();

-- Projects -----------------------------------------------------------------------------------
-- A newer time alone is no event: it follows every conversation_update.

create function conv_realtime.tell_projects() returns trigger
language plpgsql security definer set search_path = '' set timezone = 'UTC' as $$
declare
  stream text;
  target text;
  due uuid[];
  written record;
begin
  if not exists (select from fresh) then
    return null; -- statement triggers also fire for no rows
  end if;
  stream := (conv_realtime.head()).stream;
  target := conv_realtime.target(stream);
  if tg_op = 'INSERT' then
    due := array(select f.id from fresh f);
  else
    due := array(
      select f.id from fresh f join stale o on o.id = f.id and o.owner_id = f.owner_id
      where (f.machine, f.path, f.name, f.metadata) <> (o.machine, o.path, o.name, o.metadata));
  end if;
  if not conv_realtime.request_says('x-conv-realtime-history') then
    for written in
      select f.owner_id, conv_realtime.fit(jsonb_build_object(
        'id', f.id, 'name', f.name, 'path', f.path,
        'conversation_count', (
          select count(*) from public.conversations c
          where c.project_id = f.id and c.owner_id = f.owner_id and c.deleted_at is null),
        'status', case when f.updated_at > now() - interval '24 hours'
          then 'active' else 'inactive' end,
        'updated_at', f.updated_at,
        'cursor', conv_realtime.place(stream, f.change_tx, 1, 0, f.change_seq))) as data
      from fresh f
      where f.id = any (due)
      order by f.id, f.owner_id
    loop
      perform conv_realtime.tell('owner:' || written.owner_id, 'project_update',
        written.data, target);
    end loop;
  end if;
  perform conv_realtime.tell_changed(array(select distinct owner_id from fresh), target);
  return null;
end
$$;

create trigger change_7_tell_insert after insert on public.projects
  referencing new table as fresh
  for each statement execute function conv_realtime.tell_projects();
create trigger change_7_tell_update after update on public.projects
  referencing old table as stale new table as fresh
  for each statement execute function conv_realtime.tell_projects();

-- Listening ----------------------------------------------------------------------------------

create function conv_realtime.is_ours(topic text) returns boolean
language sql immutable set search_path = '' as $$
  select coalesce(starts_with(topic, 'conv_realtime:'), false)
$$;

-- Runs for every topic of the project, so the shape comes before any cast. The topic of all
-- changes is for the service role alone, which policies do not bind.
create function conv_realtime.can_read(topic text) returns boolean
language plpgsql stable security definer set search_path = '' as $$
declare
  uuid_shape constant text := '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
begin
  if topic ~ ('^conv_realtime:conversation:' || uuid_shape) then
    return coalesce(
      conv_realtime.topic_owner(right(topic, 36)::uuid) = (select auth.uid()), false);
  elsif topic ~ ('^conv_realtime:owner:' || uuid_shape) then
    return coalesce(right(topic, 36)::uuid = (select auth.uid()), false);
  end if;
  return false;
end
$$;

-- The policies run for every role of the project that joins any private channel.
revoke all on function conv_realtime.is_ours(text), conv_realtime.can_read(text)
  from public, anon, authenticated, service_role;
grant execute on function conv_realtime.is_ours(text), conv_realtime.can_read(text) to public;

-- Publication --------------------------------------------------------------------------------
-- Plain postgres_changes, for whoever uses them: these tables in Supabase's own publication.
do $$
declare
  wanted text;
begin
  if not exists (
    select from pg_publication where pubname = 'supabase_realtime' and not puballtables
  ) then
    return;
  end if;
  foreach wanted in array array['projects', 'conversations', 'messages'] loop
    if not exists (
      select from pg_publication_tables
      where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = wanted
    ) then
      execute format('alter publication supabase_realtime add table public.%I', wanted);
    end if;
  end loop;
end
$$;

revoke all on function
  conv_realtime.request_says(text),
  conv_realtime.place(text, bigint, int, bigint, bigint),
  conv_realtime.target(text),
  conv_realtime.topic_owner(uuid),
  conv_realtime.tell(text, text, jsonb, text),
  conv_realtime.remember_told(text),
  conv_realtime.was_told(text),
  conv_realtime.tell_changed(uuid[], text),
  conv_realtime.fit(jsonb),
  conv_realtime.cut(text, int),
  conv_realtime.tell_messages(),
  conv_realtime.tell_conversations(),
  conv_realtime.tell_projects(),
  conv_realtime.pace()
  from public, anon, authenticated, service_role;
-- pace() runs as the writer.
grant execute on function conv_realtime.request_says(text) to authenticated, service_role;
insert into conv_realtime.versions values ('20260101000400');
