/** What a stretch of output is made of. */
export type Token =
  | { type: "text"; text: string }
  | { type: "newline" }
  | { type: "return" }
  | { type: "backspace" }
  /** `ESC [ PARAMETERS m` */
  | { type: "style"; parameters: string }
  /** `ESC [ PARAMETERS K` */
  | { type: "erase"; parameters: string };

/** An unfinished sequence longer than this is none: what follows is text again. A title or a link fits. */
const MAX_SEQUENCE = 2048;

// All that is no text: C0 and C1 control characters, and the characters by which text can be made to read in another order
// than it is written (embeddings, overrides, isolates).
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const SPECIAL = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** Where in a sequence the text so far ends. */
type State = "text" | "escape" | "intermediate" | "control" | "string" | "string-escape";

/**
 * Splits output into text and what a terminal would do, as ECMA-48 describes it, cut anywhere. Sequences that it does not
 * know are left out whole; none of them is ever more than a word to the caller, so that output can't become markup.
 */
export class Tokenizer {
  #state: State = "text";
  #sequence = "";
  #length = 0;

  /** For an immutable holder: the same place in the stream, to go on from. */
  clone(): Tokenizer {
    const copy = new Tokenizer();
    copy.#state = this.#state;
    copy.#sequence = this.#sequence;
    copy.#length = this.#length;
    return copy;
  }

  push(text: string, take: (token: Token) => void): void {
    let at = 0;
    while (at < text.length) {
      if (this.#state !== "text") {
        at = this.#inSequence(text, at, take);
        continue;
      }
      SPECIAL.lastIndex = at;
      const match = SPECIAL.exec(text);
      const end = match ? match.index : text.length;
      if (end > at) take({ type: "text", text: text.slice(at, end) });
      if (match) this.#special(match[0], take);
      at = end + 1;
    }
  }

  #special(character: string, take: (token: Token) => void): void {
    switch (character) {
      case "\n":
        take({ type: "newline" });
        return;
      case "\r":
        take({ type: "return" });
        return;
      case "\b":
        take({ type: "backspace" });
        return;
      case "\x1b":
        this.#begin("escape");
        return;
    }
    // Shown by its number, so that nobody is deceived. Other control characters show nothing, as in a terminal.
    if (character > "\u2000") take({ type: "text", text: `\\u${character.charCodeAt(0).toString(16)}` });
  }

  #begin(state: State): void {
    this.#state = state;
    this.#sequence = "";
    this.#length = 0;
  }

  /** One character of a sequence; returns where to go on. */
  #inSequence(text: string, at: number, take: (token: Token) => void): number {
    const character = text[at] ?? "";
    if (character === "\x1b" && this.#state !== "string") {
      this.#begin("escape");
      return at + 1;
    }
    // A sequence does not go over the end of a line: a program that was stopped in one does not take the rest along.
    if (character === "\n" || ++this.#length > MAX_SEQUENCE) {
      this.#begin("text");
      return at;
    }
    switch (this.#state) {
      case "escape":
        if (character === "[") this.#begin("control");
        else if (/[\]PX^_]/.test(character)) this.#begin("string");
        else this.#state = /[ -/]/.test(character) ? "intermediate" : "text";
        return at + 1;
      case "intermediate":
        if (!/[ -/]/.test(character)) this.#state = "text";
        return at + 1;
      case "control":
        return this.#control(character, at, take);
      case "string":
        if (character === "\x1b") this.#state = "string-escape";
        else if (character === "\x07" || character === "\x9c") this.#begin("text");
        return at + 1;
      default:
        // ESC \ ends a string. Another sequence ends it too, and begins.
        if (character === "\\") {
          this.#begin("text");
          return at + 1;
        }
        this.#begin("escape");
        return at;
    }
  }

  #control(character: string, at: number, take: (token: Token) => void): number {
    if (/[ -?]/.test(character)) {
      this.#sequence += character;
      return at + 1;
    }
    const parameters = this.#sequence;
    this.#begin("text");
    // Not a final character: the sequence is broken off, and this one counts for itself.
    if (!/[@-~]/.test(character)) return at;
    if (/^[\d;:]*$/.test(parameters)) {
      if (character === "m") take({ type: "style", parameters });
      if (character === "K") take({ type: "erase", parameters });
    }
    return at + 1;
  }
}
