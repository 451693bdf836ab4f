/** The tables of Cron leases, and the price of a firing. */
import { Migration } from "@mikro-orm/migrations";

/** The content that a claim delivers, the payload and the runs that are settled, is counted on the lease's row. */
export class Cron extends Migration {
  override up(): void {
    this.addSql(`alter table pricing add column firing_micros bigint not null default 1 check (firing_micros >= 0)`);
    // A claim of a Cron lease delivers its runs too, which no size_bytes is asked for.
    this.addSql(`alter table lease drop constraint lease_check1`);
    this.addSql(`alter table lease add constraint lease_content_bytes_check
      check (content_bytes >= 0 and (content_bytes <= size_bytes or variant = 5))`);
    this.addSql(`
      create table cron (
        owner_id uuid not null,
        lease_id uuid not null,
        state smallint not null,
        expression text,
        every_seconds bigint,
        at_time timestamptz,
        time_zone text not null,
        start_time timestamptz not null,
        end_time timestamptz not null,
        target_kind smallint not null,
        target_lease_id uuid,
        target_key text,
        overlap smallint not null,
        misfire smallint not null,
        max_lateness_seconds bigint not null,
        jitter_micros bigint not null,
        next_slot_time timestamptz,
        next_fire_time timestamptz,
        payload_id uuid not null,
        payload_bytes integer not null,
        sealed_payload bytea not null,
        primary key (owner_id, lease_id),
        check (num_nonnulls(expression, every_seconds, at_time) = 1)
      )`);
    this.addSql(`alter table cron alter column sealed_payload set storage external`);
    this.addSql(
      `comment on column cron.state is '1: running, 2: paused, 3: no slot is left, 4: its target has ended.'`,
    );
    this.addSql(`comment on column cron.target_kind is '1: a mailbox, 2: a scratchpad, 3: a webhook.'`);
    this.addSql(`comment on column cron.start_time is
      'Slots count, and were paid for, behind this time and before end_time: from the moment at which the lease was priced, for its duration.'`);
    this.addSql(`comment on column cron.next_fire_time is 'When the next slot fires: its time and its jitter.'`);
    this.addSql(`create index cron_due on cron (next_fire_time) where state = 1`);

    this.addSql(`
      create table cron_run (
        owner_id uuid not null,
        lease_id uuid not null,
        slot_time timestamptz not null,
        due_time timestamptz not null,
        run_id uuid not null,
        is_posted boolean not null,
        outcome smallint not null,
        fire_time timestamptz,
        deliver_time timestamptz,
        attempt_count integer not null default 0,
        next_attempt_time timestamptz,
        last_error text,
        settled_version bigint,
        primary key (owner_id, lease_id, slot_time)
      )`);
    this.addSql(
      `comment on column cron_run.due_time is 'When it was to fire: its slot, and the delay that was drawn for it.'`,
    );
    this.addSql(`comment on column cron_run.outcome is
      '1: pending, 2: delivered, 3: missed, 4: skipped, 5: replaced, 6: its target had ended.'`);
    this.addSql(`comment on column cron_run.settled_version is
      'The content_version of its lease from which on claims deliver it: it does not change any more.'`);
    this.addSql(`comment on column cron_run.is_posted is 'Whether it goes to a webhook, and not into a lease.'`);
    this.addSql(`create index cron_run_due on cron_run (next_attempt_time) where outcome = 1 and not is_posted`);
    this.addSql(
      `create index cron_run_to_post on cron_run (lease_id, next_attempt_time) where outcome = 1 and is_posted`,
    );
    this.addSql(
      `create index cron_run_open on cron_run (lease_id, slot_time) where outcome = 1 and attempt_count >= 0`,
    );
    this.addSql(`create index cron_run_settled on cron_run (lease_id, settled_version) where settled_version > 0`);
    this.addSql(`create index cron_run_fired on cron_run (fire_time) where fire_time is not null`);
    this.addSql(`
      create function cron_run_line(
        slot_time timestamptz, fire_time timestamptz, deliver_time timestamptz, attempt_count integer, outcome smallint,
        last_error text
      ) returns text language sql stable
      return json_build_object(
        'slot_time', to_char(slot_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'fire_time', to_char(fire_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'deliver_time', to_char(deliver_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'attempt_count', attempt_count,
        'outcome', (array['OUTCOME_PENDING', 'OUTCOME_DELIVERED', 'OUTCOME_MISSED', 'OUTCOME_SKIPPED', 'OUTCOME_REPLACED',
          'OUTCOME_TARGET_ENDED'])[outcome],
        'last_error', last_error
      )::text || chr(10)`);
    this.addSql(`comment on function cron_run_line(timestamptz, timestamptz, timestamptz, integer, smallint, text) is
      'A run as a claim of its lease delivers it: a line of JSON. Counted by this when it is settled, and read by it later.'`);
  }

  override down(): void {
    throw new Error("migrations only go forward: restore a backup instead");
  }
}
