/** Sets aside what fails in a sweep, so that one owner's locked row or one broken file stalls nobody else's end. */

/** The work of one task that failed since its last round ended, by its key. */
export class StuckWork {
  readonly #failures = new Map<string, unknown>();

  /** What to leave out of the next batch of this round. */
  get keys(): string[] {
    return [...this.#failures.keys()];
  }

  /** Does a piece of work, and sets it aside if it fails. */
  async attempt(key: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#failures.set(key, error);
    }
  }

  /**
   * Ends a round: everything is tried again in the next one.
   *
   * @throws AggregateError if anything failed, so that the round does not count as done.
   */
  endRound(): void {
    const failures = [...this.#failures];
    this.#failures.clear();
    if (failures.length > 0) {
      const keys = failures.map(([key]) => key).join(", ");
      throw new AggregateError(
        failures.map(([, error]) => error),
        `${failures.length} could not be swept: ${keys}`,
      );
    }
  }
}
