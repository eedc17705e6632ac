import type { Style } from "./style.js";

/** Text that looks the same from its beginning to its end. */
export interface Run {
  text: string;
  style: Style;
}

interface Cell {
  character: string;
  style: Style;
}

/** A line of more characters goes on in the next row, as in a terminal. */
const MAX_CHARACTERS = 4096;

/** So does one of more changes of style: each becomes an element of the page. */
const MAX_RUNS = 1024;

/**
 * The line that is being written. Most lines are only ever appended to; one that a carriage return goes back in is taken
 * apart into cells, one a character, and overwritten there.
 */
export class Line {
  #runs: Run[] = [];
  #cells: Cell[] | undefined;
  /** Where the next character goes; only in a line of cells may it be before the end. */
  #column = 0;
  #length = 0;

  /** How many characters fit in. Those of an untouched line are counted in UTF-16 units, which is enough for a bound. */
  get room(): number {
    return this.#runs.length > MAX_RUNS ? 0 : Math.max(0, MAX_CHARACTERS - (this.#cells?.length ?? this.#length));
  }

  clone(): Line {
    const copy = new Line();
    copy.#runs = this.#runs.slice();
    copy.#cells = this.#cells?.slice();
    copy.#column = this.#column;
    copy.#length = this.#length;
    return copy;
  }

  write(text: string, style: Style): void {
    if (!this.#cells && this.#column === this.#length) {
      append(this.#runs, { text, style });
      this.#length += text.length;
      this.#column = this.#length;
      return;
    }
    const cells = this.#asCells();
    for (const character of text) cells[this.#column++] = { character, style };
  }

  return(): void {
    this.#column = 0;
  }

  backspace(): void {
    if (this.#column === 0) return;
    this.#asCells();
    this.#column--;
  }

  /** `ESC [ K`: 0 erases from here to the end, 1 from the beginning to here, 2 all of the line. */
  erase(parameters: string, style: Style): void {
    const cells = this.#asCells();
    const mode = Number(parameters);
    if (mode === 0 || mode === 2) cells.length = Math.min(cells.length, this.#column);
    // One cell many times: a program may erase a long line without end.
    if (mode === 1 || mode === 2) cells.fill({ character: " ", style }, 0, this.#column + 1);
  }

  runs(): Run[] {
    if (!this.#cells) return this.#runs;
    const runs: Run[] = [];
    for (const cell of this.#cells) append(runs, { text: cell.character, style: cell.style });
    return runs;
  }

  #asCells(): Cell[] {
    if (!this.#cells) {
      this.#cells = this.#runs.flatMap(({ text, style }) => Array.from(text, (character) => ({ character, style })));
      // Only ever 0 or the end until now.
      if (this.#column > 0) this.#column = this.#cells.length;
    }
    return this.#cells;
  }
}

/** Adds a run to the end, as part of the last one where it looks the same. */
export function append(runs: Run[], run: Run): void {
  const last = runs.at(-1);
  if (last && last.style.key === run.style.key)
    runs[runs.length - 1] = { text: last.text + run.text, style: last.style };
  else runs.push(run);
}
