"""Removes guards, one at a time, and runs the test that has to miss each: `python -m tests.guards`.

A test that nobody has seen fail may hold nothing. Each guard is taken out of a copy of package and
tests; its test has to fail there. Names after the command choose guards by a part of their place.
Not part of CI: it runs for some minutes, and what it finds is a test to make better.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
_COPIED = ("conv_realtime", "tests", "pyproject.toml", "README.md")
_SECONDS = 60


@dataclass(frozen=True)
class Guard:
    """Some lines of the package, what stands there without the guard, and who has to notice."""

    file: str
    guard: str
    without: str
    test: str


_CONNECTIONS = "tests/relay/test_feed_connections.py::test_"
_TOKENS = "tests/relay/test_feed_tokens.py::test_"
_READING = "tests/relay/test_feed_reading.py::test_"
_TROUBLE = "tests/relay/test_feed_trouble.py::test_"
_FANOUT = "tests/relay/test_fanout.py::test_"
_REQUESTS = "tests/relay/test_ws_requests.py::test_"
_RESUMING = "tests/relay/test_ws_resuming.py::test_"
_DATABASE = "tests/ingest/test_another_database.py::test_"
_REWRITING = "tests/ingest/test_rewriting.py::test_"
_SNAPSHOTS = "tests/ingest/test_snapshots.py::test_"
_OLDER_STATE = "tests/ingest/test_older_state.py::test_"
_ATTACKS = "tests/relay/test_attacks.py::test_"
_WATCHING = "tests/ingest/test_watching.py::test_"
_REPLACED = "tests/ingest/test_replaced_folders.py::test_"
_LOST = "tests/ingest/test_lost_events.py::test_"
_VANISHED = "tests/ingest/test_vanished.py::test_"
_CODEX = "tests/ingest/test_codex.py::test_"
_THREADS = "tests/ingest/test_codex_threads.py::test_"
_SPENT = "tests/ingest/test_codex_tokens.py::test_"
_REFUSALS = "tests/ingest/test_refusals.py::test_"
_PACKED = "tests/ingest/test_packed.py::test_"
_REWIND = "tests/ingest/test_gemini_log.py::test_a_rewind_"

_LIFECYCLE = "tests/local/test_postgres_lifecycle.py::test_"
_SURROUNDINGS = "tests/cli/test_surroundings.py::test_"
_SANITIZE = "tests/core/test_sanitize.py::test_"
_SECRETS = "tests/core/test_redaction.py::test_"
_BEGINNING = "tests/ingest/test_beginning.py::test_"
_JOINT = "tests/ingest/test_joint.py::test_"

GUARDS = (
    Guard(
        "core/sanitize.py",
        "        text, found = self._redactor.redact(storable(text))\n",
        "        _, found = self._redactor.redact(storable(text))\n",
        f"{_SANITIZE}secrets_go_from_keys_and_values_alike",
    ),
    Guard(
        "core/sanitize.py",
        "        return self.text(text)[:MAX_NAME]\n",
        "        return self.text(text[:MAX_NAME])\n",
        f"{_SANITIZE}a_secret_across_the_end_of_what_is_kept_leaves_no_half",
    ),
    Guard(
        "core/redaction/replacing.py",
        "            if count >= _MOST:\n",
        "            if False:\n",
        f"{_SECRETS}a_text_of_nothing_but_secrets_ends",
    ),
    Guard(
        "ingest/sender.py",
        "        if new is None or new < len(batch.stubs):\n",
        "        if new is None:\n",
        f"{_BEGINNING}one_that_the_database_has_is_asked_about",
    ),
    Guard(
        "edges/store/supabase.py",
        "ignore_duplicates=all(map(is_beginning, rows))",
        "ignore_duplicates=False",
        "tests/ingest/test_store.py::test_a_beginning_leaves_a_conversation_as_it_is",
    ),
    Guard(
        "ingest/sender.py",
        "        if not is_beginning(rows[0]):",
        "        if True:",
        f"{_REFUSALS}who_may_add_rows_and_change_none_parks_nothing",
    ),
    Guard(
        "core/sanitize.py",
        "                parts.append(_as_json(part))\n                as_it_is = False\n",
        "                pass\n",
        f"{_SANITIZE}what_json_does_not_have_is_cleaned_as_what_it_has_for_it",
    ),
    Guard(
        "ingest/joint.py",
        "        answer = None\n",
        "        answer = True\n",
        f"{_JOINT}who_is_cancelled_while_it_writes_leaves_the_others_to_themselves",
    ),
    Guard(
        "ingest/sender.py",
        "                if _blame(error, table, request) is not Refusal.PASSES:\n",
        "                if True:\n",
        f"{_JOINT}what_fails_for_a_moment_is_sent_together_again",
    ),
    Guard(
        "ingest/desk.py",
        "        if self.is_small_history(follower):\n            answer =",
        "        if False:\n            answer =",
        f"{_JOINT}news_waits_for_no_question_about_history",
    ),
    Guard(
        "ingest/desk.py",
        "        return little and self.sender.is_old(follower.newest)\n",
        "        return little\n",
        f"{_JOINT}news_is_sent_by_itself",
    ),
    Guard(
        "edges/checkpoints/kept.py",
        '"update checkpoints set position = 0, crc = 0, size = null, device = null,"',
        '"update checkpoints set size = size, device = device,"',
        "tests/ingest/test_redaction.py::test_settings_say_which_secrets_go",
    ),
    Guard(
        "edges/checkpoints/place.py",
        "    if text.isprintable():\n",
        "    if True:\n",
        "tests/ingest/test_checkpoints.py::test_a_name_that_is_no_text_is_told",
    ),
    Guard(
        "local/postgres/cluster.py",
        "        pass_fds=(lock,),\n",
        "",
        f"{_LIFECYCLE}a_first_start_waits_for_what_a_killed_one_left",
    ),
    Guard(
        "local/postgres/orphans.py",
        "(pid is None or exists(pid))",
        "pid is not None and exists(pid)",
        f"{_LIFECYCLE}a_pid_file_that_names_nobody_is_no_obstacle",
    ),
    Guard(
        "local/postgres/server.py",
        "                    lock.check()\n",
        "",
        "tests/local/test_postgres_bad_days.py::"
        "test_a_folder_that_was_begun_anew_is_left_to_its_new_owner",
    ),
    Guard(
        "local/postgres/cluster.py",
        "_log_path(data).read_bytes()[since:]",
        "_log_path(data).read_bytes()",
        "tests/local/test_postgres_bad_days.py::"
        "test_what_an_earlier_run_complained_of_is_not_told_again",
    ),
    Guard(
        "cli/ending.py",
        "    ENDING_SIGNALS.append(signal.SIGHUP)",
        "    pass",
        "tests/cli/test_interrupted.py::test_a_backfill_that_was_ended_has_not_succeeded",
    ),
    Guard(
        "shared_files.py",
        "_TO_LOOK = os.O_RDONLY",
        "_TO_LOOK = os.O_RDWR",
        "tests/cli/test_instance.py::test_an_instance_is_found_where_nothing_may_be_written",
    ),
    Guard(
        "cli/surroundings.py",
        '        if spared.strip() != "*":\n',
        "        if False:\n",
        f"{_SURROUNDINGS}proxies_and_settings_of_other_databases_do_not_reach_the_local_supabase",
    ),
    Guard(
        "cli/target.py",
        "    leave_out_libpq()\n",
        "",
        f"{_SURROUNDINGS}proxies_and_settings_of_other_databases_do_not_reach_the_local_supabase",
    ),
    Guard(
        "cli/surroundings.py",
        "    if named:\n",
        "    if False:\n",
        f"{_SURROUNDINGS}proxies_and_certificates_that_cannot_be_used_are_named",
    ),
    Guard(
        "edges/store/answers.py",
        "        response.stream = _Whole(response.stream, seconds)\n",
        "        pass\n",
        "tests/ingest/test_store_answers.py::test_an_answer_that_does_not_end_is_asked_for_again",
    ),
    Guard(
        "ingest/catching_up.py",
        "            await _until_less_waits(unsent, stats)\n",
        "",
        "tests/ingest/test_outage.py::test_only_so_many_files_are_read_ahead_of_a_store_that_is_away",
    ),
    Guard(
        "ingest/looking.py",
        "    desk.checkpoints.letters.moved(former, book.path)\n",
        "",
        "tests/ingest/test_dead_letters.py::test_letters_move_with_their_transcript",
    ),
    Guard(
        "background.py",
        "        while not working.done():\n",
        "        while False:\n",
        "tests/ingest/test_endings.py::test_who_is_cancelled_while_files_are_recognised_waits_for_the_thread",
    ),
    Guard(
        "relay/listeners.py",
        "        while not is_over():\n",
        "        while True:\n",
        "tests/relay/test_listeners.py::test_a_handler_that_keeps_its_cancellation_holds_up_no_end",
    ),
    Guard(
        "relay/service.py",
        "            if self._is_over:\n                return\n",
        "",
        "tests/relay/test_relay.py::test_a_feed_that_fails_while_it_is_ended_holds_up_no_end",
    ),
    Guard(
        "ingest/holding.py",
        '            logger.info("not kept open: %s", error)\n',
        "            raise error\n",
        f"{_VANISHED}where_no_more_files_may_be_open_what_can_be_read_is_sent",
    ),
    Guard(
        "edges/checkpoints/place.py",
        "    except FileNotFoundError:\n",
        "    except OSError:\n",
        "tests/ingest/test_checkpoints.py::test_a_name_that_cannot_be_read_is_not_taken_for_none",
    ),
    Guard(
        "ingest/stated.py",
        "row.revision > refused.get(row.id, -1)",
        "row.id not in refused",
        "tests/ingest/test_dead_letters.py::test_a_row_that_changes_is_in_snapshots_before_it_is_taken",
    ),
    Guard(
        "ingest/river.py",
        "if self._stack is None:",
        "if False:",
        "tests/ingest/test_snapshots.py::test_who_asks_while_ingest_ends_is_told_so",
    ),
    Guard(
        "local/postgres/server.py",
        "if port == self.port:",
        "if True:",
        "tests/local/test_postgres_lifecycle.py::"
        "test_a_port_that_others_take_while_it_starts_is_replaced",
    ),
    Guard(
        "ports.py",
        "            elif self.places:\n",
        "            elif False:\n",
        f"{_RESUMING}who_never_stays_for_a_page_gets_through_it",
    ),
    Guard(
        "core/log.py",
        "                    entry.erase()\n",
        "                    pass\n",
        f"{_RESUMING}who_comes_back_hears_nothing_of_what_was_forgotten_meanwhile",
    ),
    Guard(
        "core/selection.py",
        "return subject.project is None and subject.type in DELETIONS",
        "return False",
        f"{_REQUESTS}who_follows_a_project_hears_of_what_has_lost_its_project",
    ),
    Guard(
        "edges/live/client.py",
        "self._returns.after(code, lived,",
        "self._returns.after(None, lived,",
        "tests/shipped/test_python.py::test_who_is_sent_away_again_and_again_comes_ever_more_rarely",
    ),
    Guard(
        "edges/live/client.py",
        "    await asyncio.sleep(max(at - asyncio.get_running_loop().time(), 0.0))",
        "    await asyncio.sleep(0.2)",
        "tests/shipped/test_python.py::test_who_gives_up_waiting_comes_back_in_time_all_the_same",
    ),
    Guard(
        "core/formats/codex.py",
        "        elif self._lineage.is_copy(line):\n",
        "        elif False:\n",
        f"{_THREADS}what_was_copied_from_the_parent_is_not_counted_again",
    ),
    Guard(
        "core/formats/codex_lineage.py",
        "        return line.at - before >= _PAUSE\n",
        "        return False\n",
        f"{_THREADS}what_was_copied_from_the_parent_is_not_counted_again",
    ),
    Guard(
        "core/formats/codex_tokens.py",
        "            return last if continued else total\n",
        "            return total\n",
        f"{_THREADS}a_fork_that_copies_nothing_has_all_of_its_lines",
    ),
    Guard(
        "core/formats/codex_tokens.py",
        "            return last\n        return {",
        "            return total\n        return {",
        f"{_SPENT}a_total_that_is_set_anew_takes_nothing_back",
    ),
    Guard(
        "core/formats/codex_tokens.py",
        "        if another or any(",
        "        if any(",
        f"{_SPENT}totals_of_several_limits_are_not_taken_for_one",
    ),
    Guard(
        "core/formats/codex.py",
        "        self._open = self._answer = None\n\n\ndef _sum",
        "\n\ndef _sum",
        f"{_CODEX}turns_that_are_rolled_back_are_taken_back",
    ),
    Guard(
        "ingest/looking.py",
        "            await apart(large, file.check)\n",
        "            pass\n",
        f"{_PACKED}a_packed_file_that_cannot_be_read_is_skipped_whole",
    ),
    Guard(
        "ingest/shelf.py",
        "            return None if book.path in self.checkpoints else self._left_behind(key)\n",
        "            return None\n",
        f"{_PACKED}a_rollout_that_moved_between_runs_is_not_sent_again",
    ),
    Guard(
        "ingest/shelf.py",
        "                0 if disk.is_packed(path) else stat.size,\n",
        "                stat.size,\n",
        f"{_PACKED}of_both_the_plain_one_is_read",
    ),
    Guard(
        "ingest/looking.py",
        "        desk.announcer.moved(former, book.path)\n",
        "",
        f"{_PACKED}a_rollout_that_moves_while_it_is_watched_stays_one",
    ),
    Guard(
        "ingest/rows.py",
        "name): entry for name, entry in fold.entries.items()}",
        "e.native): e for e in fold.standing}",
        f"{_REWIND}read_from_an_empty_state_directory_changes_no_row",
    ),
    Guard(
        "edges/feed/wakeups.py",
        '        except Exception:\n            logger.exception("a wake-up failed")',
        '        except ZeroDivisionError:\n            logger.exception("a wake-up failed")',
        f"{_CONNECTIONS}a_wake_up_that_raises_ends_nothing",
    ),
    Guard(
        "edges/feed/wakeups.py",
        "            end_at_once()\n",
        "",
        f"{_CONNECTIONS}stopping_over_a_half_open_link_leaves_nothing",
    ),
    Guard(
        "edges/feed/wakeups.py",
        "            self._tell(None)\n",
        "            pass\n",
        f"{_TROUBLE}after_a_cut_it_joins_again_and_reads_what_it_missed",
    ),
    Guard(
        "edges/feed/wakeups.py",
        "[channel.join_push, *channel.messages_waiting_for_ack.values()]",
        "[channel.join_push]",
        f"{_TOKENS}a_token_is_renewed_however_busy_it_is",
    ),
    Guard(
        "edges/feed/wakeups.py",
        "if joined and loop.time() - began >= STEADY_SECONDS:",
        "if joined:",
        f"{_CONNECTIONS}connections_that_end_at_once_are_made_ever_more_rarely",
    ),
    Guard(
        "edges/feed/wakeups.py",
        "            self._trouble.set()\n\n    async def set_token",
        "\n    async def set_token",
        f"{_READING}broadcasts_that_fall_silent_after_a_restart",
    ),
    Guard(
        "edges/feed/supabase.py",
        "asyncio.timeout(self._settings.request_timeout):\n                answer",
        "asyncio.timeout(None):\n                answer",
        f"{_TROUBLE}a_lent_client_without_a_timeout_is_not_waited_for_without_end",
    ),
    Guard(
        "edges/feed/supabase.py",
        "if self._target is None or _reaches(page.cursor, self._target):",
        "if self._target is None or page.cursor:",
        f"{_READING}what_is_announced_before_it_can_be_read_is_waited_for",
    ),
    Guard(
        "edges/feed/supabase.py",
        "        self._due.clear()\n        await self._refresh_token()\n",
        "        self._due.clear()\n",
        f"{_TOKENS}a_token_is_renewed_however_busy_it_is",
    ),
    Guard(
        "edges/feed/supabase.py",
        "            except StoreError as error:\n                if self._reading",
        "            except ZeroDivisionError as error:\n                if self._reading",
        f"{_READING}a_supabase_that_is_stopped_and_started",
    ),
    Guard(
        "edges/feed/supabase.py",
        "asked = self._not_before - asyncio.get_running_loop().time()",
        "asked = 0.0",
        f"{_READING}a_server_that_says_when_is_not_asked_before",
    ),
    Guard(
        "relay/service.py",
        "            page = replace(page, resync=True)\n",
        "",
        f"{_CONNECTIONS}a_handler_of_pages_that_raises_begins_anew_with_a_gap",
    ),
    Guard(
        "ingest/sender.py",
        "            else:\n                return True\n        return False\n",
        "            else:\n                return True\n        return True\n",
        f"{_REFUSALS}a_refusal_of_everything_parks_nothing",
    ),
    Guard(
        "ingest/sender.py",
        "return Refusal.UNCLEAR if",
        "return Refusal.HELP if",
        f"{_REFUSALS}what_a_policy_refuses_holds_up_nobody",
    ),
    Guard(
        "ingest/asking.py",
        "            self._not_before = max(",
        "            max(",
        f"{_REFUSALS}a_server_that_says_when_is_not_asked_before",
    ),
    Guard(
        "edges/watch/inotify.py",
        "            seen.sweep = True\n",
        "",
        f"{_LOST}events_that_the_kernel_dropped_are_made_up_for",
    ),
    Guard(
        "edges/watch/inotify.py",
        "            seen.sweep |= known",
        "            pass",
        f"{_REPLACED}a_link_that_leads_elsewhere_is_followed_there",
    ),
    Guard(
        "edges/watch/inotify.py",
        "            self._folders.forget(path)",
        "            pass",
        f"{_REPLACED}a_folder_that_takes_the_place_of_another_is_watched",
    ),
    Guard(
        "edges/watch/inotify.py",
        "                    self._drop(path)\n",
        "                    pass\n",
        f"{_REPLACED}a_folder_that_takes_the_place_of_another_is_watched",
    ),
    Guard(
        "edges/watch/inotify.py",
        "        return self._kernel is not None\n",
        "        return True\n",
        f"{_LOST}watching_begins_again_when_it_breaks",
    ),
    Guard(
        "edges/disk/opened.py",
        "found.st_ino & _IDENTITY",
        "found.st_ino",
        "tests/test_windows.py::test_a_file_of_any_identity_has_a_checkpoint",
    ),
    Guard(
        "edges/watch/observer.py",
        "return all(thread.is_alive() for thread in threads)",
        "return True",
        f"{_LOST}watching_begins_again_when_its_threads_end",
    ),
    Guard(
        "ingest/shelf.py",
        "                self._wake_others(book)\n",
        "",
        "tests/ingest/test_resting.py::test_a_copy_that_appears_beside_one_is_known_as_a_copy",
    ),
    Guard(
        "edges/checkpoints/kept.py",
        " having count(*) > 1 or",
        " having",
        "tests/ingest/test_remembered.py::test_two_checkpoints_of_one_conversation_are_not_at_rest",
    ),
    Guard(
        "ingest/by_settings.py",
        "whole(http.aclose())",
        "http.aclose()",
        "tests/test_leaving.py::test_a_store_closes_every_connection",
    ),
    Guard(
        "edges/asgi.py",
        "    if sock is None or sock.fileno() >= 0:\n",
        "    if True:\n",
        "tests/relay/test_wires.py::test_a_line_that_has_gone_is_not_cut",
    ),
    Guard(
        "edges/asgi.py",
        "if not wire.write(rest) or wire.waiting_bytes > most]",
        "if not wire.write(rest)]",
        f"{_FANOUT}a_slow_client_gets_resync_and_goes_on",
    ),
    Guard(
        "relay/laggards.py",
        "                self._give_up(client)\n",
        "                continue\n",
        f"{_FANOUT}a_client_that_goes_on_not_reading_is_closed",
    ),
    Guard(
        "relay/heartbeat.py",
        "client.unanswered >= 2 and",
        "client.unanswered < 0 and",
        f"{_FANOUT}a_silent_client_is_aborted_after_two_heartbeats",
    ),
    Guard(
        "ingest/sending.py",
        "desk.save(book.path, follower.checkpoint, batch.totals)",
        "desk.save(book.path, follower.checkpoint)",
        f"{_SNAPSHOTS}what_was_acknowledged_just_before_a_crash_is_in_the_snapshot",
    ),
    Guard(
        "ingest/rewriting.py",
        "            desk.announcer.take_back(follower.rows)\n",
        "            pass\n",
        f"{_REWRITING}a_later_part_that_was_told_as_the_first_is_taken_back",
    ),
    Guard(
        "ingest/rewriting.py",
        "{**missing, **what.told}.items()",
        "missing.items()",
        f"{_REWRITING}what_only_listeners_had_is_taken_back_too",
    ),
    Guard(
        "ingest/stated.py",
        "if book.follower is None and path not in desk.shelf.checkpoints:",
        "if False:",
        f"{_SNAPSHOTS}a_copy_that_stated_it_once_has_no_messages_for_a_snapshot",
    ),
    Guard(
        "ingest/rewriting.py",
        "    if _is_another(follower, known):",
        "    if False:",
        f"{_OLDER_STATE}a_file_begun_again_is_another_conversation_by_what_the_database_has",
    ),
    Guard(
        "ingest/rewriting.py",
        "            if book.follower is not follower:\n                return",
        "            if False:\n                return",
        "tests/ingest/test_copies.py::test_who_was_taken_over_from_says_nothing_any_more",
    ),
    Guard(
        "core/following.py",
        '                if data.code != "unavailable":',
        "                if True:",
        "tests/core/test_following.py::"
        "test_a_snapshot_that_fails_is_no_refusal_of_what_was_asked_for_since",
    ),
    Guard(
        "core/log.py",
        "weight_of(said) if said is not None else 0",
        "weight_of(change) if change is not None else 0",
        "tests/core/test_log.py::test_what_a_host_broadcasts_counts_too",
    ),
    Guard(
        "edges/feed/snapshots.py",
        ".retry(False)",
        "",
        f"{_TROUBLE}a_snapshot_asks_once",
    ),
    Guard(
        "core/log.py",
        "        self._rows.clear()\n",
        "",
        "tests/core/test_log.py::test_behind_a_gap_revisions_may_be_lower",
    ),
    Guard(
        "ingest/rewriting.py",
        "    return max(base, *above)\n",
        "    return base\n",
        f"{_OLDER_STATE}totals_above_all_messages_say_that_a_file_was_rewritten",
    ),
    Guard(
        "ingest/tender.py",
        "(resting and follower.doubtful)",
        "False",
        f"{_OLDER_STATE}what_is_as_an_older_state_has_it_is_told_as_the_database_does",
    ),
    Guard(
        "ingest/stated.py",
        "                for other in desk.shelf.owe(path):\n",
        "                for other in []:\n",
        f"{_SNAPSHOTS}what_a_snapshot_went_without_is_told_when_it_is_there_again",
    ),
    Guard(
        "ingest/rewriting.py",
        "    missing = _unstated(known, stated)\n",
        "    missing = _unstated({}, stated)\n",
        f"{_REWRITING}a_rewritten_file_takes_its_messages_back",
    ),
    Guard(
        "ingest/rewriting.py",
        "        if late or _is_behind(follower, known):\n",
        "        if late and not late:\n",
        f"{_REWRITING}rows_that_arrive_after_their_process_has_ended_count_for_nothing",
    ),
    Guard(
        "ingest/database.py",
        "                    raise DatabaseReplacedError\n",
        "                    pass\n",
        f"{_DATABASE}a_database_replaced_while_running_gets_everything",
    ),
    Guard(
        "edges/checkpoints/kept.py",
        "        known, before, here = self.database, self._destination, self._of(stream)\n",
        "        before, here = self._destination, self._of(stream)\n"
        "        (known,) = self._db.execute('select stream from databases').fetchone()\n",
        f"{_DATABASE}one_that_another_process_met_first_gets_everything",
    ),
    Guard(
        "ingest/sender.py",
        "                if refusal is Refusal.PARENT:\n",
        "                if refusal is Refusal.PARENT and not rows:\n",
        f"{_DATABASE}rows_that_the_database_lost_are_sent_again",
    ),
    Guard(
        "ingest/looking.py",
        "            desk.holder.keep(file)\n",
        "            pass\n",
        f"{_VANISHED}a_file_that_vanished_is_sent_from_what_was_open",
    ),
    Guard(
        "ingest/waking.py",
        "            if named and self._is_wanted(path):\n",
        "            if named:\n",
        f"{_WATCHING}of_a_single_file_nothing_beside_it_is_read",
    ),
    Guard(
        "ingest/waking.py",
        "self.missing = missed or (",
        "self.missing = bool(self._quiet < 0) or (",
        f"{_LOST}writes_without_events_are_found_and_sweeps_quicken",
    ),
    Guard(
        "ingest/sending.py",
        "outcome = await desk.sender.write(",
        "follower.acknowledge(batch); outcome = await desk.sender.write(",
        "tests/ingest/test_dead_letters.py::test_a_letter_that_cannot_be_kept_moves_no_checkpoint",
    ),
    Guard(
        "edges/checkpoints/kept.py",
        '    " where (excluded.part, excluded.base) >= (checkpoints.part, checkpoints.base)"\n',
        "",
        "tests/ingest/test_state_directory.py::test_a_higher_base_of_another_process_stands",
    ),
    Guard(
        "edges/checkpoints/file.py",
        "        self._put_aside()\n",
        "",
        "tests/ingest/test_state_directory.py::test_a_spoilt_state_file_costs_a_silent_re_read",
    ),
    Guard(
        "edges/store/answers.py",
        "        if not answer.ranged:\n            raise stranger(what)\n",
        "",
        "tests/ingest/test_store_answers.py::test_a_login_page_acknowledges_nothing",
    ),
    Guard(
        "edges/store/supabase.py",
        "    if answer.count is None:\n        raise stranger(what)\n    return int(answer.count)",
        "    return int(answer.count or 0)",
        "tests/ingest/test_store_answers.py::test_a_login_page_acknowledges_nothing_to_a_lent_client",
    ),
    Guard(
        "edges/feed/snapshots.py",
        "async with _first_error(), asyncio.TaskGroup() as turn:",
        "async with asyncio.TaskGroup() as turn:",
        f"{_TROUBLE}a_snapshot_that_breaks_off_among_messages_is_a_store_error",
    ),
    Guard(
        "edges/feed/unreadable.py",
        "        except ValidationError as error:\n",
        "        except ZeroDivisionError as error:\n",
        f"{_TROUBLE}a_row_that_this_version_cannot_read_is_left_out_and_told",
    ),
    Guard(
        "edges/feed/supabase.py",
        "        async with self._turns:\n            return await self._page(cursor, limit)\n",
        "        return await self._page(cursor, limit)\n",
        f"{_TROUBLE}news_do_not_wait_for_a_crowd_that_comes_back",
    ),
    Guard(
        "relay/connections.py",
        "again = min(left, self._settings.heartbeat_seconds)",
        "again = left",
        "tests/relay/test_door.py::test_"
        "a_token_that_expires_while_the_machine_sleeps_ends_after_a_heartbeat",
    ),
    Guard(
        "relay/dialogue.py",
        "                    self._hub.cut_later(client)\n",
        "                    pass\n",
        f"{_ATTACKS}who_says_goodbye_with_events_unread_is_gone",
    ),
    Guard(
        "relay/hub.py",
        "client.answer_bytes > ANSWER_BYTES:",
        "client.answer_bytes < 0:",
        f"{_ATTACKS}who_asks_and_never_reads_the_answers_is_not_asked_further",
    ),
    Guard(
        "relay/hub.py",
        "        await asyncio.sleep(0)  # however fast",
        "        # however fast",
        f"{_RESUMING}a_large_snapshot_leaves_others_their_turns",
    ),
    Guard(
        "core/allowance.py",
        "        if self._left < 1:\n            return False\n",
        "",
        f"{_ATTACKS}a_flood_of_pings_ends_with_1008",
    ),
    Guard(
        "relay/local_feed.py",
        "            or place.stream != self._stream\n",
        "",
        f"{_RESUMING}a_cursor_that_is_not_covered_gets_resync",
    ),
    Guard(
        "local/realtime/changes/service.py",
        "self._confirming.get(channel) is not asyncio.current_task():\n            return",
        "False:\n            return",
        "tests/local/test_changes.py::test_a_channel_that_left_before_it_was_admitted_ends_nothing",
    ),
    Guard(
        "sql/20260101000200_conv_realtime_silence.sql",
        "if new.revision < old.revision or",
        "if",
        "tests/sql/test_silence.py::test_a_lower_revision_is_dropped",
    ),
    Guard(
        "sql/20260101000200_conv_realtime_silence.sql",
        "  if new is not distinct from old then\n    return null;\n  end if;\n",
        "",
        "tests/sql/test_silence.py::test_a_repeated_row_writes_and_sends_nothing",
    ),
    Guard(
        "sql/20260101000200_conv_realtime_silence.sql",
        "new.owner_id for key share;",
        "new.owner_id;",
        "tests/sql/test_forget.py::test_what_is_written_at_the_same_moment_is_forgotten_too",
    ),
    Guard(
        "sql/20260101000300_conv_realtime_changes.sql",
        "pg_snapshot_xmin(pg_current_snapshot())",
        "pg_snapshot_xmax(pg_current_snapshot())",
        "tests/sql/test_changes.py::test_an_older_open_transaction_is_waited_for",
    ),
)


def _copy(folder: Path) -> None:
    for name in _COPIED:
        if (ROOT / name).is_dir():
            skipped = shutil.ignore_patterns("node_modules", "__pycache__", ".hypothesis")
            shutil.copytree(ROOT / name, folder / name, ignore=skipped)
        else:
            shutil.copy(ROOT / name, folder / name)
    modules = ROOT / "tests" / "js" / "node_modules"
    if modules.is_dir():
        (folder / "tests" / "js" / "node_modules").symlink_to(modules)


def _run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests in the copy; the folder it runs in goes before the installed package."""
    options = ["-q", "-x", "-p", "no:cacheprovider", f"--timeout={_SECONDS}"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _missed(folder: Path, guard: Guard) -> str:
    """Take a guard away, say what its test said, and put it back."""
    place = folder / "conv_realtime" / guard.file
    whole = place.read_text(encoding="utf-8")
    if whole.count(guard.guard) != 1:
        return "THE GUARD IS NOT THERE"
    place.write_text(whole.replace(guard.guard, guard.without), encoding="utf-8")
    try:
        code = _run(folder, guard.test).returncode
    finally:
        place.write_text(whole, encoding="utf-8")
    return {0: "NOBODY MISSES IT", 1: "missed"}.get(code, f"pytest ended with {code}")


def main(wanted: list[str]) -> int:
    """Try the chosen guards; 0 if each is missed by its test."""
    chosen = [
        guard
        for guard in GUARDS
        if not wanted or any(one in f"{guard.file} {guard.test}" for one in wanted)
    ]
    if not chosen:
        print("no guard is at such a place")  # noqa: T201
        return 2
    with TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)  # as another account, PostgreSQL reads what is below
        _copy(folder)
        whole = _run(folder, *dict.fromkeys(guard.test for guard in chosen))
        if whole.returncode:
            print(whole.stdout, "the tests fail with every guard in its place", sep="\n")  # noqa: T201
            return 2
        told = []
        for guard in chosen:
            told.append(_missed(folder, guard))
            print(f"{told[-1]:<18} {guard.file:<26} {guard.test.partition('::')[2]}", flush=True)  # noqa: T201
    return 0 if set(told) <= {"missed"} else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
