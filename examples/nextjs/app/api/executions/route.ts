import { passOn } from "@/lib/codeexec";

/** Begins a program, whose output then comes as events. */
export function POST(request: Request) {
  return passOn(request, "/api/executions");
}
