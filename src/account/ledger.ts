/** The sides of the ledger, as `ledger_entry.ledger_account` holds them. Its kinds are the numbers of the proto's. */

/** Every movement is entries on two of these that sum to zero. */
export const ledgerAccount = { balance: 1, revenue: 2, credits: 3 } as const;
