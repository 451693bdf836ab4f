/** The tables of Checkpoint leases. */
import { Migration } from "@mikro-orm/migrations";

/** The latest version and its size are on the lease's row, which whoever changes them locks. */
export class Checkpoint extends Migration {
  override up(): void {
    this.addSql(`
      create table checkpoint (
        owner_id uuid not null,
        lease_id uuid not null,
        workflow_id text not null,
        retained_versions integer not null,
        file_generation integer not null default 0,
        primary key (owner_id, lease_id)
      )`);
    this.addSql(`comment on column checkpoint.file_generation is
      'The last number given to a file of the lease. None is given twice.'`);
    this.addSql(`
      create table checkpoint_workflow (
        owner_id uuid not null,
        workflow_id text not null,
        lease_id uuid not null,
        primary key (owner_id, workflow_id)
      )`);
    this.addSql(`comment on table checkpoint_workflow is 'The latest lease that was made for each workflow.'`);
    this.addSql(`create index checkpoint_workflow_by_lease on checkpoint_workflow (lease_id)`);
    this.addSql(`
      create table checkpoint_version (
        owner_id uuid not null,
        lease_id uuid not null,
        slot integer not null,
        version bigint not null,
        body_id uuid not null,
        body_bytes bigint not null,
        create_time timestamptz not null,
        file_generation integer,
        file_chunks bigint not null default 0,
        sealed_details bytea not null,
        sealed_tail bytea not null,
        primary key (owner_id, lease_id, slot),
        check ((file_generation is null) = (file_chunks = 0))
      ) with (fillfactor = 70)`);
    this.addSql(`alter table checkpoint_version alter column sealed_tail set storage external`);
    this.addSql(`comment on column checkpoint_version.slot is
      'The version modulo retained_versions: a new version takes the row of the one that it pushes out.'`);
    this.addSql(`comment on column checkpoint_version.body_id is 'What its seals are bound to.'`);
    this.addSql(`
      create table checkpoint_file (
        owner_id uuid not null,
        lease_id uuid not null,
        file_generation integer not null,
        state smallint not null,
        touch_time timestamptz not null,
        primary key (owner_id, lease_id, file_generation)
      )`);
    this.addSql(`comment on table checkpoint_file is 'Files that belong to no version.'`);
    this.addSql(`comment on column checkpoint_file.state is '1: being written, 2: to be removed.'`);
    this.addSql(`comment on column checkpoint_file.touch_time is 'When its writer last said that it goes on.'`);
    this.addSql(`create index checkpoint_file_by_time on checkpoint_file (state, touch_time)`);
    this.addSql(`create index checkpoint_file_by_lease on checkpoint_file (lease_id)`);
    this.addSql(`create index checkpoint_by_lease on checkpoint (lease_id)`);
    this.addSql(`
      create function checkpoint_holder(owner uuid, workflow text) returns uuid language sql volatile
      return (
        select w.lease_id
        from checkpoint_workflow w
        join lease l on l.owner_id = w.owner_id and l.lease_id = w.lease_id
        where w.owner_id = owner and w.workflow_id = workflow and l.end_time is null and l.due_time > clock_timestamp()
      )`);
    this.addSql(`comment on function checkpoint_holder(uuid, text) is
      'The active lease of a workflow. Volatile: exact for whoever holds the account''s lock, under which leases are made.'`);
  }

  override down(): void {
    throw new Error("migrations only go forward: restore a backup instead");
  }
}
