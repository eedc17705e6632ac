import type { ResultFile } from "../api/types.js";

/** What is shown as a picture. An SVG in an `<img>` runs no scripts and loads nothing. */
const PICTURES = new Set(["image/png", "image/svg+xml", "image/jpeg", "image/gif", "image/webp"]);

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** Control characters, and those by which a name can be made to read in another order than it is written. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const DECEIVING = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** A file's name as it may be shown. */
export function shownName(path: string): string {
  return path.replace(DECEIVING, "\ufffd");
}

/** A name for the downloaded file: the path's last part. */
export function downloadName(path: string): string {
  return shownName(path.split(/[/\\]/).findLast((part) => part !== "") ?? "file");
}

/** Address of a picture, or `undefined` for a file that is none. */
export function pictureUrl({ mimeType, content }: ResultFile): string | undefined {
  const type = mimeType.split(";")[0]?.trim().toLowerCase() ?? "";
  return PICTURES.has(type) && BASE64.test(content) ? `data:${type};base64,${content}` : undefined;
}

/**
 * Address to download a file from. Always as bytes of no kind: as a page, opened in a tab, it could run what the program
 * has written.
 */
export function downloadUrl({ content }: ResultFile): string | undefined {
  return BASE64.test(content) ? `data:application/octet-stream;base64,${content}` : undefined;
}

/** How many bytes a base64 text stands for. */
export function byteLength(content: string): number {
  const padding = content.endsWith("==") ? 2 : content.endsWith("=") ? 1 : 0;
  return Math.max(0, Math.floor((content.length * 3) / 4) - padding);
}

export function shownSize(bytes: number): string {
  if (bytes < 1000) return `${bytes} bytes`;
  if (bytes < 1_000_000) return `${(bytes / 1000).toFixed(1)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
