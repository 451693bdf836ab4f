/** Owns the names of the secrets in the data folder: whoever can read the folder is let in beside `leasehold dev`. */

/** The operator's token, made on first start. */
export const adminTokenFile = "admin-token";
/** The key of the account that `leasehold dev` makes. */
export const demoKeyFile = "demo-api-key";
