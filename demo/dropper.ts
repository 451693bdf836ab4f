/** A sender without an account: knows a drop address and nothing else, and needs no library. */

const [dropUrl = "", name = "", count = "0"] = process.argv.slice(2);

for (let place = 1; place <= Number(count); place++) {
  const response = await fetch(dropUrl, {
    method: "POST",
    headers: { "content-type": "text/plain", "leasehold-request-id": crypto.randomUUID() },
    body: `${name} ${place}`,
  });
  if (!response.ok) {
    throw new Error(`the drop was answered with ${response.status}: ${await response.text()}`);
  }
}
process.disconnect?.();
