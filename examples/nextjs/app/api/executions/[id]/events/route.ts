import { executionPath, passOn } from "@/lib/codeexec";

/** What it prints, while it runs. */
export async function GET(request: Request, { params }: RouteContext<"/api/executions/[id]/events">) {
  const { id } = await params;
  return passOn(request, `${executionPath(id)}/events`);
}
