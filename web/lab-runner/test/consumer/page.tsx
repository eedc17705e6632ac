// Not run, but compiled against the built package, in the strictest way in which a page may resolve its types.
import { type ApiError, LabRunner, type LabRunnerProps, type Result } from "@codeexec/lab-runner";
import { type Mounted, mount } from "@codeexec/lab-runner/standalone";

const props: LabRunnerProps = {
  headers: async () => ({ authorization: "Bearer token" }),
  onResult: ({ status, files }: Result) => console.log(status, files.length),
  onError: (error: ApiError) => console.log(error.kind, error.retryAfter),
};

export const page = <LabRunner {...props} />;
export const mounted: Mounted = mount(document.body, props);
