import { createRoot } from "react-dom/client";
import { LabRunner, type LabRunnerProps } from "./LabRunner.js";

export { ApiError, type ApiErrorKind } from "./api/errors.js";
export type { InputFile, Program, Reason, Result, ResultFile } from "./api/types.js";
export type { LabRunnerProps } from "./LabRunner.js";

export interface Mounted {
  /** Changes these properties and leaves the others as they are; `undefined` takes one back. */
  update(props: LabRunnerProps): void;
  /** Takes it off the page, and cancels what runs. */
  unmount(): void;
}

/** Puts a LabRunner into an element of a page that knows nothing of React. */
export function mount(element: Element, props: LabRunnerProps = {}): Mounted {
  const root = createRoot(element);
  let all = props;
  const render = () => root.render(<LabRunner {...all} />);
  render();
  return {
    update(changed) {
      all = { ...all, ...changed };
      render();
    },
    unmount: () => root.unmount(),
  };
}
