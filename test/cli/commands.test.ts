/** Tests what each client command prints, for people and for programs. */
import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { generatedBytes } from "../support/generated-bytes.ts";
import { TestLeasehold } from "../support/test-leasehold.ts";
import { CommandLine } from "./command-line.ts";

const house = await TestLeasehold.start();
const leaseId = expect.stringMatching(/^lse_[0-9a-z]{26}$/);

test("an operator makes, credits and lists accounts; the account's key shows it, its keys and its money", async () => {
  const operator = await CommandLine.of(house);
  const made = await operator.json("account", "create", "agents");
  expect(made).toMatchObject({
    account: { accountId: expect.stringMatching(/^acc_/), name: "agents", balanceMicros: "0" },
    apiKey: expect.stringMatching(/^lh_key_/),
  });
  const { account, apiKey } = made as { account: { accountId: string }; apiKey: string };
  const { accountId } = account;
  expect(await operator.json("account", "credit", accountId, "12.345678")).toMatchObject({
    account: { accountId, balanceMicros: "12345678" },
  });
  expect(await operator.json("account", "ls", "--limit", "1")).toMatchObject({
    accounts: [{ accountId }],
    nextPageToken: expect.stringMatching(/./),
  });
  expect(await operator.print("account", "ls")).toContain(`${accountId}  12.345678 USD`);

  const owner = operator.with({ LEASEHOLD_API_KEY: apiKey });
  expect(await owner.print("account", "show")).toMatch(/^balance +12\.345678 USD$/m);
  const key = (await owner.json("key", "create", "reader", "--scope", "read", "--ttl", "30d", "--ceiling", "1")) as {
    key: { keyId: string };
    apiKey: string;
  };
  expect(key).toMatchObject({ key: { name: "reader", scopes: ["SCOPE_READ"], spendCeilingMicros: "1000000" } });
  expect(await owner.json("key", "list")).toMatchObject({ keys: [{ keyId: key.key.keyId }, { name: "first" }] });
  expect(await owner.print("key", "revoke", key.key.keyId)).toMatch(/^revoked +2/m);
  expect(await owner.json("ledger")).toMatchObject({
    entries: [{ kind: "KIND_CREDIT", amountMicros: "12345678", balanceAfterMicros: "12345678" }],
    nextPageToken: "",
  });
  expect(await owner.print("ledger")).toMatch(/credit +12\.345678 USD +12\.345678 USD$/m);
});

test("prices are told without a credential", async () => {
  const anybody = (await CommandLine.of(house)).with({ LEASEHOLD_API_KEY: "", LEASEHOLD_ADMIN_TOKEN: "" });
  expect(await anybody.json("pricing")).toMatchObject({
    pricing: { rateMicrosPerGibDay: "1000", limits: expect.any(Array), examples: expect.any(Array) },
  });
  expect(await anybody.print("pricing")).toMatch(/^rate +0\.001000 USD for one GiB for one day$/m);
  expect(await anybody.json("quote", "1GiB", "30d")).toEqual({
    priceMicros: "30000",
    pricingVersion: "1",
    firings: "0",
  });
  expect(await anybody.print("quote", "1GiB", "30d")).toBe("0.030000 USD");
});

describe("a file", () => {
  test("that is put is listed, got back whole, and gone when it is removed", async () => {
    const owner = await CommandLine.of(house);
    const body = generatedBytes(1, 0, 300_000);
    await writeFile(owner.path("report.bin"), body);
    const id = await owner.print("put", "report.bin", "--duration", "1h", "--label", "run=7", "--label", "kind=report");
    expect(id).toMatch(/^lse_[0-9a-z]{26}$/);
    expect(await owner.json("ls")).toMatchObject({
      leases: [
        {
          leaseId: id,
          state: "STATE_ACTIVE",
          sizeBytes: "300000",
          duration: "3600s",
          labels: { run: "7", kind: "report" },
          storage: { fileName: "report.bin", storedBytes: "300000" },
        },
      ],
    });
    expect(await owner.print("ls")).toMatch(
      new RegExp(`^${id} +storage +active +293\\.0 KiB +293\\.0 KiB +0\\.001000 USD .* report\\.bin$`, "m"),
    );

    expect(await owner.json("get", id, "--output", "copy.bin")).toEqual({
      leaseId: id,
      path: owner.path("copy.bin"),
      bytes: "300000",
      sha256: createHash("sha256").update(body).digest("hex"),
    });
    expect(await readFile(owner.path("copy.bin"))).toEqual(body);
    expect(await owner.json("rm", id)).toMatchObject({ lease: { endReason: "END_REASON_OWNER_DELETED" } });
    expect(await owner.json("ls")).toMatchObject({ leases: [] });
    expect(await owner.print("ls", "--ended")).toMatch(new RegExp(`^${id} +storage +expired`, "m"));
    expect(await readdir(owner.folder)).toEqual(["copy.bin", "report.bin"]);
  });

  test("that is put again with the same request id is the same lease, charged once", async () => {
    const owner = await CommandLine.of(house, 1_000n);
    await writeFile(owner.path("once.txt"), "once");
    const words = ["put", "once.txt", "--request-id", crypto.randomUUID()];
    const [first, second] = [await owner.print(...words), await owner.print(...words)];
    expect(second).toBe(first);
    expect(await owner.json("account", "show")).toMatchObject({ account: { balanceMicros: "0" } });
  });

  test("that is empty is put and got back", async () => {
    const owner = await CommandLine.of(house);
    await writeFile(owner.path("empty"), "");
    const id = await owner.print("put", "empty");
    expect(await owner.json("get", id, "--output", "copy")).toMatchObject({ bytes: "0" });
    expect(await readFile(owner.path("copy"), "utf8")).toBe("");
  });

  test("goes on from what is stored or from what an earlier download has left", async () => {
    const owner = await CommandLine.of(house);
    const body = generatedBytes(2, 0, 200_000);
    await writeFile(owner.path("long.bin"), body);
    const begun = (await owner.json("put", "long.bin", "--size", "1MiB")) as { lease: { leaseId: string } };
    const id = begun.lease.leaseId;
    expect(await owner.print("put", "long.bin", "--lease", id)).toBe(id);

    await writeFile(owner.path(`${id}.part`), Buffer.alloc(100_000));
    expect(await owner.failure("get", id, "-o", "copy.bin")).toMatchObject({
      exit: 1,
      error: { reason: "CHECKSUM_MISMATCH" },
    });
    await writeFile(owner.path(`${id}.part`), body.subarray(0, 100_000));
    await owner.print("get", id, "-o", "copy.bin");
    expect(await readFile(owner.path("copy.bin"))).toEqual(body);
    expect((await readdir(owner.folder)).sort()).toEqual(["copy.bin", "long.bin"]);
  });

  test("is never written over another that is not to be replaced", async () => {
    const owner = await CommandLine.of(house);
    await writeFile(owner.path("note.txt"), "first");
    const id = await owner.print("put", "note.txt", "--handoff");
    const [lease = "", url = ""] = id.split("\n");
    await writeFile(owner.path("note.txt"), "mine");
    for (const words of [
      ["get", lease],
      ["claim", atTestServer(url)],
    ]) {
      const outcome = await owner.run(...words);
      expect(outcome).toMatchObject({ exit: 1, stdout: "" });
      expect(outcome.stderr).toMatch(
        /^leasehold: .*note\.txt exists: --force replaces it, and -o gives another name\n$/,
      );
    }
    expect(await readFile(owner.path("note.txt"), "utf8")).toBe("mine");
    expect(await owner.json("inspect", atTestServer(url))).toMatchObject({
      handoff: { state: "STATE_OPEN", openClaims: 0 },
    });
    await owner.print("claim", atTestServer(url), "--force");
    expect(await readFile(owner.path("note.txt"), "utf8")).toBe("first");
  });
});

describe("a handoff", () => {
  test("is issued on its terms, looked at without using it up, claimed once and confirmed; the lease ends with it", async () => {
    const owner = await CommandLine.of(house);
    const body = generatedBytes(3, 0, 100_000);
    await writeFile(owner.path("gift.bin"), body);
    const id = await owner.print("put", "gift.bin", "--content-type", "application/x-gift");
    const issued = (await owner.json("handoff", id, "--delete-on-claim", "--ttl", "10m")) as { claimToken: string };
    expect(issued).toMatchObject({
      handoff: { leaseId: id, maxClaims: 1, deleteOnClaim: true },
      claimUrl: `http://leasehold.test/api/claim/${issued.claimToken}`,
    });

    const receiver = (await CommandLine.of(house)).with({ LEASEHOLD_API_KEY: "", LEASEHOLD_ADMIN_TOKEN: "" });
    expect(await receiver.json("inspect", issued.claimToken)).toMatchObject({
      contentBytes: "100000",
      items: [{ name: "gift.bin", contentType: "application/x-gift" }],
    });
    expect(await receiver.print("inspect", issued.claimToken)).toMatch(/^ends the lease +with the last claim$/m);
    expect(await receiver.json("claim", issued.claimToken)).toEqual({
      path: receiver.path("gift.bin"),
      claimId: expect.stringMatching(/^clm_[0-9a-z]{26}$/),
      bytes: "100000",
      sha256: createHash("sha256").update(body).digest("hex"),
      confirmed: true,
      leaseEnded: true,
    });
    expect(await readFile(receiver.path("gift.bin"))).toEqual(body);
    expect(await readdir(receiver.folder)).toEqual(["gift.bin"]);
    expect(await owner.json("handoff", id, "--list")).toMatchObject({
      handoffs: [{ handoff: { state: "STATE_LEASE_ENDED", usedClaims: 1 }, claims: [{ state: "STATE_USED" }] }],
    });
  });

  test("that is claimed without confirming is delivered and not used, and one that is revoked is over at once", async () => {
    const owner = await CommandLine.of(house);
    await writeFile(owner.path("note.txt"), "a note");
    const id = await owner.print("put", "note.txt");
    const url = atTestServer(await owner.print("handoff", id, "--max-claims", "2"));
    expect(await owner.json("claim", url, "-o", "copy.txt", "--no-confirm")).toMatchObject({ confirmed: false });
    const listed = (await owner.json("handoff", id, "--list")) as { handoffs: [{ handoff: { handoffId: string } }] };
    expect(listed).toMatchObject({
      handoffs: [{ handoff: { openClaims: 1 }, claims: [{ state: "STATE_DELIVERED" }] }],
    });
    await owner.print("handoff", id, "--revoke", listed.handoffs[0].handoff.handoffId);
    expect(await owner.failure("claim", url, "-o", "other.txt")).toMatchObject({
      exit: 4,
      error: { reason: "HANDOFF_REVOKED" },
    });
  });

  test("of a lease that only its owner may read is refused", async () => {
    const owner = await CommandLine.of(house);
    await writeFile(owner.path("note.txt"), "a note");
    const id = await owner.print("put", "note.txt", "--owner-only");
    expect(await owner.failure("handoff", id)).toMatchObject({ exit: 1, error: { reason: "READ_ACCESS_OWNER" } });
  });

  test("may come with the file, and puts what it hands over under a name that harms nobody", async () => {
    const owner = await CommandLine.of(house);
    await writeFile(owner.path("note"), "a note");
    const put = await owner.json("put", "note", "--name", ".bashrc", "--handoff", "--max-claims", "5");
    expect(put).toMatchObject({ lease: { leaseId }, handoff: { handoff: { maxClaims: 5 } } });
    const { handoff } = put as { handoff: { claimToken: string } };
    expect(await owner.print("claim", handoff.claimToken)).toBe("_bashrc");
  });
});

/** The test's server gives claim addresses of a public name that leads nowhere. */
function atTestServer(claimUrl: string): string {
  return claimUrl.replace("http://leasehold.test", house.httpUrl);
}
