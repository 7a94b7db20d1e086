-- Who may listen on our topics: the owner, and nobody may send there but the database. The two
-- restrictive policies hold whatever else a project's policies on realtime.messages allow, even
-- `using (true)`. Nothing else of schema realtime is touched, and these alone are in this file,
-- which may be run again.

drop policy if exists "conv_realtime: owners listen" on realtime.messages;
create policy "conv_realtime: owners listen" on realtime.messages
  for select to authenticated
  using (extension = 'broadcast' and conv_realtime.can_read((select realtime.topic())));

drop policy if exists "conv_realtime: nobody else listens" on realtime.messages;
create policy "conv_realtime: nobody else listens" on realtime.messages
  as restrictive for select to public
  using (
    not (conv_realtime.is_ours((select realtime.topic())) or conv_realtime.is_ours(topic))
    or conv_realtime.can_read((select realtime.topic()))
  );

drop policy if exists "conv_realtime: nobody sends" on realtime.messages;
create policy "conv_realtime: nobody sends" on realtime.messages
  as restrictive for insert to public
  with check (
    not (conv_realtime.is_ours((select realtime.topic())) or conv_realtime.is_ours(topic))
  );

insert into conv_realtime.versions values ('20260101000500') on conflict do nothing;
