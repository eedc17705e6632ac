import { type CSSProperties, memo, type ReactNode } from "react";
import type { Run } from "./line.js";
import type { Color, Style } from "./style.js";
import type { Block } from "./transcript.js";

/** A block of output. Everything in it becomes a text node, whatever it says. */
export const BlockView = memo(
  function BlockView({ block }: { block: Block }) {
    // Runs have no identity but their place.
    return <div className="lab-runner__block">{block.runs.map((run, at) => runView(run, at))}</div>;
  },
  (before, after) => before.block.runs === after.block.runs,
);

function runView({ text, style }: Run, key: number): ReactNode {
  const classes = classNames(style);
  const colors = cssColors(style);
  if (classes === "" && !colors) return text;
  return (
    <span key={key} className={classes || undefined} style={colors}>
      {text}
    </span>
  );
}

function classNames(style: Style): string {
  const names: string[] = [];
  if (style.stream === "stderr") names.push("lab-runner__stderr");
  for (const name of ["bold", "dim", "italic", "underline", "strike"] as const) {
    if (style[name]) names.push(`lab-runner__${name}`);
  }
  const [foreground, background] = shown(style);
  if (typeof foreground === "number") names.push(`lab-runner__fg-${foreground}`);
  if (typeof background === "number") names.push(`lab-runner__bg-${background}`);
  return names.join(" ");
}

/** Colours that are no class. React sets them by the CSSOM, which a Content-Security-Policy does not forbid. */
function cssColors(style: Style): CSSProperties | undefined {
  const [color, backgroundColor] = shown(style);
  const colors: CSSProperties = {};
  if (typeof color === "string") colors.color = color;
  if (typeof backgroundColor === "string") colors.backgroundColor = backgroundColor;
  return colors.color || colors.backgroundColor ? colors : undefined;
}

/** Foreground and background as they are shown: exchanged for inverse text, whose own are the theme's. */
function shown({ foreground, background, inverse }: Style): [Color | undefined, Color | undefined] {
  if (!inverse) return [foreground, background];
  return [background ?? "var(--_surface)", foreground ?? "var(--_text)"];
}
