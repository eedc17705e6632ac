export { ApiError, type ApiErrorKind } from "./api/errors";
export type { InputFile, Program, Reason, Result, ResultFile } from "./api/types";
export { LabRunner, type LabRunnerProps } from "./LabRunner";
