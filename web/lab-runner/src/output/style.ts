import type { Stream } from "../api/types.js";

/** A colour: one of the terminal's 16, which the theme defines, or any other as CSS. */
export type Color = number | string;

/** How a piece of output looks. Pieces that look the same share one object's `key`. */
export interface Style {
  stream: Stream;
  foreground: Color | undefined;
  background: Color | undefined;
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  strike: boolean;
  inverse: boolean;
  key: string;
}

type Look = Omit<Style, "key">;

export function plain(stream: Stream): Style {
  return keyed({
    stream,
    foreground: undefined,
    background: undefined,
    bold: false,
    dim: false,
    italic: false,
    underline: false,
    strike: false,
    inverse: false,
  });
}

function keyed(look: Look): Style {
  return { ...look, key: Object.values(look).join() };
}

/** More parameters than this in one sequence are nobody's. */
const MAX_PARAMETERS = 64;

/** Styles that were made before: a program that colours every character asks for the same few again and again. */
const known = new Map<string, Style>();

/** Forgotten beyond that many, so that a program that asks for all colours there are takes no memory. */
const MAX_KNOWN = 1000;

/**
 * The style after an SGR sequence (`ESC [ … m`) with these parameters. What a page should not do, blink or hide text, is
 * left out, as is what is unknown.
 */
export function sgr(style: Style, parameters: string): Style {
  const asked = `${style.key};${parameters}`;
  const before = known.get(asked);
  if (before) return before;
  if (known.size >= MAX_KNOWN) known.clear();
  const after = changed(style, parameters);
  known.set(asked, after);
  return after;
}

function changed(style: Style, parameters: string): Style {
  let look: Look = style;
  const list = parameters.split(";").slice(0, MAX_PARAMETERS);
  for (let at = 0; at < list.length; at++) {
    const parameter = list[at] ?? "";
    const code = parameter === "" ? 0 : Number.parseInt(parameter, 10);
    if (code === 38 || code === 48) {
      // Either `38:5:N` in one parameter, or `38;5;N` over several.
      const inOne = parameter.includes(":");
      const [color, used] = inOne ? colonColor(parameter) : semicolonColor(list.slice(at + 1, at + 5));
      if (!inOne) at += used;
      if (color !== undefined) look = { ...look, [code === 38 ? "foreground" : "background"]: color };
    } else if (parameter.startsWith("4:")) {
      look = { ...look, underline: parameter !== "4:0" };
    } else {
      look = simple(look, code);
    }
  }
  return look === style ? style : keyed(bare(look));
}

function bare(look: Look): Look {
  const { stream, foreground, background, bold, dim, italic, underline, strike, inverse } = look;
  return { stream, foreground, background, bold, dim, italic, underline, strike, inverse };
}

function simple(look: Look, code: number): Look {
  switch (code) {
    case 0:
      return plain(look.stream);
    case 1:
      return { ...look, bold: true };
    case 2:
      return { ...look, dim: true };
    case 3:
      return { ...look, italic: true };
    case 4:
    case 21:
      return { ...look, underline: true };
    case 7:
      return { ...look, inverse: true };
    case 9:
      return { ...look, strike: true };
    case 22:
      return { ...look, bold: false, dim: false };
    case 23:
      return { ...look, italic: false };
    case 24:
      return { ...look, underline: false };
    case 27:
      return { ...look, inverse: false };
    case 29:
      return { ...look, strike: false };
    case 39:
      return { ...look, foreground: undefined };
    case 49:
      return { ...look, background: undefined };
  }
  if (code >= 30 && code <= 37) return { ...look, foreground: code - 30 };
  if (code >= 40 && code <= 47) return { ...look, background: code - 40 };
  if (code >= 90 && code <= 97) return { ...look, foreground: code - 90 + 8 };
  if (code >= 100 && code <= 107) return { ...look, background: code - 100 + 8 };
  return look;
}

/** The colour of `38;5;N` or `38;2;R;G;B`, given what follows the 38, and how many parameters it took. */
function semicolonColor(rest: string[]): [Color | undefined, number] {
  if (rest[0] === "5") return [indexed(byte(rest[1])), 2];
  if (rest[0] === "2") return [rgb(rest.slice(1, 4)), 4];
  return [undefined, 0];
}

/** The colour of `38:5:N`, `38:2:R:G:B` or `38:2:SPACE:R:G:B`. */
function colonColor(parameter: string): [Color | undefined, number] {
  const [, kind, ...values] = parameter.split(":");
  if (kind === "5") return [indexed(byte(values[0])), 0];
  if (kind === "2") return [rgb(values.length > 3 ? values.slice(1, 4) : values), 0];
  return [undefined, 0];
}

function byte(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{0,3}$/.test(text)) return undefined;
  const value = Number(text);
  return value <= 255 ? value : undefined;
}

function rgb(parts: string[]): Color | undefined {
  const [red, green, blue] = [byte(parts[0]), byte(parts[1]), byte(parts[2])];
  if (red === undefined || green === undefined || blue === undefined) return undefined;
  return `rgb(${red} ${green} ${blue})`;
}

/** The 256 colours: 16 of the theme, a cube of 6 x 6 x 6, 24 greys. */
function indexed(index: number | undefined): Color | undefined {
  if (index === undefined || index < 16) return index;
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10;
    return `rgb(${grey} ${grey} ${grey})`;
  }
  const level = (step: number) => (step === 0 ? 0 : 55 + step * 40);
  const cube = index - 16;
  return `rgb(${level(Math.floor(cube / 36))} ${level(Math.floor(cube / 6) % 6)} ${level(cube % 6)})`;
}
