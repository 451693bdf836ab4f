/** Owns how a list that comes in pages is read to its end, or to a limit. */

/** The largest page that servers give. */
const largestPage = 1_000;

/** A list, and where it goes on if it was cut. */
export interface Collected<Item> {
  readonly items: Item[];
  /** Empty if this is all. */
  readonly nextPageToken: string;
}

/** Reads pages until there are no more, or as many items as asked for. */
export async function collectPages<Item>(
  limit: number | undefined,
  read: (page: { pageSize: number; pageToken: string }) => Promise<Collected<Item>>,
): Promise<Collected<Item>> {
  const items: Item[] = [];
  let pageToken = "";
  do {
    const left = limit === undefined ? largestPage : limit - items.length;
    const page = await read({ pageSize: Math.min(left, largestPage), pageToken });
    items.push(...page.items);
    pageToken = page.nextPageToken;
  } while (pageToken !== "" && (limit === undefined || items.length < limit));
  return { items, nextPageToken: pageToken };
}
