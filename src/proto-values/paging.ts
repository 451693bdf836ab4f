/** Pages of lists: AIP-158 sizes and tokens over ids that sort by time. */
import { invalidField } from "../errors/leasehold-error.ts";
import { formatId, type IdKind, parseId, type Uuid } from "../ids/ids.ts";

const defaultPageSize = 100;

/** How many to show: what was asked for, or 100. The schema bounds it by 1000. */
export function pageSizeOf(request: { readonly pageSize: number }): number {
  return request.pageSize === 0 ? defaultPageSize : request.pageSize;
}

/**
 * Where a page starts: after the last id of the page before. Undefined for the first page.
 *
 * @throws LeaseholdError INVALID_FIELD if the token is not one that this list gave.
 */
export function pageStart<Kind extends IdKind>(
  kind: Kind,
  request: { readonly pageToken: string },
): Uuid<Kind> | undefined {
  if (request.pageToken === "") {
    return undefined;
  }
  const start = parseId(kind, request.pageToken);
  if (start === undefined) {
    throw invalidField("page_token", "must be the next_page_token of the page before");
  }
  return start;
}

/** Cuts one row more than was asked for into a page and the token of the next. */
export function toPage<Row, Kind extends IdKind>(
  rows: readonly Row[],
  pageSize: number,
  kind: Kind,
  idOf: (row: Row) => Uuid<Kind>,
): { readonly rows: readonly Row[]; readonly nextPageToken: string } {
  const page = rows.slice(0, pageSize);
  const last = page.at(-1);
  const more = rows.length > pageSize && last !== undefined;
  return { rows: page, nextPageToken: more ? formatId(kind, idOf(last)) : "" };
}
