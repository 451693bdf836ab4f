/** Signals from inside a handler to its test. */

/** Something that happens once. */
export class DeferredEvent<T = void> {
  readonly #resolvers = Promise.withResolvers<T>();

  get happened(): Promise<T> {
    return this.#resolvers.promise;
  }

  happen(value: T): void {
    this.#resolvers.resolve(value);
  }
}
