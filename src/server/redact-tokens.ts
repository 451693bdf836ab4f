/** Keeps secrets out of what is logged. */

/** The text without the secret part of any token in it. */
export function redactTokens(text: string): string {
  return text.replace(/(lh_[a-z]+_)[0-9A-Za-z]+/g, "$1[redacted]");
}
