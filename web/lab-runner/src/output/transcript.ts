import type { Chunk, Stream } from "../api/types.js";
import { type Token, Tokenizer } from "./escapes.js";
import { append, Line, type Run } from "./line.js";
import { plain, type Style, sgr } from "./style.js";

/** A part of the output that no longer changes; what is drawn of it needs to be drawn only once. */
export interface Block {
  key: number;
  runs: readonly Run[];
  /** What it costs to show: its characters, and {@link RUN_COST} for each change of style. */
  cost: number;
}

/** A block is full from here on. Small enough that a browser lays out little at once, large enough that there are few. */
const BLOCK_COST = 8192;

/** What an element costs, in characters. */
const RUN_COST = 32;

interface Reader {
  tokenizer: Tokenizer;
  style: Style;
}

/**
 * What a program has printed, as a terminal would show it. Immutable: writing gives a new one, which shares the blocks
 * that are full. The two streams are read apart, so that a sequence of one isn't broken by the other, and written into
 * the same lines in the order in which they came.
 */
export class Transcript {
  static readonly empty = new Transcript([], [], 0, new Line(), {
    stdout: { tokenizer: new Tokenizer(), style: plain("stdout") },
    stderr: { tokenizer: new Tokenizer(), style: plain("stderr") },
  });

  private constructor(
    private readonly full: readonly Block[],
    private readonly open: readonly Run[],
    private readonly openCost: number,
    private readonly line: Line,
    private readonly readers: Readonly<Record<Stream, Reader>>,
  ) {}

  static of(chunks: readonly Chunk[]): Transcript {
    return Transcript.empty.write(chunks);
  }

  write(chunks: readonly Chunk[]): Transcript {
    if (chunks.length === 0) return this;
    const full = this.full.slice();
    let open = this.open.slice();
    let openCost = this.openCost;
    let line = this.line.clone();
    const { stdout, stderr } = this.readers;
    const readers = {
      stdout: { ...stdout, tokenizer: stdout.tokenizer.clone() },
      stderr: { ...stderr, tokenizer: stderr.tokenizer.clone() },
    };

    const endLine = (newline: Style | undefined) => {
      for (const run of line.runs()) {
        append(open, run);
        openCost += run.text.length + RUN_COST;
      }
      if (newline) append(open, { text: "\n", style: newline });
      openCost += 1;
      line = new Line();
      if (openCost < BLOCK_COST) return;
      full.push({ key: full.length, runs: open, cost: openCost });
      open = [];
      openCost = 0;
    };
    const text = (text: string, style: Style) => {
      for (let rest = text; rest !== ""; ) {
        // A cut between two halves of a character would show two broken ones.
        let room = Math.max(1, line.room);
        if (room < rest.length && isHighSurrogate(rest, room - 1)) room++;
        line.write(rest.slice(0, room), style);
        rest = rest.slice(room);
        if (line.room === 0) endLine(undefined);
      }
    };
    for (const { stream, data } of chunks) {
      const reader = readers[stream];
      // A stream that this version does not know is none that it can show.
      if (!reader) continue;
      reader.tokenizer.push(data, (token: Token) => {
        switch (token.type) {
          case "text":
            return text(token.text, reader.style);
          case "newline":
            return endLine(reader.style);
          case "return":
            return line.return();
          case "backspace":
            return line.backspace();
          case "style":
            reader.style = sgr(reader.style, token.parameters);
            return;
          case "erase":
            return line.erase(token.parameters, plain(stream));
        }
      });
    }
    return new Transcript(full, open, openCost, line, readers);
  }

  /** All blocks, the last of which is still written to. */
  blocks(): readonly Block[] {
    const runs = this.open.slice();
    let cost = this.openCost;
    for (const run of this.line.runs()) {
      append(runs, run);
      cost += run.text.length + RUN_COST;
    }
    return runs.length === 0 ? this.full : [...this.full, { key: this.full.length, runs, cost }];
  }
}

function isHighSurrogate(text: string, at: number): boolean {
  const unit = text.charCodeAt(at);
  return unit >= 0xd800 && unit <= 0xdbff;
}
