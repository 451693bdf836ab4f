/** The page that a browser gets for a token's address: what it is, how long it lasts, and a button that takes it. */

import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Handoff_State, type InspectHandoffResponse } from "#gen/leasehold/v1/handoff_pb.js";
import { Lease_Variant } from "#gen/leasehold/v1/lease_pb.js";
import { guardedHeaders } from "../server/content-headers.ts";

/** The page's headers: it runs nothing and loads nothing, and its one form goes to this server. */
export const claimPageHeaders = {
  ...guardedHeaders,
  "content-security-policy":
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
} as const;

const stateTexts: Readonly<Record<Handoff_State, string>> = {
  [Handoff_State.UNSPECIFIED]: "",
  [Handoff_State.OPEN]: "It can be taken now.",
  [Handoff_State.BUSY]: "It is being taken just now. Come back in a moment.",
  [Handoff_State.EXHAUSTED]: "It has been taken as often as it may be.",
  [Handoff_State.EXPIRED]: "Its time is over.",
  [Handoff_State.REVOKED]: "Its sender withdrew it.",
  [Handoff_State.LEASE_ENDED]: "It no longer exists.",
};

/** Renders the page. Opening it consumes nothing. */
export function claimPage(inspected: InspectHandoffResponse): string {
  const { handoff } = inspected;
  const state = handoff?.state ?? Handoff_State.UNSPECIFIED;
  const name = inspected.items[0]?.name || `A ${Lease_Variant[inspected.variant].toLowerCase()} lease`;
  const left =
    (handoff?.maxClaims ?? 0) - (handoff?.usedClaims ?? 0) - (handoff?.burntClaims ?? 0) - (handoff?.openClaims ?? 0);
  const until = handoff?.expireTime === undefined ? "" : timestampDate(handoff.expireTime).toISOString();
  const button =
    state === Handoff_State.OPEN ? '<form method="post"><button type="submit">Take it</button></form>' : "";
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${escapeHtml(name)}</title>
<style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5 }
main { max-width: 34rem; margin: 12vh auto; padding: 0 1.25rem }
h1 { font-size: 1.4rem; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem }
dd { margin: 0 }
button { font: inherit; padding: .6rem 1.4rem; border-radius: .4rem; border: 1px solid; cursor: pointer }
</style>
</head>
<body>
<main>
<h1>${escapeHtml(name)}</h1>
<p>${stateTexts[state]}${handoff?.deleteOnClaim === true ? " It is destroyed once it has been taken." : ""}</p>
<dl>
<dt>Size</dt><dd>${inspected.contentBytes} bytes</dd>
<dt>Until</dt><dd><time datetime="${until}">${until}</time></dd>
<dt>Can be taken</dt><dd>${left === 1 ? "once" : `${left} times`}</dd>
</dl>
${button}
</main>
</body>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
