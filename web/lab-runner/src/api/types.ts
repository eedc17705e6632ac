import type { components } from "./schema.js";

type Schemas = components["schemas"];

/** What is asked of the API: a program, and what it gets. */
export type Program = Schemas["Program"];

/** A file that is laid beside the program, its bytes in base64. */
export type InputFile = NonNullable<Program["files"]>[number];

/** A file that the program left, its bytes in base64. */
export type ResultFile = Schemas["ResultFile"];

/** How an execution ended. */
export type Result = Schemas["Executed"];

/** How an execution stands that has not ended. */
export type Standing = Schemas["Standing"];

/** The body of an answer that refuses. */
export type ErrorBody = Schemas["Error"];

export type Reason = Schemas["Reason"];

export type Stream = "stdout" | "stderr";

/** A piece of what a program printed. */
export interface Chunk {
  stream: Stream;
  data: string;
}
