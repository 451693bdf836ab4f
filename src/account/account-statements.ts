/** The statement that shows a caller its account. */
import { readStatement } from "../database/statement.ts";
import { accountColumns, type MaybeAccountRow } from "./account-entities.ts";
import { type Access, callerAccess } from "./caller-statements.ts";

/** The caller's account. $3: the scope the call needs. Leans on the primary key; no lock. */
export const getAccount = readStatement<{ readonly access: Access } & MaybeAccountRow>(
  "get-account",
  `with ${callerAccess({ owner: 1, key: 2, scope: 3 })}
  select caller.access, ${accountColumns("a")}
  from caller
  left join account a on caller.access = 'OK' and a.owner_id = $1::uuid`,
);
