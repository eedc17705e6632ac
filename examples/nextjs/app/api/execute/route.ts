import { passOn } from "@/lib/codeexec";

/** Runs a program and answers with what came of it. */
export function POST(request: Request) {
  return passOn(request, "/api/execute");
}
