/** A page in the background draws nothing: what came meanwhile is handed on by the clock then. */
const AT_LATEST_MS = 250;

/** Collects items and hands them on together, once for each picture that the browser draws. */
export class FrameBatch<T> {
  readonly #take: (items: T[]) => void;
  #items: T[] = [];
  #frame = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(take: (items: T[]) => void) {
    this.#take = take;
  }

  add(item: T): void {
    this.#items.push(item);
    if (this.#timer !== undefined) return;
    this.#frame = requestAnimationFrame(this.flush);
    this.#timer = setTimeout(this.flush, AT_LATEST_MS);
  }

  /** Hands on what there is, now. */
  readonly flush = (): void => {
    const items = this.#items;
    this.drop();
    if (items.length > 0) this.#take(items);
  };

  /** Forgets what there is. */
  drop(): void {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#items = [];
  }
}
