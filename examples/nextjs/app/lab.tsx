"use client";

import { LabRunner } from "@codeexec/lab-runner";

const PROGRAM = `import time

for step in range(1, 6):
    print(f"step {step} of 5")
    time.sleep(0.5)
`;

/** The component calls the routes below `app/api`, which are this site's own. */
export function Lab() {
  return <LabRunner defaultCode={PROGRAM} label="Program" />;
}
