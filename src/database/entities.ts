/** Every entity that MikroORM serves. Each lives with the thing it describes. */
import { AccountEntity, ApiKeyEntity, LedgerEntryEntity } from "../account/account-entities.ts";

export const entities = [AccountEntity, ApiKeyEntity, LedgerEntryEntity] as const;
