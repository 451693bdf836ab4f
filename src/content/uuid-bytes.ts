/** The 16 bytes of a UUID and its text in lower case with dashes. */

/** Writes the 16 bytes of `uuid` into `target`. Throws TypeError for anything but a UUID in lower case with dashes. */
export function writeUuid(uuid: string, target: Buffer, targetOffset: number): void {
  assertUuid(uuid);
  target.write(uuid.replaceAll("-", ""), targetOffset, uuidBytes, "hex");
}

/** The text of the 16 bytes at `offset`. */
export function readUuid(source: Uint8Array, offset: number): string {
  const hex = Buffer.from(source.buffer, source.byteOffset + offset, uuidBytes).toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** One spelling only, so that one lease has one directory and one authenticated context. */
export function assertUuid(uuid: string): void {
  if (!isUuid(uuid)) {
    throw new TypeError(`not a UUID in lower case with dashes: ${JSON.stringify(uuid.slice(0, 64))}`);
  }
}

export function isUuid(text: string): boolean {
  return uuidPattern.test(text);
}

export const uuidBytes = 16;

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
