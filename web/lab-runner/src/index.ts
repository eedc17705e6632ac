export { ApiError, type ApiErrorKind } from "./api/errors.js";
export type { InputFile, Program, Reason, Result, ResultFile } from "./api/types.js";
export { LabRunner, type LabRunnerProps } from "./LabRunner.js";
