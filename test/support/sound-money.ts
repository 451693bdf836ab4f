/** The rules that the ledger keeps whatever happens, checked over a whole database. */
import { expect } from "vitest";
import type { Database } from "../../src/database/database.ts";
import { query } from "./test-query.ts";

/** Every movement sums to zero, every balance and every key's spending is what its entries say, and entries follow each other. */
export async function expectSoundMoney(database: Database): Promise<void> {
  expect(await query(database, unbalancedTransactions), "movements that do not sum to zero").toEqual([]);
  expect(await query(database, wrongBalances), "balances that are not the sum of their entries").toEqual([]);
  expect(await query(database, brokenChains), "entries that do not follow the one before").toEqual([]);
  expect(await query(database, wrongCharges), "leases not charged once, or not refunded as they ended").toEqual([]);
  expect(await query(database, wrongSpending), "keys whose spending is not that of their leases").toEqual([]);
}

const unbalancedTransactions = `
  select owner_id, transaction_id, sum(amount_micros) as sum from ledger_entry
  group by owner_id, transaction_id having sum(amount_micros) <> 0`;

const wrongBalances = `
  select a.owner_id, a.balance_micros, coalesce(sum(e.amount_micros), 0) as entries
  from account a left join ledger_entry e on e.owner_id = a.owner_id and e.ledger_account = 1
  group by a.owner_id having a.balance_micros <> coalesce(sum(e.amount_micros), 0) or a.balance_micros < 0`;

const brokenChains = `
  select * from (
    select owner_id, entry_id, amount_micros, balance_after_micros,
      coalesce(lag(balance_after_micros) over (partition by owner_id order by entry_id), 0) as balance_before_micros
    from ledger_entry where ledger_account = 1
  ) as chain
  where balance_after_micros <> balance_before_micros + amount_micros or balance_after_micros < 0`;

/** Kinds: 2 is a charge, 3 a refund. */
const wrongCharges = `
  select l.lease_id, l.price_micros, l.active_time, l.end_time, e.*
  from lease l
  cross join lateral (
    select count(*) filter (where kind = 2) as charges, coalesce(sum(amount_micros) filter (where kind = 2), 0) as charged,
      count(*) filter (where kind = 3) as refunds, coalesce(sum(amount_micros) filter (where kind = 3), 0) as refunded
    from ledger_entry where owner_id = l.owner_id and lease_id = l.lease_id and ledger_account = 1
  ) as e
  where e.charges <> 1 or e.charged <> -l.price_micros
    or e.refunds <> (case when l.end_time is not null and l.active_time is null then 1 else 0 end)
    or e.refunded <> e.refunds * l.price_micros`;

const wrongSpending = `
  select k.key_id, k.spent_micros, given.micros as given, leased.micros as leased
  from api_key k
  cross join lateral (
    select coalesce(sum(m.spend_ceiling_micros), 0) as micros from api_key m
    where m.owner_id = k.owner_id and m.maker_key_id = k.key_id and k.spend_ceiling_micros is not null
  ) as given
  cross join lateral (
    select coalesce(sum(l.price_micros) filter (where l.end_time is null or l.active_time is not null), 0) as micros
    from lease l where l.owner_id = k.owner_id and l.key_id = k.key_id
  ) as leased
  where k.spent_micros <> given.micros + leased.micros`;
