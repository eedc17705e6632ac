import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { BlockView } from "./Blocks.js";
import type { Block, Transcript } from "./transcript.js";

/** How much is shown at first, in characters and changes of style, and so how much a browser must lay out at once. */
const FIRST_COST = 64 * 1024;

/** Each "Show earlier output" shows this many times as much. */
const MORE = 4;

/** A screen reader is told of output up to this many characters; after that of its end alone, by the status. */
const SPOKEN_COST = 2000;

/** From here to the end, in pixels, counts as being at the end. */
const NEAR_END = 24;

interface OutputProps {
  transcript: Transcript;
  /** Whether more may come. */
  live: boolean;
  /** Said where there is nothing to show. */
  empty: string | undefined;
}

/** The end of the output, which follows what is printed for as long as nobody scrolls back. */
export function Output({ transcript, live, empty }: OutputProps) {
  const region = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const [budget, setBudget] = useState(FIRST_COST);
  const blocks = transcript.blocks();
  const cost = blocks.reduce((sum, block) => sum + block.cost, 0);
  const { shown, hidden } = lastBlocks(blocks, budget);

  // A new run begins with nothing, and at the end.
  const fresh = blocks.length === 0;
  useEffect(() => {
    if (!fresh) return;
    atEnd.current = true;
    setBudget(FIRST_COST);
  }, [fresh]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: whenever something was printed
  useLayoutEffect(() => {
    const element = region.current;
    if (element && live && atEnd.current) element.scrollTop = element.scrollHeight;
  }, [transcript, live]);

  return (
    <div
      ref={region}
      className="lab-runner__output"
      role="log"
      aria-label="Output"
      aria-live={cost > SPOKEN_COST ? "off" : "polite"}
      // So that it can be scrolled by keys.
      // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls
      tabIndex={0}
      onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
        atEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_END;
      }}
    >
      {hidden > 0 && (
        <button type="button" className="lab-runner__more" onClick={() => setBudget(budget * MORE)}>
          Show earlier output ({hidden.toLocaleString("en")} characters)
        </button>
      )}
      {shown.map((block) => (
        <BlockView key={block.key} block={block} />
      ))}
      {fresh && empty !== undefined && <p className="lab-runner__empty">{empty}</p>}
    </div>
  );
}

/** The last blocks, until they cost as much as the budget, and how many characters stand before them. */
function lastBlocks(blocks: readonly Block[], budget: number): { shown: readonly Block[]; hidden: number } {
  let first = blocks.length;
  for (let cost = 0; first > 0 && cost < budget; first--) cost += blocks[first - 1]?.cost ?? 0;
  const hidden = blocks
    .slice(0, first)
    .reduce((sum, { runs }) => runs.reduce((all, run) => all + run.text.length, sum), 0);
  return { shown: blocks.slice(first), hidden };
}
