create table todos (
  id uuid primary key,
  owner_id uuid not null default auth.uid(),
  text text not null,
  done boolean not null default false
);

alter table todos enable row level security;
create policy "everybody has their own todos" on todos for all to authenticated
  using (owner_id = (select auth.uid()))
  with check (owner_id = (select auth.uid()));

-- Whoever is signed in hears of their own todos, on a private channel of their own.
create policy "everybody hears of their own todos" on realtime.messages
  for select to authenticated
  using (realtime.topic() = 'todos:' || (select auth.uid())::text);

create function tell_of_todo() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform realtime.send(
    jsonb_build_object('id', new.id, 'text', new.text, 'done', new.done),
    'todo', 'todos:' || new.owner_id::text, true
  );
  return null;
end $$;
create trigger tell_of_todo after insert or update on todos
  for each row execute function tell_of_todo();
